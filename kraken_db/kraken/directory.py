"""Every pair that Kraken lists: from what a user typed to the names that Kraken uses."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from kraken_db.errors import UnknownPairError
from kraken_db.kraken.messages import AssetPair, symbols_of
from kraken_db.kraken.rest import TOKENIZED_ASSET, KrakenRestClient
from kraken_db.pairs import known_spelling, parse_symbol, to_ws_symbol
from kraken_db.patterns import PairClass, is_pattern, matching, pair_class, select

LISTED = "that Kraken lists"
"""What an error calls the pairs of a directory."""

# Kraken has renamed these. It has both histories, which overlap: MATIC/USD ends in March 2025, POL/USD
# begins in December 2023.
_SUCCESSORS = {"MATIC": "POL", "EOS": "A", "RNDR": "RENDER", "FTM": "S", "LUNA": "LUNA2", "REP": "REPV2"}


@dataclass(frozen=True, slots=True)
class ListedPair:
    """One market under all of its names."""

    symbol: str
    """Ours, and WebSocket v2's: ``'BTC/USD'``."""
    rest_name: str
    """The ``pair`` of a REST request, ``'XBTUSD'``."""
    key: str
    """The key of a REST result, ``'XXBTZUSD'``."""
    status: str
    """``'online'``, or what is restricted at the moment, e.g. ``'cancel_only'``."""
    price_decimals: int
    volume_decimals: int
    kind: PairClass = "currency"

    @property
    def ws_name(self) -> str:
        return to_ws_symbol(self.symbol)


class PairDirectory:
    """The markets of Kraken's lists that have a symbol; dark pools and those of other venues have none.

    A tokenized asset is listed under two keys: it is one pair.
    """

    def __init__(self, listing: Mapping[str, AssetPair]) -> None:
        self._known = symbols_of(listing)
        self._pairs: dict[str, ListedPair] = {}
        # Of two keys the one that is the altname comes last, and stays.
        for key, pair in sorted(listing.items(), key=lambda item: (item[0] == item[1].altname, item[0])):
            if symbol := self._known.get(key):
                self._pairs[symbol] = ListedPair(
                    symbol,
                    pair.altname,
                    key,
                    pair.status,
                    pair.pair_decimals,
                    pair.lot_decimals,
                    "tokenized" if pair.aclass_base == TOKENIZED_ASSET else pair_class(symbol),
                )

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[ListedPair]:
        """In alphabetical order of the symbols."""
        return (self._pairs[symbol] for symbol in sorted(self._pairs))

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._pairs

    def successor(self, symbol: str) -> str | None:
        """The pair that took the place of one that is not listed any more, as far as it is listed itself.

        It is a market of its own: its history is another one.
        """
        base, _, quote = symbol.partition("/")
        new = f"{_SUCCESSORS.get(base)}/{quote}"
        return new if new in self and symbol not in self else None

    def resolve(self, text: str) -> ListedPair:
        """The pair by any of its names: ``'btc/usd'``, ``'XBTUSD'``, ``'XXBTZUSD'``.

        Raises UnknownPairError with the nearest names, and PairError for what is no name.
        """
        return self.named(known_spelling(parse_symbol(text, self._known), self._pairs))

    def named(self, symbol: str) -> ListedPair:
        """The pair of exactly this symbol. Raises UnknownPairError with the nearest names."""
        if symbol not in self._pairs:
            raise UnknownPairError(f"Kraken does not list {symbol}", hint=self._advice(symbol))
        return self._pairs[symbol]

    def match(self, pattern: str, kinds: Collection[PairClass] = ()) -> list[ListedPair]:
        """The pairs of a pattern such as ``'XRP/*'`` or ``'*/USD'``, or the one of a name, by their symbols.

        ``kinds``: of these, whatever the pattern itself says of currencies and tokenized assets. Raises
        UnknownPairError where there is none.
        """
        if not is_pattern(pattern):
            pair = self.resolve(pattern)
            if kinds and pair.kind not in kinds:
                raise UnknownPairError(f"{pair.symbol} is not among these: its class is {pair.kind}")
            return [pair]
        symbols = sorted(self._pairs)
        if not kinds:
            found = select([pattern], symbols, place=LISTED, error=UnknownPairError)
        elif not (found := matching(pattern, symbols, kinds)):
            raise UnknownPairError(f"no pair of this class {LISTED} matches {pattern!r}")
        return [self._pairs[symbol] for symbol in found]

    def expand(self, patterns: list[str]) -> list[ListedPair]:
        """The pairs of several names and patterns, in their order, each pair once."""
        found = {pair.symbol: pair for pattern in patterns for pair in self.match(pattern)}
        return list(found.values())

    def _advice(self, symbol: str) -> str:
        base, _, quote = symbol.partition("/")
        same = [name for name in self._pairs if name.startswith(f"{base}/")]
        near = difflib.get_close_matches(symbol, same or self._pairs, n=4, cutoff=0.0 if same else 0.6)
        if near:
            return f"near it: {', '.join(near)}"
        pattern = f" '*/{quote}'" if any(name.endswith(f"/{quote}") for name in self._pairs) else ""
        return f"kraken-db pairs{pattern} lists what there is"


@dataclass(slots=True)
class _Lists:
    """What one exchange has said, and the directory of it."""

    lists: dict[PairClass, Mapping[str, AssetPair]] = field(default_factory=dict)
    directory: PairDirectory | None = None


_CACHE: dict[str, _Lists] = {}


async def pair_directory(
    client: KrakenRestClient, *, refresh: bool = False, kinds: Collection[PairClass] | None = None
) -> PairDirectory:
    """The directory of the exchange that ``client`` asks, each list fetched once in the life of the process.

    ``kinds``: the lists that are needed, of which ``refresh`` fetches a new one; by default that of the
    currencies, and what was needed before. What is known of the others is in the directory, too.
    """
    known = _CACHE.setdefault(client.base_url, _Lists())
    for kind in dict.fromkeys(("currency", *known.lists) if kinds is None else kinds):
        if refresh or kind not in known.lists:
            known.lists[kind] = await client.asset_pairs(kind)
            known.directory = None
    if known.directory is None:
        # Some server may know no classes, and send its currencies twice.
        known.directory = PairDirectory(
            {**known.lists.get("tokenized", {}), **known.lists.get("currency", {})}
        )
    return known.directory

"""Every pair that Kraken lists: from what a user typed to the names that Kraken uses."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from kraken_db.errors import PairError, UnknownPairError
from kraken_db.kraken.messages import AssetPair
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.pairs import known_pairs, parse_symbol, to_ws_symbol

_GLOB = re.compile(r"[*?\[]")

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

    @property
    def ws_name(self) -> str:
        return to_ws_symbol(self.symbol)


class PairDirectory:
    """The markets of one AssetPairs answer that have a symbol; dark pools and tokenized shares have none."""

    def __init__(self, listing: Mapping[str, AssetPair]) -> None:
        self._known = known_pairs(
            {key: {"wsname": pair.wsname, "altname": pair.altname} for key, pair in listing.items()}
        )
        self._pairs: dict[str, ListedPair] = {}
        for key, pair in sorted(listing.items()):
            if symbol := self._known.get(key):
                self._pairs[symbol] = ListedPair(
                    symbol, pair.altname, key, pair.status, pair.pair_decimals, pair.lot_decimals
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
        symbol = parse_symbol(text, self._known)
        if symbol not in self._pairs:
            raise UnknownPairError(f"Kraken does not list {symbol}", hint=self._advice(symbol))
        return self._pairs[symbol]

    def match(self, pattern: str) -> list[ListedPair]:
        """The pairs of a pattern such as ``'XRP/*'`` or ``'*/USD'``, or the one of a name, by their symbols.

        Raises UnknownPairError where there is none.
        """
        if not _GLOB.search(pattern):
            return [self.resolve(pattern)]
        names = set(matching(pattern, self._pairs))
        found = [pair for pair in self if pair.symbol in names]
        if not found:
            hint = "write it as BASE/QUOTE, with * for anything, e.g. 'XRP/*'"
            raise UnknownPairError(f"no pair that Kraken lists matches {pattern!r}", hint=hint)
        return found

    def expand(self, patterns: list[str]) -> list[ListedPair]:
        """The pairs of several names and patterns, in their order, each pair once."""
        found = {pair.symbol: pair for pattern in patterns for pair in self.match(pattern)}
        return list(found.values())

    def _advice(self, symbol: str) -> str:
        base, _, quote = symbol.partition("/")
        same = [name for name in self._pairs if name.startswith(f"{base}/")]
        near = difflib.get_close_matches(symbol, same or self._pairs, n=4, cutoff=0.0 if same else 0.6)
        return f"near it: {', '.join(near)}" if near else f"kraken-db pairs '*/{quote}' lists what there is"


def matching(pattern: str, symbols: Iterable[str]) -> list[str]:
    """The symbols of a pattern such as ``'XRP/*'``, or the one of a name, in their order.

    Raises PairError for what is no name.
    """
    if not _GLOB.search(pattern):
        wanted = parse_symbol(pattern)
        return [symbol for symbol in symbols if symbol == wanted]
    wanted = "/".join(_our_spelling(part) for part in pattern.strip().upper().split("/"))
    return [symbol for symbol in symbols if fnmatch.fnmatchcase(symbol, wanted)]


def _our_spelling(asset: str) -> str:
    """``'XBT'`` -> ``'BTC'``; a pattern stays as it is."""
    try:
        return parse_symbol(f"{asset}/{'EUR' if asset != 'EUR' else 'USD'}").partition("/")[0]
    except PairError:
        return asset


_CACHE: dict[str, PairDirectory] = {}


async def pair_directory(client: KrakenRestClient, *, refresh: bool = False) -> PairDirectory:
    """The directory of the exchange that ``client`` asks, fetched once in the life of the process."""
    if refresh or client.base_url not in _CACHE:
        _CACHE[client.base_url] = PairDirectory(await client.asset_pairs())
    return _CACHE[client.base_url]

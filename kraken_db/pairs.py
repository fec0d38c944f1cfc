"""The names of a market: ours, and Kraken's five ways to write it.

======================  ============  ===========  ====================================
where                   BTC/USD       DOGE/BTC     conversion
======================  ============  ===========  ====================================
here: the symbol        BTC/USD       DOGE/BTC     ``parse_symbol`` (from a user's text)
WebSocket v2            BTC/USD       DOGE/BTC     ``to_ws_symbol``, ``from_ws_symbol``
WebSocket v1, wsname    XBT/USD       XDG/XBT      ``from_wsname``
REST parameter          XBTUSD        XDGXBT       ``to_rest_pair``, ``from_rest_pair``
archive file            XBTUSD        XDGXBT       ``to_archive_name``, ``from_archive_name``
REST result key         XXBTZUSD      XXDGXXBT     ``from_result_key``
======================  ============  ===========  ====================================

Only two assets have other names at Kraken than here, XBT and XDG, and only as whole words: AIXBT stays.

Tokenized assets (shares) have a small x at the end of their names, which belongs to it, and dots occur:
``AAPLx/USD`` and ``BRK.Bx/USD``, at Kraken ``AAPLxUSD`` and ``BRK.BxUSD``. All other names are of capital
letters and digits, so the x is what tells the two kinds apart, and the base from the quote.

A name without a slash is split by the list of quote currencies. Where two quotes fit (``XYZAUSD`` is XYZA/USD
or XYZ/AUSD), and neither Kraken's listings known here nor those passed as ``known`` settle it, the answer is
a PairError that names both, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from kraken_db.errors import PairError

PAIR_MAP: dict[str, str] = {
    "XRP/USDT": "XRPUSDT",
    "BTC/USDT": "XBTUSDT",
    "XRP/BTC": "XRPXBT",
    "ETH/USDT": "ETHUSDT",
    "SOL/USDT": "SOLUSDT",
    "ETH/BTC": "ETHXBT",
    "LTC/USDT": "LTCUSDT",
    "DOT/USDT": "DOTUSDT",
    "ADA/USDT": "ADAUSDT",
    "LINK/USDT": "LINKUSDT",
}
"""Symbol to REST pair name, for the pairs most used; ``to_rest_pair`` does it for any pair."""

REVERSE_PAIR_MAP: dict[str, str] = {name: symbol for symbol, name in PAIR_MAP.items()}
"""REST pair name to symbol, for the same pairs."""

CSV_SYMBOL_MAP: dict[str, str] = {
    name: symbol for symbol, rest in PAIR_MAP.items() for name in (rest, symbol.replace("/", ""))
}
"""Archive file name to symbol, for the same pairs, also under the names with BTC that other sites use."""

DEFAULT_SYMBOLS: list[str] = ["XRP/USDT", "BTC/USDT", "XRP/BTC"]
"""What is watched and filled when nothing is asked for."""


def _currencies(text: str) -> frozenset[str]:
    return frozenset(text.split())


QUOTES: frozenset[str] = (
    _currencies("AED AUD BRL CAD CHF EUR GBP JPY USD")
    | _currencies(
        "AUSD DAI EURC EUROP FIDD PYUSD RLUSD USD1 USDC USDD USDQ USDR USDT"
    )  # pegged to a currency
    | _currencies("BTC DOT ETH POL SOL")
)
"""Every currency that Kraken quotes markets in, by our names (its listings of 2024 to September 2026)."""

MAX_SYMBOL_LENGTH = 20
"""The width of the symbol columns."""

_TO_KRAKEN = {"BTC": "XBT", "DOGE": "XDG"}
_RENAMED = {theirs: ours for ours, theirs in _TO_KRAKEN.items()}

# Kraken's codes from its first years: X before a coin, Z before a currency. They appear in result keys only.
# No asset listed since has one, so XTZ and ZRX keep their letters. Some coins here are long gone.
_LEGACY_CODES = _currencies(
    "XDAO XETC XETH XICN XLTC XMLN XNMC XREP XXBT XXDG XXLM XXMR XXRP XXVN XZEC "
    "ZAUD ZCAD ZEUR ZGBP ZJPY ZKRW ZUSD"
)
_FROM_KRAKEN = _RENAMED | {code: _RENAMED.get(code[1:], code[1:]) for code in _LEGACY_CODES}
_IRREGULAR_KEYS = {"USDTZUSD": "USDT/USD"}  # the only key where an asset without a code meets one with Z

_QUOTE_SPELLINGS = QUOTES | {_TO_KRAKEN.get(quote, quote) for quote in QUOTES}

# Markets of Kraken whose names could be read in two ways. Kraken's names are unique: while XBTPYUSD is
# BTC/PYUSD, no XBTPY/USD can exist.
_LISTED = _currencies("BTC/AUSD MON/AUSD BTC/PYUSD ETH/PYUSD XRP/RLUSD") | {
    f"{base}/USD"  # not a base in AUSD or RLUSD
    for base in _currencies(
        "ACA ADA ALPHA ALTHEA ARPA AURA AVA BERA BOBA ENA EVAA FIDA GAIA GALA GIGA KAVA KTA KULA LAVA LINEA "
        "LUNA MANA MANTRA MEGA MELANIA MERL MINA MIRA MOCA ORCA PARA PDA PHA PLA RHEA SAGA SAHARA SCA SIGMA "
        "TEA TIA TRIA UMA YALA ZAMA ZETA ZORA"
    )
}

_ASSET = re.compile(r"[A-Z0-9]+")
# The only asset with a dot in its name that ever had a market. Kraken's other names with one (XBT.M, DOT.S)
# are balances of accounts.
_DOTTED_ASSETS = frozenset({"ETH2.S"})
_PLAIN_NAME = re.compile(r"[A-Z0-9.]+")
_SEPARATOR = re.compile(r"[/\-_]")
_TOKENIZED_ASSET = re.compile(r"(?=[0-9.]*[A-Z])[A-Z0-9]+(?:\.[A-Z0-9]+)*x")
_TOKENIZED_NAME = re.compile(rf"({_TOKENIZED_ASSET.pattern})([A-Z0-9]+)")
# Only tokenized assets have a dot before an X at the end: in capital letters it is the small x, too.
_DOTTED_NAME = re.compile(rf"([A-Z0-9]+(?:\.[A-Z0-9]+)+)X[/\-_]?({'|'.join(sorted(_QUOTE_SPELLINGS))})")
_NAME_IT = "name the pair as BASE/QUOTE"


def parse_symbol(text: str, known: Mapping[str, str] | None = None) -> str:
    """What a user typed: ``'xbt/usd'``, ``'BTC-USD'``, ``'btc_usd'`` and ``'XBTUSD'`` are ``'BTC/USD'``.

    Without a separator the name is read as ``from_rest_pair`` reads it, ``known`` included. A base in capital
    letters with a small x at its end is a tokenized asset: ``'AAPLx/USD'`` stays. ``'aaplx/usd'`` is
    ``'AAPLX/USD'``, unless ``known`` has the tokenized pair and no such currency. Raises PairError.
    """
    name = text.strip()
    if tokenized := _tokenized(name):
        base, quote = tokenized
        return _symbol(base, quote, written=text)
    if name.isascii():  # some foreign letters have an ASCII capital
        name = name.upper()
    parts = _SEPARATOR.split(name)
    if len(parts) == 1:
        symbol = _from_kraken(name, known)
    elif len(parts) == 2:
        symbol = _symbol(*parts, written=text)
    else:
        raise PairError(f"{text!r} is not a pair", hint="write it as BASE/QUOTE, e.g. BTC/USD")
    return known_spelling(symbol, known.values()) if known else symbol


def is_tokenized(symbol: str) -> bool:
    """Whether it is a pair of a tokenized asset, by its name: ``'AAPLx/USD'``, ``'BRK.Bx/USD'``."""
    return is_tokenized_asset(symbol.partition("/")[0])


def is_tokenized_asset(name: str) -> bool:
    """Whether it is spelled as a tokenized asset, ``'AAPLx'``: capital letters, then a small x."""
    return _TOKENIZED_ASSET.fullmatch(name) is not None


def known_spelling(symbol: str, symbols: Collection[str]) -> str:
    """``'AAPLX/USD'`` -> ``'AAPLx/USD'``, if ``symbols`` have that and no currency AAPLX; else it stays."""
    base, slash, quote = symbol.partition("/")
    tokenized = f"{base[:-1]}x{slash}{quote}"
    if not base.endswith("X") or tokenized not in symbols:
        return symbol
    return symbol if any(other.startswith(f"{base}/") for other in symbols) else tokenized


def _tokenized(name: str) -> tuple[str, str] | None:
    """Base and quote of what is spelled as a tokenized pair; None for everything else."""
    base, *rest = _SEPARATOR.split(name)
    if len(rest) == 1 and is_tokenized_asset(base):
        return base, rest[0].upper() if rest[0].isascii() else rest[0]
    if (found := _TOKENIZED_NAME.fullmatch(name)) and found[2] in _QUOTE_SPELLINGS:
        return found[1], found[2]
    if name.isascii() and (found := _DOTTED_NAME.fullmatch(name.upper())):
        return f"{found[1]}x", found[2]
    return None


def to_rest_pair(symbol: str) -> str:
    """``'ETH/BTC'`` -> ``'ETHXBT'``, the ``pair`` parameter of REST. Raises PairError if it is not a symbol.

    Also raises where that name is known to be another market's: Kraken would send MON/AUSD for MONA/USD.
    """
    base, quote = _split_symbol(symbol)
    name = _TO_KRAKEN.get(base, base) + _TO_KRAKEN.get(quote, quote)
    if is_tokenized_asset(base):
        return name
    for other in _LISTED.intersection(_readings(name)) - {symbol}:
        raise PairError(f"Kraken has no {symbol}: its {name} is {other}")
    return name


def to_archive_name(symbol: str) -> str:
    """``'ETH/BTC'`` -> ``'ETHXBT'``, as in ``ETHXBT_1.csv``: the archive's names are those of REST."""
    return to_rest_pair(symbol)


def to_ws_symbol(symbol: str) -> str:
    """The symbol for WebSocket v2, which is the symbol itself. Raises PairError if it is none."""
    _split_symbol(symbol)
    return symbol


def from_rest_pair(name: str, known: Mapping[str, str] | None = None) -> str:
    """``'ETHXBT'`` -> ``'ETH/BTC'``. Raises PairError for a name that has several readings.

    ``known``: further names and their symbols, such as ``known_pairs`` makes from Kraken's list of pairs.
    """
    return _from_kraken(name, known)


def from_archive_name(name: str, known: Mapping[str, str] | None = None) -> str:
    """The part of an archive's file name before ``_<minutes>.csv``: ``'XBTUSDC'`` -> ``'BTC/USDC'``.

    ``'BTCUSDC'`` is read as well: other sites' files are named so. ``known`` and errors as for REST names.
    """
    return _from_kraken(name, known)


def from_result_key(key: str, known: Mapping[str, str] | None = None) -> str:
    """The key of a REST result: ``'XXDGXXBT'`` -> ``'DOGE/BTC'``, ``'SOLUSD'`` -> ``'SOL/USD'``.

    ``known`` and errors as for REST names.
    """
    return _from_kraken(key, known)


def from_wsname(name: str) -> str:
    """The ``wsname`` of AssetPairs and the pair of WebSocket v1: ``'XBT/USD'`` -> ``'BTC/USD'``."""
    base, slash, quote = name.partition("/")
    if not slash:
        raise PairError(f"{name!r} is not a pair", hint="expected BASE/QUOTE")
    return _symbol(base, quote, written=name)


def from_ws_symbol(name: str) -> str:
    """The symbol of a WebSocket v2 message, checked: ``'BTC/USD'`` -> ``'BTC/USD'``."""
    return from_wsname(name)


def known_pairs(listing: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The ``result`` of AssetPairs as a map for the ``known`` parameters: keys and altnames to symbols.

    Left out are what has no readable ``wsname``, dark pools (``XXBTZUSD.d``) and the markets of other venues
    (``XBTUSD:BTNL``).
    """
    known: dict[str, str] = {}
    for key, pair in listing.items():
        if _other_market(key):
            continue
        try:
            symbol = from_wsname(pair.get("wsname") or "")
        except PairError:
            continue
        known[key] = known[pair.get("altname") or key] = symbol
    return known


def readings(name: str, known: Mapping[str, str] | None = None) -> list[str]:
    """Every symbol that a name without a separator may stand for, in alphabetical order; at least one.

    ``known`` as for ``from_rest_pair``, and Kraken's markets known here, settle it. Raises PairError for what
    is no name of a pair.
    """
    tokenized = _TOKENIZED_NAME.fullmatch(name)
    if not (tokenized or _PLAIN_NAME.fullmatch(name)):
        reason = _other_market(name) or "not a name of a pair"
        raise PairError(f"{name!r} is {reason}", hint="capital letters and digits only, e.g. XBTUSD")
    for names in (CSV_SYMBOL_MAP, known or {}, _IRREGULAR_KEYS):
        if name in names:
            return [names[name]]
    found = _readings(name) if tokenized is None else _tokenized_readings(tokenized)
    if not found:
        raise PairError(
            f"{name!r} is not a pair: it does not end in a currency such as USD, EUR or BTC",
            hint=_NAME_IT,
        )
    return found if len(found) == 1 else sorted(_LISTED.intersection(found)) or found


def _other_market(name: str) -> str:
    """What a key of Kraken's list is that is no market of its order book; empty for one that is."""
    if name.endswith(".d"):
        return "a dark pool, which has no public history"
    return "a market of another venue" if ":" in name else ""


def _from_kraken(name: str, known: Mapping[str, str] | None) -> str:
    """A name without a separator, in any of Kraken's spellings, as a symbol."""
    found = readings(name, known)
    if len(found) == 1:
        return found[0]
    raise PairError(
        f"{name!r} cannot be told apart without Kraken's list of pairs: it may be {' or '.join(found)}",
        hint=_NAME_IT,
    )


def _readings(name: str) -> list[str]:
    """What the letters alone allow, in alphabetical order."""
    if name[:4] in _LEGACY_CODES and name[4:] in _LEGACY_CODES:
        return [_symbol(name[:4], name[4:], written=name)]
    splits = ((name.removesuffix(quote), quote) for quote in _QUOTE_SPELLINGS if name.endswith(quote))
    return sorted(_symbol(base, quote, written=name) for base, quote in splits if base not in ("", quote))


def _tokenized_readings(name: re.Match[str]) -> list[str]:
    base, quote = name.groups()
    return [_symbol(base, quote, written=name[0])] if quote in _QUOTE_SPELLINGS else []


def _symbol(base: str, quote: str, *, written: str) -> str:
    """Base and quote, each in any spelling, as a symbol; ``written`` is what an error shows."""
    if not ((_is_asset(base) or is_tokenized_asset(base)) and _is_asset(quote)):
        raise PairError(f"{written!r} is not a pair", hint="expected BASE/QUOTE, capital letters and digits")
    base, quote = _FROM_KRAKEN.get(base, base), _FROM_KRAKEN.get(quote, quote)
    if base == quote:
        raise PairError(f"{written!r} is not a pair: {base} has no price in itself")
    symbol = f"{base}/{quote}"
    if len(symbol) > MAX_SYMBOL_LENGTH:
        raise PairError(f"{written!r} is too long: a symbol has at most {MAX_SYMBOL_LENGTH} characters")
    return symbol


def _is_asset(text: str) -> bool:
    return _ASSET.fullmatch(text) is not None or text in _DOTTED_ASSETS


def _split_symbol(symbol: str) -> tuple[str, str]:
    """Base and quote of what must be a symbol in our own spelling already."""
    base, _, quote = symbol.partition("/")
    ours = _symbol(base, quote, written=symbol)
    if ours != symbol:
        raise PairError(f"{symbol!r} is Kraken's spelling", hint=f"here it is {ours}")
    return base, quote

"""The pairs that the simulated exchange lists, with the names that Kraken gives them.

A few dozen of Kraken's 1,450, chosen for their names: legacy codes, renamed assets, successors of delisted
pairs (POL/USD of MATIC/USD, A/USD of EOS/USD), dark pools, markets of another venue, tokenized assets under
two keys, and names that can be read in two ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kraken_db.pairs import is_tokenized, parse_symbol, to_rest_pair


@dataclass(frozen=True, slots=True)
class ListedPair:
    """One entry of AssetPairs."""

    key: str
    """What a REST result is filed under: ``XXBTZUSD``."""
    wsname: str | None
    """``XBT/USD``; ``XBT/USD:BTNL`` for another venue's market; None for a dark pool."""
    base: str
    quote: str
    decimals: int
    """Of a price; its tick is one unit of the last of them."""
    price: str
    """What a generated market begins at."""
    altname: str
    symbol: str | None
    """Our name: ``BTC/USD``; None for a dark pool and another venue's market."""
    other_key: str | None = None
    """Of a tokenized asset, which is listed under this one as well: ``AAPLxUSD`` beside ``AAPLSPVUSD``."""

    @property
    def asset_class(self) -> str:
        """``currency`` or ``tokenized_asset``."""
        return "currency" if self.symbol is None or not is_tokenized(self.symbol) else "tokenized_asset"

    @property
    def keys(self) -> tuple[str, ...]:
        """Those of AssetPairs; the first is that of a result."""
        return (self.key,) if self.other_key is None else (self.key, self.other_key)

    @property
    def names(self) -> frozenset[str]:
        """Everything that the ``pair`` parameter may say."""
        return frozenset(name for name in (*self.keys, self.altname, self.wsname) if name)

    def entry(self, status: str = "online") -> dict[str, Any]:
        """As AssetPairs shows it."""
        names = {"altname": self.altname} | ({"wsname": self.wsname} if self.wsname else {})
        return names | {
            "aclass_base": self.asset_class,
            "base": self.base,
            "aclass_quote": "currency",
            "quote": self.quote,
            "lot": "unit",
            "cost_decimals": 5,
            "pair_decimals": self.decimals,
            "lot_decimals": 8,
            "lot_multiplier": 1,
            "leverage_buy": [2, 3, 4, 5],
            "leverage_sell": [2, 3, 4, 5],
            "fees": [[0, 0.4], [10000, 0.35]],
            "fees_maker": [[0, 0.25], [10000, 0.2]],
            "fee_volume_currency": "ZUSD",
            "margin_call": 80,
            "margin_stop": 40,
            "ordermin": "0.00005",
            "costmin": "0.5",
            "tick_size": f"{10**-self.decimals:.{self.decimals}f}",
            "status": status,
        }


# key, wsname, base, quote, decimals of a price, first price. The altname is the wsname without its slash.
_TABLE = """
XXBTZUSD   XBT/USD    XXBT   ZUSD  1  42000.0
XXBTZEUR   XBT/EUR    XXBT   ZEUR  1  38500.0
XXBTZGBP   XBT/GBP    XXBT   ZGBP  1  33200.0
XXBTZJPY   XBT/JPY    XXBT   ZJPY  0  6100000
XBTUSDT    XBT/USDT   XXBT   USDT  1  42010.0
XBTUSDC    XBT/USDC   XXBT   USDC  2  42005.00
XBTPYUSD   XBT/PYUSD  XXBT   PYUSD 1  42002.0
XBTAUSD    XBT/AUSD   XXBT   AUSD  1  42003.0
XETHZUSD   ETH/USD    XETH   ZUSD  2  2280.00
XETHZEUR   ETH/EUR    XETH   ZEUR  2  2090.00
XETHXXBT   ETH/XBT    XETH   XXBT  5  0.05420
ETHUSDT    ETH/USDT   XETH   USDT  2  2281.00
ETHPYUSD   ETH/PYUSD  XETH   PYUSD 2  2282.00
XXRPZUSD   XRP/USD    XXRP   ZUSD  5  0.61500
XXRPZEUR   XRP/EUR    XXRP   ZEUR  5  0.56300
XXRPXXBT   XRP/XBT    XXRP   XXBT  8  0.00001464
XRPUSDT    XRP/USDT   XXRP   USDT  5  0.61550
XRPRLUSD   XRP/RLUSD  XXRP   RLUSD 5  0.61520
XDGUSD     XDG/USD    XXDG   ZUSD  7  0.0895000
XXDGXXBT   XDG/XBT    XXDG   XXBT  9  0.000002131
XLTCZUSD   LTC/USD    XLTC   ZUSD  2  72.50
XLTCXXBT   LTC/XBT    XLTC   XXBT  6  0.001726
LTCUSDT    LTC/USDT   XLTC   USDT  2  72.55
SOLUSD     SOL/USD    SOL    ZUSD  2  101.20
SOLUSDT    SOL/USDT   SOL    USDT  2  101.25
SOLXBT     SOL/XBT    SOL    XXBT  7  0.0024095
ADAUSD     ADA/USD    ADA    ZUSD  6  0.594000
ADAUSDT    ADA/USDT   ADA    USDT  6  0.594300
DOTUSD     DOT/USD    DOT    ZUSD  4  8.2100
DOTUSDT    DOT/USDT   DOT    USDT  4  8.2130
LINKUSD    LINK/USD   LINK   ZUSD  5  14.95000
LINKUSDT   LINK/USDT  LINK   USDT  5  14.95500
USDTZUSD   USDT/USD   USDT   ZUSD  5  0.99990
USDCUSD    USDC/USD   USDC   ZUSD  4  1.0000
XTZUSD     XTZ/USD    XTZ    ZUSD  4  0.9950
AIXBTUSD   AIXBT/USD  AIXBT  ZUSD  5  0.45000
AUSD       A/USD      A      ZUSD  4  0.5500
MONAUSD    MON/AUSD   MON    AUSD  5  0.02500
LUNAUSD    LUNA/USD   LUNA   ZUSD  8  0.00013000
XZECZUSD   ZEC/USD    XZEC   ZUSD  2  28.40
SHIBUSD    SHIB/USD   SHIB   ZUSD  8  0.00001030
POLUSD     POL/USD    POL    ZUSD  4  0.4000
AVAXUSD    AVAX/USD   AVAX   ZUSD  2  36.50
AAPLSPVUSD AAPLx/USD  AAPLx  ZUSD  2  190.10
TSLASPVUSD TSLAx/USD  TSLAx  ZUSD  2  238.50
TSLASPVEUR TSLAx/EUR  TSLAx  ZEUR  2  218.30
BRK.BSPVUSD BRK.Bx/USD BRK.Bx ZUSD 2  361.80
XXBTZUSD.d -          XXBT   ZUSD  1  42000.0
XETHXXBT.d -          XETH   XXBT  5  0.05420
XBTUSD:BTNL XBT/USD:BTNL XXBT ZUSD 1  42000.0
"""

_OURS = {"XBT": "BTC", "XDG": "DOGE"}
_KRAKENS = {ours: theirs for theirs, ours in _OURS.items()}


def _listed(line: str) -> ListedPair:
    key, wsname, base, quote, decimals, price = line.split()
    if wsname == "-":
        dark = f"{base[1:]}{quote[1:]}.d"
        return ListedPair(key, None, base, quote, int(decimals), price, dark, None)
    altname = wsname.replace("/", "")
    if ":" in key:
        return ListedPair(key, wsname, base, quote, int(decimals), price, altname, None)
    symbol = "/".join(_OURS.get(asset, asset) for asset in wsname.split("/"))
    second = altname if is_tokenized(symbol) else None
    return ListedPair(key, wsname, base, quote, int(decimals), price, altname, symbol, second)


LISTED: tuple[ListedPair, ...] = tuple(_listed(line) for line in _TABLE.split("\n") if line)
"""What is listed when nothing else is said."""

_BY_SYMBOL = {pair.symbol: pair for pair in LISTED if pair.symbol}


def listed_pair(symbol: str) -> ListedPair:
    """The entry of a symbol; one that is not in the list gets a plain one. Raises PairError."""
    if found := _BY_SYMBOL.get(symbol):
        return found
    symbol = parse_symbol(symbol)
    if found := _BY_SYMBOL.get(symbol):
        return found
    name = to_rest_pair(symbol)
    base, quote = (_KRAKENS.get(asset, asset) for asset in symbol.split("/"))
    key, second = (f"{base[:-1]}SPV{quote}", name) if is_tokenized(symbol) else (name, None)
    return ListedPair(key, f"{base}/{quote}", base, quote, 5, "1.00000", name, symbol, second)


def asset_pairs(
    pairs: Iterable[ListedPair] = LISTED, statuses: Mapping[str, str] | None = None
) -> dict[str, dict[str, Any]]:
    """The ``result`` of AssetPairs, of all classes. ``statuses`` by key, where it is not ``online``."""
    wanted = statuses or {}
    return {key: pair.entry(wanted.get(pair.key, "online")) for pair in pairs for key in pair.keys}

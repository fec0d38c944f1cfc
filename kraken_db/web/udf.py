"""TradingView's UDF protocol: charts that speak it are pointed at ``/udf`` and show what is stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from aiohttp import web

from kraken_db.errors import PairError, WrongValueError
from kraken_db.intervals import Interval, as_interval
from kraken_db.pairs import known_spelling, parse_symbol
from kraken_db.repositories.candles import CandleRepository
from kraken_db.types import Candle
from kraken_db.web.answers import document
from kraken_db.web.parameters import TEXT, Given, Kind, Parameter, choice, count
from kraken_db.web.routes import Route
from kraken_db.web.site import Site

_RESOLUTIONS = {"1": 1, "5": 5, "15": 15, "30": 30, "60": 60, "240": 240, "720": 720, "1D": 1440, "1W": 10080}
MOST_BARS = 20_000
_EXCHANGE = "Kraken"
_LAST_SECOND = 253_370_764_800  # the year 9999: what a datetime holds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _resolution(text: str) -> Interval:
    minutes = _RESOLUTIONS.get({"D": "1D", "W": "1W"}.get(text, text))
    if minutes is None:
        raise WrongValueError(f"it is none of {', '.join(_RESOLUTIONS)}")
    return as_interval(minutes)


_SECONDS = count(0, _LAST_SECOND)
_RESOLUTION = Kind(_resolution, {"type": "string", "enum": list(_RESOLUTIONS)})


async def _config(request: web.Request, _site: Site, _given: Given) -> web.StreamResponse:
    return document(
        request,
        {
            "supports_search": True,
            "supports_group_request": False,
            "supports_marks": False,
            "supports_timescale_marks": False,
            "supports_time": True,
            "supported_resolutions": list(_RESOLUTIONS),
            "exchanges": [{"value": _EXCHANGE, "name": _EXCHANGE, "desc": "Kraken, as it is stored here"}],
            "symbols_types": [{"value": "crypto", "name": "Pairs"}],
        },
    )


async def _time(_request: web.Request, site: Site, _given: Given) -> web.StreamResponse:
    return web.Response(text=str(int(site.clock().timestamp())))


async def _symbols(request: web.Request, site: Site, given: Given) -> web.StreamResponse:
    symbol = await _stored(site, given["symbol"])
    if symbol is None:
        return document(request, {"s": "error", "errmsg": "unknown symbol"}, status=404)
    return document(request, await _described(site, symbol))


async def _stored(site: Site, text: str) -> str | None:
    """The stored pair of a name, which may have the exchange before it (``Kraken:BTC/USD``)."""
    prefix, _, rest = text.rpartition(":")
    try:
        symbol = parse_symbol(rest if prefix.lower() in ("", _EXCHANGE.lower()) else text)
    except PairError:
        return None
    stored = await site.symbols()
    symbol = known_spelling(symbol, stored)
    return symbol if symbol in stored else None


async def _described(site: Site, symbol: str) -> dict[str, Any]:
    async def read(connection: Any) -> list[Candle]:
        return await CandleRepository(connection, site.store.backend).latest(symbol, 1, 1)

    newest = await site.read(read)
    decimals = max((_decimals(price) for one in newest for price in (one.open, one.close)), default=2)
    return {
        "name": symbol,
        "ticker": symbol,
        "description": symbol.replace("/", " / "),
        "type": "crypto",
        "exchange": _EXCHANGE,
        "listed_exchange": _EXCHANGE,
        "session": "24x7",
        "timezone": "Etc/UTC",
        "format": "price",
        "minmov": 1,
        "pricescale": 10 ** max(decimals, 2),
        "has_intraday": True,
        "has_daily": True,
        "has_weekly_and_monthly": True,
        "intraday_multipliers": [name for name in _RESOLUTIONS if name.isdigit()],
        "daily_multipliers": ["1"],
        "weekly_multipliers": ["1"],
        "supported_resolutions": list(_RESOLUTIONS),
        "volume_precision": 8,
        "data_status": "streaming",
        "currency_code": symbol.partition("/")[2],
    }


def _decimals(value: Decimal) -> int:
    return len(format(value, "f").partition(".")[2].rstrip("0"))


async def _search(request: web.Request, site: Site, given: Given) -> web.StreamResponse:
    wanted = given["query"].upper().replace("-", "/").replace("XBT", "BTC")
    found = [symbol for symbol in await site.symbols() if wanted in symbol.upper()]
    found.sort(key=lambda symbol: (not symbol.upper().startswith(wanted), symbol))
    content = [
        {
            "symbol": symbol,
            "full_name": f"{_EXCHANGE}:{symbol}",
            "description": symbol.replace("/", " / "),
            "exchange": _EXCHANGE,
            "ticker": symbol,
            "type": "crypto",
        }
        for symbol in found[: given["limit"]]
    ]
    return document(request, content)


async def _history(request: web.Request, site: Site, given: Given) -> web.StreamResponse:
    """``countback`` says how many bars are wanted before ``to``, and goes before ``from``, as the protocol
    has it. ``to`` is exclusive."""
    symbol = await _stored(site, given["symbol"])
    if symbol is None:
        return document(request, {"s": "error", "errmsg": "unknown symbol"}, status=404)
    interval: Interval = given["resolution"]
    start, end = (_EPOCH + timedelta(seconds=given[name]) for name in ("from", "to"))
    if start > end:
        raise WrongValueError("from is after to")

    async def read(connection: Any) -> tuple[list[Candle], list[Candle]]:
        candles = CandleRepository(connection, site.store.backend)
        if given["countback"]:
            found = await candles.latest(symbol, interval, given["countback"], before=end)
        else:
            found = await candles.between(symbol, interval, start, end, MOST_BARS)
        return found, [] if found else await candles.latest(symbol, interval, 1, before=start)

    found, before = await site.read(read)
    if not found:
        content: dict[str, Any] = {"s": "no_data"}
        if before:
            content["nextTime"] = int(before[-1].timestamp.timestamp())
        return document(request, content)
    columns = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
    return document(
        request,
        {
            "s": "ok",
            "t": [int(one.timestamp.timestamp()) for one in found],
            **{key: [float(getattr(one, name)) for one in found] for key, name in columns.items()},
        },
    )


_SYMBOL = Parameter("symbol", TEXT, "A pair, by any of its names.", is_required=True)
_COLUMN = {"type": "array", "items": {"type": "number"}}
_BARS = {
    "type": "object",
    "required": ["s"],
    "properties": {
        "s": {"type": "string", "enum": ["ok", "no_data", "error"]},
        "nextTime": {"type": "integer"},
        **dict.fromkeys("tohlcv", _COLUMN),
    },
}
ROUTES = [
    Route("GET", "/udf/config", _config, "What the datafeed can do.", schema={"type": "object"}),
    Route("GET", "/udf/time", _time, "Unix time of the server.", media=("text/plain",)),
    Route(
        "GET", "/udf/symbols", _symbols, "What a chart has to know of a pair.", [_SYMBOL], {"type": "object"}
    ),
    Route(
        "GET",
        "/udf/search",
        _search,
        "Stored pairs with a text in their names.",
        [
            Parameter("query", TEXT, "A part of a name.", default=""),
            Parameter("type", choice("crypto"), "There is one kind.", default="crypto"),
            Parameter("exchange", choice(_EXCHANGE), "There is one exchange.", default=_EXCHANGE),
            Parameter("limit", count(1, 1_000), "The most pairs.", default=30),
        ],
        {"type": "array", "items": {"type": "object"}},
    ),
    Route(
        "GET",
        "/udf/history",
        _history,
        "Candles as a chart reads them; nearest floats.",
        [
            _SYMBOL,
            Parameter("resolution", _RESOLUTION, "The interval.", is_required=True),
            Parameter("from", _SECONDS, "Unix seconds, inclusive.", default=0),
            Parameter("to", _SECONDS, "Unix seconds, exclusive.", is_required=True),
            Parameter("countback", count(0, MOST_BARS), "So many bars before `to`.", default=0),
            Parameter("currencyCode", TEXT, "Not used: charts send it."),
            Parameter("unitId", TEXT, "Not used: charts send it."),
        ],
        _BARS,
    ),
]

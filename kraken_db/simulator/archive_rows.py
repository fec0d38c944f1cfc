"""The rows of Kraken's archives, as bytes, from the numbers of a market."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from kraken_db.simulator.market import Market
from kraken_db.simulator.tape import SECOND, Columns

ARCHIVE_INTERVALS = (1, 5, 15, 60, 240, 720, 1440)
"""Minutes of the candles that are in the archives. There is no 30."""

_VOLUME_UNIT = 10**8
_TAILS = [f",{'s' if flags & 1 else 'b'},{'m' if flags & 2 else 'l'},," for flags in range(256)]
_KEPT_TEXTS = 50_000
_ROWS_AT_ONCE = 4096


class TradeLayout(StrEnum):
    """The columns of a file of trades."""

    SCHEMA_2 = "2"
    """Since August 2026: time, price, volume, side, type, misc, id."""
    SCHEMA_1 = "1"
    """The quarterlies before: price, volume, time, side, type, misc, id. Its header names six columns."""
    OLD = "old"
    """Time in whole seconds, price, volume."""

    @property
    def header(self) -> str | None:
        """The first line without its end; None where Kraken writes none."""
        return _HEADERS.get(self)


_HEADERS: Mapping[TradeLayout, str] = {
    TradeLayout.SCHEMA_2: "timestamp,price,volume,type,order_type,misc,trade_id",
    TradeLayout.SCHEMA_1: "Price,Volume,Timestamp,Type,Miscellaneous,Trade ID",
}


def trade_rows(market: Market, start: int, stop: int, layout: TradeLayout) -> Iterator[bytes]:
    """The trades at the positions ``[start, stop)``, some thousand lines at a time."""
    position = start
    for columns in market.columns(start, stop):
        yield "".join(_lines(market, position, columns, layout)).encode()
        position += len(columns.stamps)


def _lines(market: Market, position: int, columns: Columns, layout: TradeLayout) -> Iterator[str]:
    prices, unit = market.price_texts, _VOLUME_UNIT
    ids = market.archive_ids(position, position + len(columns.stamps))
    rows = (
        (stamp, prices[price], f"{volume // unit}.{volume % unit:08d}", flags)
        for stamp, price, volume, flags in zip(*columns, strict=True)
    )
    match layout:
        case TradeLayout.OLD:
            return (f"{stamp // SECOND},{price},{volume}\n" for stamp, price, volume, _ in rows)
        case TradeLayout.SCHEMA_1:
            return (
                f"{price},{volume},{stamp / SECOND!r}{_TAILS[flags]}{number}\n"
                for (stamp, price, volume, flags), number in zip(rows, ids, strict=True)
            )
    return (
        f"{stamp / SECOND!r},{price},{volume}{_TAILS[flags]}{number}\n"
        for (stamp, price, volume, flags), number in zip(rows, ids, strict=True)
    )


class _Bar(NamedTuple):
    """A candle in numbers: its first second, ticks, volume in 10**-8."""

    second: int
    first: int
    high: int
    low: int
    last: int
    volume: int
    trades: int


def candle_rows(market: Market, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
    """The candles of the trades at the positions ``[start, stop)``: minutes of the interval, and some lines.

    All intervals are made in one pass, so their lines come mixed; those of one interval are in order.
    """
    texts = _CandleTexts(market.pair.decimals)
    running: dict[int, _Bar] = {}
    waiting: dict[int, list[str]] = {interval: [] for interval in ARCHIVE_INTERVALS}
    for minute in _minutes(market, start, stop):
        for interval, lines in waiting.items():
            second = minute.second - minute.second % (60 * interval)
            bar = running.get(interval)
            if bar is not None and bar.second == second:
                running[interval] = _joined(bar, minute)
                continue
            if bar is not None:
                lines.append(texts.line(bar))
            running[interval] = minute._replace(second=second)
            if len(lines) >= _ROWS_AT_ONCE:
                yield interval, "".join(lines).encode()
                lines.clear()
    for interval, bar in running.items():
        yield interval, "".join([*waiting[interval], texts.line(bar)]).encode()


def _minutes(market: Market, start: int, stop: int) -> Iterator[_Bar]:
    minute = first = high = low = last = volume = count = 0
    for columns in market.columns(start, stop):
        for stamp, price, amount in zip(columns.stamps, columns.prices, columns.volumes, strict=True):
            here = stamp // (60 * SECOND)
            if here != minute:
                if count:
                    yield _Bar(60 * minute, first, high, low, last, volume, count)
                minute, first, high, low, volume, count = here, price, price, price, 0, 0
            elif price > high:
                high = price
            elif price < low:
                low = price
            last = price
            volume += amount
            count += 1
    if count:
        yield _Bar(60 * minute, first, high, low, last, volume, count)


def _joined(bar: _Bar, later: _Bar) -> _Bar:
    return _Bar(
        bar.second,
        bar.first,
        max(bar.high, later.high),
        min(bar.low, later.low),
        later.last,
        bar.volume + later.volume,
        bar.trades + later.trades,
    )


class _CandleTexts:
    """Numbers as Kraken writes those of candles: without zeros at the end, but differently from trades."""

    def __init__(self, decimals: int) -> None:
        self._decimals = decimals
        self._prices: dict[int, str] = {}

    def line(self, bar: _Bar) -> str:
        prices = ",".join(map(self._price, (bar.first, bar.high, bar.low, bar.last)))
        return f"{bar.second},{prices},{volume_text(bar.volume)},{bar.trades}\n"

    def _price(self, ticks: int) -> str:
        text = self._prices.get(ticks)
        if text is None:
            if len(self._prices) >= _KEPT_TEXTS:
                self._prices.clear()
            text = self._prices[ticks] = candle_price_text(ticks, self._decimals)
        return text


def candle_price_text(ticks: int, decimals: int) -> str:
    """At least one decimal: ``16520.0``, ``0.00001464``."""
    whole, rest = divmod(ticks, 10**decimals)
    fraction = f"{rest:0{decimals}d}".rstrip("0") if decimals else ""
    return f"{whole}.{fraction or '0'}"


def volume_text(units: int) -> str:
    """As a decimal without its last zeros is written: ``0.5``, ``12``, ``1E+1`` for ten, ``1E-8``."""
    return str(Decimal(units).scaleb(-8).normalize())

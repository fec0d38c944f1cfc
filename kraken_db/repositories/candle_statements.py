"""The statements that read candles, made once for each interval and not once for each call.

To put such a statement together and to render it takes longer than the database needs for a short list.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from sqlalchemy import ColumnElement, FromClause, Select, func, select

from kraken_db.db.compiled import CompiledStatement
from kraken_db.intervals import ceil_to_interval
from kraken_db.repositories.text_layouts import (
    checksum,
    epoch_microseconds,
    epoch_seconds,
    kraken_price,
    kraken_volume,
)
from kraken_db.timeseries import TimeSeries

Layout: TypeAlias = Literal["values", "frame", "file", "kraken"]
"""Which columns are read: see ``_COLUMNS``."""

# What stands in a statement until it is used. Two Mondays: candles of every interval open there.
_SYMBOL, _LIMIT = "\0symbol", 2**61 + 1
_START, _END = datetime(1970, 1, 5, tzinfo=UTC), datetime(9998, 12, 28, tzinfo=UTC)


def select_candles(
    timeseries: TimeSeries,
    symbol: str,
    interval: int,
    start: datetime,
    end: datetime,
    *,
    limit: int | None = None,
    newest_first: bool = False,
    layout: Layout = "values",
) -> CompiledStatement:
    """The candles that open in ``[start, end)`` in order; with ``limit`` the first so many of them.

    ``values``: timestamp, open, high, low, close, volume, trade_count, vwap, as Python has them. ``frame``:
    the same for a data frame, its time in microseconds since 1970. ``file``: and quote_volume. ``kraken``: a
    row of Kraken's archive, as text.
    """
    statement = _candles(timeseries, interval, newest_first, layout)
    return statement.replacing({**_values(symbol, interval, start, end), _LIMIT: limit})


def select_checksum(
    timeseries: TimeSeries, symbol: str, interval: int, start: datetime, end: datetime
) -> CompiledStatement:
    """One row about the candles that open in ``[start, end)``: see ``text_layouts.checksum``."""
    return _checksum(timeseries, interval).replacing(_values(symbol, interval, start, end))


def select_bounds(timeseries: TimeSeries, symbol: str, interval: int) -> CompiledStatement:
    """One row: the open times of the oldest and of the newest candle, NULL without any."""
    return _bounds(timeseries, interval).replacing({_SYMBOL: symbol})


def _values(symbol: str, interval: int, start: datetime, end: datetime) -> dict[object, Any]:
    # To begin between two candles is to begin with the next one, for every kind of database.
    first, last = ceil_to_interval(start, interval), ceil_to_interval(end, interval)
    return {_SYMBOL: symbol, _START: first, _END: last}


def _columns(c: Any, layout: Layout) -> Sequence[ColumnElement[Any]]:
    trades = func.coalesce(c.trade_count, 0)
    if layout == "kraken":
        prices = (kraken_price(price) for price in (c.open, c.high, c.low, c.close))
        return (epoch_seconds(c.timestamp), *prices, kraken_volume(c.volume), trades)
    moment = c.timestamp if layout == "values" else epoch_microseconds(c.timestamp)
    columns = (moment, c.open, c.high, c.low, c.close, c.volume, trades, c.vwap)
    return (*columns, c.quote_volume) if layout == "file" else columns


@lru_cache(maxsize=256)
def _candles(timeseries: TimeSeries, interval: int, newest_first: bool, layout: Layout) -> CompiledStatement:
    c = _source(timeseries, interval).c
    order = c.timestamp.desc() if newest_first else c.timestamp
    return _compiled(select(*_columns(c, layout)).order_by(order).limit(_LIMIT))


@lru_cache(maxsize=64)
def _checksum(timeseries: TimeSeries, interval: int) -> CompiledStatement:
    c = _source(timeseries, interval).c
    return _compiled(checksum(c.timestamp, _columns(c, "file")))


@lru_cache(maxsize=64)
def _bounds(timeseries: TimeSeries, interval: int) -> CompiledStatement:
    oldest, newest = (timeseries.edge(_SYMBOL, interval, newest=side) for side in (False, True))
    return _compiled(select(oldest.scalar_subquery(), newest.scalar_subquery()))


def _source(timeseries: TimeSeries, interval: int) -> FromClause:
    return timeseries.candles_between(_SYMBOL, interval, _START, _END).subquery("c")


def _compiled(statement: Select[*tuple[Any, ...]]) -> CompiledStatement:
    compiled = CompiledStatement.of(statement)
    for value in compiled.values:
        # One that was computed from a marker would stay as it is for every caller.
        assert value in (_START, _END) or not isinstance(value, datetime), value
    return compiled

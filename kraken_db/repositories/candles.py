"""Candles as the application reads them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.intervals import BASE_INTERVAL, interval_length
from kraken_db.timeseries import TimeSeries
from kraken_db.types import Candle

# How far a search for the latest N reaches at first, in lengths of N candles, and by how much it grows:
# quiet markets have no row for most of their minutes.
_FIRST_REACH, _GROWTH = 2, 8


class CandleRepository:
    """Reads candles of every interval on the caller's connection; never commits.

    Ranges are half-open, lists are oldest first, times are UTC.
    """

    def __init__(self, connection: AsyncConnection | AsyncSession, timeseries: TimeSeries) -> None:
        self._connection = connection
        self._timeseries = timeseries

    async def between(
        self, symbol: str, interval: int, start: datetime, end: datetime, limit: int | None = None
    ) -> list[Candle]:
        """The candles that open in ``[start, end)``; with ``limit`` the oldest so many of them."""
        rows = self._timeseries.candles_between(symbol, interval, start, end).subquery("c")
        return await self._fetch(rows, newest_first=False, limit=limit)

    async def latest(
        self, symbol: str, interval: int, count: int, *, before: datetime | None = None
    ) -> list[Candle]:
        """The newest ``count`` candles, of those that open before ``before`` if it is given.

        Looks at the newest stretch of time first and widens it only while too few were found there.
        """
        bounds = await self.bounds(symbol, interval)
        if bounds is None or count <= 0:
            return []
        oldest, newest = bounds
        end = newest + interval_length(interval)
        if before is not None:
            end = min(end, before)
        reach = interval_length(interval) * count * _FIRST_REACH
        while True:
            start = max(oldest, end - reach) if reach < end - oldest else oldest
            rows = self._timeseries.candles_between(symbol, interval, start, end).subquery("c")
            found = await self._fetch(rows, newest_first=True, limit=count)
            if len(found) >= count or start <= oldest:
                return found[::-1]
            reach *= _GROWTH

    async def bounds(self, symbol: str, interval: int = BASE_INTERVAL) -> tuple[datetime, datetime] | None:
        """The open times of the oldest and the newest candle; None if there is none."""
        oldest = await self._connection.scalar(self._timeseries.edge(symbol, interval, newest=False))
        newest = await self._connection.scalar(self._timeseries.edge(symbol, interval, newest=True))
        return None if oldest is None or newest is None else (oldest, newest)

    async def _fetch(self, rows: FromClause, *, newest_first: bool, limit: int | None) -> list[Candle]:
        c = rows.c
        order = c.timestamp.desc() if newest_first else c.timestamp
        prices = (c.open, c.high, c.low, c.close)
        trades = func.coalesce(c.trade_count, 0)
        fields: list[ColumnElement[Any]] = [
            c.symbol,
            c.timestamp,
            c.interval_minutes,
            *prices,
            c.volume,
            trades,
            c.vwap,
        ]
        statement = select(*fields).order_by(order)
        result = await self._connection.execute(statement.limit(limit))
        return [Candle(*row) for row in result]


def flat_candles(
    candles: Sequence[Candle],
    previous: Candle | None,
    opens: Sequence[datetime],
) -> list[Candle]:
    """``candles`` with a flat one, at the last close and without volume, at every other of ``opens``.

    Moments before the first known close stay empty: there is no price to repeat.
    """
    by_time = {candle.timestamp: candle for candle in candles}
    filled: list[Candle] = []
    last = previous
    for moment in sorted({*opens, *by_time}):
        candle = by_time.get(moment)
        if candle is None and last is not None:
            price, zero = last.close, last.volume - last.volume
            candle = Candle(
                last.symbol, moment, last.interval_minutes, price, price, price, price, zero, 0, None
            )
        if candle is not None:
            filled.append(candle)
            last = candle
    return filled

"""Trades as the application reads them.

Every look-up over time is bounded on both sides: where the answer may be far away, it is looked for in
reaches that grow (``backends.reaches``), so that TimescaleDB plans over few chunks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, case, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends.reaches import TRADE_REACH, known_span, reaches
from kraken_db.data_types import DataType
from kraken_db.db.copy import BLOCK_SIZE, copy_csv_out
from kraken_db.db.driver import CompiledStatement, collector_paused, fetch
from kraken_db.models import TRADES
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.text_layouts import (
    Checksum,
    checksum,
    epoch_microseconds,
    epoch_seconds_text,
    kraken_number,
)
from kraken_db.types import HistoricalTrade

FIRST, LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""No trade is older or newer."""


class TradeRepository:
    """Reads trades on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def between(
        self, symbol: str, start: datetime, end: datetime, limit: int | None = None
    ) -> list[HistoricalTrade]:
        """The trades with ``start <= timestamp < end``, by time and id; ``limit`` keeps the oldest."""
        if limit is None:
            return await self._between(symbol, start, end, None)
        first = await self._edge(symbol, start, end, newest=False)
        if first is None:
            return []
        found: list[HistoricalTrade] = []
        for low, high in reaches(first, end, TRADE_REACH):
            found += await self._between(symbol, low, high, limit - len(found))
            if len(found) >= limit:
                break
        return found

    async def _between(
        self, symbol: str, start: datetime, end: datetime, limit: int | None
    ) -> list[HistoricalTrade]:
        c = TRADES.c
        columns = (c.id, c.timestamp, c.price, c.volume, c.side, func.coalesce(c.order_type, ""))
        statement = (
            select(*columns, func.coalesce(c.misc, ""))
            .where(*_between(symbol, start, end))
            .order_by(c.timestamp, c.id)
            .limit(limit)
        )
        with collector_paused():
            rows = await fetch(self._connection, CompiledStatement.of(statement))
            return [
                HistoricalTrade(number, symbol, moment, price, volume, side, order_type, misc)
                for number, moment, price, volume, side, order_type, misc in rows
            ]

    def csv_between(
        self,
        symbol: str,
        start: datetime,
        end: datetime,
        layout: Literal["frame", "kraken"],
        *,
        limit: int | None = None,
        block_size: int = BLOCK_SIZE,
    ) -> AsyncGenerator[bytes]:
        """The trades with ``start <= timestamp < end`` as CSV in blocks of whole rows, by time and id.

        ``frame``: time in microseconds since 1970, id, price, volume, side, order_type, misc. ``kraken``: a
        row of the quarterly archive, its id 0 where Kraken's is unknown. Nothing else may use the
        connection until the last block has been taken.
        """
        columns = _frame_columns() if layout == "frame" else _kraken_columns()
        rows = select(*columns).where(*_between(symbol, start, end))
        statement = rows.order_by(TRADES.c.timestamp, TRADES.c.id).limit(limit)
        return copy_csv_out(self._connection, CompiledStatement.of(statement), block_size)

    async def checksum(self, symbol: str, start: datetime, end: datetime) -> Checksum:
        """Of the trades with ``start <= timestamp < end``, with all columns."""
        statement = checksum(TRADES.c.timestamp, _frame_columns()).where(*_between(symbol, start, end))
        rows = await fetch(self._connection, CompiledStatement.of(statement))
        return Checksum.of(rows[0])

    async def extent(self, symbol: str) -> TimeRange | None:
        """The range outside of which there is no trade; None if there is none."""
        oldest = await self._edge(symbol, FIRST, LAST, newest=False)
        if oldest is None:
            return None
        newest = await self._edge(symbol, oldest, LAST, newest=True)
        return oldest, (newest or oldest) + TICK

    async def start_of_newest(self, symbol: str, count: int, end: datetime) -> datetime | None:
        """The stamp of the oldest of the newest ``count`` trades before ``end``; None without any."""
        moment = TRADES.c.timestamp
        newest = await self._edge(symbol, FIRST, min(end, LAST), newest=True)
        start, missing = newest, count
        if newest is None:
            return None
        for low, high in reaches(newest + TICK, FIRST, TRADE_REACH):
            rows = select(moment).where(*_between(symbol, low, high)).order_by(moment.desc()).limit(missing)
            part = rows.subquery()
            found, oldest = (
                await self._connection.execute(select(func.count(), func.min(part.c.timestamp)))
            ).one()
            start, missing = oldest or start, missing - found
            if missing <= 0:
                break
        return start

    async def newest_until(self, symbol: str, moment: datetime) -> tuple[int, datetime] | None:
        """Id and stamp of the newest trade with an id at or before ``moment``; None without any."""
        newest = await self._edge(symbol, FIRST, min(moment, LAST) + TICK, newest=True)
        if newest is None:
            return None
        for low, high in reaches(newest + TICK, FIRST, TRADE_REACH):
            if (found := await self.newest_between(symbol, low, high - TICK)) is not None:
                return found
        return None

    async def newest_between(
        self, symbol: str, start: datetime, end: datetime
    ) -> tuple[int, datetime] | None:
        """Id and stamp of the newest trade with an id in ``[start, end]``; None without any."""
        c = TRADES.c
        found = await self._connection.execute(
            select(c.id, c.timestamp)
            .where(c.symbol == symbol, c.timestamp >= start, c.timestamp <= end, c.id > 0)
            .order_by(c.timestamp.desc(), c.id.desc())
            .limit(1)
        )
        row = found.first()
        return None if row is None else (row.id, row.timestamp)

    async def any_without_id(self, symbol: str, start: datetime, end: datetime) -> bool:
        """Whether there is a trade without an id of Kraken's with ``start <= timestamp < end``."""
        found = select(exists().where(*_between(symbol, start, end), TRADES.c.id < 0))
        return bool(await self._connection.scalar(found))

    async def any_between(self, symbol: str, start: datetime, end: datetime) -> bool:
        """Whether a trade with ``start <= timestamp < end`` is stored."""
        c = TRADES.c
        found = exists().where(c.symbol == symbol, c.timestamp >= start, c.timestamp < end)
        return bool(await self._connection.scalar(select(found)))

    async def _edge(self, symbol: str, start: datetime, end: datetime, *, newest: bool) -> datetime | None:
        """The stamp of the newest (or the oldest) trade of ``[start, end)``."""
        moment = TRADES.c.timestamp
        for low, high in await self._where_to_look(symbol, start, end, newest=newest):
            edge = select(moment).where(*_between(symbol, low, high)).limit(1)
            found: datetime | None = await self._connection.scalar(
                edge.order_by(moment.desc() if newest else moment)
            )
            if found is not None:
                return found
        return None

    async def _where_to_look(
        self, symbol: str, start: datetime, end: datetime, *, newest: bool
    ) -> list[TimeRange]:
        """The ranges of ``[start, end)`` in which the newest (or the oldest) trade is to be looked for."""
        known = await known_span(self._connection, symbol, DataType.TRADES)
        if known is None:
            return [(start, end)]
        noted, outside, stop = (
            (known.newest, known.newer(TRADE_REACH, LAST), start)
            if newest
            else (known.oldest, known.older(TRADE_REACH, FIRST), end)
        )
        inside = reaches(min(max(noted, start), end), stop, TRADE_REACH)
        clipped = [(max(low, start), min(high, end)) for low, high in (*outside, *inside)]
        return [one for one in clipped if one[0] < one[1]]


def _between(symbol: str, start: datetime, end: datetime) -> tuple[ColumnElement[bool], ...]:
    c = TRADES.c
    return c.symbol == symbol, c.timestamp >= start, c.timestamp < end


def _frame_columns() -> Sequence[ColumnElement[Any]]:
    c = TRADES.c
    words = (func.coalesce(word, "") for word in (c.side, c.order_type, c.misc))
    return (epoch_microseconds(c.timestamp), c.id, c.price, c.volume, *words)


def _kraken_columns() -> Sequence[ColumnElement[Any]]:
    c = TRADES.c
    return (
        kraken_number(c.price),
        kraken_number(c.volume),
        epoch_seconds_text(c.timestamp),
        # An empty text would be written as "".
        func.nullif(func.left(c.side, 1), ""),
        # Letters only of the words that Kraken's files shorten: the one of stop-loss would mean nothing.
        case(
            (c.order_type == "market", "m"),
            (c.order_type == "limit", "l"),
            else_=func.nullif(c.order_type, ""),
        ),
        func.nullif(c.misc, ""),
        func.greatest(c.id, 0),
    )

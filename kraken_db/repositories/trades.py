"""Trades as the application reads them: ranges, and the neighbours of a moment."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

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


class TradeRepository:
    """Reads trades on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def between(
        self, symbol: str, start: datetime, end: datetime, limit: int | None = None
    ) -> list[HistoricalTrade]:
        """The trades with ``start <= timestamp < end``, by time and id; ``limit`` keeps the oldest."""
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
        moment = TRADES.c.timestamp
        stamps = select(moment).where(TRADES.c.symbol == symbol).limit(1)
        edges = select(*(stamps.order_by(order).scalar_subquery() for order in (moment, moment.desc())))
        oldest, newest = (await self._connection.execute(edges)).one()
        return None if oldest is None else (oldest, newest + TICK)

    async def newest_until(self, symbol: str, moment: datetime) -> tuple[int, datetime] | None:
        """Id and stamp of the newest trade with an id at or before ``moment``; None without any."""
        c = TRADES.c
        found = await self._connection.execute(
            select(c.id, c.timestamp)
            .where(c.symbol == symbol, c.timestamp <= moment, c.id > 0)
            .order_by(c.timestamp.desc(), c.id.desc())
            .limit(1)
        )
        row = found.first()
        return None if row is None else (row.id, row.timestamp)

    async def any_between(self, symbol: str, start: datetime, end: datetime) -> bool:
        """Whether a trade with ``start <= timestamp < end`` is stored."""
        c = TRADES.c
        found = exists().where(c.symbol == symbol, c.timestamp >= start, c.timestamp < end)
        return bool(await self._connection.scalar(select(found)))


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
        func.left(c.order_type, 1),
        func.nullif(c.misc, ""),
        func.greatest(c.id, 0),
    )


REACH = timedelta(days=7)
"""How far away a neighbour may be: both bounds of time let TimescaleDB look at few chunks only."""

_ROWS = 20
# Live stamps are off by about a microsecond: within that, the order of the times is not that of the ids.
_SAME_MOMENT = 10 * TICK


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The nearest trade on one side. ``id`` is negative where it has none of Kraken's."""

    id: int
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class MissingIds:
    """Ids that lie between two stored trades and are not stored, ``first`` and ``last`` included."""

    first: int
    last: int
    after: datetime
    """The time of the stored trade before them."""
    before: datetime
    """The time of the stored trade behind them."""

    @property
    def gap(self) -> TimeRange:
        """Where they must have happened."""
        start = self.after + TICK
        return start, max(self.before, start + TICK)

    def __str__(self) -> str:
        return f"trade {self.first}" if self.first == self.last else f"trades {self.first} to {self.last}"


class TradeNeighbours:
    """Two look-ups in the index for each question, on the caller's connection."""

    def __init__(self, connection: AsyncConnection | AsyncSession, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def before(self, moment: datetime, reach: timedelta = REACH) -> Neighbour | None:
        """The newest trade before ``moment``; None where there is none so near."""
        c = TRADES.c
        rows = await self._rows(c.timestamp >= moment - reach, c.timestamp < moment, newest_first=True)
        if not rows:
            return None
        newest = rows[0].timestamp
        same = [row.id for row in rows if row.timestamp > newest - _SAME_MOMENT]
        return Neighbour(max(same) if min(same) > 0 else min(same), newest)

    async def behind(self, moment: datetime, reach: timedelta = REACH) -> Neighbour | None:
        """The oldest trade at or after ``moment``; None where there is none so near."""
        c = TRADES.c
        rows = await self._rows(c.timestamp >= moment, c.timestamp < moment + reach, newest_first=False)
        if not rows:
            return None
        oldest = rows[0].timestamp
        return Neighbour(min(row.id for row in rows if row.timestamp < oldest + _SAME_MOMENT), oldest)

    async def missing_between(
        self, start: datetime, end: datetime, reach: timedelta = REACH
    ) -> MissingIds | None:
        """The ids between the last trade before ``start`` and the first one from ``end`` on.

        None where they follow one another, and where one of the two has no id: that proves nothing.
        """
        before, behind = await self.before(start, reach), await self.behind(end, reach)
        if before is None or behind is None or before.id < 0 or behind.id < 0:
            return None
        if behind.id <= before.id + 1:
            return None
        return MissingIds(before.id + 1, behind.id - 1, before.timestamp, behind.timestamp)

    async def _rows(self, *bounds: object, newest_first: bool) -> Sequence[Neighbour]:
        c = TRADES.c
        order = (c.timestamp.desc(), c.id.desc()) if newest_first else (c.timestamp, c.id)
        statement = (
            select(c.id, c.timestamp)
            .where(c.symbol == self._symbol, *bounds)  # type: ignore[arg-type]
            .order_by(*order)
            .limit(_ROWS)
        )
        return [Neighbour(*row) for row in await self._connection.execute(statement)]

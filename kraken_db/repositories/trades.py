"""Trades as the application reads them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.db.compiled import CompiledStatement
from kraken_db.db.copy import BLOCK_SIZE, copy_csv_out
from kraken_db.db.fetch import collector_paused, fetch
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

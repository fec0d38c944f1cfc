"""Trades as the application reads them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.models import TRADES
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
        statement = (
            select(
                c.id,
                c.symbol,
                c.timestamp,
                c.price,
                c.volume,
                c.side,
                func.coalesce(c.order_type, ""),
                func.coalesce(c.misc, ""),
            )
            .where(c.symbol == symbol, c.timestamp >= start, c.timestamp < end)
            .order_by(c.timestamp, c.id)
            .limit(limit)
        )
        return [HistoricalTrade(*row) for row in await self._connection.execute(statement)]

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

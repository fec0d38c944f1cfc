"""The newest rows of several pairs at once: what those who watch the store are shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY, VARCHAR
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.intervals import BASE_INTERVAL
from kraken_db.models import CANDLES, TRADES
from kraken_db.repositories.last_prices import ONE_EACH


class NewestRows:
    """Reads on the caller's connection; never commits. Both look no further back than ``since``."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def prices(self, symbols: Sequence[str], since: datetime) -> list[tuple[str, datetime, Decimal]]:
        """Symbol, time and price of the newest trade of each, by symbol."""
        c = TRADES.c
        rows = await self._connection.execute(
            select(c.symbol, c.timestamp, c.price)
            .prefix_with(ONE_EACH)
            .where(c.symbol == func.any(_names(symbols)), c.timestamp >= since)
            .order_by(c.symbol, c.timestamp.desc(), c.id.desc())
        )
        return [(symbol, moment, price) for symbol, moment, price in rows]

    async def minutes(self, symbols: Sequence[str], since: datetime) -> list[tuple[Any, ...]]:
        """Symbol, time, open, high, low, close, vwap, volume, trade count of their candles, oldest first."""
        c = CANDLES.c
        values = (c.timestamp, c.open, c.high, c.low, c.close, c.vwap, c.volume)
        rows = await self._connection.execute(
            select(c.symbol, *values, func.coalesce(c.trade_count, 0))
            .where(
                c.symbol == func.any(_names(symbols)),
                c.interval_minutes == BASE_INTERVAL,
                c.timestamp >= since,
            )
            .order_by(c.timestamp, c.symbol)
        )
        return [tuple(row) for row in rows]


def _names(symbols: Sequence[str]) -> Any:
    return bindparam("symbols", list(symbols), ARRAY(VARCHAR))

"""The newest prices of all pairs, hour by hour: what a small line in a table is drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Float, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY, VARCHAR, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends.rollup import candle_relation
from kraken_db.intervals import INTERVAL_VIEWS

_HOURS = candle_relation(INTERVAL_VIEWS[60])


class SparkRepository:
    """Reads on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def of(self, symbols: Sequence[str], start: datetime, end: datetime) -> dict[str, list[float]]:
        """The closes of the hours that open in ``[start, end)``, oldest first, by symbol: one statement.

        Nearest floats: they are drawn, and nothing is computed from them. A symbol without any is left out.
        """
        c = _HOURS.c
        closes = func.array_agg(aggregate_order_by(cast(c.close, Float(53)), c.timestamp))
        wanted = bindparam("symbols", list(symbols), ARRAY(VARCHAR))
        statement = (
            select(c.symbol, closes)
            .where(c.symbol == func.any(wanted), c.timestamp >= start, c.timestamp < end)
            .group_by(c.symbol)
        )
        return {symbol: list(found) for symbol, found in await self._connection.execute(statement)}

"""What is looked at before rows are dropped, and the retention jobs that wait."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends import OldRows
from kraken_db.intervals import BASE_INTERVAL, interval_length
from kraken_db.models import CANDLES, PAUSED_JOBS, SYNC_STATUS, TRADES
from kraken_db.ranges import TimeRange

_WITHOUT_CANDLE = text("""
    SELECT minute FROM (
        SELECT DISTINCT date_bin('1 minute', timestamp, 'epoch') AS minute FROM trades
        WHERE symbol = :symbol AND timestamp >= :start AND timestamp < :end
    ) traded
    WHERE NOT EXISTS (SELECT 1 FROM candles c WHERE c.symbol = :symbol AND c.interval_minutes = 1
                      AND c.timestamp = minute AND c.timestamp >= :start AND c.timestamp < :end)
      AND NOT EXISTS (SELECT 1 FROM dropped_ranges d WHERE d.symbol = :symbol
                      AND d.data_type = 'candles_1m' AND d.dropped @> minute)
    ORDER BY minute
""")
# range_agg of multiranges needs PostgreSQL 15; of ranges, 14 is enough.
_STORED = text("""
    SELECT lower(stored), upper(stored) FROM (
        SELECT unnest(
            COALESCE((SELECT range_agg(part) FROM (
                SELECT unnest(covered) AS part FROM data_coverage
                WHERE symbol = :symbol AND data_type = :data_type) parts), '{}')
            - COALESCE((SELECT dropped FROM dropped_ranges
                        WHERE symbol = :symbol AND data_type = :data_type), '{}')) AS stored
    ) ranges
    ORDER BY stored
""")


class RetentionRepository:
    """Reads on the caller's connection. Ranges are half-open."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def symbols(self, data_type: str) -> Sequence[str]:
        """Of which something of a type (``trades``, ``candles_1m``) was ever stored, sorted."""
        c = SYNC_STATUS.c
        found = await self._connection.scalars(
            select(c.symbol).where(c.data_type == data_type).order_by(c.symbol)
        )
        return found.all()

    async def still_stored(self, symbol: str, data_type: str) -> list[TimeRange]:
        """What is known to be complete and was not dropped: where there is no row, nothing was traded."""
        rows = await self._connection.execute(_STORED, {"symbol": symbol, "data_type": data_type})
        return [(start, end) for start, end in rows]

    async def minutes_without_candle(self, symbol: str, start: datetime, end: datetime) -> list[TimeRange]:
        """The minutes of ``[start, end)``, two whole ones, that have trades and never had a candle."""
        wanted = {"symbol": symbol, "start": start, "end": end}
        minutes = await self._connection.scalars(_WITHOUT_CANDLE, wanted)
        return [(minute, minute + interval_length(BASE_INTERVAL)) for minute in minutes]

    async def count(self, rows: OldRows) -> int:
        """How many rows these are."""
        table = CANDLES if rows.table == "candles" else TRADES
        c = table.c
        inside = [c.timestamp >= rows.start, c.timestamp < rows.end]
        if rows.symbol is not None:
            inside.append(c.symbol == rows.symbol)
            if table is CANDLES:
                inside.append(CANDLES.c.interval_minutes == BASE_INTERVAL)
        return await self._connection.scalar(select(func.count()).select_from(table).where(*inside)) or 0


class PausedJobRepository:
    """Keeps ``paused_jobs`` on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def add(self, job_id: int) -> None:
        await self._connection.execute(insert(PAUSED_JOBS).values(job_id=job_id).on_conflict_do_nothing())

    async def all(self) -> Sequence[int]:
        found = await self._connection.scalars(select(PAUSED_JOBS.c.job_id).order_by(PAUSED_JOBS.c.job_id))
        return found.all()

    async def clear(self) -> None:
        await self._connection.execute(delete(PAUSED_JOBS))

"""Plain PostgreSQL: the higher intervals are views, so they are never stale."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import FromClause, Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.engine import Database
from kraken_db.intervals import BASE_INTERVAL, INTERVAL_SOURCES, ceil_to_interval
from kraken_db.models import CANDLES
from kraken_db.ranges import TimeRange
from kraken_db.timeseries.base import RetentionJob, StaleRange
from kraken_db.timeseries.rollup import AnySelect, bucket, rollup


class PostgresTimeSeries:
    """Any PostgreSQL from version 14."""

    name = "PostgreSQL"

    def candles_between(self, symbol: str, interval: int, start: datetime, end: datetime) -> AnySelect:
        # Not from the view: PostgreSQL cannot turn bounds on its buckets into bounds on the index of
        # the minutes. A candle that opens in the range lies between these two moments as a whole.
        first, last = ceil_to_interval(start, interval), ceil_to_interval(end, interval)
        minutes = select(CANDLES).where(
            CANDLES.c.symbol == symbol,
            CANDLES.c.interval_minutes == BASE_INTERVAL,
            CANDLES.c.timestamp >= first,
            CANDLES.c.timestamp < last,
        )
        return _climb(minutes, interval)

    def edge(self, symbol: str, interval: int, *, newest: bool) -> Select[datetime | None]:
        minute = CANDLES.c.timestamp
        opens_at = minute if interval == BASE_INTERVAL else bucket(minute, interval)
        return (
            select(opens_at)
            .where(CANDLES.c.symbol == symbol, CANDLES.c.interval_minutes == BASE_INTERVAL)
            .order_by(minute.desc() if newest else minute)
            .limit(1)
        )

    async def prepare_bulk_write(self, connection: AsyncConnection) -> None:
        pass

    async def refresh(
        self, database: Database, stale: Sequence[StaleRange], now: datetime
    ) -> Sequence[StaleRange]:
        return ()

    async def parts(self, connection: AsyncConnection, table: str) -> frozenset[int]:
        return frozenset()

    async def created_parts(
        self, connection: AsyncConnection, table: str, before: frozenset[int]
    ) -> Sequence[TimeRange]:
        return ()

    async def aggregated(
        self, connection: AsyncConnection, ranges: Sequence[TimeRange]
    ) -> Sequence[tuple[str, TimeRange]]:
        return ()

    async def aggregated_of(
        self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]
    ) -> Sequence[TimeRange]:
        return ()

    async def retention(self, connection: AsyncConnection, table: str) -> timedelta | None:
        return None

    async def retention_job(self, connection: AsyncConnection, table: str) -> RetentionJob | None:
        return None

    async def schedule_retention(self, connection: AsyncConnection, job_id: int, *, on: bool) -> bool:
        return False

    async def is_retention_running(self, connection: AsyncConnection, job_id: int) -> bool:
        return False


def _climb(minutes: AnySelect, interval: int) -> AnySelect:
    """Through the same levels as the views, so that a mean of means is the same on both backends."""
    if interval == BASE_INTERVAL:
        return minutes
    source: FromClause = _climb(minutes, INTERVAL_SOURCES[interval]).subquery()
    return rollup(source, interval)

"""TimescaleDB: the higher intervals are continuous aggregates.

The traps that decide this package (measured, see the project's notes on TimescaleDB):

- a refresh takes a window of time and all symbols in it; over minutes that retention has dropped it
  deletes the candles that were computed from them;
- a write into a range that was dropped makes its chunk anew: nothing shows any more that it was;
- what was written below an aggregate's watermark stays invisible until it is refreshed;
- a refresh refuses to run in a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Select, Table, func, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import timescale_chunks as chunks
from kraken_db.backends.base import RetentionJob, StaleRange
from kraken_db.backends.rollup import AnySelect, bucket, candle_relation
from kraken_db.backends.timescale_chunks import TimescalePolicies
from kraken_db.backends.timescale_refresh import Refresh
from kraken_db.db.engine import Database
from kraken_db.intervals import (
    BASE_INTERVAL,
    FINEST_AGGREGATE,
    INTERVAL_VIEWS,
    floor_to_interval,
    interval_length,
)
from kraken_db.models import CANDLES
from kraken_db.ranges import TimeRange, intersection

# Each batch of a refresh is a transaction of the server; its default of 10 buckets makes a sparse
# history of ten years run for hours.
BUCKETS_PER_BATCH = 2016
_TOUCH = text("""
    UPDATE candles SET volume = volume
    WHERE symbol = :symbol AND interval_minutes = 1 AND timestamp >= :start AND timestamp < :end
      AND timestamp = (SELECT min(timestamp) FROM candles
                       WHERE symbol = :symbol AND interval_minutes = 1
                         AND timestamp >= :start AND timestamp < :end)
""")


class TimescaleBackend(TimescalePolicies):
    """TimescaleDB from version 2.11, under its community licence."""

    name = "TimescaleDB"
    takes_off_pending = False

    def __init__(self, version: tuple[int, int], stored: Mapping[int, Table]) -> None:
        """``stored``: interval to the table behind its aggregate (``materialized_relations``)."""
        self._stored = stored
        self._refresh_options = (
            f", options => '{{\"buckets_per_batch\": {BUCKETS_PER_BATCH}}}'" if version >= (2, 21) else ""
        )

    def candles_between(self, symbol: str, interval: int, start: datetime, end: datetime) -> AnySelect:
        relation = candle_relation(INTERVAL_VIEWS[interval])
        candles = select(relation).where(
            relation.c.symbol == symbol, relation.c.timestamp >= start, relation.c.timestamp < end
        )
        return candles.where(relation.c.interval_minutes == interval) if relation is CANDLES else candles

    def edge(self, symbol: str, interval: int, *, newest: bool) -> Select[datetime | None]:
        # Not from the view: it would sort all candles of the symbol. What is not stored in the aggregate
        # is computed from minutes, and both have an index that begins or ends with the answer.
        minute = CANDLES.c.timestamp
        minutes = select(minute if interval == BASE_INTERVAL else bucket(minute, interval)).where(
            CANDLES.c.symbol == symbol, CANDLES.c.interval_minutes == BASE_INTERVAL
        )
        parts = [minutes.order_by(minute.desc() if newest else minute).limit(1)]
        if (stored := self._stored.get(interval)) is not None:
            opens_at = stored.c.timestamp
            candles = select(opens_at).where(stored.c.symbol == symbol)
            parts.append(candles.order_by(opens_at.desc() if newest else opens_at).limit(1))
        edges = union_all(*(select(part.subquery()) for part in parts)).subquery()
        (moment,) = edges.c
        return select(func.max(moment) if newest else func.min(moment))

    async def prepare_bulk_write(self, connection: AsyncConnection) -> None:
        # A merge into compressed chunks unpacks what it touches; 100,000 rows is the default limit.
        await connection.execute(
            text("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
        )

    async def refresh(
        self, database: Database, stale: Sequence[StaleRange], now: datetime
    ) -> Sequence[StaleRange]:
        return await Refresh(database, self._stored, self._refresh_options, now).run(stale)

    async def mark_stale(self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]) -> None:
        # A refresh passes over what has not changed. So something changes: one minute of each range.
        for start, end in ranges:
            await connection.execute(_TOUCH, {"symbol": symbol, "start": start, "end": end})

    async def parts(self, connection: AsyncConnection, table: str) -> frozenset[int]:
        return await chunks.chunks(connection, table)

    async def stored_time(
        self, connection: AsyncConnection, table: str, start: datetime, end: datetime
    ) -> Sequence[TimeRange]:
        there = await chunks.ranges_between(connection, table, start, end)
        return intersection(there, [(start, end)])

    async def created_parts(
        self, connection: AsyncConnection, table: str, before: frozenset[int]
    ) -> Sequence[TimeRange]:
        candidates = await chunks.chunks(connection, table) - before
        return await chunks.own_ranges(connection, candidates) if candidates else ()

    async def aggregated(
        self, connection: AsyncConnection, ranges: Sequence[TimeRange]
    ) -> Sequence[tuple[str, TimeRange]]:
        c = self._stored[FINEST_AGGREGATE].c
        found: list[tuple[str, TimeRange]] = []
        for start, end in ranges:
            rows = await connection.execute(
                select(c.symbol, func.min(c.timestamp), func.max(c.timestamp))
                .where(c.timestamp >= floor_to_interval(start, FINEST_AGGREGATE), c.timestamp < end)
                .group_by(c.symbol)
            )
            found += [
                (symbol, (max(first, start), min(last + interval_length(FINEST_AGGREGATE), end)))
                for symbol, first, last in rows
            ]
        return found

    async def aggregated_of(
        self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]
    ) -> Sequence[TimeRange]:
        c = self._stored[FINEST_AGGREGATE].c
        length = interval_length(FINEST_AGGREGATE)
        found: list[TimeRange] = []
        for start, end in ranges:
            rows = await connection.scalars(
                select(c.timestamp).where(
                    c.symbol == symbol,
                    c.timestamp >= floor_to_interval(start, FINEST_AGGREGATE),
                    c.timestamp < end,
                )
            )
            found += [(max(opens_at, start), min(opens_at + length, end)) for opens_at in rows]
        return found

    async def retention_job(self, connection: AsyncConnection, table: str) -> RetentionJob | None:
        return await chunks.retention_job(connection, table)

    async def schedule_retention(self, connection: AsyncConnection, job_id: int, *, on: bool) -> bool:
        return await chunks.schedule(connection, job_id, on)

    async def is_retention_running(self, connection: AsyncConnection, job_id: int) -> bool:
        return await chunks.is_running(connection, job_id)

"""TimescaleDB: the higher intervals are continuous aggregates.

The traps that decide this package (measured, see the project's notes on TimescaleDB):

- a refresh takes a window of time and all symbols in it; over minutes that retention has dropped it
  deletes the candles that were computed from them;
- a write into a range that was dropped makes its chunk anew: nothing shows any more that it was;
- what was written below an aggregate's watermark stays invisible until it is refreshed;
- a refresh refuses to run in a transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import Table, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends.base import MinutesWritten, OldRows, Shards, StaleRange, TableStorage
from kraken_db.backends.pending_refresh import PendingRefreshWriter, announced
from kraken_db.backends.rollup import AnySelect, candle_relation
from kraken_db.backends.storage import timescale_storage
from kraken_db.backends.timescale_chunks import (
    TimescaleChunks,
    TimescaleCompression,
    chunks_and_borders,
    drop_chunk,
    old_chunks,
)
from kraken_db.backends.timescale_edges import Edges
from kraken_db.backends.timescale_jobs import TimescaleJobs, read_policies, write_policy
from kraken_db.backends.timescale_refresh import Refresh, is_due, lock_higher_intervals
from kraken_db.data_types import TableName
from kraken_db.db.engine import Database
from kraken_db.db.locks import held_alone, lock_job
from kraken_db.intervals import BASE_INTERVAL, FINEST_AGGREGATE, INTERVAL_SOURCES, INTERVAL_VIEWS
from kraken_db.models import CANDLES
from kraken_db.policies import TablePolicy
from kraken_db.ranges import TimeRange, union

# Each batch of a refresh is a transaction of the server; its default of 10 buckets makes a sparse
# history of ten years run for hours.
BUCKETS_PER_BATCH = 2016
_REFRESH = "refresh"
"""The lock of a refresh, on the schema."""


class TimescaleBackend:
    """TimescaleDB from version 2.11, under its community licence."""

    name = "TimescaleDB"
    shards: Shards | None = None
    # A plan for values that are not known yet is made for each chunk, and takes up to a second.
    session_settings: Mapping[str, str] = MappingProxyType({"plan_cache_mode": "force_custom_plan"})
    # A merge into compressed chunks unpacks what it touches; 100,000 rows is the default limit.
    bulk_settings: Mapping[str, str] = MappingProxyType(
        {"timescaledb.max_tuples_decompressed_per_dml_transaction": "0"}
    )

    def __init__(self, version: tuple[int, int], stored: Mapping[int, Table]) -> None:
        """``stored``: interval to the table behind its aggregate (``materialized_relations``)."""
        self._stored = stored
        self.chunks = TimescaleChunks(stored[FINEST_AGGREGATE])
        self.jobs = TimescaleJobs()
        self.compression = TimescaleCompression()
        # We know what is stale. TimescaleDB's own notes lack what COPY brings into a table whose triggers see
        # all rows of a statement, as those of the versions do (seen in 2.28.3).
        self._refresh_options = ", force => true" if version >= (2, 18) else ""
        self._refresh_options += (
            f", options => '{{\"buckets_per_batch\": {BUCKETS_PER_BATCH}}}'" if version >= (2, 21) else ""
        )

    def candles_between(self, symbol: str, interval: int, start: datetime, end: datetime) -> AnySelect:
        relation = candle_relation(INTERVAL_VIEWS[interval])
        candles = select(relation).where(
            relation.c.symbol == symbol, relation.c.timestamp >= start, relation.c.timestamp < end
        )
        return candles.where(relation.c.interval_minutes == interval) if relation is CANDLES else candles

    def unversioned_parts(self, interval: int) -> str | None:
        return chunks_and_borders([self._stored[level] for level in _levels_below(interval)])

    async def edges(
        self, connection: AsyncConnection | AsyncSession, symbol: str, interval: int
    ) -> TimeRange | None:
        return await Edges(connection, symbol, interval, self._stored.get(interval)).find()

    @asynccontextmanager
    async def writing_minutes(
        self,
        connection: AsyncConnection,
        symbol: str,
        start: datetime,
        end: datetime,
        *,
        are_new: bool = False,
    ) -> AsyncIterator[MinutesWritten]:
        written = MinutesWritten(start, end)
        async with announced(connection, symbol, (start, end) if are_new else None):
            yield written
        if written.stale is not None:
            await PendingRefreshWriter(connection).add(StaleRange(symbol, *written.stale))

    @asynccontextmanager
    async def removing(self, connection: AsyncConnection, symbol: str) -> AsyncIterator[None]:
        schema = str(await connection.scalar(select(func.current_schema())))
        await lock_job(connection, _REFRESH, of=schema)
        yield
        # By themselves they would lose only what still had minutes, and that at the next refresh.
        await lock_higher_intervals(connection)
        for stored in self._stored.values():
            await connection.execute(delete(stored).where(stored.c.symbol == symbol))
        await PendingRefreshWriter(connection).forget(symbol)

    def kept_table(self, interval: int) -> Table:
        return self._stored[interval]

    async def mark_stale(self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]) -> None:
        # A refresh passes over what has not changed. So something changes: one minute of each range.
        c = CANDLES.c
        for start, end in ranges:
            of_symbol = (c.symbol == symbol, c.interval_minutes == BASE_INTERVAL)
            inside = (*of_symbol, c.timestamp >= start, c.timestamp < end)
            first = await connection.scalar(select(c.timestamp).where(*inside).order_by(c.timestamp).limit(1))
            # An UPDATE that finds nothing unpacks compressed rows all the same.
            if first is not None:
                touched = update(CANDLES).where(*of_symbol, c.timestamp == first)
                await connection.execute(touched.values(volume=c.volume))
        pending = PendingRefreshWriter(connection)
        for start, end in union(ranges):
            await pending.add(StaleRange(symbol, start, end))

    async def refresh(self, database: Database, now: datetime, also: Sequence[StaleRange] = ()) -> None:
        if not also and not any(is_due(item, now) for _, item in await _pending(database)):
            return
        # Two refreshes of one aggregate that overlap do not queue from version 2.27 on: one of them fails.
        async with held_alone(database, _REFRESH, waiting="waiting for another refresh of this store"):
            pending = await _pending(database)
            stale = [*(item for _, item in pending), *also]
            left = await Refresh(database, self._stored, self._refresh_options, now).run(stale)
            async with database.begin() as connection:
                writer = PendingRefreshWriter(connection)
                await writer.remove(pending)
                for item in left:
                    await writer.add(item)

    async def policies(self, connection: AsyncConnection) -> tuple[TablePolicy, ...]:
        return await read_policies(connection)

    async def set_policy(self, connection: AsyncConnection, policy: TablePolicy) -> None:
        await write_policy(connection, policy)

    async def droppable(
        self, connection: AsyncConnection, table: TableName, before: datetime
    ) -> Sequence[OldRows]:
        return await old_chunks(connection, table, before)

    async def drop(self, connection: AsyncConnection, rows: OldRows, keep: Sequence[TimeRange] = ()) -> int:
        return 0 if keep else await drop_chunk(connection, rows)

    async def storage(self, connection: AsyncConnection) -> Sequence[TableStorage]:
        return await timescale_storage(connection)


def _levels_below(interval: int) -> list[int]:
    """The aggregates that candles of an interval are read from."""
    levels = []
    while interval != BASE_INTERVAL:
        levels.append(interval)
        interval = INTERVAL_SOURCES[interval]
    return levels


async def _pending(database: Database) -> Sequence[tuple[int, StaleRange]]:
    async with database.read() as connection:
        return await PendingRefreshWriter(connection).numbered()

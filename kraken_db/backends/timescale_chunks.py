"""TimescaleDB's chunks and policies: what its background jobs do with old rows, and the same work by hand.

Chunks are not read from TimescaleDB's own catalog, whose tables and columns change from version to version.
Its view of chunks takes 30 ms where there are 3,000 of them, so a write asks PostgreSQL instead, which
knows chunks as children of the table: 1 ms. Old chunks are dropped and compressed one at a time: thousands
of them in one statement run out of locks. A policy is changed in place where there is one, so that its job
keeps its number, its schedule, what is known of its runs, and that it is paused.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.base import Piece, RetentionJob, TableStorage
from kraken_db.backends.storage import timescale_storage
from kraken_db.data_types import TABLES, TableName
from kraken_db.models import CANDLES, TRADES
from kraken_db.policies import BackgroundJob, TablePolicy
from kraken_db.ranges import TimeRange, union

_CHUNKS = "SELECT array_agg(inhrelid) FROM pg_inherits WHERE inhparent = CAST(:table AS regclass)"
# A chunk that was not there may also be that of another transaction, committed by now. A row that we see
# and whose transaction has not ended is our own. Ids of transactions are 32 bits of a longer number; those
# of new rows are near our own.
_OURS = """
    SELECT n.nspname, c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
         LATERAL (SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint)) own(id),
         LATERAL (SELECT mod(CAST(CAST(c.xmin AS text) AS bigint) - mod(own.id, 4294967296) + 4294967296,
                             4294967296)) after(distance)
    WHERE c.oid = ANY(CAST(:tables AS oid[]))
      AND pg_xact_status(CAST(CAST(
              CASE WHEN distance < 2147483648 THEN own.id + distance
                   ELSE own.id + distance - 4294967296 END AS text) AS xid8)) = 'in progress'
"""
_RANGES_OF = """
    SELECT range_start, range_end FROM timescaledb_information.chunks
    WHERE (chunk_schema, chunk_name)
          IN (SELECT * FROM unnest(CAST(:schemas AS text[]), CAST(:names AS text[])))
"""
_RANGES_BETWEEN = """
    SELECT range_start, range_end FROM timescaledb_information.chunks
    WHERE hypertable_schema = current_schema() AND hypertable_name = :table
      AND range_end > :start AND range_start < :end
"""
_RETENTION_JOB = """
    SELECT j.job_id, CAST(j.config ->> 'drop_after' AS interval), d.time_interval
    FROM timescaledb_information.jobs j
    JOIN timescaledb_information.dimensions d USING (hypertable_schema, hypertable_name)
    WHERE j.proc_name = 'policy_retention' AND d.dimension_number = 1
      AND j.hypertable_schema = current_schema() AND j.hypertable_name = :table
"""
_SCHEDULE = """
    SELECT alter_job(job_id, scheduled => CAST(:on AS boolean)) FROM timescaledb_information.jobs
    WHERE job_id = :job AND scheduled <> CAST(:on AS boolean)
"""
# One that has just been started does not show as running yet: it has a start and no end. Nor has one whose
# server crashed: so only for a while.
_RUNNING = """
    SELECT count(*) FROM timescaledb_information.job_stats
    WHERE job_id = :job
      AND (job_status = 'Running'
           OR last_run_status IS NULL AND last_run_started_at > now() - INTERVAL '10 seconds')
"""


async def chunks(connection: AsyncConnection, table: str) -> frozenset[int]:
    """The object ids of all chunks."""
    return frozenset(await connection.scalar(text(_CHUNKS), {"table": table}) or ())


async def own_ranges(connection: AsyncConnection, candidates: Collection[int]) -> list[TimeRange]:
    """The times of those of the chunks that the running transaction has made, in order of time."""
    ours = await own(connection, candidates)
    names = {"schemas": [schema for schema, _ in ours], "names": [name for _, name in ours]}
    found = await connection.execute(text(_RANGES_OF), names)
    return sorted((start, end) for start, end in found)


async def own(connection: AsyncConnection, candidates: Collection[int]) -> list[tuple[str, str]]:
    """Schema and name of those of the tables that the running transaction has made."""
    return [(s, n) for s, n in await connection.execute(text(_OURS), {"tables": list(candidates)})]


async def ranges_between(
    connection: AsyncConnection, table: str, start: datetime, end: datetime
) -> list[TimeRange]:
    """The times for which there are chunks, as far as they overlap ``[start, end)``."""
    found = await connection.execute(text(_RANGES_BETWEEN), {"table": table, "start": start, "end": end})
    return union([(first, last) for first, last in found])


async def retention_job(connection: AsyncConnection, table: str) -> RetentionJob | None:
    found = (await connection.execute(text(_RETENTION_JOB), {"table": table})).first()
    return RetentionJob(*found) if found is not None else None


async def schedule(connection: AsyncConnection, job_id: int, on: bool) -> bool:
    changed = await connection.execute(text(_SCHEDULE), {"job": job_id, "on": on})
    return len(changed.all()) > 0


async def is_running(connection: AsyncConnection, job_id: int) -> bool:
    return bool(await connection.scalar(text(_RUNNING), {"job": job_id}))


_Task: TypeAlias = Literal["retention", "compression"]
_PERIOD_KEYS: dict[_Task, str] = {"retention": "drop_after", "compression": "compress_after"}
_HYPERTABLES = {"trades": TRADES, "candles": CANDLES}

# A refresh job names the table behind its aggregate; people know the aggregate.
_JOBS = text("""
    SELECT COALESCE(a.view_name, j.hypertable_name) AS relation,
           CASE j.proc_name WHEN 'policy_retention' THEN 'retention'
                            WHEN 'policy_compression' THEN 'compression' ELSE 'refresh' END AS task,
           CAST(COALESCE(j.config ->> 'drop_after', j.config ->> 'compress_after',
                         j.config ->> 'start_offset') AS interval) AS after,
           j.schedule_interval AS every,
           NULLIF(j.next_start, '-infinity') AS next_run,
           NULLIF(s.last_run_started_at, '-infinity') AS last_run,
           s.last_run_status = 'Success' AS succeeded,
           COALESCE(s.total_failures, 0) AS failures,
           NOT j.scheduled AS paused,
           (SELECT e.err_message FROM timescaledb_information.job_errors e
            WHERE e.job_id = j.job_id
            ORDER BY COALESCE(e.finish_time, e.start_time) DESC LIMIT 1) AS last_error
    FROM timescaledb_information.jobs j
    LEFT JOIN timescaledb_information.job_stats s ON s.job_id = j.job_id
    LEFT JOIN timescaledb_information.continuous_aggregates a
      ON a.materialization_hypertable_name = '_materialized_hypertable_' || (j.config ->> 'mat_hypertable_id')
    WHERE (j.proc_name IN ('policy_retention', 'policy_compression')
           AND j.hypertable_schema = current_schema() AND j.hypertable_name IN ('trades', 'candles'))
       OR (j.proc_name = 'policy_refresh_continuous_aggregate' AND a.view_schema = current_schema())
    ORDER BY task DESC, relation DESC, every
""")
_JOB_OF = text("""
    SELECT job_id, CAST(config ->> CAST(:key AS text) AS interval) AS period FROM timescaledb_information.jobs
    WHERE proc_name = :procedure AND hypertable_schema = current_schema() AND hypertable_name = :table
""")
_CHANGE = text("""
    SELECT alter_job(job_id, config => jsonb_set(config, ARRAY[CAST(:key AS text)],
                                                 to_jsonb(CAST(CAST(:period AS interval) AS text))))
    FROM timescaledb_information.jobs WHERE job_id = :job
""")
_TABLE, _PERIOD = "CAST(CAST(:table AS text) AS regclass)", "CAST(:period AS interval)"
_ADD: dict[_Task, str] = {
    "retention": f"SELECT add_retention_policy({_TABLE}, {_PERIOD})",
    "compression": f"SELECT add_compression_policy({_TABLE}, {_PERIOD})",
}
_REMOVE: dict[_Task, str] = {
    "retention": f"SELECT remove_retention_policy({_TABLE})",
    "compression": f"SELECT remove_compression_policy({_TABLE})",
}
_CHUNKS_OF_TIMESCALE_POLICIES = text("""
    SELECT range_start, range_end FROM timescaledb_information.chunks
    WHERE hypertable_schema = current_schema() AND hypertable_name = :table
      AND range_end <= :before AND (NOT :unpacked OR NOT is_compressed)
    ORDER BY range_start
""")
_DROP = text(
    "SELECT count(*) FROM drop_chunks(CAST(CAST(:table AS text) AS regclass),"
    " older_than => CAST(:end AS timestamptz), newer_than => CAST(:start AS timestamptz))"
)
_COMPRESS = text("""
    SELECT compress_chunk(CAST(format('%I.%I', chunk_schema, chunk_name) AS regclass), true)
    FROM timescaledb_information.chunks
    WHERE hypertable_schema = current_schema() AND hypertable_name = :table
      AND range_start = :start AND range_end = :end
""")


class TimescalePolicies:
    """The part of ``TimescaleBackend`` that is about old rows."""

    async def retention(self, connection: AsyncConnection, table: str) -> timedelta | None:
        found = await _job(connection, table, "retention")
        return found[1] if found else None

    async def policies(self, connection: AsyncConnection) -> tuple[TablePolicy, ...]:
        found: list[TablePolicy] = []
        for table in TABLES:
            compression = await _job(connection, table, "compression")
            found.append(
                TablePolicy(
                    table, await self.retention(connection, table), compression[1] if compression else None
                )
            )
        return tuple(found)

    async def set_policy(self, connection: AsyncConnection, policy: TablePolicy) -> None:
        await _set(connection, policy.table, "compression", policy.compression)
        await _set(connection, policy.table, "retention", policy.retention)

    async def jobs(self, connection: AsyncConnection) -> Sequence[BackgroundJob]:
        return [BackgroundJob(*row) for row in await connection.execute(_JOBS)]

    async def droppable(
        self, connection: AsyncConnection, table: TableName, before: datetime
    ) -> Sequence[Piece]:
        return await _chunks(connection, table, before, unpacked=False)

    async def rows(self, connection: AsyncConnection, piece: Piece) -> int:
        moment = _HYPERTABLES[piece.table].c.timestamp
        found = select(func.count()).where(moment >= piece.start, moment < piece.end)
        return await connection.scalar(found) or 0

    async def drop(self, connection: AsyncConnection, piece: Piece, keep: Sequence[TimeRange] = ()) -> int:
        if keep:
            return 0
        rows = await self.rows(connection, piece)
        await connection.execute(_DROP, {"table": piece.table, "start": piece.start, "end": piece.end})
        return rows

    async def compressible(
        self, connection: AsyncConnection, table: TableName, before: datetime
    ) -> Sequence[Piece]:
        return await _chunks(connection, table, before, unpacked=True)

    async def compress(self, connection: AsyncConnection, piece: Piece) -> None:
        await connection.execute(_COMPRESS, {"table": piece.table, "start": piece.start, "end": piece.end})

    async def size(self, connection: AsyncConnection, table: TableName) -> int | None:
        size: int = await connection.scalar(text(f"SELECT hypertable_size({_TABLE})"), {"table": table})
        return size

    async def storage(self, connection: AsyncConnection) -> Sequence[TableStorage]:
        return await timescale_storage(connection)


async def _job(connection: AsyncConnection, table: str, task: _Task) -> tuple[int, timedelta] | None:
    """The number of a policy's job, and its period."""
    wanted = {"table": table, "procedure": f"policy_{task}", "key": _PERIOD_KEYS[task]}
    found = (await connection.execute(_JOB_OF, wanted)).first()
    return None if found is None else (found.job_id, found.period)


async def _set(connection: AsyncConnection, table: TableName, task: _Task, period: timedelta | None) -> None:
    present = await _job(connection, table, task)
    if (present[1] if present else None) == period:
        return
    if period is None:
        await connection.execute(text(_REMOVE[task]), {"table": table})
    elif present is None:
        await connection.execute(text(_ADD[task]), {"table": table, "period": period})
    else:
        change = {"job": present[0], "key": _PERIOD_KEYS[task], "period": period}
        await connection.execute(_CHANGE, change)


async def _chunks(
    connection: AsyncConnection, table: TableName, before: datetime, *, unpacked: bool
) -> list[Piece]:
    """The chunks that end before a moment; ``unpacked``: only those that are not compressed."""
    wanted = {"table": table, "before": before, "unpacked": unpacked}
    return [
        Piece(table, None, *row) for row in await connection.execute(_CHUNKS_OF_TIMESCALE_POLICIES, wanted)
    ]

"""The chunks that a hypertable consists of, and the jobs that drop them.

Not from TimescaleDB's own catalog, whose tables and columns change from version to version. Its view of
chunks takes 30 ms where there are 3,000 of them, so a write asks PostgreSQL instead, which knows chunks as
children of the table: 1 ms.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.ranges import TimeRange, union
from kraken_db.timeseries.base import RetentionJob

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

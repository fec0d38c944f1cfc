"""TimescaleDB's policies: what its background jobs do with old rows, and the same work by hand.

Old chunks are dropped and compressed one at a time: thousands of them in one statement run out of locks.
A policy is changed in place where there is one, so that its job keeps its number, its schedule, what is
known of its runs, and that it is paused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.models import CANDLES, TRADES
from kraken_db.policies import TABLES, BackgroundJob, TableName, TablePolicy
from kraken_db.ranges import TimeRange
from kraken_db.timeseries.base import Piece, TableStorage
from kraken_db.timeseries.storage import timescale_storage

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
_CHUNKS = text("""
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
    """The part of ``TimescaleTimeSeries`` that is about old rows."""

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
    return [Piece(table, None, *row) for row in await connection.execute(_CHUNKS, wanted)]

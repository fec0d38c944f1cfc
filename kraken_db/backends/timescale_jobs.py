"""TimescaleDB's background jobs, and the policies that they carry out.

A policy is changed in place where there is one, so that its job keeps its number, its schedule, what is known
of its runs, and that it is paused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal, TypeAlias

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.base import RetentionJob
from kraken_db.data_types import TABLES, TableName
from kraken_db.policies import BackgroundJob, TablePolicy

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
_Task: TypeAlias = Literal["retention", "compression"]
_PERIOD_KEYS: dict[_Task, str] = {"retention": "drop_after", "compression": "compress_after"}

# A run that has begun and has no end is running, or has crashed; a server that has much to do shows only
# after a while that it is running. A crash leaves a row without an end among the errors, and so does what is
# running; that a crash was noticed shows by a row without a process.
# A refresh job names the table behind its aggregate; people know the aggregate.
_JOBS = text("""
    SELECT COALESCE(a.view_name, j.hypertable_name) AS relation,
           CASE j.proc_name WHEN 'policy_retention' THEN 'retention'
                            WHEN 'policy_compression' THEN 'compression' ELSE 'refresh' END AS task,
           CAST(COALESCE(j.config ->> 'drop_after', j.config ->> 'compress_after',
                         j.config ->> 'start_offset') AS interval) AS after,
           j.schedule_interval AS every,
           NULLIF(j.next_start, '-infinity') AS next_run,
           began AS last_run,
           s.last_run_status = 'Success' AS succeeded,
           COALESCE(s.total_failures, 0) AS failures,
           NOT j.scheduled AS paused,
           (SELECT e.err_message FROM timescaledb_information.job_errors e
            WHERE e.job_id = j.job_id AND e.finish_time IS NOT NULL
            ORDER BY e.finish_time DESC LIMIT 1) AS last_error,
           CASE WHEN is_running THEN began END AS running_since,
           CASE WHEN is_open AND NOT is_running THEN began END AS crashed_at,
           greatest((SELECT count(*) FROM timescaledb_information.job_errors e
                     WHERE e.job_id = j.job_id AND e.finish_time IS NULL
                       AND e.start_time > s.last_successful_finish
                       AND (NOT is_running OR e.start_time < began)),
                    CASE WHEN is_open AND NOT is_running THEN 1 ELSE 0 END) AS crashes
    FROM timescaledb_information.jobs j
    LEFT JOIN timescaledb_information.job_stats s ON s.job_id = j.job_id
    CROSS JOIN LATERAL (
        SELECT NULLIF(s.last_run_started_at, '-infinity') AS began,
               COALESCE(s.total_runs, 0) > 0 AND s.last_run_status IS NULL AS is_open
    ) run
    CROSS JOIN LATERAL (
        SELECT is_open AND (
            s.job_status = 'Running'
            OR began > now() - INTERVAL '1 minute'
               AND NOT EXISTS (SELECT 1 FROM timescaledb_information.job_errors e
                               WHERE e.job_id = j.job_id AND e.start_time >= began AND e.pid IS NULL)
        ) AS is_running
    ) now_running
    LEFT JOIN timescaledb_information.continuous_aggregates a
      ON a.materialization_hypertable_name = '_materialized_hypertable_' || (j.config ->> 'mat_hypertable_id')
    WHERE (j.proc_name IN ('policy_retention', 'policy_compression')
           AND j.hypertable_schema = current_schema() AND j.hypertable_name IN ('trades', 'candles'))
       OR (j.proc_name = 'policy_refresh_continuous_aggregate' AND a.view_schema = current_schema())
    ORDER BY task DESC, relation DESC, every
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
_POLICIES = text("""
    SELECT hypertable_name, substr(proc_name, 8), job_id,
           CAST(COALESCE(config ->> 'drop_after', config ->> 'compress_after') AS interval)
    FROM timescaledb_information.jobs
    WHERE proc_name IN ('policy_retention', 'policy_compression')
      AND hypertable_schema = current_schema() AND hypertable_name IN ('trades', 'candles')
""")


class TimescaleJobs:
    """The jobs of retention, compression and refresh."""

    async def all(self, connection: AsyncConnection) -> Sequence[BackgroundJob]:
        return [BackgroundJob(*row) for row in await connection.execute(_JOBS)]

    async def retention(self, connection: AsyncConnection, table: str) -> RetentionJob | None:
        found = (await connection.execute(text(_RETENTION_JOB), {"table": table})).first()
        return RetentionJob(*found) if found is not None else None

    async def schedule(self, connection: AsyncConnection, job_id: int, *, on: bool) -> bool:
        changed = await connection.execute(text(_SCHEDULE), {"job": job_id, "on": on})
        return len(changed.all()) > 0

    async def is_running(self, connection: AsyncConnection, job_id: int) -> bool:
        return bool(await connection.scalar(text(_RUNNING), {"job": job_id}))


async def read_policies(connection: AsyncConnection) -> tuple[TablePolicy, ...]:
    found = await _policy_jobs(connection)
    periods = {key: period for key, (_, period) in found.items()}
    return tuple(
        TablePolicy(table, periods.get((table, "retention")), periods.get((table, "compression")))
        for table in TABLES
    )


async def write_policy(connection: AsyncConnection, policy: TablePolicy) -> None:
    """Make the jobs of a table do what ``policy`` says."""
    present = await _policy_jobs(connection)
    wanted: dict[_Task, timedelta | None] = {
        "compression": policy.compression,
        "retention": policy.retention,
    }
    for task, period in wanted.items():
        await _set(connection, policy.table, task, period, present.get((policy.table, task)))


async def _policy_jobs(connection: AsyncConnection) -> dict[tuple[str, str], tuple[int, timedelta]]:
    """Table and task to the number of the job, and its period."""
    rows = await connection.execute(_POLICIES)
    return {(table, task): (job_id, period) for table, task, job_id, period in rows}


async def _set(
    connection: AsyncConnection,
    table: TableName,
    task: _Task,
    period: timedelta | None,
    present: tuple[int, timedelta] | None,
) -> None:
    if (present[1] if present else None) == period:
        return
    if period is None:
        await connection.execute(text(_REMOVE[task]), {"table": table})
    elif present is None:
        await connection.execute(text(_ADD[task]), {"table": table, "period": period})
    else:
        change = {"job": present[0], "key": _PERIOD_KEYS[task], "period": period}
        await connection.execute(_CHANGE, change)

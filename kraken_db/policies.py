"""How long rows are kept and when old ones are compressed: what may be asked for, and how it is written.

Standard library only; the databases' own words for it are in ``kraken_db.backends``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from kraken_db.data_types import TableName
from kraken_db.errors import WrongValueError
from kraken_db.times import period_text

_DAY = timedelta(days=1)
# Higher intervals look back over three days of minutes, and gaps of the last days are filled from Kraken.
_SHORTEST_RETENTION = {"trades": 2 * _DAY, "candles": 10 * _DAY}
_WHY_SO_LONG = {
    "trades": "candles are built from them, and a gap of yesterday may still be filled",
    "candles": "5m to 1h are computed from the minutes of the last three days again and again",
}
_SHORTEST_COMPRESSION = _DAY
_LATE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class TablePolicy:
    """What is done with old rows of a table; a period is an age, None means never."""

    table: TableName
    retention: timedelta | None = None
    """From this age on rows may be dropped."""
    compression: timedelta | None = None
    """From this age on rows may be compressed."""


@dataclass(frozen=True, slots=True)
class BackgroundJob:
    """Something that the database does by itself again and again, and how that went. Times are UTC."""

    relation: str
    """The table or view that it works on."""
    task: Literal["retention", "compression", "refresh"]
    after: timedelta | None
    """The age of the rows that it works on; of a refresh, how far it looks back."""
    every: timedelta
    next_run: datetime | None
    last_run: datetime | None
    succeeded: bool | None
    """Of the last run; None before the first one is over, while one is running, and where it crashed."""
    failures: int
    """Of all runs."""
    paused: bool
    last_error: str | None = None
    """What the last run that failed said, where the database keeps it."""
    running_since: datetime | None = None
    crashed_at: datetime | None = None
    """When the last run began, if it was never ended: the server, or what ran it, went down."""
    crashes: int = 0
    """Of the runs since the last one that succeeded; what is running now has not crashed yet."""


def job_is_overdue(job: BackgroundJob, now: datetime) -> bool:
    """Whether the database should have started it an hour ago at the latest, and has not."""
    return not job.paused and job.next_run is not None and job.next_run < now - _LATE


def job_fails(job: BackgroundJob, now: datetime) -> bool:
    """Whether its work is not being done, although nobody has paused it."""
    is_in_a_loop = job.running_since is not None and job.crashes > 1
    crashes = job.crashed_at is not None or is_in_a_loop
    return not job.paused and (job.succeeded is False or crashes or job_is_overdue(job, now))


def job_state(job: BackgroundJob, now: datetime) -> str:
    """In a word or two: jobs may fail for weeks, or not be started at all, and nothing says so."""
    if job.paused:
        return "paused"
    if job.running_since is not None:
        before = f", after {_counted(job.crashes, 'crash', 'crashes')}" if job.crashes else ""
        return f"running since {_moment(job.running_since)}{before}"
    if job.crashed_at is not None:
        again = f", {job.crashes:,} times in a row" if job.crashes > 1 else ""
        return f"crashed in its run of {_moment(job.crashed_at)}{again}"
    if job_is_overdue(job, now):
        return "overdue: the database does not start it"
    if job.succeeded is None:
        return "has not run yet"
    return "ok" if job.succeeded else f"failing ({_counted(job.failures, 'failure', 'failures')})"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _counted(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def check_policy(policy: TablePolicy) -> None:
    """Raise ConfigurationError for periods that would take away what is still needed."""
    table, retention, compression = policy.table, policy.retention, policy.compression
    shortest = _SHORTEST_RETENTION[table]
    if retention is not None and retention < shortest:
        raise WrongValueError(
            f"{table} cannot be dropped after {period_text(retention)}: {_WHY_SO_LONG[table]}",
            hint=f"keep them for {period_text(shortest)} at least",
        )
    if compression is not None and compression < _SHORTEST_COMPRESSION:
        raise WrongValueError(
            f"{table} cannot be compressed after {period_text(compression)}: newer ones are still written",
            hint=f"wait for {period_text(_SHORTEST_COMPRESSION)} at least",
        )
    if retention is not None and compression is not None and retention <= compression:
        raise WrongValueError(
            f"{table} would be dropped after {period_text(retention)}, before they are compressed after"
            f" {period_text(compression)}",
            hint=f"compress them earlier, keep them longer, or set --{table}-compression never",
        )

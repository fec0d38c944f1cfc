"""What is wrong with a store, each in one line: for cron and monitoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from kraken_db.policies import job_fails, job_state, period_text
from kraken_db.status.model import DataStatus, StoreStatus
from kraken_db.status.reading import RUN_IS_DEAD_AFTER

DEFAULT_MAX_LAG = timedelta(days=1)

# Coverage of files that were imported with --all above 1m is not kept.
_CHECKED = ("trades", "candles_1m")


def problems(
    status: StoreStatus,
    max_lag: timedelta | None = DEFAULT_MAX_LAG,
    symbols: Sequence[str] | None = None,
) -> list[str]:
    """What has to be looked after, the worst first; empty if all is well.

    Wrong are: a symbol of ``symbols`` of which nothing is stored (without any, an empty store); gaps in
    trades or minutes; a lag above ``max_lag`` (None: any will do); a job of the database that fails or is
    not started; minutes that a killed run has left out of the higher intervals; and retention that such a
    run has left switched off.
    """
    return [*_missing(status, symbols), *_incomplete(status, max_lag), *_upkeep(status)]


def _missing(status: StoreStatus, symbols: Sequence[str] | None) -> Iterator[str]:
    stored = {item.symbol for item in status.data}
    for symbol in symbols or ():
        if symbol not in stored:
            yield f"nothing is stored of {symbol}"
    if not symbols and not stored:
        yield "nothing is stored"


def _incomplete(status: StoreStatus, max_lag: timedelta | None) -> Iterator[str]:
    checked = [item for item in status.data if item.data_type in _CHECKED]
    for item in checked:
        if item.gaps:
            yield f"{_named(item)} has {item.gaps:,} gap" + ("" if item.gaps == 1 else "s")
    for item in checked:
        if max_lag is not None and item.lag is not None and item.lag > max_lag:
            yield f"{_named(item)} is {lag_text(item.lag)} behind (allowed: {period_text(max_lag)})"


def _upkeep(status: StoreStatus) -> Iterator[str]:
    for job in status.jobs:
        if job_fails(job, status.now):
            told = f": {' '.join(job.last_error.split())}" if job.last_error and not job.succeeded else ""
            yield f"{job.task} of {job.relation} is {job_state(job, status.now)}{told}"
    if status.stalled_refreshes:
        ranges = f"{status.stalled_refreshes:,} range" + ("" if status.stalled_refreshes == 1 else "s")
        yield f"{ranges} of a killed run not in the higher intervals (kraken-db db maintain does it)"
    idle = status.last_sync is None or status.last_sync < status.now - RUN_IS_DEAD_AFTER
    if status.retention_paused and idle:
        yield "retention is switched off by a run that was killed (kraken-db db maintain switches it on)"


def _named(item: DataStatus) -> str:
    return f"{item.symbol} {item.data_type.replace('candles_', '')}"


def lag_text(lag: timedelta) -> str:
    """``12 min``, ``5 h 10 min``, ``3 days 5 h``: rounded down."""
    minutes = int(lag.total_seconds() // 60)
    hours, days = minutes // 60, minutes // 1440
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min"
    return f"{days:,} days" if days > 99 else f"{days} days {hours % 24} h"

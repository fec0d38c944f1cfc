"""``kraken-db policies``: how long rows are kept, and when they are compressed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.base import LazyGroup
from kraken_db.cli.moments import PeriodType
from kraken_db.cli.options import db_url_option, json_option
from kraken_db.cli.output import Column, moment_text, print_folded, print_json, print_table
from kraken_db.data_types import TableName
from kraken_db.policies import BackgroundJob, TablePolicy, job_fails, job_state
from kraken_db.times import period_text

if TYPE_CHECKING:
    from kraken_db.maintenance import Periods, PolicyChange
    from kraken_db.store import Store

_Period = tuple[timedelta | None] | None
_NOBODY = "Nothing is done by itself here: kraken-db db maintain drops what is older."
_DEEPER = " " * 4
_JOB_COLUMNS = [
    Column("table"),
    Column("policy"),
    Column("after"),
    Column("next run (UTC)"),
    Column("last run (UTC)"),
    Column("state"),
]


@click.group(cls=LazyGroup)
def policies() -> None:
    """Show and change how long rows are kept, and when they are compressed.

    On TimescaleDB background jobs do it. Elsewhere `kraken-db db maintain` does, whenever it is called; there
    everything is kept until a retention is set, and nothing is compressed.
    """


@policies.command(
    short_help="Show the policies, and whether their jobs run.", epilog="Example: kraken-db policies show"
)
@json_option
@db_url_option
def show(as_json: bool, db_url: str) -> None:
    """Show how long rows are kept, when they are compressed, and how the database's jobs are doing."""
    document = asyncio.run(_read(db_url))
    if as_json:
        print_json(document)
    else:
        _print(document)


@policies.command(
    "set",
    short_help="Change how long rows are kept, and when they are compressed.",
    epilog="Example: kraken-db policies set --trades-retention never --candles-retention 2y",
)
@click.option("--trades-retention", type=PeriodType(), help="Drop trades of this age: 90d, 12w, 1y or never.")
@click.option("--candles-retention", type=PeriodType(), help="Drop minutes of this age. 5m to 1w stay.")
@click.option("--trades-compression", type=PeriodType(), help="Compress trades of this age (TimescaleDB).")
@click.option("--candles-compression", type=PeriodType(), help="Compress minutes of this age (TimescaleDB).")
@json_option
@db_url_option
def change(
    trades_retention: _Period,
    candles_retention: _Period,
    trades_compression: _Period,
    candles_compression: _Period,
    as_json: bool,
    db_url: str,
) -> None:
    """Change how long trades and minutes are kept, and when they are compressed.

    What is not named stays as it is. Nothing is dropped by this command itself. The higher intervals, 5m to
    1w, are kept for good in any case.
    """
    changes: dict[TableName, Periods] = {
        "trades": _periods(trades_retention, trades_compression),
        "candles": _periods(candles_retention, candles_compression),
    }
    if not any(changes.values()):
        raise click.UsageError("nothing to change: name at least one period, e.g. --trades-retention 90d")
    kind, done = asyncio.run(_change(db_url, changes))
    if as_json:
        print_json([_change_document(one) for one in done])
        return
    for one in done:
        _print_change(one, kind)


def _periods(retention: _Period, compression: _Period) -> Periods:
    named: Periods = {}
    if retention is not None:
        named["retention"] = retention[0]
    if compression is not None:
        named["compression"] = compression[0]
    return named


async def _open(db_url: str, *, creates: bool) -> Store:
    from kraken_db.store import Store

    return await Store.open(db_url, pool_min_size=1, pool_max_size=1, creates=creates)


async def _read(db_url: str) -> dict[str, Any]:
    store = await _open(db_url, creates=False)
    try:
        async with store.database.read() as connection:
            tables = await store.backend.policies(connection)
            jobs = await store.backend.jobs.all(connection) if store.backend.jobs is not None else ()
        return {
            "database": store.backend.name,
            "tables": [_policy_document(table) for table in tables],
            "jobs": [_job_document(job, store.clock()) for job in jobs],
        }
    finally:
        await store.close()


async def _change(db_url: str, changes: Mapping[TableName, Periods]) -> tuple[str, list[PolicyChange]]:
    from kraken_db.maintenance import change_policies

    store = await _open(db_url, creates=True)
    try:
        return store.backend.name, await change_policies(store, changes)
    finally:
        await store.close()


def _policy_document(policy: TablePolicy) -> dict[str, Any]:
    return {
        "table": policy.table,
        "retention_seconds": policy.retention,
        "compression_seconds": policy.compression,
    }


def _job_document(job: BackgroundJob, now: datetime) -> dict[str, Any]:
    document = asdict(job)
    periods = {f"{name}_seconds": document.pop(name) for name in ("after", "every")}
    return {**document, **periods, "state": job_state(job, now), "fails": job_fails(job, now)}


def _change_document(change: PolicyChange) -> dict[str, Any]:
    return {
        **_policy_document(change.new),
        "before": _policy_document(change.old),
        "drops_before": change.drops_before,
        "oldest": change.oldest,
    }


def _print(document: Mapping[str, Any]) -> None:
    tables, jobs = document["tables"], document["jobs"]
    if not jobs and not any(table["compression_seconds"] for table in tables):
        rows = [(table["table"], period_text(table["retention_seconds"])) for table in tables]
        print_table([Column("table"), Column("dropped after")], rows)
        print_folded(_NOBODY)
        return
    print_table(_JOB_COLUMNS, [_row(table["table"], task, jobs) for table in tables for task in _TASKS])
    refreshes = [job for job in jobs if job["task"] == "refresh"]
    states = Counter(job["state"] for job in refreshes)
    summary = ", ".join(f"{count} {state}" for state, count in states.items())
    print_folded(f"The higher intervals are kept for good; their refreshes: {summary or 'none'}")
    for job in refreshes:
        if job["fails"]:
            print_folded(
                f"  {job['relation']}: {job['state']}, last run {moment_text(job['last_run'])},"
                f" next {moment_text(job['next_run'])}",
                _DEEPER,
            )


_TASKS = ("retention", "compression")


def _row(table: str, task: str, jobs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    for job in jobs:
        if (job["relation"], job["task"]) == (table, task):
            times = (moment_text(job["next_run"]), moment_text(job["last_run"]))
            return (table, task, period_text(job["after_seconds"]), *times, job["state"])
    return (table, task, "never", "-", "-", "-")


def _print_change(change: PolicyChange, kind: str) -> None:
    for task in _TASKS:
        old, new = getattr(change.old, task), getattr(change.new, task)
        same = " (as before)" if old == new else f" (until now: {period_text(old)})"
        if new is not None or old != new:
            print_folded(f"{change.new.table}: {task} after {period_text(new)}{same}")
    if change.drops_before is None:
        return
    who = "the next run of its job" if kind == "TimescaleDB" else "the next kraken-db db maintain"
    if change.oldest is None or change.oldest >= change.drops_before:
        print_folded(f"  nothing that is stored is that old; {who} drops nothing", _DEEPER)
    else:
        print_folded(
            f"  {who} drops what is from before {moment_text(change.drops_before)} UTC (the oldest is from"
            f" {moment_text(change.oldest)})",
            _DEEPER,
        )

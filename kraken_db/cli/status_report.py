"""The state of a store for people: which database, what is stored, and the coverage of each month."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any

import click

from kraken_db.cli.coverage_strip import StripStyle, strip_lines
from kraken_db.cli.output import (
    Column,
    count_text,
    is_terminal,
    moment_text,
    plural,
    print_table,
    size_text,
    wants_colour,
)
from kraken_db.cli.status_document import intervals_of
from kraken_db.policies import job_fails, job_state, period_text
from kraken_db.status import DataStatus, StoreStatus
from kraken_db.status.checking import lag_text

_INDENT = " " * 10
_MAINTAIN = "kraken-db db maintain drops older ones"
_NEXT_STEP = """Nothing is stored yet. To begin:
  kraken-db backfill --symbols BTC/USD     every trade, from Kraken
  kraken-db import-csv FILE-OR-FOLDER...   Kraken's archives"""
_COLUMNS = [
    Column("symbol"),
    Column("data"),
    Column("intervals"),
    Column("rows", right=True),
    Column("from (UTC)"),
    Column("to (UTC)"),
    Column("gaps", right=True),
    Column("lag", right=True),
    Column("last sync (UTC)"),
]


def print_status(database: Mapping[str, Any], status: StoreStatus) -> None:
    """``database``: kind, where, embedded, schema_revision, retention_seconds."""
    width = shutil.get_terminal_size().columns
    for line in _database_lines(database, status):
        click.echo(fill(line, width, subsequent_indent=_INDENT) if is_terminal() else line)
    if status.last_sync is None:
        click.echo(_NEXT_STEP)
        return
    if not status.data:
        click.echo("\nNothing is stored of these pairs.")
        return
    click.echo()
    print_table(_COLUMNS, [_row(item) for item in status.data])
    style = StripStyle.of_output(sys.stdout.encoding, terminal=is_terminal(), colour=wants_colour())
    rows = [(f"{item.symbol} {item.data_type.removeprefix('candles_')}", item.months) for item in status.data]
    if lines := strip_lines(rows, width, style):
        click.echo("\n" + "\n".join(lines))


def _database_lines(database: Mapping[str, Any], status: StoreStatus) -> Iterator[str]:
    kind = f"{database['kind']}, embedded" if database["embedded"] else database["kind"]
    yield f"Database  {kind}, {database['where']}"
    yield f"Schema    revision {database['schema_revision']}"
    yield from _size_lines(status)
    kept = ", ".join(
        f"{table} {period_text(period)}" for table, period in database["retention_seconds"].items() if period
    )
    if kept:
        who = "older ones are dropped" if status.drops_by_itself else _MAINTAIN
        yield f"Kept      {kept} ({who}; higher intervals stay)"
    if status.retention_paused:
        yield f"{_INDENT}nothing is dropped until the run that writes old rows, or the next one, is through"
    yield from _job_lines(status)
    if status.pending_refreshes:
        yield (
            f"Pending   {plural(status.pending_refreshes, 'range')} from {moment_text(status.pending_from)}"
            " on to be rolled up; the next import or backfill does it"
        )


def _size_lines(status: StoreStatus) -> Iterator[str]:
    sizes = ", ".join(f"{table.table} {size_text(table.size)}" for table in status.tables)
    yield f"Size      {size_text(status.database_size)}: {sizes}"
    packed = ", ".join(
        f"{table.table} {table.compression_ratio:.1f} : 1"
        f" ({table.compressed_parts:,} of {plural(table.parts, 'chunk')})"
        for table in status.tables
        if table.compression_ratio is not None
    )
    if packed:
        yield f"Packed    {packed}"


def _job_lines(status: StoreStatus) -> Iterator[str]:
    if not status.jobs:
        return
    failing = [job for job in status.jobs if job_fails(job, status.now)]
    if not failing:
        yield f"Jobs      {len(status.jobs)}, none of them failing"
        return
    yield f"Jobs      {len(failing)} of {len(status.jobs)} failing (kraken-db db maintain does their work)"
    for job in failing:
        told = f": {' '.join(job.last_error.split())}" if job.last_error and not job.succeeded else ""
        yield f"{_INDENT}{job.task} of {job.relation}: {job_state(job, status.now)}{told}"


def _row(item: DataStatus) -> tuple[str, ...]:
    names = intervals_of((), item.data_type)
    return (
        item.symbol,
        "candles" if item.data_type.startswith("candles_") else item.data_type,
        f"{names[0]} to {names[-1]}" if len(names) > 1 else "".join(names) or "-",
        count_text(item.rows),
        moment_text(item.oldest),
        moment_text(item.newest),
        "-" if item.gaps is None else count_text(item.gaps),
        "-" if item.lag is None else lag_text(item.lag),
        moment_text(item.last_sync),
    )

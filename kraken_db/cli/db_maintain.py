"""``kraken-db db maintain``: retention and compression, now."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.options import db_url_option, json_option
from kraken_db.cli.output import (
    Column,
    count_text,
    moment_text,
    note,
    plural,
    print_json,
    print_table,
    size_text,
)
from kraken_db.policies import period_text

if TYPE_CHECKING:
    from kraken_db.maintenance import MaintenanceReport, TableReport

_NO_RETENTION = (
    "Nothing is ever dropped: no retention is set. To set one: kraken-db policies set --trades-retention 90d"
    " --candles-retention 365d"
)
_COLUMNS = [
    Column("table"),
    Column("kept for"),
    Column("before (UTC)"),
    Column("rows dropped", right=True),
    Column("compressed", right=True),
    Column("freed", right=True),
]


@click.command(
    short_help="Drop and compress old rows now, as the policies say.",
    epilog="Example: kraken-db db maintain --dry-run",
)
@click.option(
    "--dry-run", is_flag=True, help="Show how much there is to drop and to compress; change nothing."
)
@json_option
@db_url_option
def maintain(dry_run: bool, as_json: bool, db_url: str) -> None:
    """Drop and compress old rows now, as `kraken-db policies show` has it.

    On TimescaleDB this is what its background jobs do, too; elsewhere nothing is dropped unless this command
    is called, for example once a day. Before anything is dropped, candles are built from trades and the
    higher intervals are brought up to date: these stay. It works in small pieces, and may be stopped or
    killed at any moment, and repeated.
    """
    from kraken_db.cli.progress import show_progress
    from kraken_db.maintenance import Maintenance

    async def run() -> MaintenanceReport:
        async with Maintenance(db_url, progress=progress) as service:
            return await service.run(dry_run=dry_run)

    with show_progress() as progress:
        report = asyncio.run(run())
    if as_json:
        print_json(_document(report))
    else:
        _print(report)


def _document(report: MaintenanceReport) -> dict[str, Any]:
    return {
        "database": report.kind,
        "dry_run": report.dry_run,
        "refreshed_ranges": report.refreshed_ranges,
        "built_candles": report.built_candles,
        "tables": [
            {
                "table": table.policy.table,
                "retention_seconds": table.policy.retention,
                "dropped_before": table.before,
                "dropped_rows": table.dropped_rows,
                "dropped_pieces": table.dropped_pieces,
                "compressed_chunks": table.compressed_pieces,
                "freed_bytes": table.freed_bytes,
                "kept_minutes": table.kept_minutes,
                "waiting_pieces": table.waiting_pieces,
            }
            for table in report.tables
        ],
    }


def _print(report: MaintenanceReport) -> None:
    print_table(_COLUMNS, [_row(table) for table in report.tables])
    for table in report.tables:
        _print_what_stays(table)
    click.echo(_summary(report))
    if not report.has_retention:
        note(_NO_RETENTION)


def _row(table: TableReport) -> tuple[str, ...]:
    return (
        table.policy.table,
        "for good" if table.policy.retention is None else period_text(table.policy.retention),
        moment_text(table.before),
        count_text(table.dropped_rows),
        count_text(table.compressed_pieces),
        "-" if table.freed_bytes is None else size_text(max(table.freed_bytes, 0)),
    )


def _print_what_stays(table: TableReport) -> None:
    if table.kept_minutes:
        click.echo(
            f"Trades of {plural(table.kept_minutes, 'minute')} stay: they have no candle, and not all trades"
            " of these minutes are known. To complete them: kraken-db backfill, or kraken-db import-csv"
        )
    if table.waiting_pieces:
        click.echo(
            f"{plural(table.waiting_pieces, 'piece')} of {table.policy.table} stay for now: something was"
            " written there meanwhile. Run it again"
        )


def _summary(report: MaintenanceReport) -> str:
    rows = sum(table.dropped_rows for table in report.tables)
    compressed = sum(table.compressed_pieces for table in report.tables)
    done = [f"built {plural(report.built_candles, 'candle')} from trades"] if report.built_candles else []
    if report.refreshed_ranges:
        done.append(f"refreshed {plural(report.refreshed_ranges, 'range')}")
    done += [f"dropped {plural(rows, 'row')}"] if rows else []
    done += [f"compressed {plural(compressed, 'chunk')}"] if compressed else []
    if report.dry_run:
        text = ", ".join(done).replace("dropped", "drop").replace("compressed", "compress")
        text = text.replace("refreshed", "refresh")
        return f"Would {text}. Nothing was changed" if done else "Nothing to do"
    return f"Done: {', '.join(done)}" if done else "Nothing to do"

"""``kraken-db db``: the schema, its upkeep, and the embedded PostgreSQL by hand."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kraken_db.cli.base import LazyCommand, LazyGroup
from kraken_db.cli.options import db_url_option, json_option
from kraken_db.cli.output import (
    Column,
    count_text,
    day_column,
    is_quiet,
    moment_text,
    note,
    plural,
    print_folded,
    print_json,
    print_table,
    size_text,
)
from kraken_db.times import period_text

if TYPE_CHECKING:
    from kraken_db.db.embedded import EmbeddedServer, ServerStatus
    from kraken_db.maintenance import MaintenanceReport, TableReport

_Command = Callable[..., Any]


def _data_dir_option(command: _Command) -> _Command:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="Where the embedded database keeps its files. Default: what DATABASE_URL=embedded:///... or"
        " KRAKEN_DB_DATA_DIR says, else the platform's place for a user's data.",
    )(command)


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _server(data_dir: Path | None) -> EmbeddedServer:
    """The server that the other commands would use: the option, then the environment."""
    from kraken_db.db.embedded import EmbeddedServer, resolve_embedded
    from kraken_db.settings import EMBEDDED_URL, Settings, expanded

    settings = Settings.from_environment()
    if data_dir is not None:
        return EmbeddedServer(expanded(data_dir))
    named = settings.database_url if settings.database_url.startswith(EMBEDDED_URL) else EMBEDDED_URL
    return EmbeddedServer(resolve_embedded(named) or settings.data_dir)


def _note_other_database(data_dir: Path | None) -> None:
    """Say so where the other commands do not use the embedded database."""
    from kraken_db.db.urls import parse_url
    from kraken_db.settings import EMBEDDED_URL, Settings

    named = Settings.from_environment().database_url
    if data_dir is None and not named.startswith(EMBEDDED_URL):
        note(f"DATABASE_URL names another database, which the other commands use: {parse_url(named)}")


def _as_json(status: ServerStatus) -> str:
    return json.dumps(dataclasses.asdict(status), default=str, indent=2)


@click.command()
@_data_dir_option
@_json_option
def start(data_dir: Path | None, as_json: bool) -> None:
    """Start the embedded PostgreSQL and leave it running until `stop`.

    Other commands start it by themselves when they need it, and it stops after them: this is for
    connecting with other programs. Prints the address.
    """
    _note_other_database(data_dir)
    server = _server(data_dir)
    url = server.start()
    click.echo(_as_json(server.status()) if as_json else url)


@click.command()
@_data_dir_option
def stop(data_dir: Path | None) -> None:
    """Stop the embedded PostgreSQL, whoever uses it. Nothing that was stored is lost."""
    _note_other_database(data_dir)
    click.echo("stopped" if _server(data_dir).stop() else "was not running")


@click.command()
@_data_dir_option
@_json_option
def status(data_dir: Path | None, as_json: bool) -> None:
    """Show whether the embedded PostgreSQL runs, and where it keeps its files."""
    _note_other_database(data_dir)
    found = _server(data_dir).status()
    if as_json:
        click.echo(_as_json(found))
        return
    rows = {
        "state": _state(found),
        "version": found.version or "no data yet",
        "data": found.data_dir,
        "log": found.log_file,
        "url": found.url,
    }
    for name, value in rows.items():
        click.echo(f"{name:<8} {value}")


def _state(found: ServerStatus) -> str:
    if not found.running:
        return "not running"
    state = "running" if found.ready else "starting or stopping"
    until = "until 'kraken-db db stop'" if found.kept else "until its last user ends"
    return f"{state}, process {found.pid}, {until}" if found.pid else state


@click.command()
@_data_dir_option
def url(data_dir: Path | None) -> None:
    """Print the address of the embedded PostgreSQL, for example for psql, without starting it."""
    _note_other_database(data_dir)
    click.echo(_server(data_dir).url())


_NO_RETENTION = (
    "Nothing is ever dropped: no retention is set. To set one: kraken-db policies set --trades-retention 90d"
    " --candles-retention 365d"
)
_COLUMNS = [
    Column("table"),
    Column("kept for"),
    day_column("before (UTC)"),
    Column("rows dropped", right=True),
    Column("compressed", right=True, rank=2),
    Column("freed", right=True, rank=1),
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
    if is_quiet() and _summary(report) == _NOTHING:
        return  # a line of cron's: it mails what is printed
    print_table(_COLUMNS, [_row(table) for table in report.tables])
    for table in report.tables:
        _print_what_stays(table)
    print_folded(_summary(report))
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
        print_folded(
            f"Trades of {plural(table.kept_minutes, 'minute')} stay: they have no candle, and not all trades"
            " of these minutes are known. To complete them: kraken-db backfill, or kraken-db import-csv"
        )
    if table.waiting_pieces:
        print_folded(
            f"{plural(table.waiting_pieces, 'piece')} of {table.policy.table} stay for now: something was"
            " written there meanwhile. Run it again"
        )


_NOTHING = "Nothing to do"


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
        return f"Would {text}. Nothing was changed" if done else _NOTHING
    return f"Done: {', '.join(done)}" if done else _NOTHING


_SERVER = "kraken_db.cli.db"
_TOOLS = "kraken_db.cli.db_tools"


@click.group(
    cls=LazyGroup,
    lazy_commands={
        "maintain": LazyCommand(
            "kraken_db.cli.db:maintain", "Drop and compress old rows now, as the policies say."
        ),
        "copy": LazyCommand("kraken_db.cli.copy_store:copy", "Copy a store to another database."),
        "dump": LazyCommand(f"{_TOOLS}:dump", "Write the whole database into one file."),
        "grant-read": LazyCommand(f"{_TOOLS}:grant_read", "Let a role read what is stored."),
        "psql": LazyCommand(f"{_TOOLS}:psql", "Open psql on the database."),
        "remove-pair": LazyCommand(
            "kraken_db.cli.remove_pair:remove_pair", "Remove everything that is stored of a pair."
        ),
        "restore": LazyCommand(f"{_TOOLS}:restore", "Fill an empty database from such a file."),
        "start": LazyCommand(f"{_SERVER}:start", "Start the embedded PostgreSQL and leave it running."),
        "stop": LazyCommand(f"{_SERVER}:stop", "Stop the embedded PostgreSQL."),
        "status": LazyCommand(f"{_SERVER}:status", "Show whether the embedded PostgreSQL runs, and where."),
        "url": LazyCommand(f"{_SERVER}:url", "Print the embedded PostgreSQL's address, e.g. for psql."),
    },
    epilog='Example: kraken-db db start && psql "$(kraken-db db url)"',
)
def db() -> None:
    """Upgrade the schema; drop old rows, or pairs; copy, dump, restore; start and stop the embedded one."""


@db.command(
    short_help="Bring the schema to the newest revision.",
    epilog="Example: DATABASE_URL=postgresql://user@host/kraken_data kraken-db db upgrade",
)
@click.option("--revision", default="head", show_default=True, help="Up to this one, e.g. 1002.")
@click.option(
    "--distribute",
    is_flag=True,
    help="On the coordinator of a Citus cluster: spread the pairs over its nodes.",
)
@db_url_option
def upgrade(revision: str, distribute: bool, db_url: str) -> None:
    """Make the tables, or bring them to what this version of kraken-db needs.

    The same as `alembic upgrade head` in a checkout. All of it happens in one transaction; may be repeated.
    The embedded database does not need it: it is upgraded on first use.
    """
    if distribute and revision != "head":
        raise click.UsageError("--distribute goes with the newest revision")
    if distribute:
        from kraken_db.backends.citus_schema import require_citus

        asyncio.run(require_citus(db_url))
    before, after = asyncio.run(_upgrade(db_url, revision))
    if before == after:
        print_folded(f"schema is at revision {after} already")
    else:
        print_folded(f"schema upgraded from {before or 'nothing'} to revision {after}")
    if distribute:
        from kraken_db.backends.citus_schema import distribute as spread

        found = asyncio.run(spread(db_url))
        verb = "distributed" if found.is_new else "distributed already"
        print_folded(
            f"tables {verb}: {plural(found.shards, 'shard')} on {plural(found.nodes, 'node')}, by pair"
        )


@db.command(short_help="Show the schema's revision.", epilog="Example: kraken-db db current --json")
@json_option
@db_url_option
def current(as_json: bool, db_url: str) -> None:
    """Show the schema's revision, and the one that this version of kraken-db needs."""
    from kraken_db.db.migrations import head_revision

    (found, missing), head = asyncio.run(_current_and_missing(db_url)), head_revision()
    lacks = missing if found == head else []
    if as_json:
        fits = found == head and not lacks
        print_json({"revision": found, "needed": head, "fits": fits, "missing_tables": lacks})
    elif lacks:
        print_folded(f"{found}, but it was changed: there is no table {', '.join(lacks)}")
    elif found == head:
        print_folded(f"{found} (fits this kraken-db)")
    else:
        print_folded(f"{found or 'no tables yet'} (this kraken-db needs {head})")


async def _current_and_missing(db_url: str) -> tuple[str | None, list[str]]:
    from kraken_db.db.engine import Database
    from kraken_db.db.migrations import current_revision, missing_tables

    database = await Database.open(db_url, pool_max_size=0, creates=False)
    try:
        return await database.reading(current_revision), await database.reading(missing_tables)
    finally:
        await database.close()


async def _current(db_url: str) -> str | None:
    from kraken_db.db.engine import Database
    from kraken_db.db.migrations import current_revision

    database = await Database.open(db_url, pool_max_size=0)
    try:
        return await database.reading(current_revision)
    finally:
        await database.close()


async def _upgrade(db_url: str, revision: str) -> tuple[str | None, str | None]:
    """The revisions before and after."""
    from alembic.util import CommandError

    from kraken_db.db import migrations
    from kraken_db.errors import SchemaError

    before = await _current(db_url)
    try:
        await migrations.upgrade(db_url, revision)
    except CommandError as error:
        raise SchemaError(
            f"the schema cannot go from revision {before} to {revision}: {error}",
            hint=f"this kraken-db knows revisions up to {migrations.head_revision()}",
        ) from error
    return before, await _current(db_url)

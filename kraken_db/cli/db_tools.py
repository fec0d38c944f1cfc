"""``kraken-db db psql``, ``dump``, ``restore`` and ``grant-read``: PostgreSQL's own tools on the store."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kraken_db.cli.options import db_url_option
from kraken_db.cli.output import duration, note, print_folded, size_text
from kraken_db.errors import ConfigurationError

if TYPE_CHECKING:
    from kraken_db.db.engine import Database

_T = TypeVar("_T")


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="Example: kraken-db db psql -- -c 'SELECT count(*) FROM candles'",
)
@click.argument("arguments", metavar="[-- ARGUMENT...]", nargs=-1, type=click.UNPROCESSED)
@db_url_option
@click.pass_context
def psql(context: click.Context, arguments: tuple[str, ...], db_url: str) -> None:
    """Open psql, PostgreSQL's own command line, on the database that the other commands use.

    What comes after -- is passed on to psql, and its exit code is ours. The embedded database runs as long
    as psql does.
    """
    context.exit(asyncio.run(_psql(db_url, arguments)))


async def _psql(db_url: str, arguments: tuple[str, ...]) -> int:
    from kraken_db.db.programs import newest
    from kraken_db.store import Store

    store = await Store.open(db_url, pool_min_size=1, pool_max_size=1, creates=False)
    try:
        address = store.database.address
        program = await asyncio.to_thread(newest, "psql")
        # Ctrl-C is psql's to answer.
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)
        process = await asyncio.create_subprocess_exec(
            program.path, f"--dbname={address.url}", *arguments, env=address.environment()
        )
        return await process.wait()
    finally:
        await store.close()


@click.command(epilog="Example: kraken-db db dump kraken.dump")
@click.argument("file", type=click.Path(path_type=Path))
@db_url_option
def dump(file: Path, db_url: str) -> None:
    """Write the whole database into one file, as it is now: a backup that `kraken-db db restore` reads.

    Recordings and backfills may go on meanwhile. It is PostgreSQL's own format, written by the pg_dump that
    fits the server, with a checksum behind it; pg_restore reads it, too. An older dump under that name is
    replaced when the new one is whole.
    """
    from kraken_db.cli.progress import show_progress
    from kraken_db.db.dumping import DumpReport
    from kraken_db.db.dumping import dump as write

    async def run(database: Database) -> DumpReport:
        return await write(database, file, progress)

    began = time.monotonic()
    with show_progress() as progress:
        report = asyncio.run(_with(db_url, run))
    print_folded(f"{report.path}: {size_text(report.size)}, in {duration(time.monotonic() - began)}")


@click.command(epilog="Example: KRAKEN_DB_DATA_DIR=~/restored kraken-db db restore kraken.dump")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@db_url_option
def restore(file: Path, db_url: str) -> None:
    """Fill an empty database from a file of `kraken-db db dump`: whole, or not at all.

    A dump of the embedded database fits any PostgreSQL, and the other way round. A dump of TimescaleDB needs
    TimescaleDB of the same version. A database with stored pairs is refused, and so is a damaged file: its
    checksum is compared first.
    """
    from kraken_db.cli.progress import show_progress
    from kraken_db.db.dumping import restore as read
    from kraken_db.db.migrations import head_revision

    async def run(database: Database) -> str:
        return await read(database, file, progress)

    began = time.monotonic()
    with show_progress() as progress:
        revision = asyncio.run(_with(db_url, run, creates=True))
    print_folded(f"restored from {file}, in {duration(time.monotonic() - began)}")
    if revision != head_revision():
        note(f"its schema is at revision {revision}; next: kraken-db db upgrade")


@click.command(
    "grant-read",
    epilog="Example: kraken-db db grant-read grafana --create",
)
@click.argument("role")
@click.option("--create", is_flag=True, help="Make the role, and print the password that it gets.")
@click.option("--revoke", is_flag=True, help="Take away what was given before; the role stays.")
@db_url_option
def grant_read(role: str, create: bool, revoke: bool, db_url: str) -> None:
    """Let a role of the server read everything that is stored, and change nothing.

    For a dashboard, a colleague, a notebook. It counts for tables of later versions, too. The embedded
    database has no roles but its own.
    """
    from kraken_db.db.roles import create_role, revoke_read
    from kraken_db.db.roles import grant_read as grant

    if create and revoke:
        raise click.UsageError("--create and --revoke exclude each other")

    async def run(database: Database) -> str | None:
        if database.is_embedded:
            raise ConfigurationError(
                "the embedded database lets in nobody but this user",
                hint="name a server with --db-url or DATABASE_URL",
            )
        async with database.begin() as connection:
            password = await create_role(connection, role) if create else None
            await (revoke_read if revoke else grant)(connection, role)
        return password

    password = asyncio.run(_with(db_url, run))
    print_folded(f"{role} may {'no longer ' if revoke else ''}read what is stored")
    if password:
        click.echo(f"its password: {password}")


async def _with(db_url: str, work: Callable[[Database], Awaitable[_T]], *, creates: bool = False) -> _T:
    from kraken_db.db.engine import Database

    database = await Database.open(db_url, pool_max_size=2, creates=creates)
    try:
        await database.wait_until_ready()
        return await work(database)
    finally:
        await database.close()

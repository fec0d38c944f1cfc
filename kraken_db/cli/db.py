"""``kraken-db db``: the schema, its upkeep, and the embedded PostgreSQL by hand."""

from __future__ import annotations

import asyncio

import click

from kraken_db.cli.base import LazyCommand, LazyGroup
from kraken_db.cli.options import db_url_option, json_option
from kraken_db.cli.output import print_json

_SERVER = "kraken_db.cli.db_server"


@click.group(
    cls=LazyGroup,
    lazy_commands={
        "maintain": LazyCommand(
            "kraken_db.cli.db_maintain:maintain", "Drop and compress old rows now, as the policies say."
        ),
        "start": LazyCommand(f"{_SERVER}:start", "Start the embedded PostgreSQL and leave it running."),
        "stop": LazyCommand(f"{_SERVER}:stop", "Stop the embedded PostgreSQL."),
        "status": LazyCommand(f"{_SERVER}:status", "Show whether the embedded PostgreSQL runs, and where."),
        "url": LazyCommand(f"{_SERVER}:url", "Print the embedded PostgreSQL's address, e.g. for psql."),
    },
    epilog='Example: kraken-db db start && psql "$(kraken-db db url)"',
)
def db() -> None:
    """Upgrade the schema; drop old rows; start and stop the embedded PostgreSQL."""


@db.command(
    short_help="Bring the schema to the newest revision.",
    epilog="Example: DATABASE_URL=postgresql://user@host/kraken_data kraken-db db upgrade",
)
@click.option("--revision", default="head", show_default=True, help="Up to this one, e.g. 0003.")
@db_url_option
def upgrade(revision: str, db_url: str) -> None:
    """Make the tables, or bring them to what this version of kraken-db needs.

    The same as `alembic upgrade head` in a checkout. All of it happens in one transaction; may be repeated.
    The embedded database does not need it: it is upgraded on first use.
    """
    before, after = asyncio.run(_upgrade(db_url, revision))
    if before == after:
        click.echo(f"schema is at revision {after} already")
    else:
        click.echo(f"schema upgraded from {before or 'nothing'} to revision {after}")


@db.command(short_help="Show the schema's revision.", epilog="Example: kraken-db db current --json")
@json_option
@db_url_option
def current(as_json: bool, db_url: str) -> None:
    """Show the schema's revision, and the one that this version of kraken-db needs."""
    from kraken_db.db.migrations import head_revision

    found, head = asyncio.run(_current(db_url)), head_revision()
    if as_json:
        print_json({"revision": found, "needed": head, "fits": found == head})
    elif found == head:
        click.echo(f"{found} (fits this kraken-db)")
    else:
        click.echo(f"{found or 'no tables yet'} (this kraken-db needs {head})")


async def _current(db_url: str) -> str | None:
    from kraken_db.db.engine import Database
    from kraken_db.db.migrations import current_revision

    database = await Database.open(db_url, pool_max_size=0)
    try:
        async with database.read() as connection:
            return await current_revision(connection)
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

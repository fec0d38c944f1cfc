"""The schema's revisions: run them, and tell whether a store fits this version of the package."""

from __future__ import annotations

import asyncio
import importlib.resources
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.engine import Database
from kraken_db.db.errors import UPGRADE_HINT, foreign_hint
from kraken_db.errors import SchemaError
from kraken_db.models import Base

if TYPE_CHECKING:
    from alembic.config import Config

Action = Callable[["Config", str], None]
# Alembic keeps what it works on in global names: one run at a time in a process.
_one_at_a_time = threading.Lock()
# Ours are numbered, from 1001 on; Alembic by itself gives twelve hexadecimal digits.
_OUR_REVISION = re.compile(r"[1-9]\d{3}")
# What Alembic understands: a name, or steps from where it is.
_WANTED_REVISION = re.compile(r"[+-]?\w{1,40}", re.ASCII)
# 0001 to 0010 were those of the versions before the first release; no way leads from them to ours.
_UNRELEASED = re.compile(r"0\d{3}")


_DUMP_HINT = "restore a dump of it (kraken-db db dump) into another database: that store is a plain one"
# To drop triggers; and a function after rows of several shards were changed.
_FOR_REMOVAL = (
    text("SET LOCAL citus.enable_unsafe_triggers TO on"),
    text("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'"),
)
_CITUS = text("SELECT extname FROM pg_extension WHERE extname = 'citus'")
_IS_DISTRIBUTED = text(
    "SELECT EXISTS (SELECT 1 FROM pg_dist_partition WHERE logicalrelid = to_regclass('trades'))"
)


def script_location() -> Path:
    """The folder of the revisions: inside an installed package, or beside it in a checkout."""
    package = Path(str(importlib.resources.files("kraken_db")))
    installed = package / "_alembic"
    return installed if installed.is_dir() else package.parent / "alembic"


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(script_location()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def head_revision() -> str:
    """The newest revision that this version of the package knows."""
    # The revisions are a line whose files are named by their numbers. Loading Alembic to be told the last
    # one would cost every command a fifth of a second.
    return max(path.name.partition("_")[0] for path in (script_location() / "versions").glob("[0-9]*.py"))


async def upgrade(url: str, revision: str = "head") -> None:
    """Bring the schema at ``url`` to ``revision``, in one transaction: whole or not at all."""
    from alembic import command

    await _run(url, command.upgrade, revision)


async def downgrade(url: str, revision: str) -> None:
    """Take the schema at ``url`` back to ``revision`` (``base`` removes all of it, with its data).

    Raises SchemaError for another one than ``base`` where the store is distributed.
    """
    from alembic import command

    await _run(url, command.downgrade, revision)


async def migrate(database: Database) -> None:
    """Bring the schema of an open store to the newest revision."""
    from alembic import command

    await _run_on(database, command.upgrade, "head")


async def remove(database: Database) -> None:
    """Take the whole schema of an open store away, with its data and with what Alembic keeps."""
    from alembic import command

    await _run_on(database, command.downgrade, "base")
    async with database.begin() as connection:
        await connection.execute(text("DROP TABLE alembic_version"))


async def _run(url: str, action: Action, revision: str) -> None:
    database = await Database.open(url, pool_max_size=0)
    try:
        await database.wait_until_ready()
        await _run_on(database, action, revision)
    finally:
        await database.close()


async def _run_on(database: Database, action: Action, revision: str) -> None:
    from alembic import command
    from alembic.util import CommandError

    if not _WANTED_REVISION.fullmatch(revision):
        raise SchemaError(
            f"{revision!r} is no revision", hint=f"write head, or a number up to {head_revision()}"
        )
    await asyncio.to_thread(_one_at_a_time.acquire)
    try:
        async with database.begin() as connection:
            _refuse_unreleased(await current_revision(connection), database.folder)
            if action is command.downgrade and await is_distributed(connection):
                if revision != "base":
                    raise SchemaError(
                        "a distributed store cannot go back to an older schema", hint=_DUMP_HINT
                    )
                for setting in _FOR_REMOVAL:
                    await connection.execute(setting)
            await connection.run_sync(lambda sync: action(_config(sync), revision))
    except CommandError as error:
        raise SchemaError(f"the schema cannot be changed: {error}") from error
    finally:
        _one_at_a_time.release()


async def current_revision(connection: AsyncConnection) -> str | None:
    """The revision that the store has, or None for a database without our schema."""
    if await connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


async def is_distributed(connection: AsyncConnection) -> bool:
    """Whether the tables of this store are distributed by Citus."""
    if await connection.scalar(_CITUS) is None:
        return False
    return bool(await connection.scalar(_IS_DISTRIBUTED))


async def missing_tables(connection: AsyncConnection) -> list[str]:
    """The tables of the newest revision that are not there, whatever revision the store says it has."""
    names = list(Base.metadata.tables)
    rows = await connection.execute(
        text("SELECT name FROM unnest(CAST(:names AS text[])) AS t(name) WHERE to_regclass(name) IS NULL"),
        {"names": names},
    )
    return sorted(rows.scalars())


async def check_schema(connection: AsyncConnection, folder: Path | None = None) -> None:
    """Raise SchemaError unless the store is at the newest revision of this package.

    ``folder``: where the files of an embedded database are, for the message.
    """
    found = await current_revision(connection)
    head = head_revision()
    if found == head:
        return
    if found is None:
        raise SchemaError("this database has no kraken-db tables yet", hint=UPGRADE_HINT)
    _refuse_unreleased(found, folder)
    at = _at(folder)
    if not _OUR_REVISION.fullmatch(found):
        raise SchemaError(
            f"the schema of this database{at} is another program's: its revision is {found}",
            hint=foreign_hint(folder),
        )
    if found < head:
        raise SchemaError(
            f"the schema of this database{at} is too old: revision {found}, needed is {head}",
            hint=UPGRADE_HINT,
        )
    raise SchemaError(
        f"the schema of this database{at} is too new: revision {found}, this kraken-db knows up to {head}",
        hint="update the package: pip install --upgrade kraken-historical-data",
    )


def _at(folder: Path | None) -> str:
    return "" if folder is None else f" ({folder})"


def _refuse_unreleased(found: str | None, folder: Path | None) -> None:
    if found is not None and _UNRELEASED.fullmatch(found):
        raise SchemaError(
            f"this database{_at(folder)} was made by a development version of kraken-db: its revision is"
            f" {found}",
            hint="export it with that version (kraken-db export), and import the files into a new database",
        )

"""A store as one file, by pg_dump, and back by pg_restore: with the right programs, whole or not at all.

pg_restore only writes the script, and psql runs it in one transaction: so a script of a newer program fits an
older server, too. TimescaleDB's catalogs take rows between its ``timescaledb_pre_restore`` and
``timescaledb_post_restore`` only.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db import new_files
from kraken_db.db.dump_seal import check_seal, seal
from kraken_db.db.engine import Database
from kraken_db.db.migrations import current_revision, remove
from kraken_db.db.programs import Address, Program, find, newest
from kraken_db.errors import ConfigurationError, ProgramError, SchemaError, StorageFullError
from kraken_db.progress import NullProgress, Progress, Task

_MAGIC = b"PGDMP"
_DUMPED_BY = re.compile(r"^;\s+Dumped by pg_dump version: (\d+)", re.MULTILINE)
_WITH_TIMESCALE = re.compile(r"^\d+; .* EXTENSION - timescaledb ", re.MULTILINE)
_OURS = re.compile(r"^\d+; .* TABLE \S+ alembic_version ", re.MULTILINE)
# Since 17 each script sets it, and no older server knows it.
_UNKNOWN_SETTING = re.compile(rb"^SET transaction_timeout = 0;$", re.MULTILINE)
_HINTS = {"psql": "nothing was restored; is the dump whole, and the database one for it alone?"}
_HEAD = 64 * 1024
_SAID = 4_000
_LOOK_EVERY = 0.2
"""Seconds between two looks at how far a program is."""


@dataclass(frozen=True, slots=True)
class DumpReport:
    """``path`` has ``size`` bytes now; ``revision`` is that of the schema in it."""

    path: Path
    size: int
    revision: str


async def dump(database: Database, path: Path, progress: Progress | None = None) -> DumpReport:
    """Write the whole database into one file, as it is at this moment; others may go on writing.

    It ends with a checksum, which ``restore`` looks at and pg_restore does not see.

    A dump that is there already is replaced, at the end and whole. Raises ConfigurationError where something
    else is there, or a pooler in between; ProgramError, SchemaError and OSError.
    """
    _refuse_other_file(path)
    async with database.read() as connection:
        revision = await _revision(connection)
        server = await _server_major(connection)
    address = _address(database)
    program = await asyncio.to_thread(find, "pg_dump", at_least=server)
    # Who is at work here is not at work in a copy: there it would look like somebody who was killed.
    of_here = "--exclude-table-data=running_jobs"
    command = ("--format=custom", "--compress=1", "--no-password", of_here, f"--dbname={address.url}")
    part = path.with_name(f".{path.name}.part")
    shown = progress or NullProgress()
    with new_files.replacing(path, part) as file:
        async with _watched(shown.task("dump", unit="bytes"), lambda: part.stat().st_size):
            # Not its standard output: it writes the table of contents twice there, and its end is not seen.
            await _run(program, (*command, f"--file=/dev/fd/{file.fileno()}"), address, file.fileno())
        await _contents(program.beside("pg_restore"), part)
        await _read(shown, "checksum", part, seal)
        size = file.seek(0, 2)
    return DumpReport(path, size, revision)


async def restore(database: Database, path: Path, progress: Progress | None = None) -> str:
    """Make the store that the dump holds; returns the revision of its schema.

    The database must have no rows of ours. What is left of its schema is dropped first. Nobody is at work in
    it afterwards, whoever was when the dump was made. Raises
    ConfigurationError, ProgramError (for a damaged dump, too) and DatabaseError: then nothing of the dump is
    there.
    """
    shown = progress or NullProgress()
    _require_dump(path)
    await _read(shown, "checksum", path, check_seal)
    program = await asyncio.to_thread(newest, "pg_restore")
    contents = await _contents(program, path)
    async with database.read() as connection:
        server = await _server_major(connection)
    by = _DUMPED_BY.search(contents)
    program = await asyncio.to_thread(find, "pg_restore", at_least=int(by[1]) if by else server)
    address = _address(database)
    has_timescale = bool(_WITH_TIMESCALE.search(contents))
    if has_timescale:
        await _require_timescale(database)
    await _make_room(database)
    async with _restoring(database) if has_timescale else nullcontext():
        await _pour(program, path, address, shown)
    async with database.autocommit() as connection:
        await connection.execute(text("DELETE FROM running_jobs"))  # of a dump by pg_dump itself
        await connection.execute(text("ANALYZE"))
    async with database.read() as connection:
        return await _revision(connection)


def _refuse_other_file(path: Path) -> None:
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder", hint="name a file in it, e.g. kraken.dump")
    if not path.parent.is_dir():
        raise ConfigurationError(f"there is no folder {path.parent}", hint="make it first")
    if path.is_symlink() or (path.exists() and not _is_dump(path)):
        raise ConfigurationError(f"{path} is there, and is no dump", hint="name another file")


def _is_dump(path: Path) -> bool:
    if not new_files.is_plain_file(path):
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _address(database: Database) -> Address:
    if database.is_pooled:
        raise ConfigurationError(
            f"{database.display}: there is a pooler, and PostgreSQL's own programs need the server itself",
            hint="name the server's own host and port with --db-url",
        )
    return database.address


async def _server_major(connection: AsyncConnection) -> int:
    number: int = await connection.scalar(text("SELECT current_setting('server_version_num')::int / 10000"))
    return number


async def _revision(connection: AsyncConnection) -> str:
    revision = await current_revision(connection)
    if revision is None:
        raise SchemaError("this database has no kraken-db tables")
    return revision


async def _make_room(database: Database) -> None:
    """Drop the tables that are there already, if they are empty."""
    async with database.read() as connection:
        if await current_revision(connection) is None:
            return
        is_used = await connection.scalar(text("SELECT EXISTS (SELECT 1 FROM data_sync_status)"))
    if is_used:
        raise ConfigurationError(
            f"{database.display}: pairs are stored there already, and a dump is never mixed with them",
            hint="name an empty database with --db-url, or for the embedded one another KRAKEN_DB_DATA_DIR",
        )
    await remove(database)


def _size(path: Path) -> int:
    return path.stat().st_size


def _require_dump(path: Path) -> None:
    if not _is_dump(path):
        raise ConfigurationError(
            f"{path} is no file of kraken-db db dump", hint="for CSV files there is kraken-db import-csv"
        )


async def _read(
    progress: Progress, label: str, path: Path, work: Callable[[Path, Callable[[int], None]], None]
) -> None:
    """Have ``work`` read a file from its beginning to its end, and show how far it is."""
    read = 0

    def advance(amount: int) -> None:
        nonlocal read
        read += amount

    async with _watched(progress.task(label, _size(path), unit="bytes"), lambda: read):
        await asyncio.to_thread(work, path, advance)


@asynccontextmanager
async def _watched(task: Task, position: Callable[[], int]) -> AsyncIterator[None]:
    """Ask for a position again and again, and show the furthest one as what is done."""
    seen = 0

    def look() -> None:
        nonlocal seen
        with suppress(OSError):  # the file may not be there yet
            if (now := position()) > seen:
                task.advance(now - seen)
                seen = now

    async def watch() -> None:
        while True:
            look()
            await asyncio.sleep(_LOOK_EVERY)

    watching = asyncio.create_task(watch())
    failed = True
    try:
        yield
        look()
        failed = False
    finally:
        watching.cancel()
        task.done(failed=failed)


async def _contents(program: Program, path: Path) -> str:
    """The list of what is in a dump. Raises ConfigurationError if it is none of a store of ours."""
    listed = await _output(program, ("--list", str(path)))
    if not _OURS.search(listed):
        raise ConfigurationError(f"{path} is the dump of another program's database")
    return listed


async def _require_timescale(database: Database) -> None:
    async with database.read() as connection:
        if not await connection.scalar(
            text("SELECT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb')")
        ):
            raise ConfigurationError(
                f"the dump is of a store on TimescaleDB, which {database.display} does not have",
                hint="restore it on a server with TimescaleDB of the same version",
            )


@asynccontextmanager
async def _restoring(database: Database) -> AsyncIterator[None]:
    """Have TimescaleDB take the rows of its own catalogs, and run no job meanwhile."""
    await _autocommit(database, "CREATE EXTENSION IF NOT EXISTS timescaledb")
    await _autocommit(database, "SELECT timescaledb_pre_restore()")
    try:
        yield
    finally:
        await asyncio.shield(_autocommit(database, "SELECT timescaledb_post_restore()"))


async def _autocommit(database: Database, statement: str) -> None:
    async with database.autocommit() as connection:
        await connection.execute(text(statement))


async def _pour(program: Program, path: Path, address: Address, progress: Progress) -> None:
    """The script from pg_restore to psql, which ends at the first error: then nothing is there.

    pg_restore reads the file as its standard input, which it shares with us: so we see how far it is.
    """
    with path.open("rb", buffering=0) as file:
        task = progress.task("restore", _size(path), unit="bytes")
        async with _watched(task, lambda: os.lseek(file.fileno(), 0, os.SEEK_CUR)):
            await _pour_from(program, file.fileno(), address)


async def _pour_from(program: Program, file: int, address: Address) -> None:
    options = ("--no-owner", "--no-privileges", "--file=-")
    quiet = ("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--output=/dev/null")
    whole = ("--single-transaction", "--file=-", f"--dbname={address.url}")
    writer = await _started(program, options, stdin=file, stdout=asyncio.subprocess.PIPE)
    reader = await _started(program.beside("psql"), (*quiet, *whole), address, stdin=asyncio.subprocess.PIPE)
    try:
        _, written, read = await asyncio.gather(_pass_on(writer, reader), _said(writer), _said(reader))
        for process, name, said in ((reader, "psql", read), (writer, "pg_restore", written)):
            _check(name, await process.wait(), said)
    finally:
        for process in (writer, reader):
            await _end(process)


async def _pass_on(writer: asyncio.subprocess.Process, reader: asyncio.subprocess.Process) -> None:
    assert writer.stdout is not None
    assert reader.stdin is not None
    is_first = True
    with suppress(BrokenPipeError, ConnectionResetError):  # it says why by itself
        while block := await writer.stdout.read(_HEAD):
            reader.stdin.write(_UNKNOWN_SETTING.sub(b"", block) if is_first else block)
            await reader.stdin.drain()
            is_first = False
        if await writer.wait():
            # Half a script must not be committed.
            reader.stdin.write(b"\n\\echo\nSELECT 'the dump is damaged'::int;\n")
            await reader.stdin.drain()
    with suppress(BrokenPipeError, ConnectionResetError):
        reader.stdin.close()
        await reader.stdin.wait_closed()


async def _run(program: Program, options: Sequence[str], address: Address, file: int) -> None:
    process = await _started(program, options, address, pass_fds=(file,))
    try:
        said = await _said(process)
        _check(program.path.name, await process.wait(), said)
    finally:
        await _end(process)


async def _output(program: Program, options: Sequence[str]) -> str:
    process = await _started(program, options, stdout=asyncio.subprocess.PIPE)
    try:
        out, said = await process.communicate()
        _check(program.path.name, await process.wait(), said.decode(errors="replace"))
        return out.decode(errors="replace")
    finally:
        await _end(process)


async def _started(
    program: Program,
    options: Sequence[str],
    address: Address | None = None,
    *,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int = asyncio.subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            program.path,
            *options,
            stdin=stdin,
            stdout=stdout,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=pass_fds,
            env=address.environment() if address else None,
        )
    except OSError as error:
        raise ProgramError(f"{program.path} cannot be started: {error.strerror}") from error


async def _said(process: asyncio.subprocess.Process) -> str:
    """The last of what it has said on standard error, when it has ended."""
    assert process.stderr is not None
    said = b""
    while block := await process.stderr.read(_HEAD):
        said = (said + block)[-_SAID:]
    return said.decode(errors="replace")


def _check(name: str, code: int, said: str) -> None:
    if not code:
        return
    lines = [line.removeprefix(f"{name}: ").strip() for line in said.splitlines()]
    errors = [line for line in lines if "error" in line.lower()] or lines or [f"exit code {code}"]
    message = errors[0].partition("error: ")[2] or errors[0]
    if "No space left on device" in said:
        raise StorageFullError(f"{name}: no space left on the disk", hint="make room there, and run it again")
    raise ProgramError(f"{name} failed: {message}", hint=_HINTS.get(name))


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()

"""COPY in and out, by the driver itself.

Rows stream through without becoming Python objects; what is sent is what the server parses.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Collection, Coroutine
from functools import partial
from typing import Any, Literal

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.db.driver import (
    CompiledStatement,
    begun,
    driver_errors,
    give_up_if_closed,
    raw_connection,
)
from kraken_db.errors import CopyRowError, first_line

_CONTEXT = re.compile(r"^COPY \S+, line (\d+)(?:, column (\w+))?(?:: \"(.*)\")?", re.MULTILINE | re.DOTALL)
_SHOWN = 60
_GRACE_SECONDS = 0.5
BLOCK_SIZE = 4 * 2**20
# Blocks that wait for their reader: what is there while the next is on its way, and no more.
_READ_AHEAD = 2


async def copy_csv_in(
    connection: AsyncConnection,
    table: str,
    columns: list[str],
    source: AsyncIterable[bytes],
    *,
    nullable: Collection[str] = (),
    style: Literal["csv", "text"] = "csv",
    schema: str | None = None,
) -> int:
    """Stream CSV text into a table; returns the number of rows. Raises CopyRowError for a bad row.

    ``style="text"``: what comes is in PostgreSQL's own format of COPY. ``schema``: None for the current one.
    An empty field is an empty text, but in ``nullable`` columns NULL: where a number belongs it is an error.
    Everything else that fails is another error of ``kraken_db.errors``.
    """
    with driver_errors(connection):
        driver = await raw_connection(connection)
        try:
            status = await _unless_lost(
                driver,
                lambda lost: driver.copy_to_table(
                    table,
                    schema_name=schema,
                    source=_unless_set(lost, source),
                    columns=columns,
                    format=style,
                    force_not_null=(
                        [name for name in columns if name not in nullable] if style == "csv" else None
                    ),
                ),
            )
        except asyncpg.DataError as error:
            found = _CONTEXT.search(error.context or "")
            if found is None:
                raise
            line, column, value = found.groups()
            raise CopyRowError(int(line), column, _reason(error, column, value)) from error
        except Exception:
            await give_up_if_closed(connection, driver)
            raise
    return int(status.split()[-1])


async def copy_csv_out(
    connection: AsyncConnection | AsyncSession,
    statement: CompiledStatement,
    block_size: int = BLOCK_SIZE,
    *,
    style: Literal["csv", "text"] = "csv",
) -> AsyncGenerator[bytes]:
    """The rows of a statement as CSV, in blocks of whole rows of about ``block_size`` bytes.

    ``style="text"``: in PostgreSQL's own format of COPY, which tells NULL from an empty text.

    A reader that is slower than the server makes it wait: memory does not grow with the rows. Close the
    generator (``contextlib.aclosing``) where it may not be read to its end: its connection is given up then.
    Raises errors of ``kraken_db.errors``.
    """
    errors = partial(driver_errors, connection)
    with errors():
        connection = await begun(connection)
        driver = await raw_connection(connection)
    blocks: asyncio.Queue[bytes | None] = asyncio.Queue()
    room = asyncio.Semaphore(_READ_AHEAD)
    rest = bytearray()
    end_of_rows = _end_of_rows if style == "csv" else _end_of_lines

    async def take(data: bytes) -> None:
        rest.extend(data)
        if len(rest) >= block_size and (end := end_of_rows(rest)):
            await room.acquire()
            blocks.put_nowait(bytes(rest[:end]))
            del rest[:end]

    async def copy() -> None:
        try:
            await _unless_lost(
                driver,
                lambda _: driver.copy_from_query(statement.sql, *statement.values, output=take, format=style),
            )
            if rest:
                blocks.put_nowait(bytes(rest))
        finally:
            blocks.put_nowait(None)

    copying = asyncio.create_task(copy())
    try:
        while (block := await blocks.get()) is not None:
            room.release()
            yield block
        with errors():
            await copying
    finally:
        if not copying.done():
            copying.cancel()
            await asyncio.gather(copying, return_exceptions=True)
            await connection.invalidate()
        await give_up_if_closed(connection, driver)


def _end_of_lines(lines: bytearray) -> int:
    return lines.rfind(b"\n") + 1


def _end_of_rows(lines: bytearray) -> int:
    """Behind the last row that is whole: a line end inside of quotes ends none."""
    end = lines.rfind(b"\n") + 1
    while end and lines.count(b'"', 0, end) % 2:
        end = lines.rfind(b"\n", 0, end - 1) + 1
    return end


async def _unless_set(lost: asyncio.Event, source: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """What is to be sent, as long as there is somebody to send it to."""
    async for piece in source:
        if lost.is_set():
            return
        yield piece


async def _unless_lost(
    driver: asyncpg.Connection[Any], copying: Callable[[asyncio.Event], Coroutine[Any, Any, str]]
) -> str:
    """Wait for a COPY, or for the end of its connection: asyncpg itself would wait for ever."""
    lost = asyncio.Event()

    def note_loss(_: object) -> None:
        lost.set()

    driver.add_termination_listener(note_loss)
    copy, end = asyncio.ensure_future(copying(lost)), asyncio.ensure_future(lost.wait())
    try:
        await asyncio.wait({copy, end}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({copy}, timeout=_GRACE_SECONDS)  # it may be about to say so by itself
        if not copy.done():
            raise asyncpg.ConnectionDoesNotExistError("it ended in the middle of a COPY")
        return copy.result()
    finally:
        driver.remove_termination_listener(note_loss)
        for task in (copy, end):
            task.cancel()
        await asyncio.gather(copy, end, return_exceptions=True)


def _reason(error: asyncpg.PostgresError, column: str | None, value: str | None) -> str:
    line = first_line(error)
    if column is None or value is None:
        return line
    if value == "":
        return f"the field of {column} is empty"
    if isinstance(error, asyncpg.InvalidTextRepresentationError):
        return f"{column} {_short(value)!r} is not a number of the right kind"
    return f"{column} {_short(value)}: {line}"


def _short(value: str) -> str:
    return value if len(value) <= _SHOWN else value[:_SHOWN] + "..."

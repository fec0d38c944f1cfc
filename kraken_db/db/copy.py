"""COPY in and out: the only user of the raw driver.

Rows stream through without becoming Python objects; what is sent is what the server parses.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, Coroutine
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

_CONTEXT = re.compile(r"^COPY \S+, line (\d+)(?:, column (\w+))?(?:: \"(.*)\")?", re.MULTILINE | re.DOTALL)
_SHOWN = 60
_GRACE_SECONDS = 0.5


class CopyRowError(Exception):
    """The server refused a row: ``line`` (from 1, in the stream), ``column`` and ``reason``."""

    def __init__(self, line: int, column: str | None, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.column = column
        self.reason = reason


async def raw_connection(connection: AsyncConnection) -> asyncpg.Connection[Any]:
    """asyncpg's connection under SQLAlchemy's, inside the transaction that runs on it.

    SQLAlchemy begins a transaction with the first statement only: execute one before COPY.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, asyncpg.Connection)
    return driver


async def copy_csv_in(
    connection: AsyncConnection,
    table: str,
    columns: list[str],
    source: AsyncIterable[bytes],
) -> int:
    """Stream CSV text into a table; returns the number of rows. Raises CopyRowError for a bad row.

    An empty field is an empty text, never NULL: where a number belongs it is an error.
    """
    driver = await raw_connection(connection)
    try:
        status = await _unless_lost(
            driver,
            driver.copy_to_table(table, source=source, columns=columns, format="csv", force_not_null=columns),
        )
    except (asyncpg.DataError, asyncpg.BadCopyFileFormatError) as error:
        found = _CONTEXT.search(error.context or "")
        if found is None:
            raise
        line, column, value = found.groups()
        reason = _reason(error, column, value)
        raise CopyRowError(int(line), column, reason) from error
    except Exception:
        if driver.is_closed():
            # SQLAlchemy does not know: its rollback would fail, and its error would hide this one.
            await connection.invalidate()
        raise
    return int(status.split()[-1])


async def _unless_lost(driver: asyncpg.Connection[Any], copying: Coroutine[Any, Any, str]) -> str:
    """Wait for a COPY, or for the end of its connection: asyncpg itself would wait for ever."""
    lost = asyncio.Event()

    def tell(_: object) -> None:
        lost.set()

    driver.add_termination_listener(tell)
    copy, end = asyncio.ensure_future(copying), asyncio.ensure_future(lost.wait())
    try:
        await asyncio.wait({copy, end}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({copy}, timeout=_GRACE_SECONDS)  # it may be about to say so by itself
        if not copy.done():
            raise asyncpg.ConnectionDoesNotExistError("it ended in the middle of a COPY")
        return copy.result()
    finally:
        driver.remove_termination_listener(tell)
        for task in (copy, end):
            task.cancel()
        await asyncio.gather(copy, end, return_exceptions=True)


def _reason(error: asyncpg.PostgresError, column: str | None, value: str | None) -> str:
    told = str(error).splitlines()[0]
    if column is None or value is None:
        return told
    if value == "":
        return f"the field of {column} is empty"
    if "numeric field overflow" in told:
        return f"{column} {_short(value)} does not fit NUMERIC(20,10)"
    if isinstance(error, asyncpg.InvalidTextRepresentationError):
        return f"{column} {_short(value)!r} is not a number of the right kind"
    return f"{column} {_short(value)}: {told}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."

"""COPY in and out: the only user of the raw driver.

Rows stream through without becoming Python objects; what is sent is what the server parses.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

_CONTEXT = re.compile(r"^COPY \S+, line (\d+)(?:, column (\w+))?(?:: \"(.*)\")?", re.MULTILINE | re.DOTALL)
_SHOWN = 60


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
    *,
    keep_empty: str | None = None,
) -> int:
    """Stream CSV text into a table; returns the number of rows. Raises CopyRowError for a bad row.

    An empty field is NULL, but in the column ``keep_empty``, where it is an empty text.
    """
    driver = await raw_connection(connection)
    try:
        status = await driver.copy_to_table(table, source=source, columns=columns, format="csv", force_not_null=[keep_empty] if keep_empty else None)
    except (asyncpg.DataError, asyncpg.BadCopyFileFormatError) as error:
        found = _CONTEXT.search(error.context or "")
        if found is None:
            raise
        line, column, value = found.groups()
        reason = str(error).splitlines()[0]
        if isinstance(error, asyncpg.NumericValueOutOfRangeError) and column and value:
            reason = f"{column} {_short(value)} does not fit NUMERIC(20,10)"
        elif column and value is not None and _short(value) not in reason:
            reason = f"{column} {_short(value)!r}: {reason}"
        raise CopyRowError(int(line), column, reason) from error
    return int(status.split()[-1])


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."

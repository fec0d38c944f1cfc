"""A statement that somebody typed: checked by the server, then run, with its rows as the server writes them.

The rows come by COPY in PostgreSQL's own text: exact for every type, and as a stream. What cannot be copied
(EXPLAIN, SHOW) has few rows, and comes at once.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_out
from kraken_db.db.driver import CompiledStatement, driver_errors, raw_connection
from kraken_db.errors import StatementError, first_line

Row: TypeAlias = tuple[str | None, ...]

_BLOCK_SIZE = 256 * 1024
# White space, comments and brackets may stand before the word that says what a statement is.
_FIRST_WORD = re.compile(r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*(\w+)", re.DOTALL)
_CAN_BE_COPIED = {"select", "with", "values", "table", "insert", "update", "delete"}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
# Of the server, the connection and other sessions: not of the statement. These have messages of their own.
_NOT_OF_THE_STATEMENT = ("08", "28", "40", "53", "55", "57", "58", "XX")
_SHOWN = 40


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """``type``: PostgreSQL's name of it, e.g. numeric, timestamptz, int8; ``_text`` is an array of text."""

    name: str
    type: str


class TypedStatement:
    """One statement, as the server has understood it. Made by ``prepare``; run it once."""

    def __init__(
        self,
        connection: AsyncConnection,
        sql: str,
        prepared: asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record],
    ) -> None:
        self._connection = connection
        self._sql = sql
        self._prepared = prepared
        self.columns: Sequence[ResultColumn] = [
            ResultColumn(attribute.name, attribute.type.name) for attribute in prepared.get_attributes()
        ]

    @classmethod
    async def prepare(
        cls, connection: AsyncConnection, sql: str, *, may_write: bool = False
    ) -> TypedStatement:
        """Have the server look at it. Raises StatementError for what it does not take.

        Without ``may_write`` the transaction only reads from here on: what a statement or a function of it
        would write, the server refuses.
        """
        mode = "READ WRITE" if may_write else "READ ONLY"
        await connection.execute(text(f"SET TRANSACTION {mode}"))
        driver = await raw_connection(connection)
        with driver_errors(connection), _statement_errors(sql):
            # Without a name: behind a pooler there may be another session of the server next time.
            return cls(connection, sql, await driver.prepare(sql, name=""))

    async def run(self) -> str:
        """Run a statement that gives no rows; returns what the server says, e.g. ``UPDATE 3``."""
        with driver_errors(self._connection), _statement_errors(self._sql):
            await self._prepared.fetch()
            return str(self._prepared.get_statusmsg())

    async def rows(self) -> AsyncGenerator[list[Row]]:
        """The rows in blocks: the server's text for each value, None for NULL. Raises StatementError."""
        first = _FIRST_WORD.match(self._sql)
        with _statement_errors(self._sql):
            if first is None or first[1].lower() not in _CAN_BE_COPIED:
                with driver_errors(self._connection):
                    yield [_texts(record) for record in await self._prepared.fetch()]
                return
            # On a line of its own the end of a comment does not hide what comes behind it.
            statement = CompiledStatement(self._sql.rstrip().removesuffix(";") + "\n", ())
            copied = copy_csv_out(self._connection, statement, _BLOCK_SIZE, style="text")
            async with aclosing(copied) as blocks:
                async for block in blocks:
                    yield [_fields(line) for line in block.decode().split("\n")[:-1]]


def _fields(line: str) -> Row:
    if "\\" not in line:
        return tuple(line.split("\t"))
    return tuple(
        None if field == r"\N" else _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), field)
        for field in line.split("\t")
    )


def _texts(record: Sequence[Any]) -> Row:
    return tuple(None if value is None else str(value) for value in record)


@contextmanager
def _statement_errors(sql: str) -> Iterator[None]:
    """Raise StatementError for what is wrong with the statement, with the place that the server names."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise _explained(error, sql) or error from error.__cause__
    except Exception as error:
        # Of a COPY it is translated already.
        cause = error.__cause__
        found = _explained(cause, sql) if isinstance(cause, asyncpg.PostgresError) else None
        if found is None:
            raise
        raise found from cause


def _explained(error: asyncpg.PostgresError, sql: str) -> StatementError | None:
    state = error.sqlstate or ""
    if state.startswith(_NOT_OF_THE_STATEMENT):
        return None
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return StatementError(first_line(error), hint="it would write: if it is meant to, add --write")
    if isinstance(error, asyncpg.PostgresSyntaxError) and "multiple commands" in str(error):
        return StatementError("there is more than one statement", hint="run them one by one")
    hint = getattr(error, "hint", None)
    return StatementError(first_line(error) + _place(error, sql), hint=hint)


def _place(error: asyncpg.PostgresError, sql: str) -> str:
    """`` (line 1, at "FORM trades")``, where the server names one."""
    position = getattr(error, "position", None)
    if position is None or not 1 <= int(position) <= len(sql):
        return ""
    at = int(position) - 1
    rest = sql[at:].splitlines()[0]
    shown = rest if len(rest) <= _SHOWN else f"{rest[:_SHOWN]}..."
    return f' (line {sql.count(chr(10), 0, at) + 1}, at "{shown}")'

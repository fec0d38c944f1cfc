"""The driver under SQLAlchemy, for what SQLAlchemy is too slow for: its statements, its rows, its connection.

SQLAlchemy's layers between the driver and the reader cost more than reading a short list takes, and twice
what building a long one takes.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import ClauseElement, text
from sqlalchemy.dialects.postgresql import asyncpg as dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.db.errors import translated_errors
from kraken_db.db.sessions import Sessions

SESSIONS = "kraken_db_sessions"
"""The execution option of an engine that has the ``Sessions`` under it."""
_DIALECT = dialect.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """A statement with ``$1``, ``$2`` ... in it, and the values for them in this order."""

    sql: str
    values: tuple[Any, ...]

    @classmethod
    def of(cls, statement: ClauseElement) -> CompiledStatement:
        compiled = statement.compile(dialect=_DIALECT)
        names = compiled.positiontup or ()  # type: ignore[attr-defined]
        return cls(compiled.string, tuple(compiled.params[name] for name in names))

    def replacing(self, markers: Mapping[object, Any]) -> CompiledStatement:
        """The same statement with other values in the places of these."""
        return CompiledStatement(self.sql, tuple(markers.get(value, value) for value in self.values))


async def raw_connection(connection: AsyncConnection) -> asyncpg.Connection[Any]:
    """asyncpg's connection under SQLAlchemy's, inside the transaction that runs on it.

    SQLAlchemy begins a transaction with the first statement only: execute one before COPY.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, asyncpg.Connection)
    return driver


def driver_errors(connection: AsyncConnection | AsyncSession) -> AbstractContextManager[None]:
    """Within it, the driver's errors are raised as those of ``kraken_db.errors``.

    For code that goes on after an error of its statements. Works on connections of any engine.
    """
    sessions = sessions_of(connection)
    return sessions.errors() if sessions else translated_errors("the database")


def sessions_of(connection: AsyncConnection | AsyncSession) -> Sessions | None:
    """Where the connection comes from; None for one of another engine than ours."""
    used = (
        connection.sync_session.bind if isinstance(connection, AsyncSession) else connection.sync_connection
    )
    found: Sessions | None = used.get_execution_options().get(SESSIONS) if used is not None else None
    return found


async def begun(connection: AsyncConnection | AsyncSession) -> AsyncConnection:
    """The connection, ready for the driver: in its transaction, if it has one, or behind a pooler.

    Where nobody has begun one, a statement is a transaction of its own.
    """
    if isinstance(connection, AsyncSession):
        connection = await connection.connection()
    sessions = sessions_of(connection)
    is_wanted = connection.in_transaction() or (sessions is not None and sessions.are_pooled)
    if is_wanted and not (await raw_connection(connection)).is_in_transaction():
        await connection.execute(text("SELECT 1"))
    return connection


async def run_alone(connection: AsyncConnection, statement: str) -> None:
    """Run a statement that refuses to run in a transaction; it can have no parameters.

    Raises errors of ``kraken_db.errors``.
    """
    # To prepare it first would take two requests: a pooler may answer them with two sessions.
    with driver_errors(connection):
        driver = await raw_connection(connection)
        try:
            await driver.execute(statement)
        except Exception:
            await give_up_if_closed(connection, driver)
            raise


async def fetch(
    connection: AsyncConnection | AsyncSession, statement: CompiledStatement
) -> Sequence[Sequence[Any]]:
    """All rows of a statement, each a sequence of its values.

    In the transaction of the connection, or, where nobody has begun one, in one of its own. Raises errors
    of ``kraken_db.errors``.
    """
    with driver_errors(connection):
        connection = await begun(connection)
        driver = await raw_connection(connection)
        try:
            rows: Sequence[Sequence[Any]] = await driver.fetch(statement.sql, *statement.values)
        except Exception:
            await give_up_if_closed(connection, driver)
            raise
    return rows


async def give_up_if_closed(connection: AsyncConnection, driver: asyncpg.Connection[Any]) -> None:
    """After an error: SQLAlchemy does not know of the end of a connection, so its rollback would fail.

    The error of the rollback would hide the first one.
    """
    if driver.is_closed():
        await connection.invalidate()


class _Pauses:
    """How many readers want the collector to wait; the last of them starts it again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._was_enabled = False

    def begin(self) -> None:
        with self._lock:
            if self._count == 0:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._count += 1

    def end(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0 and self._was_enabled:
                if not gc.get_freeze_count():
                    # All that was made meanwhile counts as old now, at once: the next pass over what is
                    # young would go through every row after all.
                    gc.freeze()
                    gc.unfreeze()
                gc.enable()


_pauses = _Pauses()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Within it, garbage collection waits: each of its passes would look at every row built so far.

    The rows have no cycles, so nothing is kept for longer.
    """
    _pauses.begin()
    try:
        yield
    finally:
        _pauses.end()

"""Rows out by the hundred thousand: the driver's own.

SQLAlchemy's layers between the driver and the reader cost more than reading a short list takes, and twice
what building a long one takes.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.db.compiled import CompiledStatement
from kraken_db.db.copy import begun, raw_connection


async def fetch(
    connection: AsyncConnection | AsyncSession, statement: CompiledStatement
) -> Sequence[Sequence[Any]]:
    """All rows of a statement, each a sequence of its values.

    In the transaction of the connection, or, where nobody has begun one, in one of its own.
    """
    connection = await begun(connection)
    driver = await raw_connection(connection)
    try:
        rows: Sequence[Sequence[Any]] = await driver.fetch(statement.sql, *statement.values)
    except Exception:
        if driver.is_closed():
            # SQLAlchemy does not know: its rollback would fail, and its error would hide this one.
            await connection.invalidate()
        raise
    return rows


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

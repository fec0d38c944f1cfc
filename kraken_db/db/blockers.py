"""Who waits for a lock is told who is in the way, after some seconds: a stopped process has it for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.driver import raw_connection, sessions_of
from kraken_db.db.sessions import Sessions

PATIENT_SECONDS = 5.0
"""How long is waited before a line says so."""
AGAIN_SECONDS = 60.0
"""Between two lines of one wait."""

notices = logging.getLogger("kraken_db.notices")
_SHOWN = """
    SELECT a.pid, a.usename, a.application_name, host(a.client_addr), a.state,
           coalesce(a.xact_start, a.backend_start)
    FROM pg_stat_activity a
"""
_BLOCKING = f"{_SHOWN} WHERE a.pid = ANY(pg_blocking_pids($1))"
_NOT_ADVISORY = """ AND NOT EXISTS (
    SELECT 1 FROM pg_locks w WHERE w.pid = $1 AND NOT w.granted AND w.locktype = 'advisory')
"""
_HOLDING = f"""{_SHOWN} JOIN pg_locks l ON l.pid = a.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.datname = current_database()
      AND (CAST(l.classid AS bigint) << 32) | CAST(l.objid AS bigint) = hashtextextended($1, 0)
    ORDER BY a.pid
"""


@asynccontextmanager
async def telling_who_blocks(connection: AsyncConnection) -> AsyncIterator[None]:
    """Have this around a statement that may wait for a lock: who holds it is logged, after some seconds."""
    async with _watching(connection, _watch):
        yield


@asynccontextmanager
async def telling_who_blocks_rows(connection: AsyncConnection) -> AsyncIterator[None]:
    """The same around all that is done on a connection, for locks of rows and tables.

    Anybody may hold these: an ALTER TABLE, a transaction that was forgotten. Not behind a pooler, where
    nobody can tell.
    """
    async with _watching(connection, _watch_rows):
        yield


@asynccontextmanager
async def _watching(
    connection: AsyncConnection, watch: Callable[[AsyncConnection], Coroutine[Any, Any, None]]
) -> AsyncIterator[None]:
    watching: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    timer = loop.call_later(PATIENT_SECONDS, lambda: watching.append(loop.create_task(watch(connection))))
    try:
        yield
    finally:
        timer.cancel()
        for task in watching:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _watch(connection: AsyncConnection) -> None:
    sessions = sessions_of(connection)
    if sessions is None:
        return
    pid = (await raw_connection(connection)).get_server_pid()
    while True:
        # Behind a pooler the number is that of a session which is another one's by now.
        found = [] if sessions.are_pooled else await _blocking(sessions, pid)
        if found or sessions.are_pooled:
            notices.info("%s: waiting for a lock that another session holds%s", sessions.display, told(found))
        await asyncio.sleep(AGAIN_SECONDS if found or sessions.are_pooled else PATIENT_SECONDS)


async def _watch_rows(connection: AsyncConnection) -> None:
    sessions = sessions_of(connection)
    if sessions is None or sessions.are_pooled:
        return
    pid, pause = (await raw_connection(connection)).get_server_pid(), PATIENT_SECONDS
    while True:
        if found := await _blocking(sessions, pid, _NOT_ADVISORY):
            notices.info("%s: waiting for a lock that another session holds%s", sessions.display, told(found))
        pause = AGAIN_SECONDS if found else min(2 * pause, AGAIN_SECONDS)
        await asyncio.sleep(pause)


async def _blocking(sessions: Sessions, pid: int, condition: str = "") -> list[str]:
    """In a session of its own; nobody where there is none left for us."""
    with suppress(Exception):
        session = await sessions.open()
        try:
            return [_shown(row) for row in await session.fetch(f"{_BLOCKING}{condition} ORDER BY a.pid", pid)]
        finally:
            session.terminate()
    return []


async def holders(session: asyncpg.Connection[Any], key: str) -> list[str]:
    """Who has the advisory lock of this name, each in a few words. Raises the driver's errors."""
    return [_shown(row) for row in await session.fetch(_HOLDING, key)]


def told(found: list[str]) -> str:
    """``: this one, and that one``; nothing where nobody was found."""
    return f": {', and '.join(found)}" if found else ""


def _shown(row: Any) -> str:
    """``trader's kraken-db on 10.0.0.7, server process 4711, idle in transaction since ...``."""
    pid, user, program, address, state, since = row
    where = f" on {address}" if address else ""
    return (
        f"{user or 'a user'}'s {program or 'program'}{where}, server process {pid}, {state or 'connected'}"
        f" since {since:%Y-%m-%d %H:%M:%S} UTC (SELECT pg_terminate_backend({pid}) in psql ends it)"
        if since is not None
        else f"server process {pid}"
    )

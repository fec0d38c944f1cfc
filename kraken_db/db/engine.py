"""Connections: one pool for each store, made where a service starts and closed where it ends.

Whoever finds no connection free waits for one, whether the pool has no more or the server.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlalchemy.util import await_only

from kraken_db import retry
from kraken_db.db.blockers import telling_who_blocks_rows
from kraken_db.db.disk import DiskRoom
from kraken_db.db.driver import SESSIONS
from kraken_db.db.embedded import EmbeddedServer, resolve_embedded
from kraken_db.db.programs import Address
from kraken_db.db.session_locks import SessionLocks
from kraken_db.db.sessions import Sessions
from kraken_db.db.urls import parse_url
from kraken_db.errors import TooManyConnectionsError
from kraken_db.retry import Retry
from kraken_db.settings import EMBEDDED_URL, Settings

MOST_CONNECTIONS = 16
"""In the pool of a run, however much it does at once. The embedded server has 100, for all processes."""
_NOT_USED_SECONDS = 30.0
"""How long a place in the pool stays empty that the server had no connection for."""
_SLOW_START = 2.0
"""Seconds that a server may take before somebody wonders."""

_notices = logging.getLogger("kraken_db.notices")
_T = TypeVar("_T")
_LAST_USED = "kraken_db_last_used"
_SECONDS_OF_TRUST = 5.0


def is_embedded(url: str) -> bool:
    """Whether an address means the embedded server (``embedded:`` or ``embedded:///some/dir``)."""
    return url.startswith(EMBEDDED_URL)


def make_engine(sessions: Sessions, *, pool_max_size: int = 10) -> AsyncEngine:
    """An engine whose connections asyncpg itself opens from the address, with all its parameters.

    Up to ``pool_max_size`` connections are opened when that many are needed at once, and stay open: to open
    one takes longer than most reads. With ``pool_max_size=0`` every connection is opened and closed anew.
    """

    def connect() -> Any:
        driver = await_only(sessions.open())

        async def opened() -> asyncpg.Connection[Any]:
            return driver

        options = {"prepared_statement_cache_size": 0, "prepared_statement_name_func": str}
        return engine.dialect.dbapi.connect(  # type: ignore[union-attr]  # it is loaded
            async_creator_fn=opened, **(options if sessions.are_pooled else {})
        )

    pool: dict[str, Any] = {"pool_size": pool_max_size, "max_overflow": 0, "pool_use_lifo": True}
    engine = create_async_engine(
        "postgresql+asyncpg://",
        creator=connect,
        execution_options={SESSIONS: sessions},
        **(pool if pool_max_size else {"poolclass": NullPool}),
    )
    if pool_max_size:
        event.listen(engine.sync_engine, "checkin", _note_time)
        event.listen(engine.sync_engine, "checkout", _refuse_dead)
    event.listen(engine.sync_engine, "begin", _set_in_transaction)
    return engine


def _set_in_transaction(connection: Connection) -> None:
    sessions: Sessions = connection.get_execution_options()[SESSIONS]
    if sessions.are_pooled and connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql(sessions.setting_in_transaction())


def _note_time(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info[_LAST_USED] = time.monotonic()


def _refuse_dead(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
    """Raise InvalidatePoolError for a connection that has ended: the pool opens another one.

    asyncpg knows at once when a server closes a connection. What vanished without a word is found by
    asking, which takes as long as a short read: only where there was time to vanish.
    """
    dead = connection.driver_connection.is_closed()
    if not dead and time.monotonic() - record.info.get(_LAST_USED, math.inf) > _SECONDS_OF_TRUST:
        try:
            connection.ping()
        except Exception:
            dead = True
    if dead:
        raise InvalidatePoolError("the connection has ended")


class PoolUse(NamedTuple):
    """Connections of a pool: how many are in use, and how many may be; 0 where there is no limit."""

    in_use: int
    limit: int


class Database:
    """An open store: its connections, and the embedded server under it where that is used.

    Made by ``Database.open``; every driver error that leaves its context managers is one of
    ``kraken_db.errors``. Who asks for a connection while all are in use waits for one, so nobody may hold one
    and wait for another.
    """

    def __init__(
        self,
        sessions: Sessions,
        pool_max_size: int,
        server: EmbeddedServer | None = None,
        *,
        creates: bool = True,
    ) -> None:
        self.display = sessions.display
        self.locks = SessionLocks(sessions, partial(self._waiting, sessions.open))
        self._sessions = sessions
        self.engine = make_engine(sessions, pool_max_size=pool_max_size)
        self._limit = pool_max_size
        self._places = asyncio.Semaphore(pool_max_size or sys.maxsize)
        self._in_use = 0
        self._server = server
        self._creates = creates

    @classmethod
    async def open(cls, url: str, *, pool_max_size: int = 10, creates: bool = True) -> Database:
        """Open a store without touching its tables; starts the embedded server if it is meant.

        ``creates``: whether an embedded database is made where there is none. Raises ConfigurationError for
        an unusable address, and where there is none and it is not made, and EmbeddedServerError. Whether
        somebody answers at the address shows with the first connection.
        """
        server: EmbeddedServer | None = None
        if is_embedded(url):
            directory = resolve_embedded(url) or Settings.from_environment().data_dir
            server = EmbeddedServer(directory)
            url = await asyncio.to_thread(server.attach, creates=creates)
        display, folder = ("the embedded database", server.cluster_dir) if server else (None, None)
        sessions = Sessions(parse_url(url), display, folder)
        return cls(sessions, pool_max_size, server, creates=creates)

    @property
    def is_embedded(self) -> bool:
        return self._server is not None

    @property
    def folder(self) -> Path | None:
        """Where its files are, on this machine; None for another server than the embedded one."""
        return self._sessions.folder

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler stands before the server; the first connection finds out."""
        return bool(self._sessions.are_pooled)

    @property
    def address(self) -> Address:
        """The same database for PostgreSQL's own programs."""
        return Address.of(self._sessions.dsn)

    @property
    def pool(self) -> PoolUse:
        return PoolUse(self._in_use, self._limit)

    @property
    def disk(self) -> DiskRoom | None:
        """The room where its files are, now; None for another server than the embedded one."""
        return None if self._server is None else DiskRoom.at(self._server.cluster_dir)

    async def close(self) -> None:
        await self.locks.close()
        await self.engine.dispose()
        if self._server is not None:
            self._server.detach()  # only closes a file; at the end of Python there are no threads for it

    async def wait_until_ready(self) -> None:
        """Return when the server takes a connection: one that is starting is waited for, up to a minute.

        Raises the errors of ``kraken_db.errors`` about addresses, rights and servers that are away.
        """

        async def connect() -> None:
            async with self._connection():
                pass

        await _patiently(retry.STARTING, connect)

    async def set_in_sessions(self, settings: Mapping[str, str]) -> None:
        """Have these settings in every session from now on, behind a pooler in every transaction."""
        if settings:
            self._sessions.settings |= settings
            await self.engine.dispose()

    async def open_connections(self, count: int) -> None:
        """Open so many connections of the pool now, if there are as many: nobody waits for them later."""
        with suppress(TooManyConnectionsError), self.errors():
            async with AsyncExitStack() as stack:
                for _ in range(count):
                    await stack.enter_async_context(self.engine.connect())

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        with self.errors():
            try:
                connection = await self._take()
            except TooManyConnectionsError:
                connection = await self._waiting(self._take)
            try:
                async with telling_who_blocks_rows(connection):
                    yield connection
            finally:
                self._in_use -= 1
                try:
                    await asyncio.shield(connection.close())
                finally:
                    self._places.release()

    async def _take(self) -> AsyncConnection:
        """A connection as soon as one of ours is free.

        Raises TooManyConnectionsError if the server has none for us.
        """
        while True:
            await self._places.acquire()
            try:
                with self.errors():
                    connection = await self.engine.connect()
            except BaseException as error:
                if not isinstance(error, TooManyConnectionsError) or not self._in_use:
                    self._places.release()
                    raise
                # The server has fewer than we have places. This one stays empty for a while.
                asyncio.get_running_loop().call_later(_NOT_USED_SECONDS, self._places.release)
            else:
                self._in_use += 1
                return connection

    async def _waiting(self, connect: Callable[[], Awaitable[_T]]) -> _T:
        """What ``connect`` returns, as soon as the server has a connection for it."""

        async def attempt() -> _T:
            with self.errors():
                return await connect()

        return await _patiently(retry.CROWDED, attempt)

    async def revive(self) -> None:
        """After the connection was lost: start the embedded server again, should it be gone.

        A server of the user's own is the user's to start.
        """
        if self._server is not None:
            await asyncio.to_thread(self._server.attach, creates=self._creates)

    def errors(self) -> AbstractContextManager[None]:
        """Within it, the driver's errors are raised as those of ``kraken_db.errors``."""
        return self._sessions.errors()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A unit of work: committed at the end of the block, rolled back if it raises."""
        async with self._connection() as connection, connection.begin():
            yield connection

    def read(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A connection for reading; what it did is rolled back."""
        return self._connection()

    async def reading(self, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        """What ``work`` returns on a connection for reading.

        After an error that may pass it is called again, on another connection: it must not keep anything of
        its first call.
        """

        async def attempt() -> _T:
            async with self.read() as connection:
                return await work(connection)

        return await retry.READ.run(attempt)

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        """A connection outside of transactions, for statements that refuse to run in one.

        Behind a pooler only ``run_alone`` is right there.
        """
        async with self._connection() as connection:
            yield await connection.execution_options(isolation_level="AUTOCOMMIT")


async def _patiently(policy: Retry, attempt: Callable[[], Awaitable[_T]]) -> _T:
    """What ``attempt`` returns in the end; somebody who waits for long is told why."""
    began, has_warned = time.monotonic(), False

    async def one() -> _T:
        nonlocal has_warned
        try:
            return await attempt()
        except policy.only as error:
            if not has_warned and time.monotonic() - began >= _SLOW_START:
                has_warned = True
                _notices.info("%s; waiting for it", getattr(error, "message", error))
            raise

    return await policy.run(one)

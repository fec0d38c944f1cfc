"""Connections: one engine for each store, made where a service starts and closed where it ends.

A server that is gone without a word (power cut, network, firewall) is noticed, instead of waited for.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

from kraken_db import retry
from kraken_db.db.disk import DiskRoom
from kraken_db.db.driver import ADDRESS
from kraken_db.db.embedded import EmbeddedServer, resolve_embedded
from kraken_db.db.errors import translated_errors
from kraken_db.db.urls import DatabaseURL, parse_url
from kraken_db.errors import ServerStartingError
from kraken_db.settings import EMBEDDED_URL, Settings

# jit costs more than it gains on the short queries of this package. A batch may take long, and may wait for
# another one: a limit that a role or a database sets for its own programs is not meant for it.
_SETTINGS = {
    "application_name": "kraken-db",
    "timezone": "UTC",
    "jit": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_SINCE_17 = {"transaction_timeout": "0"}
_SLOW_START = 2.0
"""Seconds that a starting server may take before somebody wonders."""

_notices = logging.getLogger("kraken_db.notices")
_T = TypeVar("_T")
_LAST_USED = "kraken_db_last_used"
_SECONDS_OF_TRUST = 5.0


def is_embedded(url: str) -> bool:
    """Whether an address means the embedded server (``embedded:`` or ``embedded:///some/dir``)."""
    return url.startswith(EMBEDDED_URL)


async def _connect(url: DatabaseURL) -> asyncpg.Connection[Any]:
    connection = await asyncpg.connect(url.dsn, timeout=url.connect_timeout)
    try:
        keep_alive(connection)
        await _set_up(connection)
        # Decimal's own parser is faster than asyncpg's binary decoder, and as exact.
        await connection.set_type_codec(
            "numeric", schema="pg_catalog", encoder=str, decoder=Decimal, format="text"
        )
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _set_up(connection: asyncpg.Connection[Any]) -> None:
    """Set what our sessions need, in one statement: at their start, poolers refuse most settings."""
    settings = _SETTINGS | (_SINCE_17 if connection.get_server_version() >= (17,) else {})
    await connection.execute(
        "SELECT " + ", ".join(f"set_config('{name}', '{value}', false)" for name, value in settings.items())
    )


def make_engine(url: DatabaseURL, *, pool_max_size: int = 10, display: str | None = None) -> AsyncEngine:
    """An engine whose connections asyncpg itself opens from the address, with all its parameters.

    Up to ``pool_max_size`` connections are opened when that many are needed at once, and stay open: to open
    one takes longer than most reads. With ``pool_max_size=0`` every connection is opened and closed anew.
    Errors name the database ``display``, by default by its address.
    """
    options = {ADDRESS: display or url.display}

    async def connect() -> asyncpg.Connection[Any]:
        return await _connect(url)

    if pool_max_size == 0:
        return create_async_engine(
            "postgresql+asyncpg://", async_creator=connect, poolclass=NullPool, execution_options=options
        )
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_max_size,
        max_overflow=0,
        pool_use_lifo=True,
        execution_options=options,
    )
    event.listen(engine.sync_engine, "checkin", _note_time)
    event.listen(engine.sync_engine, "checkout", _refuse_dead)
    return engine


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


class Database:
    """An open store: an engine, and the embedded server under it where that is used.

    Made by ``Database.open``; every driver error that leaves its context managers is one of
    ``kraken_db.errors``.
    """

    def __init__(self, engine: AsyncEngine, display: str, server: EmbeddedServer | None = None) -> None:
        self.engine = engine
        self.display = display
        self._server = server

    @classmethod
    async def open(cls, url: str, *, pool_max_size: int = 10) -> Database:
        """Open a store without touching its tables; starts the embedded server if it is meant.

        Raises ConfigurationError for an unusable address and EmbeddedServerError. Whether somebody
        answers at the address shows with the first connection.
        """
        server: EmbeddedServer | None = None
        if is_embedded(url):
            directory = resolve_embedded(url) or Settings.from_environment().data_dir
            server = EmbeddedServer(directory)
            url = await asyncio.to_thread(server.attach)
        address = parse_url(url)
        display = "the embedded database" if server else address.display
        return cls(make_engine(address, pool_max_size=pool_max_size, display=display), display, server)

    @property
    def is_embedded(self) -> bool:
        return self._server is not None

    @property
    def disk(self) -> DiskRoom | None:
        """The room where its files are, now; None for another server than the embedded one."""
        return None if self._server is None else DiskRoom.at(self._server.cluster_dir)

    async def close(self) -> None:
        await self.engine.dispose()
        if self._server is not None:
            await asyncio.to_thread(self._server.detach)

    async def wait_until_ready(self) -> None:
        """Return when the server takes a connection: one that is starting is waited for, up to a minute.

        Raises the errors of ``kraken_db.errors`` about addresses, rights and servers that are away.
        """
        began, has_warned = time.monotonic(), False

        async def connect() -> None:
            nonlocal has_warned
            try:
                await self.open_connections(1)
            except ServerStartingError as error:
                if not has_warned and time.monotonic() - began >= _SLOW_START:
                    has_warned = True
                    _notices.info("%s; waiting for it", error.message)
                raise

        await retry.STARTING.run(connect)

    async def set_in_sessions(self, settings: Mapping[str, str]) -> None:
        """Have these settings in every session from now on."""
        if not settings:
            return

        def apply(connection: Any, _record: object) -> None:
            cursor = connection.cursor()
            for name, value in settings.items():
                cursor.execute("SELECT set_config($1, $2, false)", (name, value))
            cursor.close()
            connection.commit()

        event.listen(self.engine.sync_engine, "connect", apply)
        await self.engine.dispose()

    async def open_connections(self, count: int) -> None:
        """Open so many connections of the pool now, so that nobody waits for them later."""
        with self.errors():
            async with AsyncExitStack() as stack:
                for _ in range(count):
                    await stack.enter_async_context(self.engine.connect())

    async def revive(self) -> None:
        """After the connection was lost: start the embedded server again, should it be gone.

        A server of the user's own is the user's to start.
        """
        if self._server is not None:
            await asyncio.to_thread(self._server.attach)

    def errors(self) -> AbstractContextManager[None]:
        """Within it, the driver's errors are raised as those of ``kraken_db.errors``."""
        return translated_errors(self.display)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A unit of work: committed at the end of the block, rolled back if it raises."""
        with self.errors():
            async with self.engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading; what it did is rolled back."""
        with self.errors():
            async with self.engine.connect() as connection:
                yield connection

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
        """A connection outside of transactions, for statements that refuse to run in one."""
        with self.errors():
            async with self.engine.connect() as connection:
                yield await connection.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def dedicated(self) -> AsyncIterator[AsyncConnection]:
        """A connection outside of transactions that takes no place in the pool, for as long as it is held.

        Closed for good at the end, and its session's locks with it.
        """
        with self.errors():
            async with self.engine.connect() as connection:
                await connection.execution_options(isolation_level="AUTOCOMMIT")
                await connection.run_sync(lambda held: held.detach())
                yield connection


# Seconds. A quiet connection is asked after the first, then at every second of them: gone after two minutes.
_IDLE, _INTERVAL, _PROBES = 60, 10, 6
# Sent data that nobody confirms: Linux gives up after a quarter of an hour by itself. Not sooner than this: a
# server whose disk stalls takes no data for a while either.
_UNCONFIRMED_MILLISECONDS = 300_000
_OPTIONS = {
    "TCP_KEEPIDLE": _IDLE,
    "TCP_KEEPALIVE": _IDLE,  # what macOS calls it
    "TCP_KEEPINTVL": _INTERVAL,
    "TCP_KEEPCNT": _PROBES,
    "TCP_USER_TIMEOUT": _UNCONFIRMED_MILLISECONDS,
}


def keep_alive(connection: asyncpg.Connection[Any]) -> None:
    """Set what this system has of it; a Unix socket has no use for it."""
    # asyncpg has no other way to its socket.
    used = connection._transport.get_extra_info("socket")
    if used is None or used.family not in (socket.AF_INET, socket.AF_INET6):
        return
    used.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        option = getattr(socket, name, None)
        if option is not None:
            used.setsockopt(socket.IPPROTO_TCP, option, value)

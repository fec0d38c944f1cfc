"""Sessions at one address: each has what ours need, also where a pooler stands in between.

Behind a pooler nothing outlasts a transaction. PgBouncer in transaction mode gives the next one to another
session of the server, and the settings of ours to another program. So a session there is asked for nothing
beyond the end of a transaction: it has its settings set by each, and no prepared statement with a name. In
session mode that is as right, and its other mode cannot be told from outside.
"""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg

from kraken_db.db.errors import URL_HINT, translated_errors
from kraken_db.db.urls import DatabaseURL
from kraken_db.errors import ConfigurationError, first_line

OLDEST_SERVER = (14, 0)
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
# The same at the other end: the locks of a machine without power are free after two minutes, not two hours.
_OF_THE_SERVERS_END = {
    "tcp_keepalives_idle": str(_IDLE),
    "tcp_keepalives_interval": str(_INTERVAL),
    "tcp_keepalives_count": str(_PROBES),
    "tcp_user_timeout": str(_UNCONFIRMED_MILLISECONDS),
}


class Sessions:
    """Opens sessions. ``settings``: what each has, or, behind a pooler, each transaction.

    ``are_pooled``: whether a pooler stands in between; the first session finds out, unless the address says
    so. ``display``: the address, for messages; ``folder``: where the files of a database of this machine are.
    """

    def __init__(self, url: DatabaseURL, display: str | None = None, folder: Path | None = None) -> None:
        self._url = url
        self.dsn = url.dsn
        self.display = display or url.display
        self.folder = folder
        self.settings = dict(_SETTINGS)
        self.are_pooled = url.is_pooled

    def errors(self) -> AbstractContextManager[None]:
        """Within it, the driver's errors are raised as those of ``kraken_db.errors``."""
        return translated_errors(self.display, self.folder)

    async def open(self) -> asyncpg.Connection[Any]:
        """A session with no place in any pool of ours. Raises the driver's errors and ConfigurationError."""
        connection = await self._connect()
        try:
            if self.are_pooled is None:
                self.are_pooled = await _is_lent(connection)
                if self.are_pooled:  # not one statement is to be prepared under a name
                    connection.terminate()
                    connection = await self._connect()
            if not self.are_pooled:
                await connection.execute(_setting(self.settings | _OF_THE_SERVERS_END, is_local=False))
            # Decimal's own parser is faster than asyncpg's binary decoder, and as exact.
            await connection.set_type_codec(
                "numeric", schema="pg_catalog", encoder=str, decoder=Decimal, format="text"
            )
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _connect(self) -> asyncpg.Connection[Any]:
        options = {"statement_cache_size": 0} if self.are_pooled else {}
        try:
            connection = await asyncpg.connect(self._url.dsn, timeout=self._url.connect_timeout, **options)
        except UnicodeError:
            raise ConfigurationError(
                f"{self.display}: its host is no name of a machine", hint=URL_HINT
            ) from None
        except (asyncpg.DataError, asyncpg.PostgresSyntaxError) as error:  # nothing else was asked for
            raise ConfigurationError(f"{self.display}: {first_line(error)}", hint=URL_HINT) from error
        try:
            keep_alive(connection)
            version = connection.get_server_version()
            if version < OLDEST_SERVER:
                raise ConfigurationError(
                    f"{self.display}: PostgreSQL {version.major}.{version.minor} is too old",
                    hint=f"kraken-db needs PostgreSQL {OLDEST_SERVER[0]} or newer",
                )
            if version >= (17,):
                self.settings |= _SINCE_17
        except BaseException:
            connection.terminate()
            raise
        return connection

    def setting_in_transaction(self) -> str:
        """The statement that makes the settings until the end of the transaction."""
        return _setting(self.settings, is_local=True)


async def _is_lent(connection: asyncpg.Connection[Any]) -> bool:
    """Whether the session of the server is another than the one that answered first, which was a pooler's."""
    # The server reports this setting by itself. A query with a result would be prepared.
    await connection.execute(
        "BEGIN; SELECT set_config('application_name', 'kraken-db ' || pg_backend_pid(), true)"
    )
    reported = getattr(connection.get_settings(), "application_name", None)
    await connection.execute("ROLLBACK")
    return reported != f"kraken-db {connection.get_server_pid()}"


def _setting(settings: dict[str, str], *, is_local: bool) -> str:
    # In one statement, after the start of the session: at its start, poolers refuse most settings.
    made = (f"set_config('{name}', '{value}', {is_local})" for name, value in settings.items())
    return f"SELECT {', '.join(made)}"


def keep_alive(connection: asyncpg.Connection[Any]) -> None:
    """Notice the end of the server's machine, with what this system has; a Unix socket has no use for it."""
    # asyncpg has no other way to its socket.
    used = connection._transport.get_extra_info("socket")
    if used is None or used.family not in (socket.AF_INET, socket.AF_INET6):
        return
    used.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS.items():
        option = getattr(socket, name, None)
        if option is not None:
            used.setsockopt(socket.IPPROTO_TCP, option, value)

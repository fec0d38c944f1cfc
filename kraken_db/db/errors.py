"""What the driver raises, told in this package's words."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError

from kraken_db.errors import (
    AuthenticationError,
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailableError,
    KrakenDBError,
    PermissionDeniedError,
    SchemaError,
    StorageFullError,
    TransactionConflictError,
)

_UNREACHABLE = (
    OSError,
    ConnectionError,
    TimeoutError,
    asyncio.TimeoutError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.PostgresConnectionError,
)
_LOST = (asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.ConnectionDoesNotExistError)
_DRIVER_ERRORS = (
    DBAPIError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
UPGRADE_HINT = "run: kraken-db db upgrade"
FOREIGN_HINT = "give kraken-db a database of its own: in psql, CREATE DATABASE kraken"


@contextmanager
def translated_errors(where: str) -> Iterator[None]:
    """Raise this package's errors instead of the driver's; ``where`` is an address without password.

    What is not known here goes through unchanged: a bug should look like one.
    """
    try:
        yield
    except KrakenDBError:
        raise
    except _DRIVER_ERRORS as error:
        translated = translate(driver_error(error), where)
        if translated is None:
            raise
        raise translated from error


def driver_error(error: BaseException) -> BaseException:
    """The exception of asyncpg under those that SQLAlchemy wraps around it."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


def translate(error: BaseException, where: str) -> KrakenDBError | None:
    """The error of this package for one of the driver's, or None if there is none."""
    match error:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return AuthenticationError(
                f"{where}: user or password not accepted",
                hint="check the user and password in the database URL",
            )
        case asyncpg.InvalidCatalogNameError():
            return AuthenticationError(
                f"{where}: {first_line(error)}", hint="create the database or correct its name in the URL"
            )
        case asyncpg.InsufficientPrivilegeError():
            return PermissionDeniedError(
                f"{where}: {first_line(error)}", hint="grant the right, or use the role that owns the schema"
            )
        case asyncpg.UndefinedTableError() | asyncpg.UndefinedColumnError():
            # The revision has been looked at by then: it says that they are all there.
            return SchemaError(
                f"{where}: the tables there are not kraken-db's, or were changed: {first_line(error)}",
                hint=FOREIGN_HINT,
            )
        case asyncpg.DuplicateTableError() | asyncpg.DuplicateObjectError():
            return SchemaError(
                f"{where}: something else there has a name that kraken-db needs: {first_line(error)}",
                hint=FOREIGN_HINT,
            )
        case asyncpg.DiskFullError():
            return StorageFullError(
                f"{where}: the disk of the database is full", hint="free some space and run the command again"
            )
        case asyncpg.exceptions.ClientConfigurationError():
            return ConfigurationError(
                f"{where}: {first_line(error)}", hint="correct the parameters of the database URL"
            )
        case ssl.SSLError():
            return DatabaseUnavailableError(f"{where}: TLS failed: {error}", hint="check sslmode in the URL")
        case asyncpg.QueryCanceledError() | asyncpg.LockNotAvailableError():
            return DatabaseError(
                f"{where}: {first_line(error)}", hint="another session holds a lock; try again"
            )
    if _is_conflict(error):
        return TransactionConflictError(
            f"{where}: another session was in the way: {first_line(error)}", hint="run the command again"
        )
    if isinstance(error, _LOST) or _is_broken_connection(error):
        return DatabaseUnavailableError(
            f"{where}: the connection was lost: {first_line(error)}",
            hint="see that the server runs, and run the command again",
        )
    if isinstance(error, (*_UNREACHABLE, InterfaceError)):
        return DatabaseUnavailableError(
            f"{where}: no PostgreSQL answers there: {first_line(error)}",
            hint="check host, port and that the server runs",
        )
    return None


def _is_conflict(error: BaseException) -> bool:
    """What PostgreSQL rolls back so that another session can go on; the last is about its own catalogs."""
    if isinstance(error, asyncpg.DeadlockDetectedError | asyncpg.SerializationError):
        return True
    return isinstance(error, asyncpg.InternalServerError) and "tuple concurrently" in str(error)


def _is_broken_connection(error: BaseException) -> bool:
    """What asyncpg says of a connection that ended while nothing was asked of it."""
    if isinstance(error, asyncpg.InternalClientError):
        return "cannot switch to state" in str(error)
    return isinstance(error, asyncpg.InterfaceError) and "connection is closed" in str(error)


def first_line(error: BaseException) -> str:
    """What an error says, without its details; its kind if it says nothing."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]

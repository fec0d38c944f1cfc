"""What the driver raises, as this package's errors: no other one leaves ``kraken_db.db``."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import asyncpg
from sqlalchemy import exc

from kraken_db.errors import (
    AuthenticationError,
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailableError,
    DataRefusedError,
    DuplicateRowError,
    KrakenDBError,
    NodeUnavailableError,
    PermissionDeniedError,
    ReadOnlyDatabaseError,
    RefreshInProgressError,
    SchemaError,
    ServerMemoryError,
    ServerStartingError,
    StatementCancelledError,
    StorageFullError,
    TooManyConnectionsError,
    TransactionConflictError,
    ValueDoesNotFitError,
    first_line,
)

UPGRADE_HINT = "run: kraken-db db upgrade"
FOREIGN_HINT = "give kraken-db a database of its own: in psql, CREATE DATABASE kraken"
URL_HINT = "correct the parameters of the database URL"
_AGAIN_HINT = "run the command again"

_DRIVER_ERRORS = (
    exc.SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_ON_NODE = re.compile(r"^while executing command on (\S+)", re.MULTILINE)
_Kinds: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]


def foreign_hint(folder: Path | None) -> str:
    """What to do where the tables are not ours; ``folder``: of an embedded database."""
    if folder is None:
        return FOREIGN_HINT
    return "give kraken-db a directory of its own: KRAKEN_DB_DATA_DIR names it"


@contextmanager
def translated_errors(where: str, folder: Path | None = None) -> Iterator[None]:
    """Raise this package's errors instead of the driver's; ``where`` is an address without password.

    ``folder``: where the database keeps its files, if that is on this machine.

    The driver's own is the cause of each. What the system says against a file goes through unchanged.
    """
    try:
        yield
    except _DRIVER_ERRORS as error:
        if isinstance(error, KrakenDBError) or (isinstance(error, OSError) and error.filename is not None):
            raise
        raise translate(error, where, folder) from error


def translate(error: BaseException, where: str, folder: Path | None = None) -> KrakenDBError:
    """The error of this package for one of the driver's; what is not known is a DatabaseError."""
    error = _driver_error(error)
    line = first_line(error)
    kind = _kind_of(error, line)
    node = "a node of the cluster" if kind is not type(error) else _node_of(error)
    for rule in _RULES if node is None else _RULES_OF_A_NODE:
        if issubclass(kind, rule.kinds) and rule.text in line.lower():
            message = rule.message.format(line=line, at="" if folder is None else f" ({folder})")
            if node is not None and not issubclass(rule.error, DataRefusedError):
                message += f" (on {node})"
            hint = foreign_hint(folder) if rule.hint == FOREIGN_HINT else rule.hint
            return rule.error(f"{where}: {message}", hint=hint)
    state = getattr(error, "sqlstate", None)
    return DatabaseError(f"{where}: {line}" + (f" (SQLSTATE {state})" if state else ""))


def _node_of(error: BaseException) -> str | None:
    """Which node it is whose answer a coordinator of Citus tells; None where it speaks for itself."""
    found = _ON_NODE.search(getattr(error, "context", None) or "")
    return found and f"node {found[1]}"


def _kind_of(error: BaseException, line: str) -> type[BaseException]:
    """The driver's class for it. In a COPY, a coordinator passes on what a node says, but not its code."""
    if type(error) is asyncpg.InternalServerError:
        return next((kind for text, kind in _SAID_IN_COPY if text in line.lower()), type(error))
    return type(error)


def _driver_error(error: BaseException) -> BaseException:
    """The exception of asyncpg under those that SQLAlchemy wraps around it."""
    if isinstance(error, exc.DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error


@dataclass(frozen=True, slots=True)
class _Rule:
    """An error of one of these ``kinds`` whose first line has ``text`` in it, in small letters.

    ``{line}`` in ``message`` is that line, ``{at}`` the folder of the database, where it is known.
    """

    kinds: _Kinds
    error: type[KrakenDBError]
    message: str
    hint: str | None = None
    text: str = ""


# The first that fits counts. PostgreSQL has one code for several causes: the text tells them apart. A server
# that speaks another language than English is told by the last rule of its code.
_OF_THE_CONNECTION = (
    _Rule(
        asyncpg.CannotConnectNowError,
        DatabaseUnavailableError,
        "{line}",
        "see that the server is started again, and run the command again",
        "shutting down",
    ),
    _Rule(
        asyncpg.CannotConnectNowError,
        ServerStartingError,
        "{line}",
        "the server takes connections soon: run the command again then",
    ),
    *(
        _Rule(
            kinds,
            TooManyConnectionsError,
            "too many connections: {line}",
            "raise max_connections of the server (or the limit of the role, database or pooler), or run"
            " fewer jobs at once",
            text,
        )
        for kinds, text in (
            (asyncpg.TooManyConnectionsError, ""),
            # What poolers say: PgBouncer, Supavisor.
            (asyncpg.PostgresError, "max_client_conn"),
            (asyncpg.PostgresError, "max client"),
            (asyncpg.PostgresError, "query_wait_timeout"),
            (exc.TimeoutError, "queuepool limit"),
        )
    ),
    _Rule(
        asyncpg.InvalidPasswordError,
        AuthenticationError,
        "user or password not accepted",
        "check the user and password in the database URL",
    ),
    _Rule(
        asyncpg.InvalidAuthorizationSpecificationError,
        AuthenticationError,
        "the user is not accepted: {line}",
        "check the user and sslmode in the database URL, and pg_hba.conf of the server",
    ),
    _Rule(
        asyncpg.InvalidCatalogNameError,
        AuthenticationError,
        "{line}",
        "create the database or correct its name in the URL",
    ),
    _Rule(asyncpg.exceptions.ClientConfigurationError, ConfigurationError, "{line}", URL_HINT),
    _Rule(
        asyncpg.exceptions.TargetServerAttributeNotMatched,
        DatabaseUnavailableError,
        "no server there is what target_session_attrs in the URL asks for",
        "name other hosts, or take target_session_attrs out of the URL",
    ),
    _Rule(
        asyncpg.PostgresError,
        ConfigurationError,
        "the pooler there is in statement mode, which knows no transactions",
        "connect to the server itself, or to a pool in session or transaction mode (pool_mode)",
        "statement pooling",
    ),
    *(
        _Rule(asyncpg.PostgresError, ConfigurationError, "{line}", URL_HINT, text)
        for text in ("unrecognized configuration parameter", "startup parameter", "invalid value for param")
    ),
    _Rule(
        ssl.SSLError,
        DatabaseUnavailableError,
        "TLS failed: {line}",
        "check sslmode and sslrootcert in the URL",
    ),
    _Rule(
        ConnectionError,
        ConfigurationError,
        "the server does not speak TLS",
        "use sslmode=prefer in the URL, or switch TLS on at the server",
        "rejected ssl upgrade",
    ),
)
_OF_OTHER_SESSIONS = (
    _Rule(
        asyncpg.LockNotAvailableError,
        RefreshInProgressError,
        "another session refreshes the same interval: {line}",
        "run the command again when it is done",
        "concurrent refresh",
    ),
    _Rule(
        asyncpg.LockNotAvailableError,
        TransactionConflictError,
        "another session holds a lock: {line}",
        _AGAIN_HINT,
    ),
    *(
        _Rule(kinds, TransactionConflictError, "another session was in the way: {line}", _AGAIN_HINT, text)
        for kinds, text in (
            ((asyncpg.DeadlockDetectedError, asyncpg.SerializationError), ""),
            # About PostgreSQL's own catalogs: a table or an extension was changed meanwhile.
            (asyncpg.InternalServerError, "tuple concurrently"),
            (asyncpg.InternalServerError, "could not open relation with oid"),
            (asyncpg.InternalServerError, "cache lookup failed"),
            ((asyncpg.InvalidCachedStatementError, asyncpg.exceptions.OutdatedSchemaCacheError), ""),
        )
    ),
    _Rule(
        asyncpg.QueryCanceledError,
        StatementCancelledError,
        "a statement took longer than the server allows: {line}",
        "raise statement_timeout of the role, the database or the pooler",
        "statement timeout",
    ),
    _Rule(
        asyncpg.QueryCanceledError,
        StatementCancelledError,
        "somebody cancelled a statement: {line}",
        _AGAIN_HINT,
    ),
)
_OF_THE_SERVER = (
    _Rule(
        asyncpg.DiskFullError,
        StorageFullError,
        "the disk of the database is full{at}",
        "free some space and run the command again",
    ),
    _Rule(
        asyncpg.OutOfMemoryError,
        ServerMemoryError,
        "the server has no room for more locks: {line}",
        "set max_locks_per_transaction = 1024 in postgresql.conf and restart the server",
        "shared memory",
    ),
    _Rule(
        asyncpg.OutOfMemoryError,
        ServerMemoryError,
        "the server has too little memory: {line}",
        "lower work_mem or max_connections of the server, or give it more memory",
    ),
    _Rule(
        asyncpg.ReadOnlySQLTransactionError,
        ReadOnlyDatabaseError,
        "the database takes no writes: {line}",
        "connect to the primary server; if this is the primary, switch default_transaction_read_only off",
    ),
    _Rule(
        asyncpg.InsufficientPrivilegeError,
        PermissionDeniedError,
        "{line}",
        "grant the right (to read: kraken-db db grant-read ROLE), or use the role that owns the schema",
    ),
)
_OF_TABLES = (
    _Rule(
        # The revision has been looked at by then: it says that they are all there.
        (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError),
        SchemaError,
        "the tables there{at} are not kraken-db's, or were changed: {line}",
        FOREIGN_HINT,
    ),
    _Rule(
        (asyncpg.DuplicateTableError, asyncpg.DuplicateObjectError),
        SchemaError,
        "something else there{at} has a name that kraken-db needs: {line}",
        FOREIGN_HINT,
    ),
    _Rule(
        asyncpg.InvalidSchemaNameError,
        SchemaError,
        "search_path names no schema that exists: {line}",
        "set it for the role: in psql, ALTER ROLE ... SET search_path = public",
    ),
)
_OF_DATA = (
    _Rule(
        asyncpg.NumericValueOutOfRangeError,
        ValueDoesNotFitError,
        "a number does not fit its column: {line}",
    ),
    _Rule(asyncpg.UniqueViolationError, DuplicateRowError, "a row is stored already: {line}"),
    _Rule(
        (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, asyncpg.RaiseError),
        DataRefusedError,
        "the database refused a row: {line}",
    ),
)
_LOST = (
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.IdleSessionTimeoutError,
    ConnectionResetError,
    BrokenPipeError,
)
_OF_NO_ANSWER = (
    *(
        _Rule(
            kinds,
            DatabaseUnavailableError,
            message,
            "see that the server runs, and run the command again",
            text,
        )
        for kinds, message, text in (
            (_LOST, "the connection was lost: {line}", ""),
            # asyncpg, of a connection that ended while nothing was asked of it: its words help nobody.
            (asyncpg.InternalClientError, "the connection was lost", "cannot switch to state"),
            (asyncpg.InterfaceError, "the connection was lost", "connection is closed"),
        )
    ),
    _Rule(
        # No server says so of itself.
        asyncpg.ProtocolViolationError,
        DatabaseUnavailableError,
        "the pooler there refuses the connection: {line}",
        "check the database and user in the URL, and the pooler's settings and log",
    ),
    _Rule(
        (OSError, TimeoutError, asyncpg.PostgresConnectionError, exc.InterfaceError),
        DatabaseUnavailableError,
        "no PostgreSQL answers there: {line}",
        "check host, port and that the server runs",
    ),
)
# A coordinator of Citus tells what its workers answer with their codes, and what libpq says of a connection
# that is gone with that of an internal error.
_LOST_NODE = "a node of the cluster was lost: {line}"
_OF_NODES = tuple(
    _Rule(kinds, NodeUnavailableError, message, "see that it runs, and run the command again", text)
    for kinds, message, texts in (
        (
            asyncpg.PostgresConnectionError,
            "a node of the cluster does not answer: {line}",
            ("remote node", "for node", "to the node"),
        ),
        (asyncpg.PostgresIOError, _LOST_NODE, ("failed to copy to shard", "failed to complete copy on")),
        (
            asyncpg.InternalServerError,
            _LOST_NODE,
            (
                "connection marked as essential",
                "failed to prepare transaction",
                "to fetch intermediate results",
                # libpq:
                "server closed the connection",
                "connection not open",
                "no connection to the server",
                "could not receive data from server",
                "could not send data to server",
                "ssl connection has been closed",
                "ssl syscall error",
                "lost synchronization with server",
            ),
        ),
    )
    for text in texts
)
_RULES = (
    *_OF_NODES,
    *_OF_THE_CONNECTION,
    *_OF_OTHER_SESSIONS,
    *_OF_THE_SERVER,
    *_OF_TABLES,
    *_OF_DATA,
    *_OF_NO_ANSWER,
)
_RULES_OF_A_NODE = (
    _Rule(
        (asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.CannotConnectNowError),
        NodeUnavailableError,
        _LOST_NODE,
        "see that it runs, and run the command again",
    ),
    _Rule(
        asyncpg.ReadOnlySQLTransactionError,
        ReadOnlyDatabaseError,
        "the database takes no writes: {line}",
        "switch default_transaction_read_only off there; if it is a standby, name its primary to the"
        " coordinator: SELECT citus_update_node(...)",
    ),
    *_RULES,
)
_SAID_IN_COPY: tuple[tuple[str, type[asyncpg.PostgresError]], ...] = (
    ("no space left on device", asyncpg.DiskFullError),
    ("wrote only", asyncpg.DiskFullError),
    ("out of memory", asyncpg.OutOfMemoryError),
    ("out of shared memory", asyncpg.OutOfMemoryError),
    ("read-only transaction", asyncpg.ReadOnlySQLTransactionError),
    ("permission denied", asyncpg.InsufficientPrivilegeError),
    ("due to lock timeout", asyncpg.LockNotAvailableError),
    ("canceling statement due to", asyncpg.QueryCanceledError),
    ("deadlock", asyncpg.DeadlockDetectedError),
    ("could not serialize access", asyncpg.SerializationError),
    ("terminating connection", asyncpg.AdminShutdownError),
    ("violates unique constraint", asyncpg.UniqueViolationError),
    ("violates check constraint", asyncpg.CheckViolationError),
    ("violates not-null constraint", asyncpg.NotNullViolationError),
    ("numeric field overflow", asyncpg.NumericValueOutOfRangeError),
)
"""In the first line of what a node says, in small letters, and the driver's class for it elsewhere."""

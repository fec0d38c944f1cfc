"""What each error of the driver becomes: its cause, what to do next, and whether it may pass by itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

import kraken_db
from kraken_db.db.errors import translate, translated_errors
from kraken_db.errors import (
    AuthenticationError,
    ConfigurationError,
    CopyRowError,
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
)
from kraken_db.retry import may_pass

CAUSES = [
    # error of the driver, ours, in its message, in its hint, whether it may pass
    # What a coordinator of Citus says when a worker was killed: before, in and after a statement.
    (
        asyncpg.ConnectionFailureError("connection to the remote node postgres@10.0.0.2:5432 failed"),
        NodeUnavailableError,
        "a node of the cluster does not answer",
        "see that it runs",
        True,
    ),
    (
        asyncpg.ConnectionFailureError("connection establishment for node 10.0.0.2:5432 failed"),
        NodeUnavailableError,
        "a node of the cluster does not answer",
        "see that it runs",
        True,
    ),
    *(
        (error, NodeUnavailableError, "a node of the cluster was lost", "see that it runs", True)
        for error in (
            asyncpg.InternalServerError("failure on connection marked as essential: 10.0.0.2:5432"),
            asyncpg.InternalServerError("server closed the connection unexpectedly"),
            asyncpg.InternalServerError("could not receive data from server: Connection reset by peer"),
            asyncpg.InternalServerError("SSL connection has been closed unexpectedly"),
            asyncpg.InternalServerError("connection not open"),
            asyncpg.PostgresIOError("failed to COPY to shard 102009 on 10.0.0.2:5432"),
            asyncpg.PostgresIOError("failed to complete COPY on 10.0.0.2:5432"),
        )
    ),
    # A COPY through a coordinator loses the code of what a node has answered.
    (
        asyncpg.InternalServerError('duplicate key value violates unique constraint "pk_candles_102015"'),
        DuplicateRowError,
        "a row is stored already",
        "",
        False,
    ),
    *(
        (
            asyncpg.InternalServerError(f'new row for relation "trades_102008" violates {which} constraint'),
            DataRefusedError,
            "the database refused a row",
            "",
            False,
        )
        for which in ("check", "not-null")
    ),
    *(
        (asyncpg.InternalServerError(words), kind, "(on a node of the cluster)", hint, passes)
        for words, kind, hint, passes in (
            ('could not extend file "base/5/7": No space left on device', StorageFullError, "free", False),
            (
                'could not extend file "base/5/7": wrote only 4096 of 8192 bytes at block 9',
                StorageFullError,
                "free",
                False,
            ),
            ("out of shared memory", ServerMemoryError, "max_locks_per_transaction", False),
            (
                "cannot execute COPY FROM in a read-only transaction",
                ReadOnlyDatabaseError,
                "off there",
                False,
            ),
            ("permission denied for table trades_102008", PermissionDeniedError, "grant", False),
            ("canceling statement due to statement timeout", StatementCancelledError, "raise", False),
            ("canceling statement due to user request", StatementCancelledError, "again", False),
            ("canceling statement due to lock timeout", TransactionConflictError, "again", True),
            ("deadlock detected", TransactionConflictError, "again", True),
            (
                "terminating connection due to administrator command",
                NodeUnavailableError,
                "see that it runs",
                True,
            ),
        )
    ),
    # What a disk says, and what is wrong inside the server, does not pass by itself.
    (
        asyncpg.PostgresIOError("could not write block 7 in file: Input/output error"),
        DatabaseError,
        "58030",
        "",
        False,
    ),
    (asyncpg.InternalServerError("unexpected chunk number 0"), DatabaseError, "XX000", "", False),
    (
        asyncpg.QueryCanceledError("canceling statement due to statement timeout"),
        StatementCancelledError,
        "took longer than the server allows",
        "statement_timeout",
        False,
    ),
    (
        asyncpg.QueryCanceledError("canceling statement due to user request"),
        StatementCancelledError,
        "somebody cancelled a statement",
        "run the command again",
        False,
    ),
    (
        asyncpg.LockNotAvailableError("canceling statement due to lock timeout"),
        TransactionConflictError,
        "another session holds a lock",
        "run the command again",
        True,
    ),
    (
        asyncpg.LockNotAvailableError(
            'could not refresh continuous aggregate "candles_1h" due to a concurrent refresh'
        ),
        RefreshInProgressError,
        "another session refreshes the same interval",
        "when it is done",
        True,
    ),
    (
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        TooManyConnectionsError,
        "too many connections",
        "max_connections",
        True,
    ),
    (
        asyncpg.TooManyConnectionsError("remaining connection slots are reserved for superusers"),
        TooManyConnectionsError,
        "too many connections",
        "fewer jobs",
        True,
    ),
    (
        asyncpg.ProtocolViolationError("no more connections allowed (max_client_conn)"),
        TooManyConnectionsError,
        "too many connections",
        "pooler",
        True,
    ),
    (
        PoolTimeoutError("QueuePool limit of size 2 overflow 0 reached, connection timed out"),
        TooManyConnectionsError,
        "too many connections",
        "fewer jobs",
        True,
    ),
    (
        asyncpg.CannotConnectNowError("the database system is starting up"),
        ServerStartingError,
        "the database system is starting up",
        "takes connections soon",
        True,
    ),
    (
        asyncpg.CannotConnectNowError("the database system is in recovery mode"),
        ServerStartingError,
        "in recovery mode",
        "takes connections soon",
        True,
    ),
    (
        asyncpg.CannotConnectNowError("the database system is shutting down"),
        DatabaseUnavailableError,
        "shutting down",
        "started again",
        True,
    ),
    (
        asyncpg.OutOfMemoryError("out of shared memory"),
        ServerMemoryError,
        "no room for more locks",
        "max_locks_per_transaction",
        False,
    ),
    (asyncpg.OutOfMemoryError("out of memory"), ServerMemoryError, "too little memory", "work_mem", False),
    (asyncpg.DiskFullError("could not extend file"), StorageFullError, "disk", "free some space", False),
    (
        asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
        ReadOnlyDatabaseError,
        "takes no writes",
        "default_transaction_read_only",
        False,
    ),
    (
        asyncpg.InvalidSchemaNameError("no schema has been selected to create in"),
        SchemaError,
        "search_path",
        "SET search_path",
        False,
    ),
    (
        asyncpg.InternalServerError("could not open relation with OID 17042"),
        TransactionConflictError,
        "another session was in the way",
        "again",
        True,
    ),
    (
        asyncpg.InternalServerError("cache lookup failed for function 17042"),
        TransactionConflictError,
        "another session was in the way",
        "again",
        True,
    ),
    (
        asyncpg.InvalidCachedStatementError("cached statement plan is invalid"),
        TransactionConflictError,
        "another session was in the way",
        "again",
        True,
    ),
    (
        asyncpg.InvalidAuthorizationSpecificationError(
            'no pg_hba.conf entry for host "1.2.3.4", user "trader", no encryption'
        ),
        AuthenticationError,
        "no pg_hba.conf entry",
        "sslmode",
        False,
    ),
    (
        asyncpg.UndefinedObjectError('unrecognized configuration parameter "pool_mode"'),
        ConfigurationError,
        "pool_mode",
        "parameters of the database URL",
        False,
    ),
    (
        asyncpg.ProtocolViolationError("unsupported startup parameter: options"),
        ConfigurationError,
        "unsupported startup parameter",
        "parameters of the database URL",
        False,
    ),
    (
        asyncpg.IdleInTransactionSessionTimeoutError("terminating connection due to idle timeout"),
        DatabaseUnavailableError,
        "the connection was lost",
        "server runs",
        True,
    ),
    (
        ConnectionRefusedError("refused"),
        DatabaseUnavailableError,
        "no PostgreSQL answers there",
        "host, port",
        True,
    ),
    (asyncpg.UniqueViolationError("duplicate key"), DuplicateRowError, "duplicate key", "", False),
    (asyncpg.CheckViolationError("violates check"), DataRefusedError, "refused a row", "", False),
    (asyncpg.RaiseError("a trigger says no"), DataRefusedError, "a trigger says no", "", False),
    (asyncpg.NumericValueOutOfRangeError("overflow"), ValueDoesNotFitError, "does not fit", "", False),
    (asyncpg.PostgresSyntaxError("syntax error"), DatabaseError, "syntax error (SQLSTATE 42601)", "", False),
    (asyncpg.InterfaceError("another operation is in progress"), DatabaseError, "in progress", "", False),
]


@pytest.mark.parametrize(("error", "kind", "message", "hint", "passes"), CAUSES)
def test_causes(error: Exception, kind: type[KrakenDBError], message: str, hint: str, passes: bool) -> None:
    found = translate(error, "db.example:5432/kraken")
    assert type(found) is kind
    assert found.message.startswith("db.example:5432/kraken: ")
    assert message in found.message
    assert hint in (found.hint or "")
    assert may_pass(found) is passes


def test_a_full_disk_is_told_with_the_folder_of_the_embedded_database() -> None:
    error = asyncpg.DiskFullError("could not extend file")
    with (
        pytest.raises(StorageFullError) as raised,
        translated_errors("the embedded database", Path("/home/ann/db")),
    ):
        raise error
    assert raised.value.message == "the embedded database: the disk of the database is full (/home/ann/db)"


@pytest.mark.parametrize(
    "words",
    [
        "terminating connection due to administrator command",
        "terminating connection because of crash of another server process",
        "the database system is shutting down",
        "the database system is in recovery mode",
    ],
)
@pytest.mark.parametrize(
    "kind", [asyncpg.AdminShutdownError, asyncpg.CrashShutdownError, asyncpg.CannotConnectNowError]
)
def test_a_node_says_it_with_the_words_of_a_server(kind: type[asyncpg.PostgresError], words: str) -> None:
    """Only what the coordinator was doing tells that it is not the coordinator itself that ends."""
    error = kind(words)
    assert not isinstance(translate(error, "db/x"), NodeUnavailableError)
    error.context = "while executing command on 10.0.0.2:5432"
    found = translate(error, "db/x")
    assert isinstance(found, NodeUnavailableError) and words in found.message
    refused = asyncpg.NumericValueOutOfRangeError("numeric field overflow")
    refused.context = error.context
    assert isinstance(translate(refused, "db/x"), ValueDoesNotFitError)


@pytest.mark.parametrize(
    ("error", "told", "hint"),
    [
        (asyncpg.DiskFullError("No space left"), "the disk of the database is full", "free some space"),
        (
            asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
            "the database takes no writes: cannot execute INSERT in a read-only transaction",
            "citus_update_node",
        ),
    ],
)
def test_which_node_it_was_is_told(error: asyncpg.PostgresError, told: str, hint: str) -> None:
    alone = translate(error, "db/x")
    assert (alone.message, "citus" in (alone.hint or "")) == (f"db/x: {told}", False)
    error.context = "while executing command on 10.0.0.2:5432\nCOPY trades, line 1"
    found = translate(error, "db/x")
    assert found.message == f"db/x: {told} (on node 10.0.0.2:5432)"
    assert hint in (found.hint or "")


def test_foreign_tables_in_the_embedded_database_are_told_with_its_folder() -> None:
    error = asyncpg.UndefinedTableError('relation "running_jobs" does not exist')
    found = translate(error, "the embedded database", Path("/home/ann/db"))
    assert found.message == (
        "the embedded database: the tables there (/home/ann/db) are not kraken-db's, or were changed:"
        ' relation "running_jobs" does not exist'
    )
    assert found.hint == "give kraken-db a directory of its own: KRAKEN_DB_DATA_DIR names it"
    assert "CREATE DATABASE" in (translate(error, "db.example").hint or "")


def test_only_the_first_line_is_told_and_the_original_is_the_cause() -> None:
    error = asyncpg.PostgresSyntaxError('syntax error at or near "SELEC"\nLINE 1: SELEC 1')
    wrapped = DBAPIError("SELEC 1", {}, error)
    with pytest.raises(DatabaseError) as raised, translated_errors("db"):
        raise wrapped
    assert str(raised.value) == 'db: syntax error at or near "SELEC" (SQLSTATE 42601)'
    assert raised.value.__cause__ is wrapped


def test_ours_and_those_of_files_go_through() -> None:
    for error in (
        SchemaError("old"),
        FileNotFoundError(2, "No such file", "XBTUSD.csv"),
        ValueError("a bug"),
    ):
        with pytest.raises(type(error)) as raised, translated_errors("db"):
            raise error
        assert raised.value is error


def test_a_row_that_copy_refuses_is_of_the_tree() -> None:
    error = CopyRowError(7, "price", "price 'x' is not a number")
    assert isinstance(error, KrakenDBError)
    assert (error.line, error.column, error.reason) == (7, "price", "price 'x' is not a number")
    assert str(error) == "line 7: price 'x' is not a number"


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Attribute) and node.attr == "exc":
            yield "sqlalchemy.exc"


def test_nobody_but_db_knows_the_errors_of_sqlalchemy() -> None:
    package = Path(kraken_db.__file__).parent
    files = [file for file in package.rglob("*.py") if file.relative_to(package).parts[0] != "db"]
    assert len(files) > 50
    found = {
        str(file.relative_to(package))
        for file in files
        for name in imported(ast.parse(file.read_text()))
        if name.startswith("sqlalchemy.exc")
    }
    assert found - {"_alembic"} == set()

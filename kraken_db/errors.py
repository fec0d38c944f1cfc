"""Every error the package raises on purpose.

The tree::

    KrakenDBError
    ├── ConfigurationError          a URL, option or argument that cannot work
    │   └── WrongValueError             ... whatever is stored, and whoever answers: wrong usage
    ├── PairError                   a pair name that is unknown or has several readings
    ├── NotConnectedError           a method called before connect() or start()
    ├── DatabaseError               the database failed
    │   ├── DatabaseUnavailableError    (transient) nobody answers at the address
    │   │   ├── ServerStartingError         (transient) the server is there and takes no connection yet
    │   │   ├── TooManyConnectionsError     (transient) all connections of the server are in use
    │   │   └── NodeUnavailableError        (transient) the server is there, a node of its cluster is not
    │   ├── TransactionConflictError    (transient) another session was in the way
    │   ├── RefreshInProgressError      (transient) another session refreshes the same higher interval
    │   ├── StatementCancelledError     a time limit or an administrator has ended a statement
    │   ├── AuthenticationError         user, password or database not accepted
    │   ├── PermissionDeniedError       the role lacks a right
    │   ├── ReadOnlyDatabaseError       a standby, or a role that may only read
    │   ├── SchemaError                 tables missing, too old or too new
    │   ├── StorageFullError            no space left where the database lives
    │   ├── ServerMemoryError           the server is out of memory, or out of room for locks
    │   └── JobRunningError             another run holds the lock of this symbol
    ├── DataRefusedError            the database refuses a value or a row, however often it is sent
    │   ├── DuplicateRowError           a row with this key is stored
    │   ├── CopyRowError                a row of a COPY; has its line and column
    │   ├── ValueDoesNotFitError        a number beyond what the tables can hold
    │   └── ConflictingTradesError      the store holds another market under this symbol
    ├── EmbeddedServerError         the embedded PostgreSQL cannot run here
    ├── ExchangeError               Kraken, or what stands before it, gave no usable answer
    │   ├── ExchangeUnavailableError    (transient) not reached, out of order, or its answer broke off
    │   ├── ExchangeThrottledError      (transient) too many requests; may say until when to wait
    │   ├── ExchangeLockoutError        locked out for a while: going on makes it worse
    │   ├── ExchangeRequestError        a request that is refused however often it is sent
    │   │   └── UnknownPairError            (a PairError too) Kraken does not list the pair
    │   └── ExchangeFormatError         an answer that is not what Kraken's documentation says
    │       └── ImpossibleRowError          a row that cannot be; the next answer may be right
    ├── NotificationError           a webhook did not take an alarm
    ├── InternalError               a mistake of this package, at one of several units of work
    ├── ImportFileError             a file whose content is not accepted
    └── ImportFailedError           (in bulk_csv_importer) a run in which a file was not accepted

``TransientError`` is a mixin, not a branch: it marks what may work when it is tried again, and
``kraken_db.retry`` tries nothing else again, but for a page with an ImpossibleRowError, a few times.
"""

from __future__ import annotations

from pathlib import Path


class TransientError(Exception):
    """Mixin of errors that may pass by themselves: worth another try."""


class KrakenDBError(Exception):
    """Base of all errors of this package.

    ``str(error)`` is one line for a person: what happened and to what. ``hint`` says what to do next.
    Neither ever contains a password.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigurationError(KrakenDBError, ValueError):
    """A URL, an option or an argument that cannot work, whatever the database holds."""


class WrongValueError(ConfigurationError):
    """A value that cannot be, whatever is stored and whoever answers. The command line ends with 2 then."""


class PairError(KrakenDBError, ValueError):
    """A pair name that is unknown, malformed, or ambiguous without Kraken's list of pairs."""


class NotConnectedError(KrakenDBError, RuntimeError):
    """A method that needs the database was called before ``connect()`` / ``start()``."""


def first_line(error: BaseException) -> str:
    """What an error says, without its details; its kind if it says nothing."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def unforeseen(error: BaseException) -> str:
    """What is said of an exception that no rule foresaw, and that has ended one unit of work of several."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    name, said = type(error).__name__, first_line(error)
    said = f"{name}: {said:.200}" if said != name else name
    return f"internal error {said}; the others went on"


def foreseen(error: BaseException, unit: str | None = None, *, hint: str | None = None) -> KrakenDBError:
    """What is reported of a unit of work that has failed alone: the error itself, if it is one of ours.

    Of any other an InternalError that says so, after the name of the ``unit``, with the ``hint``.
    """
    if isinstance(error, KrakenDBError):
        return error
    said = unforeseen(error)
    return InternalError(said if unit is None else f"{unit}: {said}", hint=hint)


class DatabaseError(KrakenDBError):
    """The database failed, or does not do what is needed of it."""


class DatabaseUnavailableError(DatabaseError, TransientError):
    """Nobody answers at the address, or the connection broke."""


class ServerStartingError(DatabaseUnavailableError):
    """The server is there and takes no connection yet: it starts, or recovers from a crash."""


class TooManyConnectionsError(DatabaseUnavailableError):
    """All connections that the server, a pooler or our own pool allows are in use."""


class NodeUnavailableError(DatabaseUnavailableError):
    """The coordinator of a cluster is there, and one of its nodes does not answer, or was lost."""


class TransactionConflictError(DatabaseError, TransientError):
    """The database has rolled a transaction back in favour of another session's."""


class RefreshInProgressError(DatabaseError, TransientError):
    """Another session refreshes the same aggregate: it takes minutes, and ours has to come after it."""


class StatementCancelledError(DatabaseError):
    """A statement was ended by ``statement_timeout`` or by an administrator."""


class AuthenticationError(DatabaseError):
    """User, password or database name were not accepted."""


class PermissionDeniedError(DatabaseError):
    """The role lacks a right that it needs on its own schema."""


class ReadOnlyDatabaseError(DatabaseError):
    """The database takes no writes: it is a standby, or transactions are read-only by default."""


class StatementError(DatabaseError):
    """A statement of the user's own that the server refuses."""


class SchemaError(DatabaseError):
    """The tables are missing, older than this version of the package, or newer."""


class StorageFullError(DatabaseError):
    """No space is left where the database keeps its files."""


class ServerMemoryError(DatabaseError):
    """The server is out of memory, or its table of locks is full."""


class JobRunningError(DatabaseError):
    """Another run is working on the same symbol."""


class DataRefusedError(KrakenDBError):
    """A value or a row that the database refuses: it is at fault itself, and trying again does not help."""


class DuplicateRowError(DataRefusedError):
    """A row with this key is stored already."""


class CopyRowError(DataRefusedError):
    """The server refused a row of a COPY: ``line`` (from 1, in the stream), ``column`` and ``reason``.

    ``column`` is None where the row as a whole is at fault.
    """

    def __init__(self, line: int, column: str | None, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.column = column
        self.reason = reason


class ValueDoesNotFitError(DataRefusedError):
    """A number with more digits than its column has: never rounded, never cut."""


class ConflictingTradesError(DataRefusedError):
    """So many trades contradict the stored ones that these must be another market's; none was written."""


class ProgramError(KrakenDBError):
    """A program of PostgreSQL (pg_dump, psql) is missing, or failed."""


class EmbeddedServerError(KrakenDBError):
    """The embedded PostgreSQL cannot be started, stopped or reached."""


class ExchangeError(KrakenDBError):
    """Kraken, or what stands between it and us, gave no usable answer.

    ``attempts`` counts the requests that were made; the message names it when it is more than one.
    """

    attempts = 1


class ExchangeUnavailableError(ExchangeError, TransientError):
    """Not reached, timed out, out of order for now, or the answer broke off."""


class ExchangeThrottledError(ExchangeError, TransientError):
    """Too many requests. ``retry_after``: the seconds that Kraken asks to wait, None if it does not say."""

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class ExchangeLockoutError(ExchangeError):
    """This address is locked out for a while. Never retried: each request makes it longer."""


class ExchangeRequestError(ExchangeError):
    """A request that is refused however often it is sent."""


class UnknownPairError(ExchangeRequestError, PairError):
    """A pair that Kraken does not list."""


class ExchangeFormatError(ExchangeError):
    """An answer of another shape than Kraken documents; nothing of it was used."""


class ImpossibleRowError(ExchangeFormatError):
    """A row of an answer that cannot be, and which: nothing of the answer was used. The next may be right."""


class NotificationError(KrakenDBError):
    """A webhook was not reached, or did not take an alarm. Shows its host only: the address is a secret."""


class InternalError(KrakenDBError):
    """A mistake of this package that has ended the work on one pair, or the like; see ``unforeseen``."""


class RejectedRecordError(KrakenDBError, ValueError):
    """A record handed to a live writer that cannot be stored, and why."""


class ImportFileError(KrakenDBError):
    """A file that is not accepted: nothing of it was stored, or what stands before ``line``.

    ``line`` counts from 1 and is None when the file as a whole is at fault.
    """

    def __init__(
        self, path: Path | str, reason: str, *, line: int | None = None, hint: str | None = None
    ) -> None:
        self.path = path
        self.reason = reason
        self.line = line
        where = f"{path}, line {line}" if line is not None else str(path)
        super().__init__(f"{where}: {reason}", hint=hint)


class DamagedFileError(ImportFileError):
    """A file in a zip that is not what was packed: its size or its check sum is another one."""

"""What the rest of the package asks of a database, whichever it is.

A backend is what every database must have (``Backend``), and up to four capabilities, each an object or
None: ``chunks`` (time is stored, and dropped, a chunk at a time), ``jobs`` (the database drops, compresses
and refreshes by itself), ``compression``, and ``shards`` (symbols lie on several machines). Whoever needs one
asks ``if backend.chunks is not None``.
Relations have the same names and columns on all backends, so that readers never ask which one it is.

A new backend is added in three steps:

1. A class with the attributes and methods of ``Backend``, in a module of its own beside this one. A database
   that is a PostgreSQL derives from ``PostgresBackend`` and replaces what it does differently. What it has
   none of stays None: there is no method to write that does nothing.
2. A line in ``kraken_db.backends.detect``: how a store of this kind is recognised by its schema.
3. The revisions in ``alembic/versions``: tables and views of the same names and columns.

Then run the tests of ``tests/integration`` on it: a lane is an URL.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends.rollup import AnySelect
from kraken_db.data_types import TableName
from kraken_db.db.engine import Database
from kraken_db.policies import BackgroundJob, TablePolicy
from kraken_db.ranges import TimeRange


@dataclass(frozen=True, slots=True)
class StaleRange:
    """Minutes of a symbol that were written and that the higher intervals may not show yet.

    ``start`` is inclusive, ``end`` exclusive. ``refreshed_at``: when a refresh has been over it. Then only
    the candles are stale that had not closed by that moment.
    """

    symbol: str
    start: datetime
    end: datetime
    refreshed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class OldRows:
    """So much of a table as is dropped, or compressed, in one transaction: a chunk, or days of a symbol.

    ``start`` is inclusive, ``end`` exclusive. ``symbol`` is None where rows of all symbols go together.
    """

    table: TableName
    symbol: str | None
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class TableStorage:
    """What a table takes on disk, indexes included. Sizes are bytes."""

    table: TableName | Literal["higher intervals"]
    size: int
    chunks: int = 0
    compressed_chunks: int = 0
    """Those that are compressed as a whole."""
    partly_compressed_chunks: int = 0
    """Those that were written after they had been compressed: some of their rows are not."""
    size_before: int = 0
    """Of the compressed chunks, before they were compressed."""
    size_after: int = 0
    """Of the compressed chunks, with what was written to them since."""
    kept_from: datetime | None = None
    """Rows from before this moment are gone; None where that is not known by the chunks."""

    @property
    def compression_ratio(self) -> float | None:
        """How many times smaller the compressed chunks have become; None without any."""
        return self.size_before / self.size_after if self.size_after else None


@dataclass(frozen=True, slots=True)
class RetentionJob:
    """What drops old rows of a table by itself, a chunk at a time."""

    job_id: int
    period: timedelta
    """The age at which a chunk is dropped: that of its newest moment."""
    chunk: timedelta
    """How much time a chunk holds."""

    def may_drop_before(self, now: datetime) -> datetime:
        """Rows from before this moment may lie in a chunk that is dropped."""
        return now - self.period + self.chunk


class MinutesWritten:
    """What a write of minutes says of itself at its end; see ``Backend.writing_minutes``."""

    def __init__(self, start: datetime, end: datetime) -> None:
        self.stale: TimeRange | None = (start, end)

    def wrote(self, oldest: datetime | None, end: datetime | None) -> None:
        """Only minutes of ``[oldest, end)`` were written or deleted; None for none at all.

        Without this call, any minute of the whole range may have been.
        """
        self.stale = None if oldest is None or end is None else (oldest, end)


@dataclass(frozen=True, slots=True)
class ChunksMade:
    """Chunks that were made since some moment, by the running transaction or by others."""

    ours: Mapping[TableName, Sequence[TimeRange]]
    """The times of those that the running transaction has made. Nothing was stored there when it made them:
    what had been was dropped."""


class Chunks(Protocol):
    """A table consists of chunks of time, of all symbols, which are made and dropped one by one."""

    async def existing(
        self, connection: AsyncConnection, table: str, start: datetime, end: datetime
    ) -> Sequence[TimeRange]:
        """What of ``[start, end)`` there are chunks for: elsewhere, no row is stored."""
        ...

    async def made(
        self, connection: AsyncConnection, tables: Collection[TableName], since: str
    ) -> ChunksMade | None:
        """The chunks of some tables that a snapshot does not see (``since``); None if there are none."""
        ...

    async def aggregated(
        self, connection: AsyncConnection, ranges: Sequence[TimeRange]
    ) -> Sequence[tuple[str, TimeRange]]:
        """Of each of the ranges and each symbol, from the first to the last stored candle of the shortest
        higher interval: where the minutes themselves are gone, it says when there were some.
        """
        ...

    async def aggregated_of(
        self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]
    ) -> Sequence[TimeRange]:
        """The times of these stored candles of one symbol, one by one."""
        ...

    async def aggregated_days(
        self, connection: AsyncConnection, ranges: Sequence[TimeRange]
    ) -> Mapping[str, Sequence[TimeRange]]:
        """By symbol, the days (UTC) that a range touches and that have any of these candles."""
        ...


class Jobs(Protocol):
    """What the database does by itself."""

    async def all(self, connection: AsyncConnection) -> Sequence[BackgroundJob]:
        """Every job of this store, and how it went."""
        ...

    async def retention(self, connection: AsyncConnection, table: str) -> RetentionJob | None:
        """The job that drops old rows of ``table``; None if nothing does."""
        ...

    async def schedule(self, connection: AsyncConnection, job_id: int, *, on: bool) -> bool:
        """Whether a job is to run from now on; returns whether this is a change.

        A job that does not exist any more is no error.
        """
        ...

    async def is_running(self, connection: AsyncConnection, job_id: int) -> bool:
        """Whether a job is at work at this moment."""
        ...


class Compression(Protocol):
    """Old rows can be compressed."""

    async def due(self, connection: AsyncConnection, table: TableName, before: datetime) -> Sequence[OldRows]:
        """What of the rows from before a moment is not, or only partly, compressed, oldest first."""
        ...

    async def compress(self, connection: AsyncConnection, rows: OldRows) -> None:
        """Compress what ``due`` named."""
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of a cluster that holds rows. Sizes are bytes."""

    name: str
    shards: Sequence[int]
    """The size of each part of the symbols that it has, of all tables together."""
    size: int
    """Of the whole database there."""
    takes_shards: bool = True
    """Not one that only has the tables of the store as a whole."""

    @property
    def stored(self) -> int:
        return sum(self.shards)


class Shards(Protocol):
    """The rows of each symbol lie on one of several machines.

    Such a database takes no statement that writes inside of another one.
    """

    async def nodes(self, connection: AsyncConnection) -> Sequence[Node]:
        """The machines, by name; the one that is connected to is among them."""
        ...


class Backend(Protocol):
    """One kind of database. Its instances may be shared by any number of tasks."""

    name: str
    """For people: what this database is."""
    session_settings: Mapping[str, str]
    """Settings of every session of the application."""
    bulk_settings: Mapping[str, str]
    """Settings of a transaction of bulk writes: they lift limits that large merges into old data run into."""

    # Properties, so that a class may say more of what it has.
    @property
    def chunks(self) -> Chunks | None: ...
    @property
    def jobs(self) -> Jobs | None: ...
    @property
    def compression(self) -> Compression | None: ...
    @property
    def shards(self) -> Shards | None: ...

    def __hash__(self) -> int: ...

    def candles_between(self, symbol: str, interval: int, start: datetime, end: datetime) -> AnySelect:
        """Select the candles that open in ``[start, end)``, all columns of ``candles``, in no order.

        The form of the statement must not depend on symbol, start and end, and these must be bound as they
        are where they lie on the interval's grid: statements are made once and used with other values.
        """
        ...

    def unversioned_parts(self, interval: int) -> str | None:
        """A SELECT of what decides about candles of an interval and changes without a trigger; or None.

        Its rows are those of ``kraken_db.repositories.candle_versions``: kind, name, detail, from, to. A
        ``part`` is there for the candles of a range: that it comes or goes is a change. A ``border`` is a
        moment (from) that means something for the candles on both sides of it. ``detail`` changes where a
        part is stored anew, without a change of its candles. Bound are ``:first`` and ``:last``: what lies
        outside of them may be left out.
        """
        ...

    async def edges(
        self, connection: AsyncConnection | AsyncSession, symbol: str, interval: int
    ) -> TimeRange | None:
        """The open times of the oldest and of the newest candle of a symbol; None if there is none."""
        ...

    def writing_minutes(
        self,
        connection: AsyncConnection,
        symbol: str,
        start: datetime,
        end: datetime,
        *,
        are_new: bool = False,
    ) -> AbstractAsyncContextManager[MinutesWritten]:
        """Have this around the statements that write minutes of a symbol, all of them in ``[start, end)``.

        What was written is stale then, from the end of the transaction until the next ``refresh``. Say
        ``wrote`` of what it gives as soon as it is known what was: where nothing was, nothing is stale. Of
        minutes that lie far apart, make several calls. Two are never open at once on one connection.

        ``are_new``: no minute of the symbol was stored in the range, so that all of it is stale.
        """
        ...

    def removing(self, connection: AsyncConnection, symbol: str) -> AbstractAsyncContextManager[None]:
        """Have this around the statements that delete all rows of a symbol from ``trades`` and ``candles``.

        Behind it the higher intervals have no candle of the symbol, those included whose minutes had been
        dropped, and nothing of it waits for a refresh. A refresh that is at work is waited for.
        """
        ...

    def kept_table(self, interval: int) -> Table:
        """Where candles of an interval up to 1h lie that outlive their minutes: all columns of ``candles``.

        A column ``kept`` says of each row that it does; where there is none, ``dropped_ranges`` and the
        lack of a chunk do.
        """
        ...

    async def mark_stale(self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]) -> None:
        """Have the next ``refresh`` compute all higher candles of these ranges anew, whatever it knows."""
        ...

    async def refresh(self, database: Database, now: datetime, also: Sequence[StaleRange] = ()) -> None:
        """Bring all higher intervals up to date over what is stale, and never lose one of their candles.

        ``also``: ranges of which nobody has said that they are stale. Runs in transactions of its own, in
        bounded slices; may be killed and repeated at any point. What has not closed by ``now`` (UTC) is left
        to a later refresh.
        """
        ...

    async def policies(self, connection: AsyncConnection) -> tuple[TablePolicy, ...]:
        """What is done with old rows, of every table for which that can be set."""
        ...

    async def set_policy(self, connection: AsyncConnection, policy: TablePolicy) -> None:
        """Make the policies of one table these. Raises ConfigurationError for what this database cannot do.

        Call ``kraken_db.policies.check_policy`` first.
        """
        ...

    async def droppable(
        self, connection: AsyncConnection, table: TableName, before: datetime
    ) -> Sequence[OldRows]:
        """What of a table can be dropped of the rows from before a moment, oldest first."""
        ...

    async def drop(self, connection: AsyncConnection, rows: OldRows, keep: Sequence[TimeRange] = ()) -> int:
        """Drop what ``droppable`` named, and none of its higher candles; returns the number of rows.

        Rows inside of ``keep`` stay; a chunk goes as a whole or not at all: all of it stays then.
        """
        ...

    async def storage(self, connection: AsyncConnection) -> Sequence[TableStorage]:
        """What the tables take on disk, from the catalogs alone: no row of them is looked at."""
        ...


async def kept_for(backend: Backend, connection: AsyncConnection, table: str) -> timedelta | None:
    """The age from which on rows of ``table`` may be dropped; None for never."""
    policies = await backend.policies(connection)
    return next((policy.retention for policy in policies if policy.table == table), None)

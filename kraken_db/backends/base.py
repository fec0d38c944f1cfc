"""What the rest of the package asks of a time series database, whichever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol

from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncConnection

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
class RetentionJob:
    """What drops old rows of a table, a whole part of the table at a time."""

    job_id: int
    period: timedelta
    """The age at which a part is dropped: that of its newest moment."""
    part: timedelta
    """How much time a part holds."""


@dataclass(frozen=True, slots=True)
class Piece:
    """So much of a table as is dropped, or compressed, in one transaction.

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
    parts: int
    """Parts that are dropped and compressed one by one; 0 where there are none."""
    compressed_parts: int
    size_before: int
    """Of the compressed parts, before they were compressed."""
    size_after: int
    """Of the compressed parts."""
    kept_from: datetime | None = None
    """Rows from before this moment are gone; None where that is not known by the parts."""

    @property
    def compression_ratio(self) -> float | None:
        """How many times smaller the compressed parts have become; None without any."""
        return self.size_before / self.size_after if self.size_after else None


class Backend(Protocol):
    """One kind of database. Relations have the same names and columns on all of them."""

    name: str
    """For people: what this database is."""
    takes_off_pending: bool
    """Whether a refresh takes what it has done off ``pending_refresh``, in the transaction that stores it."""

    def __hash__(self) -> int: ...

    def candles_between(self, symbol: str, interval: int, start: datetime, end: datetime) -> AnySelect:
        """Select the candles that open in ``[start, end)``, all columns of ``candles``, in no order.

        The form of the statement must not depend on symbol, start and end, and these must be bound as they
        are where they lie on the interval's grid: statements are made once and used with other values.
        """
        ...

    def edge(self, symbol: str, interval: int, *, newest: bool) -> Select[datetime | None]:
        """Select the open time of the newest (or the oldest) candle of a symbol, one row or none.

        As with ``candles_between``, the statement is used for other symbols too.
        """
        ...

    async def prepare_bulk_write(self, connection: AsyncConnection) -> None:
        """Lift, for the running transaction, the limits that large merges into old data run into."""
        ...

    async def refresh(
        self, database: Database, stale: Sequence[StaleRange], now: datetime
    ) -> Sequence[StaleRange]:
        """Bring all higher intervals up to date over these ranges, and never lose one of their candles.

        Runs in transactions of its own, in bounded slices; may be killed and repeated at any point.
        Returns what has to be refreshed again later: the candles that have not closed yet.
        """
        ...

    async def mark_stale(self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]) -> None:
        """Have the next ``refresh`` of these ranges compute all their candles anew, whatever it knows."""
        ...

    async def parts(self, connection: AsyncConnection, table: str) -> frozenset[int]:
        """The parts that a table consists of, as far as they are dropped and made one by one."""
        ...

    async def stored_time(
        self, connection: AsyncConnection, table: str, start: datetime, end: datetime
    ) -> Sequence[TimeRange]:
        """What of ``[start, end)`` a row can be stored in, as far as time is dropped and made by parts."""
        ...

    async def created_parts(
        self, connection: AsyncConnection, table: str, before: frozenset[int]
    ) -> Sequence[TimeRange]:
        """The times of the parts that the running transaction has made since ``before``, one by one.

        Nothing was stored there when it made them: what had been was dropped.
        """
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

    async def retention(self, connection: AsyncConnection, table: str) -> timedelta | None:
        """The age at which the database drops rows of ``table`` by itself; None for never."""
        ...

    async def retention_job(self, connection: AsyncConnection, table: str) -> RetentionJob | None:
        """The job that drops old rows of ``table``; None if nothing does."""
        ...

    async def schedule_retention(self, connection: AsyncConnection, job_id: int, *, on: bool) -> bool:
        """Whether a retention job is to run from now on; returns whether this is a change.

        A job that does not exist any more is no error.
        """
        ...

    async def is_retention_running(self, connection: AsyncConnection, job_id: int) -> bool:
        """Whether a retention job is at work at this moment."""
        ...

    async def policies(self, connection: AsyncConnection) -> tuple[TablePolicy, ...]:
        """What is done with old rows, of every table for which that can be set."""
        ...

    async def set_policy(self, connection: AsyncConnection, policy: TablePolicy) -> None:
        """Make the policies of one table these. Raises ConfigurationError for what this database cannot do.

        Call ``kraken_db.policies.check_policy`` first.
        """
        ...

    async def jobs(self, connection: AsyncConnection) -> Sequence[BackgroundJob]:
        """What the database does by itself, and how it went; empty where it does nothing by itself."""
        ...

    async def droppable(
        self, connection: AsyncConnection, table: TableName, before: datetime
    ) -> Sequence[Piece]:
        """What of a table can be dropped of the rows from before a moment, oldest first."""
        ...

    async def rows(self, connection: AsyncConnection, piece: Piece) -> int:
        """How many rows a piece has."""
        ...

    async def drop(self, connection: AsyncConnection, piece: Piece, keep: Sequence[TimeRange] = ()) -> int:
        """Drop the rows of a piece, and none of their higher candles; returns the number of rows.

        Rows inside of ``keep`` stay; where a piece goes as a whole or not at all, all of it stays then.
        """
        ...

    async def compressible(
        self, connection: AsyncConnection, table: TableName, before: datetime
    ) -> Sequence[Piece]:
        """What of a table is not compressed yet of the rows from before a moment, oldest first."""
        ...

    async def compress(self, connection: AsyncConnection, piece: Piece) -> None:
        """Compress a piece that ``compressible`` named."""
        ...

    async def size(self, connection: AsyncConnection, table: TableName) -> int | None:
        """Bytes on disk that dropping and compressing give back; None if they give nothing back."""
        ...

    async def storage(self, connection: AsyncConnection) -> Sequence[TableStorage]:
        """What the tables take on disk, from the catalogs alone: no row of them is looked at."""
        ...

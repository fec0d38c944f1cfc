"""One transaction that writes rows, and everything that a write owes.

``Ingest`` is a run that writes: retention waits until what it wrote is in the higher intervals. Each of its
transactions takes the locks of its symbols and data types and lifts the limits that bulk writes run into. A
``WriteUnit`` is what the transaction writes of one symbol and data type: at the end it has been noted what
was stored and dropped before, the counters and the range of ``data_sync_status`` have grown, and so has the
coverage.

A write into a part of a table that was dropped makes that part anew, and nothing shows any more that its
time had been dropped. So each transaction looks for the chunks that it has made, and notes what had been
stored in them, of all symbols.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db import retry
from kraken_db.backends import Backend
from kraken_db.backends.base import ChunksMade
from kraken_db.data_types import DataType, TableName
from kraken_db.db.locks import lock_for_writing
from kraken_db.db.multiranges import lies_in
from kraken_db.intervals import FINEST_AGGREGATE, interval_length
from kraken_db.models import Base
from kraken_db.ranges import (
    TICK,
    TimeRange,
    difference,
    intersection,
    union,
    whole_candles,
    whole_minutes,
)
from kraken_db.repositories.candle_merge import StagedCandles
from kraken_db.repositories.coverage import (
    TYPES_IN,
    CoverageRepository,
    DroppedRangeRepository,
    Source,
)
from kraken_db.repositories.ledger import Doubts, Ledger, Stored
from kraken_db.repositories.pair_facts import dropped_trades
from kraken_db.repositories.staged_trades import StagedTrades
from kraken_db.retention import RetentionPause
from kraken_db.store import Store
from kraken_db.tolerances import CLOCK_SKEW

Key: TypeAlias = tuple[str, DataType]
_T = TypeVar("_T")
_SECOND = timedelta(seconds=1)
RECENT = timedelta(hours=1)
"""No retention drops rows of the last hour before they are in the higher intervals."""


def keys_with_trades(*symbols: str) -> list[Key]:
    """What a write of trades locks: the minutes that they lie in may change with them."""
    return [(symbol, data_type) for symbol in symbols for data_type in (DataType.TRADES, DataType.CANDLES_1M)]


class Ingest:
    """A run that brings rows into a store; an asynchronous context manager.

    At its end retention goes on, unless somebody else still writes old rows, or rows wait for their refresh.
    Old rows can be brought again, so they never fill the last of the disk; but ``uses_reserve`` if rows are
    dropped after it.
    """

    def __init__(self, store: Store, *, uses_reserve: bool = False) -> None:
        self.store = store
        self._uses_reserve = uses_reserve
        self._retention = RetentionPause(store.database, store.backend, store.clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._retention.end()

    async def prepare(self, tables: Iterable[TableName], oldest: datetime) -> None:
        """Have retention wait before rows as old as ``oldest`` are written; never inside of a transaction.

        Raises StorageFullError where there is no room for old rows.
        """
        if oldest > self.store.clock() - RECENT:
            return
        disk = None if self._uses_reserve else self.store.database.disk
        if disk is not None:
            disk.check()
        if self.store.backend.jobs is None:
            return  # nothing is dropped by itself
        for table in sorted(set(tables)):
            await self._retention.before_writing(table, oldest)

    @asynccontextmanager
    async def transaction(
        self, keys: Iterable[Key], oldest: datetime, *, locks_late: bool = False
    ) -> AsyncIterator[WriteTransaction]:
        """One transaction over these symbols and data types, whose rows are at most as old as ``oldest``.

        Committed at the end of the block, with everything that its units owe; whole or not at all.
        ``locks_late``: the block itself calls ``begin``, once its rows are staged, which may take long.
        """
        wanted = sorted(keys)
        await self.prepare((data_type.table for _, data_type in wanted), oldest)
        async with write_transaction(self.store, wanted, locks_late=locks_late) as transaction:
            yield transaction

    async def write(
        self, keys: Iterable[Key], oldest: datetime, work: Callable[[WriteTransaction], Awaitable[_T]]
    ) -> _T:
        """What ``work`` returns, done in such a transaction; again where another session was in the way."""
        wanted = list(keys)

        async def attempt() -> _T:
            async with self.transaction(wanted, oldest) as transaction:
                return await work(transaction)

        return await retry.CONFLICT.run(attempt)


_log = logging.getLogger(__name__)


@asynccontextmanager
async def write_transaction(
    store: Store, keys: Iterable[Key], *, locks_late: bool = False
) -> AsyncIterator[WriteTransaction]:
    """``Ingest.transaction`` that nobody has prepared retention for: right for rows of the last hour."""
    async with store.database.begin() as connection:
        transaction = WriteTransaction(connection, store, sorted(keys))
        if not locks_late:
            await transaction.begin()
        yield transaction
        await transaction.end()
    for stored in transaction.stored():
        _log.info("%s: committed, %d new in %s", stored.symbol, stored.added, stored.data_type)


async def note_synced(
    store: Store, symbol: str, data_type: DataType, moment: datetime | None, *, cursor: int | None = None
) -> None:
    """A symbol was looked at now; it is stored up to ``moment``, unless that is None.

    ``cursor``: where the next download goes on, in ns as Kraken gave it.
    """
    async with write_transaction(store, [(symbol, data_type)]) as transaction:
        unit = transaction.unit(symbol, data_type)
        if moment is None:
            unit.looked()
        else:
            unit.wrote(moment, moment, 0, cursor=cursor)


async def withdraw(store: Store, keys: Iterable[Key], source: Source, ranges: Sequence[TimeRange]) -> None:
    """What a source has shown in these ranges turns out to be unreliable: it is unproven."""
    wanted = list(keys)
    async with write_transaction(store, wanted) as transaction:
        for symbol, data_type in wanted:
            unreliable = ranges if data_type == DataType.TRADES else whole_minutes(ranges)
            await transaction.ledger.uncover(symbol, data_type, source, unreliable)
            await transaction.ledger.doubt(symbol, data_type, unreliable)


async def correct_counters(
    store: Store, symbol: str, data_type: DataType, *, counted: int, stored: int, edges: bool
) -> bool:
    """Set the count of trades or minutes to what is stored; with ``edges`` also their first and last time.

    Returns whether the count still was what it had been: ``counted``.
    """
    async with write_transaction(store, [(symbol, data_type)]) as transaction:
        done = await transaction.ledger.correct(symbol, data_type, counted=counted, stored=stored)
        if done and edges:
            await transaction.ledger.correct_edges(symbol, data_type)
        return done


class WriteTransaction:
    """The units of one transaction. ``trades`` and ``candles``: its staging tables."""

    def __init__(self, connection: AsyncConnection, store: Store, keys: Sequence[Key]) -> None:
        self.connection = connection
        self.store = store
        self.backend: Backend = store.backend
        self.now = store.clock()
        self.latest = self.now + CLOCK_SKEW
        """No trade is later than that, and nothing is known to be complete."""
        self.ledger = Ledger(connection)
        self._keys = keys
        self._units: dict[Key, WriteUnit] = {}
        self._begun = ""
        """The snapshot of before."""

    @cached_property
    def trades(self) -> StagedTrades:
        return StagedTrades(self.connection)

    @cached_property
    def candles(self) -> StagedCandles:
        return StagedCandles(self.connection)

    async def begin(self) -> None:
        """Wait for the locks, and look at what was dropped. Nothing but staging comes before it."""
        names = [f"{data_type}:{symbol}" for symbol, data_type in self._keys]
        self._begun = await lock_for_writing(self.connection, names, self.backend.bulk_settings)
        doubts = await self.ledger.doubts(self._keys)
        self._units = {key: WriteUnit(self, key, doubts.get(key, Doubts())) for key in self._keys}

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """What the block does is taken back where it raises; the transaction goes on."""
        with self.store.database.errors():
            async with self.connection.begin_nested():
                yield

    def unit(self, symbol: str, data_type: DataType) -> WriteUnit:
        """What is written of a symbol and data type, of which the transaction has the lock."""
        return self._units[symbol, data_type]

    def stored(self) -> list[Stored]:
        """What was written, unit by unit."""
        return [stored for unit in self._units.values() if (stored := unit.stored()) is not None]

    async def end(self) -> None:
        """Do what all units owe."""
        used = [unit for unit in self._units.values() if unit.is_used]
        await self._note_new_chunks(used)
        for unit in used:
            await unit.count_returned()
        await self.ledger.count(self.stored())
        await self.ledger.touch(unit.key for unit in used if unit.stored() is None)
        await self.ledger.cover(
            (*unit.key, source, ranges) for unit in used for source, ranges in unit.claims()
        )
        for unit in used:
            await unit.settle_ranges()

    async def _note_new_chunks(self, used: Sequence[WriteUnit]) -> None:
        """What had been stored in the chunks that this transaction has made: it was dropped."""
        new = await self.chunks_made({unit.key[1].table for unit in used})
        if new is None:
            return
        for table, ranges in new.ours.items():
            await self.note_dropped(table, ranges)
        # Another write may have made, and committed, the chunks that this one has waited for.
        doubts = await self.ledger.doubts([unit.key for unit in used])
        for unit in used:
            unit.doubts = doubts.get(unit.key, unit.doubts)

    async def chunks_made(self, tables: Collection[TableName]) -> ChunksMade | None:
        """The chunks of some tables that were made since the transaction has its locks; None without any."""
        if self.backend.chunks is None or not tables:
            return None
        return await self.backend.chunks.made(self.connection, tables, self._begun)

    async def note_dropped(self, table: TableName, created: Sequence[TimeRange]) -> None:
        """What had been stored in chunks that are new, of all symbols, was dropped."""
        chunks = self.backend.chunks
        assert chunks is not None
        if table == DataType.TRADES.table:
            for symbol, ranges in sorted((await dropped_trades(self.connection, chunks, created)).items()):
                await self.ledger.drop(symbol, DataType.TRADES, ranges)
            return
        others = [name for name in TYPES_IN[table] if name != DataType.CANDLES_1M]
        await self.ledger.drop_stored(others, created)
        # Not from what is covered alone: that has quiet weeks, and lacks what other programs wrote.
        known: dict[str, list[TimeRange]] = {}
        for symbol, span in await chunks.aggregated(self.connection, created):
            known.setdefault(symbol, []).append(span)
        dropped = DroppedRangeRepository(self.connection)
        stored = await dropped.ever_stored(DataType.CANDLES_1M, created)
        for symbol, ranges in sorted(known.items()):
            ours = stored.get(symbol, [])
            # Of the finest candle, perhaps only a minute was ever there, and not its other four.
            unknown = difference(ranges, whole_candles(ours, FINEST_AGGREGATE))
            foreign = await chunks.aggregated_of(self.connection, symbol, unknown)
            await self.ledger.drop(symbol, DataType.CANDLES_1M, union(intersection(ranges, ours), foreign))


@dataclass(slots=True, eq=False)
class WriteUnit:
    """What one transaction writes of one symbol and data type. Say what was done; the transaction does the
    rest."""

    transaction: WriteTransaction
    key: Key
    doubts: Doubts
    """What is dropped or unproven of it."""
    is_used: bool = field(default=False, init=False)
    _spans: list[TimeRange] = field(default_factory=list, init=False)
    _counted: int = field(default=0, init=False)
    _returned: int = field(default=0, init=False)
    _edges: list[datetime] = field(default_factory=list, init=False)
    _added: int = field(default=0, init=False)
    _cursor: int | None = field(default=None, init=False)
    _claims: dict[Source, list[TimeRange]] = field(default_factory=dict, init=False)
    _is_continued: bool = field(default=True, init=False)

    async def begin(self, start: datetime, end: datetime, *, was_empty: bool = False) -> None:
        """Call this before rows of times in ``[start, end)`` are written; where nothing was, afterwards will
        do."""
        self.is_used = True
        if not was_empty:
            self._counted += await self._rows_that_were_dropped(difference([(start, end)], self._spans))
        self._spans.append((start, end))

    def wrote(self, oldest: datetime, newest: datetime, added: int, *, cursor: int | None = None) -> None:
        """Rows from ``oldest`` to ``newest``, both inclusive, of which ``added`` are more than there were.

        ``cursor``: where the next download goes on, in ns as Kraken gave it.
        """
        self.is_used = True
        self._edges += (oldest, newest)
        self._added += added
        if cursor is not None:
            self._cursor = cursor

    def looked(self) -> None:
        """There was nothing to write: the time of the last sync is now, all the same."""
        self.is_used = True

    def mark_complete(
        self, source: Source, ranges: Iterable[TimeRange], *, is_continued: bool = False
    ) -> None:
        """``source`` has shown these ranges to be complete: they are covered, but never beyond now.

        What else was written is unproven; unless it ``is_continued``: the next write of a run proves the
        end of this one.
        """
        self.is_used = True
        latest = self.transaction.latest
        self._claims.setdefault(source, []).extend((start, min(end, latest)) for start, end in ranges)
        self._is_continued = self._is_continued and is_continued

    async def covered(self) -> list[TimeRange]:
        """What is known to be complete, with what this unit has shown so far."""
        known = await CoverageRepository(self.transaction.connection).covered(*self.key)
        return union(known, *self._claims.values())

    def stored(self) -> Stored | None:
        """What goes into ``data_sync_status``; None if nothing was written."""
        if not self._edges:
            return None
        # Rows at times that were stored before and then dropped have been counted once.
        added = self._added - self._returned
        return Stored(*self.key, min(self._edges), max(self._edges), added, self._cursor)

    def claims(self) -> list[tuple[Source, list[TimeRange]]]:
        """What each source has shown to be complete."""
        return [(source, union(ranges)) for source, ranges in self._claims.items()]

    async def count_returned(self) -> None:
        """Count the rows that are back at times that were dropped."""
        self._returned = await self._rows_that_were_dropped(self._spans) - self._counted

    async def settle_ranges(self) -> None:
        """Nothing of what is complete is missing any more; what else was written is unproven."""
        ledger = self.transaction.ledger
        complete = union(*self._claims.values())
        if intersection(self.doubts.dropped, complete):
            await ledger.restore(*self.key, complete)
        if intersection(self.doubts.unproven, complete):
            await ledger.prove(*self.key, complete)
        written = difference(self._spans, union(complete, self.doubts.unproven))
        if (self._claims and self._is_continued) or not written:
            return
        rest = difference(written, await self.covered())
        # Where ids have a hole, nothing was stored.
        rest = await self._moments(rest) if complete else rest
        if rest:
            await ledger.doubt(*self.key, rest)

    async def _rows_that_were_dropped(self, spans: Sequence[TimeRange]) -> int:
        dropped = intersection(self.doubts.dropped, spans)
        if not dropped:
            return 0
        # Half of a candle of 5m may have been stored, and its other half be new.
        known = await CoverageRepository(self.transaction.connection).covered(*self.key)
        counted = intersection(dropped, union(known, self.doubts.unproven))
        if not counted:
            return 0
        found = select(func.count()).where(*self._rows_in(counted))
        return await self.transaction.connection.scalar(found) or 0

    async def _moments(self, ranges: Sequence[TimeRange]) -> list[TimeRange]:
        """The times of the rows in these ranges, each as long as a row of this type is."""
        if not ranges:
            return []
        moment = Base.metadata.tables[self.key[1].table].c.timestamp
        found = select(moment).where(*self._rows_in(ranges)).distinct()
        rows = await self.transaction.connection.scalars(found)
        return union((start, start + self._length(start)) for start in rows)

    def _length(self, moment: datetime) -> timedelta:
        interval = self.key[1].interval
        if interval is not None:
            return interval_length(interval)
        # Archives of whole seconds: the same trade, with an id, has a finer stamp.
        return TICK if moment.microsecond else _SECOND

    def _rows_in(self, ranges: Sequence[TimeRange]) -> list[ColumnElement[bool]]:
        symbol, data_type = self.key
        c = Base.metadata.tables[data_type.table].c
        inside = [c.symbol == symbol, lies_in(c.timestamp, ranges)]
        return inside if data_type.interval is None else [*inside, c.interval_minutes == data_type.interval]

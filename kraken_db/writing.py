"""What every write of rows has around it: which times were stored once and are gone is found out here.

A write into a part of a table that was dropped makes that part anew, and nothing shows any more that its
time had been dropped. So each write looks for the parts that it has made, in its own transaction, and notes
what had been stored in them, of all symbols.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Table, bindparam, func, select
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import Backend, Chunks
from kraken_db.data_types import DataType
from kraken_db.db.multiranges import to_multirange
from kraken_db.intervals import (
    FINEST_AGGREGATE,
    interval_length,
)
from kraken_db.models import Base
from kraken_db.ranges import TICK, TimeRange, difference, intersection, union, whole_candles
from kraken_db.repositories.coverage import (
    TYPES_IN,
    CoverageRepository,
    DroppedRangeRepository,
    Source,
    UnprovenRangeRepository,
)

_SECOND = timedelta(seconds=1)


class Write:
    """One batch of rows of a symbol and data type, all of whose times lie in ``span`` (half-open)."""

    def __init__(
        self,
        connection: AsyncConnection,
        backend: Backend,
        symbol: str,
        data_type: DataType,
        span: TimeRange,
    ) -> None:
        self.returned = 0
        """How many rows more there are now at times that were stored before and then dropped.

        Known after the block. They have been counted once: ``data_sync_status`` does not count them again.
        """
        self._connection = connection
        self._backend = backend
        self._key = (symbol, data_type)
        self._span = span
        self._table: Table = Base.metadata.tables[data_type.table]
        self._interval = data_type.interval
        self._chunks: frozenset[int] = frozenset()
        self._gone: Sequence[TimeRange] = ()
        self._counted = 0
        self._dropped = DroppedRangeRepository(connection)
        self._unproven = UnprovenRangeRepository(connection)
        self._coverage = CoverageRepository(connection)

    async def begin(self) -> None:
        if self._backend.chunks is not None:
            self._chunks = await self._backend.chunks.ids(self._connection, self._table.name)
        self._gone = await self._dropped.of(*self._key)
        self._counted = await self._rows_that_were_dropped()

    async def end(self) -> None:
        if (chunks := self._backend.chunks) is not None:
            if created := await chunks.created(self._connection, self._table.name, self._chunks):
                await self._note(chunks, created)
            # Another write may have made, and committed, what this one has waited for.
            self._gone = await self._dropped.of(*self._key)
        # Before, there was nothing in what was made: so the first count is right for that, too.
        self.returned = await self._rows_that_were_dropped() - self._counted

    async def shows(self, source: Source, ranges: Iterable[TimeRange], *, goes_on: bool = False) -> None:
        """Call this after the block, always: the ranges that ``source`` has shown to be complete.

        They are covered, and nothing of them is missing any more. What else was written is unproven; unless
        it ``goes_on``: the next write of a run proves the end of this one.
        """
        complete = union(ranges)
        await self._coverage.add(*self._key, source, complete)
        if self._gone:
            await self._dropped.remove(*self._key, complete)
        known = await self._unproven.of(*self._key)
        if intersection(known, complete):
            await self._unproven.remove(*self._key, complete)
        if not goes_on and difference([self._span], complete):
            covered = await self._coverage.covered(*self._key)
            rest = difference([self._span], union(complete, covered, known))
            # Where ids have a hole, nothing was stored.
            await self._unproven.add(*self._key, await self._moments(rest) if complete else rest)

    async def _note(self, chunks: Chunks, created: Sequence[TimeRange]) -> None:
        types = TYPES_IN[self._key[1].table]
        await self._dropped.add_stored([name for name in types if name != DataType.CANDLES_1M], created)
        if DataType.CANDLES_1M not in types:
            return
        # Not from what is covered alone: that has quiet weeks, and lacks what other programs wrote.
        known: dict[str, list[TimeRange]] = {}
        for symbol, span in await chunks.aggregated(self._connection, created):
            known.setdefault(symbol, []).append(span)
        stored = await self._dropped.ever_stored(DataType.CANDLES_1M, created)
        for symbol, ranges in sorted(known.items()):
            ours = stored.get(symbol, [])
            # Of the finest candle, perhaps only a minute was ever there, and not its other four.
            unknown = difference(ranges, whole_candles(ours, FINEST_AGGREGATE))
            foreign = await chunks.aggregated_of(self._connection, symbol, unknown)
            await self._dropped.add(symbol, DataType.CANDLES_1M, union(intersection(ranges, ours), foreign))

    async def _rows_that_were_dropped(self) -> int:
        dropped = intersection(self._gone, [self._span])
        if not dropped:
            return 0
        # Half of a candle of 5m may have been stored, and its other half be new.
        stored = union(await self._coverage.covered(*self._key), await self._unproven.of(*self._key))
        counted = intersection(dropped, stored)
        if not counted:
            return 0
        return await self._connection.scalar(select(func.count()).where(*self._rows_in(counted))) or 0

    async def _moments(self, ranges: Sequence[TimeRange]) -> list[TimeRange]:
        """The times of the rows in these ranges, each as long as a row of this type is."""
        if not ranges:
            return []
        moment = self._table.c.timestamp
        rows = await self._connection.scalars(select(moment).where(*self._rows_in(ranges)).distinct())
        return union((start, start + self._length(start)) for start in rows)

    def _length(self, moment: datetime) -> timedelta:
        if self._interval is not None:
            return interval_length(self._interval)
        # Archives of whole seconds: the same trade, with an id, has a finer stamp.
        return TICK if moment.microsecond else _SECOND

    def _rows_in(self, ranges: Sequence[TimeRange]) -> list[ColumnElement[bool]]:
        c = self._table.c
        inside = [
            c.symbol == self._key[0],
            c.timestamp >= ranges[0][0],
            c.timestamp < ranges[-1][1],
            c.timestamp.op("<@")(bindparam("inside", to_multirange(ranges), TSTZMULTIRANGE)),
        ]
        return inside if self._interval is None else [*inside, c.interval_minutes == self._interval]


@asynccontextmanager
async def writing(
    connection: AsyncConnection,
    backend: Backend,
    symbol: str,
    data_type: DataType,
    start: datetime,
    end: datetime,
) -> AsyncIterator[Write]:
    """Around the statements that write rows of times in ``[start, end)``; see ``Store.writing``."""
    write = Write(connection, backend, symbol, data_type, (start, end))
    await write.begin()
    yield write
    await write.end()

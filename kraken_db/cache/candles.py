"""Candles read again and again: from files on this machine, for as long as the database vouches for them.

A read asks the database for the state of its months, by one small statement, and takes the blocks that were
stored in just this state. What is missing is read from the database, in one snapshot together with the state
that it is stored under. So a read sees what it would see without the cache at one moment: never a stale
block, never blocks of two states.
"""

from __future__ import annotations

import asyncio
import bisect
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal
from itertools import repeat
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.cache.folder import BlockFolder, BlockName
from kraken_db.db.driver import collector_paused
from kraken_db.extras import require
from kraken_db.frames import CANDLE_COLUMNS, arrow_schema, frame_builder, read_frame
from kraken_db.intervals import Interval, IntervalLike, as_interval
from kraken_db.ranges import TimeRange
from kraken_db.repositories.candle_versions import (
    CandleState,
    CandleVersionRepository,
    month_of,
    months_of,
    next_month,
)
from kraken_db.repositories.candles import (
    GROWTH,
    CandleRepository,
    candles_of_columns,
    clip_range,
    first_reach,
)
from kraken_db.settings import Settings
from kraken_db.store import Store
from kraken_db.times import FIRST_MOMENT
from kraken_db.types import Candle

if TYPE_CHECKING:
    import pyarrow

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_WHOLE = 4
"""Of a block of which one part in so many is wanted, all is read."""
_MOST_ASKED = 10_000
_ATTEMPTS = 3
"""Reads that a dropped chunk or the like may spoil before one is done without the cache."""
_MOST_LATEST = 20_000


@dataclass(frozen=True, slots=True)
class _Block:
    """The candles of a month: they open in ``[start, end)``, and lie there."""

    month: datetime
    start: datetime
    end: datetime


class CandleCache:
    """Candles of any stores, read by way of a folder of blocks."""

    def __init__(self, folder: BlockFolder) -> None:
        require("pyarrow", "the cache")
        self._folder = folder
        self._asked: OrderedDict[tuple[str, str, datetime], None] = OrderedDict()
        self._vouched: WeakKeyDictionary[Store, bool] = WeakKeyDictionary()
        self._has_warned = False

    @classmethod
    def in_folder(cls, folder: Path) -> CandleCache:
        """In a directory, which is made, and of the size that the settings say. Raises ConfigurationError."""
        found = BlockFolder(folder, Settings.from_environment().cache_limit)
        cache = cls(found)
        found.make()
        return cache

    async def table(
        self, store: Store, symbol: str, interval: Interval, start: datetime, end: datetime
    ) -> pyarrow.Table:
        """The candles that open in ``[start, end)``, oldest first: the columns of frames, exact."""

        async def read(candles: SnapshotCandles) -> pyarrow.Table:
            return await candles.table(symbol, interval, start, end)

        async def attempt(connection: AsyncConnection) -> pyarrow.Table:
            if (found := await self._stored(connection, store, symbol, interval, start, end)) is not None:
                return found
            return await self._in_snapshot(connection, store, read)

        return await store.database.reading(attempt)

    async def between(
        self, store: Store, symbol: str, interval: Interval, start: datetime, end: datetime
    ) -> list[Candle]:
        """As ``CandleRepository.between``, without a limit."""
        table = await self.table(store, symbol, interval, start, end)
        return candles_of_table(symbol, interval, table)

    async def latest(
        self, store: Store, symbol: str, interval: Interval, count: int, before: datetime
    ) -> list[Candle]:
        """As ``CandleRepository.latest``."""
        before, _ = clip_range(before, before)
        reach = first_reach(interval, min(count, _MOST_LATEST))
        for length in (reach, reach * GROWTH):
            if not 0 < count <= _MOST_LATEST or before - FIRST_MOMENT < length or before > store.clock():
                break
            table = await self.table(store, symbol, interval, before - length, before)
            if len(table) >= count:
                return candles_of_table(symbol, interval, table.slice(len(table) - count))
        return await self.snapshot(
            store, lambda candles: candles.latest(symbol, interval, count, before=before)
        )

    async def snapshot(self, store: Store, work: Callable[[CandleRepository], Awaitable[_T]]) -> _T:
        """What ``work`` returns, on a repository that sees one state and takes ranges from the cache.

        It may be called more than once.
        """
        return await store.database.reading(lambda connection: self._in_snapshot(connection, store, work))

    async def _stored(
        self,
        connection: AsyncConnection,
        store: Store,
        symbol: str,
        interval: Interval,
        start: datetime,
        end: datetime,
    ) -> pyarrow.Table | None:
        """The candles of a range if all its blocks are stored: one statement, and so one snapshot."""
        low, high = _market_times(store.clock())
        if start < low or end > high or not await self._is_vouched(connection, store):
            return None
        blocks = _blocks(interval, start, end)
        if not blocks:
            return _joined([], start, end)
        versions = CandleVersionRepository(connection, store.backend)
        state = await versions.state(symbol, interval, blocks[0].start, blocks[-1].end)
        tables = await self.find([_name(state, block) for block in blocks])
        there = [table for table in tables if table is not None]
        return _joined(there, start, end) if len(there) == len(blocks) else None

    async def _in_snapshot(
        self, connection: AsyncConnection, store: Store, work: Callable[[SnapshotCandles], Awaitable[_T]]
    ) -> _T:
        if await self._is_vouched(connection, store):
            for _ in range(_ATTEMPTS):
                candles = SnapshotCandles(connection, store, self)
                async with _one_snapshot(connection):
                    result = await work(candles)
                if await candles.keep():
                    return result
            log.info("the store changes its chunks all the time: read without the cache")
        return await work(SnapshotCandles(connection, store, None))

    async def _is_vouched(self, connection: AsyncConnection, store: Store) -> bool:
        if store not in self._vouched:
            self._vouched[store] = await CandleVersionRepository(connection, store.backend).are_renewed()
            if not self._vouched[store]:
                log.warning(
                    "no cache is used: this database does not say which candles have changed (it has no"
                    " triggers, or gets its candles by logical replication)"
                )
        return self._vouched[store]

    async def find(self, names: Sequence[BlockName]) -> list[pyarrow.Table | None]:
        """The blocks of these names."""
        tables = [self._folder.opened(name) for name in names]
        if any(table is None for table in tables):
            tables = await asyncio.to_thread(lambda: [self._folder.find(name) for name in names])
        return tables

    async def put(self, blocks: Sequence[tuple[BlockName, pyarrow.Table]]) -> None:
        """Store blocks. Where that is not possible, a warning says so, once, and nothing else happens."""

        def put_all() -> None:
            for name, table in blocks:
                self._folder.put(name, table)

        try:
            await asyncio.to_thread(put_all)
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                log.warning("the cache %s cannot be written: %s", self._folder.path, error.strerror or error)

    def is_worth(
        self, symbol: str, interval: Interval, block: _Block, wanted: TimeRange, now: datetime
    ) -> bool:
        """Whether to read all of a block, of which only a part may be wanted.

        A small part is read by itself the first time, and always of a month that still grows.
        """
        part = min(block.end, wanted[1]) - max(block.start, wanted[0])
        if part * _WHOLE >= min(block.end, now) - block.start:
            return True
        if block.end > now:
            return False
        asked = (symbol, str(interval), block.month)
        is_second = asked in self._asked
        self._asked[asked] = None
        if len(self._asked) > _MOST_ASKED:
            self._asked.popitem(last=False)
        return is_second


class SnapshotCandles(CandleRepository):
    """Reads by way of the cache, on a connection whose transaction sees one state of the store.

    Without a cache: as any other repository.
    """

    def __init__(self, connection: AsyncConnection, store: Store, cache: CandleCache | None) -> None:
        super().__init__(connection, store.backend)
        self._snapshot = connection
        self._store = store
        self._cache = cache
        self._read: list[tuple[CandleState, TimeRange]] = []
        self._new: list[tuple[BlockName, pyarrow.Table]] = []

    async def between(
        self,
        symbol: str,
        interval: IntervalLike,
        start: datetime,
        end: datetime,
        limit: int | None = None,
    ) -> list[Candle]:
        if limit is not None or self._cache is None:
            return await super().between(symbol, interval, start, end, limit)
        interval = as_interval(interval)
        return candles_of_table(symbol, interval, await self.table(symbol, interval, start, end))

    async def table(self, symbol: str, interval: Interval, start: datetime, end: datetime) -> pyarrow.Table:
        """The candles that open in ``[start, end)``, oldest first: the columns of frames, exact."""
        start, end = clip_range(start, end)
        low, high = _market_times(self._store.clock())
        if self._cache is None or end <= low or start >= high:
            return await self._from_database(symbol, interval, start, end)
        parts = [await self._inside(symbol, interval, (max(start, low), min(end, high)), (start, end))]
        # As a rule there is nothing.
        if start < low:
            parts.insert(0, await self._from_database(symbol, interval, start, low))
        if end > high:
            parts.append(await self._from_database(symbol, interval, high, end))
        return _joined(parts, start, end)

    async def _inside(
        self, symbol: str, interval: Interval, wanted: TimeRange, all_wanted: TimeRange
    ) -> pyarrow.Table:
        """By blocks; ``all_wanted``: what is read in this snapshot together with it."""
        assert self._cache is not None
        blocks = _blocks(interval, *wanted)
        if not blocks:
            return _joined([], *wanted)
        span = min(blocks[0].start, all_wanted[0]), max(blocks[-1].end, all_wanted[1])
        versions = CandleVersionRepository(self._snapshot, self._store.backend)
        state = await versions.state(symbol, interval, *span)
        self._read.append((state, span))
        tables = await self._cache.find([_name(state, block) for block in blocks])
        found = {block: table for block, table in zip(blocks, tables, strict=True) if table is not None}
        missing = [block for block in blocks if block not in found]
        found |= await self._read_blocks(state, missing, wanted)
        return _joined([found[block] for block in blocks], *wanted)

    async def _read_blocks(
        self, state: CandleState, missing: Sequence[_Block], wanted: TimeRange
    ) -> dict[_Block, pyarrow.Table]:
        """Blocks from the database, those that follow each other at once; of some only what is wanted."""
        assert self._cache is not None
        symbol, interval, now = state.symbol, state.interval, self._store.clock()
        worth = [block for block in missing if self._cache.is_worth(symbol, interval, block, wanted, now)]
        found = {}
        for block in missing:
            if block not in worth:
                start, end = max(block.start, wanted[0]), min(block.end, wanted[1])
                found[block] = await self._from_database(symbol, interval, start, end)
        for run in _runs(worth):
            rows = await self._from_database(symbol, interval, run[0].start, run[-1].end)
            for block in run:
                # Not a slice, which would keep the rows of all the others.
                found[block] = _cut(rows, block.start, block.end).combine_chunks()
                self._new.append((_name(state, block), found[block]))
        return found

    async def _from_database(
        self, symbol: str, interval: Interval, start: datetime, end: datetime
    ) -> pyarrow.Table:
        blocks = self.csv_between(symbol, interval, start, end, "frame")
        table: pyarrow.Table = await read_frame(blocks, frame_builder("arrow", "decimal", CANDLE_COLUMNS))
        return table

    async def keep(self) -> bool:
        """After the transaction: store what was read; False if it may be spoiled.

        Rows of a chunk that is dropped or packed meanwhile vanish even from snapshots that should see them.
        """
        versions = CandleVersionRepository(self._snapshot, self._store.backend)
        for state, span in self._read:
            now = await versions.state(state.symbol, state.interval, *span)
            if now.layout != state.layout:
                return False
        if self._new:
            assert self._cache is not None
            await self._cache.put(self._new)
        return True


@asynccontextmanager
async def _one_snapshot(connection: AsyncConnection) -> AsyncIterator[None]:
    await connection.execution_options(isolation_level="REPEATABLE READ")
    async with connection.begin():
        yield


def _market_times(now: datetime) -> TimeRange:
    """The months in which market data can be. Whatever else somebody has stored is read without the cache."""
    return FIRST_MOMENT, next_month(month_of(now))


def _blocks(interval: Interval, start: datetime, end: datetime) -> list[_Block]:
    """The blocks that hold the candles that open in ``[start, end)``; a month without any has none."""
    if start >= end:
        return []
    found = []
    for month in months_of(start, end):
        first, last = interval.next_open(month), interval.next_open(next_month(month))
        if first < last and first < end and start < last:
            found.append(_Block(month, first, last))
    return found


def _runs(blocks: Sequence[_Block]) -> list[list[_Block]]:
    """Blocks that follow each other, together."""
    runs: list[list[_Block]] = []
    for block in blocks:
        if runs and runs[-1][-1].end == block.start:
            runs[-1].append(block)
        else:
            runs.append([block])
    return runs


def _name(state: CandleState, block: _Block) -> BlockName:
    stamp = state.stamp(block.start, block.end)
    return BlockName(state.symbol, str(state.interval), block.month, state.of_store, stamp)


# --- tables ---

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MINUTE = 60_000_000
_MINUTES = [timedelta(minutes=minute) for minute in range(1440)]


def _joined(tables: Sequence[pyarrow.Table], start: datetime, end: datetime) -> pyarrow.Table:
    """Tables that follow each other, cut to ``[start, end)``; nothing is copied."""
    import pyarrow as pa

    parts = [_cut(table, start, end) for table in tables]
    return pa.concat_tables(parts) if parts else arrow_schema(CANDLE_COLUMNS, "decimal").empty_table()


def _cut(table: pyarrow.Table, start: datetime, end: datetime) -> pyarrow.Table:
    stamps = _Stamps(table["timestamp"])
    first, last = (bisect.bisect_left(stamps, (at - _EPOCH) // _MICROSECOND) for at in (start, end))
    return table.slice(first, last - first)


class _Stamps(Sequence[int]):
    """Microseconds since 1970, without a list of all of them."""

    def __init__(self, column: pyarrow.ChunkedArray) -> None:
        self._column = column.cast("int64")

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, index: Any) -> Any:
        return self._column[index].as_py()


def candles_of_table(symbol: str, interval: Interval, table: pyarrow.Table) -> list[Candle]:
    """The rows of a table as the database would have given them."""
    with collector_paused():
        columns = [_moments(table["timestamp"])]
        for column in CANDLE_COLUMNS[1:]:
            values = table[column.name]
            if column.kind == "count":
                columns.append(values.to_pylist())
            elif column.name in _REPEATED:
                columns.append(_repeated_decimals(values))
            else:
                columns.append(_decimals(values.chunks))
        return candles_of_columns(symbol, interval, columns)


# Prices come again and again in a month; volumes and means hardly ever.
_REPEATED = ("open", "high", "low", "close")


# No digit of a product is rounded in it, whatever the caller's own context is.
_EXACT = Context(prec=60)


def _decimals(chunks: Sequence[pyarrow.Array]) -> list[Any]:
    """As the driver gives them: faster than what Arrow does."""
    found: list[Any] = []
    for chunk in chunks:
        units = None if chunk.null_count else _units(chunk)
        if units is None:
            texts = chunk.cast("string").to_pylist()
            found += [None if text is None else Decimal(text) for text in texts]
        else:
            found += map(_EXACT.multiply, units, repeat(Decimal((0, (1,), -chunk.type.scale))))
    return found


def _units(chunk: pyarrow.Array) -> list[int] | None:
    """The numbers as multiples of the last digit; None where one does not fit into 64 bits."""
    import numpy as np

    _, values = chunk.buffers()
    halves = np.frombuffer(values, "<i8").reshape(-1, 2)[chunk.offset : chunk.offset + len(chunk)]
    low, high = halves[:, 0], halves[:, 1]
    return low.tolist() if (high == low >> 63).all() else None


def _repeated_decimals(column: pyarrow.ChunkedArray) -> list[Any]:
    """The same of values that are not missing: each of them is made once."""
    import numpy as np

    found: list[Any] = []
    for chunk in column.chunks:
        coded = chunk.dictionary_encode()
        values = np.array(_decimals([coded.dictionary]), object)
        found += values[coded.indices.to_numpy()].tolist()
    return found


def _moments(column: pyarrow.ChunkedArray) -> list[Any]:
    import numpy as np

    numbers = column.cast("int64").to_numpy()
    minutes, rest = np.divmod(numbers, _MINUTE)
    if rest.any():
        return [_EPOCH + number * _MICROSECOND for number in numbers.tolist()]
    # Of each day and of each minute of a day there are few.
    days, minutes = np.divmod(minutes, len(_MINUTES))
    opens = {day: _EPOCH + timedelta(days=day) for day in np.unique(days).tolist()}
    return list(map(add, map(opens.__getitem__, days.tolist()), map(_MINUTES.__getitem__, minutes.tolist())))

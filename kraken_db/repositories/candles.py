"""Candles as the application reads them. Rows become objects by the hundred thousand."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends import Backend
from kraken_db.backends.reaches import CANDLE_REACH, known_span, reaches
from kraken_db.data_types import DataType
from kraken_db.db.copy import BLOCK_SIZE, copy_csv_out
from kraken_db.db.driver import collector_paused, fetch
from kraken_db.intervals import BASE_INTERVAL, Interval, IntervalLike, as_interval
from kraken_db.ranges import TimeRange
from kraken_db.repositories.candle_files import CandleFile, CandleSource, find_candle_source
from kraken_db.repositories.candle_statements import (
    Layout,
    WantedCandles,
    select_candles,
    select_checksum,
)
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.retention import RetentionRepository
from kraken_db.repositories.text_layouts import Checksum
from kraken_db.types import Candle

_MINUTE = timedelta(minutes=1)
_SETTERS = tuple(vars(Candle)[field.name].__set__ for field in fields(Candle))
_SET_INTERVAL = vars(Candle)["interval_minutes"].__set__


def build_candles(symbol: str, interval: int, rows: Iterable[Sequence[Any]]) -> list[Candle]:
    """Candles of rows with timestamp, open, high, low, close, volume, trade_count, vwap.

    The same objects as ``Candle(...)`` makes, in half the time: a frozen class goes through
    ``object.__setattr__`` for each field, and finds the field by its name again each time.
    """
    new = object.__new__
    (
        set_symbol,
        set_timestamp,
        set_interval,
        set_open,
        set_high,
        set_low,
        set_close,
        set_volume,
        set_trade_count,
        set_vwap,
    ) = _SETTERS
    candles: list[Candle] = []
    append = candles.append
    for timestamp, open_, high, low, close, volume, trade_count, vwap in rows:
        candle = new(Candle)
        set_symbol(candle, symbol)
        set_timestamp(candle, timestamp)
        set_interval(candle, interval)
        set_open(candle, open_)
        set_high(candle, high)
        set_low(candle, low)
        set_close(candle, close)
        set_volume(candle, volume)
        set_trade_count(candle, trade_count)
        set_vwap(candle, vwap)
        append(candle)
    return candles


def candles_of_columns(symbol: str, interval: Interval, columns: Sequence[Sequence[Any]]) -> list[Candle]:
    """Candles of the columns timestamp, open, high, low, close, volume, trade_count, vwap, in order of time.

    No line of Python runs for each of them.
    """
    with collector_paused():
        candles = list(map(object.__new__, repeat(Candle, len(columns[0]))))
        timestamps, *values = columns
        of_fields = (repeat(symbol), timestamps, repeat(_minutes(interval)), *values)
        for set_field, field_values in zip(_SETTERS, of_fields, strict=True):
            deque(map(set_field, candles, field_values), maxlen=0)
        return _with_lengths(candles, interval)


def _minutes(interval: Interval) -> int:
    """The length of all candles; 0 where they differ."""
    return 0 if interval.grid is None else interval.grid[0] // _MINUTE


# How far a search for the latest N minutes reaches at first, in lengths of N candles, and by how much the
# search grows: quiet markets have no row for most of their minutes. Longer intervals are rarely empty.
_FIRST_REACH, GROWTH = 2, 8
# All that a market has, and no list of open times that is long.
_LONG = timedelta(days=50 * 365)
# No candle is older than Unix time, or than the week in which that begins; and the last year that a
# datetime can hold is left as room for rounding.
_FIRST, _LAST = datetime(1969, 12, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class CandleRepository:
    """Reads candles of any interval on the caller's connection; never commits.

    Ranges are half-open, lists are oldest first, times are UTC. An interval is what ``as_interval`` takes.
    Candles above 1m are computed from minutes; those that are older than them may be rows of an imported
    file: see ``file_of``.
    """

    def __init__(self, connection: AsyncConnection | AsyncSession, backend: Backend) -> None:
        self._connection = connection
        self._backend = backend

    async def between(
        self,
        symbol: str,
        interval: IntervalLike,
        start: datetime,
        end: datetime,
        limit: int | None = None,
    ) -> list[Candle]:
        """The candles that open in ``[start, end)``; with ``limit`` the oldest so many of them."""
        found: list[Candle] = []
        for wanted in await self._pieces(symbol, as_interval(interval), start, end, limit):
            found += await self._fetch(wanted, limit=None if limit is None else limit - len(found))
            if limit is not None and len(found) >= limit:
                break
        return found

    async def csv_between(
        self,
        symbol: str,
        interval: IntervalLike,
        start: datetime,
        end: datetime,
        layout: Layout,
        *,
        limit: int | None = None,
        block_size: int = BLOCK_SIZE,
    ) -> AsyncGenerator[bytes]:
        """The candles that open in ``[start, end)`` as CSV in blocks of whole rows, oldest first.

        Layouts as in ``select_candles``. Nothing else may use the
        connection until the last block has been taken.
        """
        left = limit
        for wanted in await self._pieces(symbol, as_interval(interval), start, end, limit):
            statement = select_candles(self._backend, wanted, limit=left, layout=layout)
            async with aclosing(copy_csv_out(self._connection, statement, block_size)) as blocks:
                async for block in blocks:
                    left = None if left is None else left - block.count(b"\n")
                    yield block
            if left == 0:
                return

    async def checksum(self, symbol: str, interval: IntervalLike, start: datetime, end: datetime) -> Checksum:
        """Of the candles that open in ``[start, end)``, with all columns."""
        (wanted,) = await self._pieces(symbol, as_interval(interval), start, end, None)
        rows = await fetch(self._connection, select_checksum(self._backend, wanted))
        return Checksum.of(rows[0])

    async def _pieces(
        self, symbol: str, interval: Interval, start: datetime, end: datetime, limit: int | None
    ) -> list[WantedCandles]:
        """What to read one after the other until there are ``limit`` candles; as a rule, all at once."""
        source = await find_candle_source(self._connection, symbol, interval)
        start, end = clip_range(start, end)
        is_long = interval.stored is None and limit is not None
        if is_long or (interval.grid is None and end - start > _LONG):
            # A list of all months that there will ever be is long, and so is a rollup for a few rows of it.
            bounds = await self._bounds(symbol, interval, source)
            if bounds is None:
                start = end
            else:
                start, end = max(start, bounds[0]), min(end, interval.closed_at(bounds[1]))
        parts = [(start, max(start, end))]
        if is_long and limit is not None and start < end:
            parts = list(reaches(start, end, first_reach(interval, min(limit, _most(interval, start, end)))))
        return [WantedCandles(symbol, interval, source, *part) for part in parts]

    async def filled(
        self, symbol: str, interval: IntervalLike, start: datetime, end: datetime
    ) -> list[Candle]:
        """As ``between``, with flat candles in the quiet intervals that are known to be complete."""
        interval = as_interval(interval)
        stored = await self.extent(symbol, interval, fill=True)
        if stored is None:
            return []
        start, end = max(start, stored[0]), min(end, stored[1])
        if start >= end:
            return []
        found = await self.between(symbol, interval, start, end)
        before = await self.latest(symbol, interval, 1, before=start)
        quiet = _open_times(await self._known(symbol, interval), interval, start, end)
        return _with_lengths(flat_candles(found, before[-1] if before else None, quiet), interval)

    async def latest(
        self, symbol: str, interval: IntervalLike, count: int, *, before: datetime | None = None
    ) -> list[Candle]:
        """The newest ``count`` candles, of those that open before ``before`` if it is given.

        Looks at the newest stretch of time first and widens it only while too few were found there.
        """
        if count <= 0:
            return []
        interval = as_interval(interval)
        found = await self._latest_at_known_end(symbol, interval, count, before)
        if len(found) == count:
            return found[::-1]
        source = await find_candle_source(self._connection, symbol, interval)
        bounds = await self._bounds(symbol, interval, source)
        if bounds is None:
            return []
        oldest, newest = bounds
        end = interval.closed_at(newest)
        if before is not None:
            end = min(end, before)
        if end <= oldest:
            return []
        # Any count is allowed: a time that far back may not exist.
        count = min(count, _most(interval, oldest, end))
        reach = first_reach(interval, count)
        while True:
            start = max(oldest, end - reach) if reach < end - oldest else oldest
            wanted = WantedCandles(symbol, interval, source, start, end)
            found = await self._fetch(wanted, limit=count, newest_first=True)
            if len(found) >= count or start <= oldest:
                return found[::-1]
            reach *= GROWTH

    async def _latest_at_known_end(
        self, symbol: str, interval: Interval, count: int, before: datetime | None
    ) -> list[Candle]:
        """The same, newest first, if there are so many around the newest known minute: then no look-up has
        to find out where the candles begin and end. Perhaps fewer, else.
        """
        if interval.grid is None:
            return []  # it has to be known up to when months are counted
        known = await known_span(self._connection, symbol, DataType.CANDLES_1M)
        if known is None:
            return []
        stop = _LAST if before is None else min(before, _LAST)
        end = min(interval.closed_at(interval.opened_at(known.newest)), stop)
        if count >= (end - known.oldest) // interval.longest:
            return []
        source = CandleSource(interval.level, None)
        *beyond, (_, near) = known.newer(CANDLE_REACH, stop)
        for first, last in beyond:
            later = WantedCandles(symbol, interval, source, first, last)
            if first < last and await self._fetch(later, limit=1):
                return []
        start = end - first_reach(interval, count)
        newest = WantedCandles(symbol, interval, source, start, min(near, stop))
        return await self._fetch(newest, limit=count, newest_first=True)

    async def bounds(
        self, symbol: str, interval: IntervalLike = BASE_INTERVAL
    ) -> tuple[datetime, datetime] | None:
        """The open times of the oldest and the newest candle; None if there is none."""
        interval = as_interval(interval)
        source = await find_candle_source(self._connection, symbol, interval)
        return await self._bounds(symbol, interval, source)

    async def file_of(self, symbol: str, interval: IntervalLike) -> CandleFile | None:
        """Which candles of the interval are rows of an imported file, or computed from some.

        None where all are computed from minutes.
        """
        interval = as_interval(interval)
        file = (await find_candle_source(self._connection, symbol, interval)).file
        if file is None or interval.stored is not None:
            return file
        return CandleFile(interval.opened_at(file.start), interval.next_open(file.end), file.is_all)

    async def _bounds(
        self, symbol: str, interval: Interval, source: CandleSource
    ) -> tuple[datetime, datetime] | None:
        file, computed = source.file, None
        if file is None or not file.is_all:
            computed = await self._backend.edges(self._connection, symbol, source.level)
        oldest = await self._edge_of_file(symbol, source, file, newest=False) if file is not None else None
        if file is None or oldest is None:
            found = computed
        elif computed is not None:
            found = oldest, computed[1]
        else:
            found = oldest, await self._edge_of_file(symbol, source, file, newest=True) or oldest
        return found and (interval.opened_at(found[0]), interval.opened_at(found[1]))

    async def _edge_of_file(
        self, symbol: str, source: CandleSource, file: CandleFile, *, newest: bool
    ) -> datetime | None:
        """None where somebody has taken all its rows away."""
        level = as_interval(source.level)
        begin, stop = (file.end, file.start) if newest else (file.start, file.end)
        for start, end in reaches(begin, stop, CANDLE_REACH):
            wanted = WantedCandles(symbol, level, source, start, end)
            found = await self._fetch(wanted, limit=1, newest_first=newest)
            if found:
                return found[0].timestamp
        return None

    async def extent(
        self, symbol: str, interval: IntervalLike, *, fill: bool = False
    ) -> tuple[datetime, datetime] | None:
        """The range ``[start, end)`` outside of which nothing is found, with ``fill`` by ``filled``."""
        interval = as_interval(interval)
        bounds = await self.bounds(symbol, interval)
        if bounds is None:
            return None
        known = await self._known(symbol, interval) if fill else ()
        return bounds[0], max([interval.closed_at(bounds[1]), *(end for _, end in known)])

    async def _known(self, symbol: str, interval: Interval) -> Sequence[TimeRange]:
        # Not where only the trades are known: their candles may not have been built yet.
        if interval.level == BASE_INTERVAL:
            # Minutes that retention has dropped were not quiet; higher candles outlive them.
            return await RetentionRepository(self._connection).still_stored(symbol, DataType.CANDLES_1M)
        return await CoverageRepository(self._connection).covered(symbol, DataType.CANDLES_1M)

    async def _fetch(
        self, wanted: WantedCandles, *, limit: int | None, newest_first: bool = False
    ) -> list[Candle]:
        statement = select_candles(self._backend, wanted, limit=limit, newest_first=newest_first)
        interval = wanted.interval
        with collector_paused():
            rows = await fetch(self._connection, statement)
            return _with_lengths(build_candles(wanted.symbol, _minutes(interval), rows), interval)


def _most(interval: Interval, start: datetime, end: datetime) -> int:
    """No more candles open in ``[start, end)``."""
    return (end - start) // (_MINUTE if interval.grid is None else interval.longest) + 1


def first_reach(interval: Interval, count: int) -> timedelta:
    """How far back a search for the latest ``count`` candles looks at first."""
    return interval.longest * count * (_FIRST_REACH if interval.level == BASE_INTERVAL else 1)


def clip_range(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """What of a range can hold market data: arithmetic with the result does not overflow."""
    return min(max(start, _FIRST), _LAST), max(min(end, _LAST), _FIRST)


def _open_times(
    known: Sequence[tuple[datetime, datetime]], interval: Interval, start: datetime, end: datetime
) -> list[datetime]:
    """The candles that open in ``[start, end)`` and lie as a whole in one of the known ranges."""
    opens: set[datetime] = set()
    for first, last in known:
        found = interval.opens(max(first, start), min(last, end))
        if found and interval.closed_at(found[-1]) > last:
            found.pop()
        opens.update(found)
    return sorted(opens)


def _with_lengths(candles: list[Candle], interval: Interval) -> list[Candle]:
    """The same ones; where they differ in length, each with its own."""
    if interval.grid is None and candles:
        first, last = sorted((candles[0].timestamp, candles[-1].timestamp))
        end = interval.closed_at(last)
        opens = interval.opens(first, end)
        closes = [*opens[1:], end]
        lengths = {opened: (closed - opened) // _MINUTE for opened, closed in zip(opens, closes, strict=True)}
        for candle in candles:
            _SET_INTERVAL(candle, lengths[candle.timestamp])
    return candles


def flat_candles(
    candles: Sequence[Candle],
    previous: Candle | None,
    opens: Sequence[datetime],
) -> list[Candle]:
    """``candles`` with a flat one, at the last close and without volume, at every other of ``opens``.

    Moments before the first known close stay empty: there is no price to repeat.
    """
    by_time = {candle.timestamp: candle for candle in candles}
    filled: list[Candle] = []
    last = previous
    for moment in sorted({*opens, *by_time}):
        candle = by_time.get(moment)
        if candle is None and last is not None:
            price, zero = last.close, last.volume - last.volume
            candle = Candle(
                last.symbol, moment, last.interval_minutes, price, price, price, price, zero, 0, None
            )
        if candle is not None:
            filled.append(candle)
            last = candle
    return filled

"""Candles as the application reads them.

The statements are made once for each interval and not once for each call: to put one together and to render
it takes longer than the database needs for a short list. Rows become objects by the hundred thousand.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from sqlalchemy import ColumnElement, FromClause, Select, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends import Backend
from kraken_db.backends.reaches import CANDLE_REACH, known_span, reaches
from kraken_db.data_types import DataType
from kraken_db.db.copy import BLOCK_SIZE, copy_csv_out
from kraken_db.db.driver import CompiledStatement, collector_paused, fetch
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval, interval_length
from kraken_db.models import CANDLES
from kraken_db.ranges import TimeRange
from kraken_db.repositories.candle_files import CandleFile, find_candle_file
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.retention import RetentionRepository
from kraken_db.repositories.text_layouts import (
    Checksum,
    checksum,
    epoch_microseconds,
    epoch_seconds,
    kraken_price,
    kraken_volume,
)
from kraken_db.types import Candle

Layout: TypeAlias = Literal["values", "frame", "file", "kraken"]
"""Which columns are read: see ``_COLUMNS``."""

_Origin: TypeAlias = Literal["computed", "file", "both"]
"""Where the candles of a range come from: see ``candle_files``."""

# What stands in a statement until it is used. Mondays: candles of every interval open there.
_SYMBOL, _LIMIT = "\0symbol", 2**61 + 1
_START, _END = datetime(1970, 1, 5, tzinfo=UTC), datetime(9998, 12, 28, tzinfo=UTC)
_BORDER = datetime(1970, 1, 12, tzinfo=UTC)


def select_candles(
    backend: Backend,
    symbol: str,
    interval: int,
    start: datetime,
    end: datetime,
    *,
    limit: int | None = None,
    newest_first: bool = False,
    layout: Layout = "values",
    file: CandleFile | None = None,
) -> CompiledStatement:
    """The candles that open in ``[start, end)`` in order; with ``limit`` the first so many of them.

    ``file``: what ``find_candle_file`` says of the symbol and interval.

    ``values``: timestamp, open, high, low, close, volume, trade_count, vwap, as Python has them. ``frame``:
    the same for a data frame, its time in microseconds since 1970. ``file``: and quote_volume. ``kraken``: a
    row of Kraken's archive, as text.
    """
    statement = _candles(backend, interval, newest_first, layout, _origin(file, start, end))
    return statement.replacing({**_values(symbol, interval, start, end, file), _LIMIT: limit})


def select_checksum(
    backend: Backend,
    symbol: str,
    interval: int,
    start: datetime,
    end: datetime,
    file: CandleFile | None = None,
) -> CompiledStatement:
    """One row about the candles that open in ``[start, end)``: see ``text_layouts.checksum``."""
    statement = _checksum(backend, interval, _origin(file, start, end))
    return statement.replacing(_values(symbol, interval, start, end, file))


def _origin(file: CandleFile | None, start: datetime, end: datetime) -> _Origin:
    if file is None or (start >= file.end and not file.is_all):
        return "computed"
    return "file" if file.is_all or end <= file.end else "both"


def _values(
    symbol: str, interval: int, start: datetime, end: datetime, file: CandleFile | None
) -> dict[object, Any]:
    # To begin between two candles is to begin with the next one, for every kind of database.
    first, last = ceil_to_interval(start, interval), ceil_to_interval(end, interval)
    return {_SYMBOL: symbol, _START: first, _END: last, _BORDER: file and file.end}


def _columns(c: Any, layout: Layout) -> Sequence[ColumnElement[Any]]:
    trades = func.coalesce(c.trade_count, 0)
    if layout == "kraken":
        prices = (kraken_price(price) for price in (c.open, c.high, c.low, c.close))
        return (epoch_seconds(c.timestamp), *prices, kraken_volume(c.volume), trades)
    moment = c.timestamp if layout == "values" else epoch_microseconds(c.timestamp)
    columns = (moment, c.open, c.high, c.low, c.close, c.volume, trades, c.vwap)
    return (*columns, c.quote_volume) if layout == "file" else columns


@lru_cache(maxsize=256)
def _candles(
    backend: Backend, interval: int, newest_first: bool, layout: Layout, origin: _Origin
) -> CompiledStatement:
    c = _source(backend, interval, origin).c
    order = c.timestamp.desc() if newest_first else c.timestamp
    return _compiled(select(*_columns(c, layout)).order_by(order).limit(_LIMIT))


@lru_cache(maxsize=64)
def _checksum(backend: Backend, interval: int, origin: _Origin) -> CompiledStatement:
    c = _source(backend, interval, origin).c
    return _compiled(checksum(c.timestamp, _columns(c, "file")))


def _source(backend: Backend, interval: int, origin: _Origin) -> FromClause:
    if origin == "computed":
        return backend.candles_between(_SYMBOL, interval, _START, _END).subquery("c")
    if origin == "file":
        return _rows_of_file(interval, _START, _END).subquery("c")
    computed = backend.candles_between(_SYMBOL, interval, _BORDER, _END).subquery()
    columns = [computed.c[column.name] for column in CANDLES.c]
    return union_all(_rows_of_file(interval, _START, _BORDER), select(*columns)).subquery("c")


def _rows_of_file(interval: int, start: datetime, end: datetime) -> Select[*tuple[Any, ...]]:
    c = CANDLES.c
    return select(CANDLES).where(
        c.symbol == _SYMBOL, c.interval_minutes == interval, c.timestamp >= start, c.timestamp < end
    )


def _compiled(statement: Select[*tuple[Any, ...]]) -> CompiledStatement:
    compiled = CompiledStatement.of(statement)
    for value in compiled.values:
        # One that was computed from a marker would stay as it is for every caller.
        assert value in (_START, _END, _BORDER) or not isinstance(value, datetime), value
    return compiled


_SETTERS = tuple(vars(Candle)[field.name].__set__ for field in fields(Candle))


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


# How far a search for the latest N minutes reaches at first, in lengths of N candles, and by how much the
# search grows: quiet markets have no row for most of their minutes. Longer intervals are rarely empty.
_FIRST_REACH, _GROWTH = 2, 8
# No candle is older than Unix time, or than the week in which that begins; and the last year that a
# datetime can hold is left as room for rounding.
_FIRST, _LAST = datetime(1969, 12, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class CandleRepository:
    """Reads candles of every interval on the caller's connection; never commits.

    Ranges are half-open, lists are oldest first, times are UTC. Candles above 1m are computed from minutes;
    those that are older than them may be rows of an imported file: see ``file_of``.
    """

    def __init__(self, connection: AsyncConnection | AsyncSession, backend: Backend) -> None:
        self._connection = connection
        self._backend = backend

    async def between(
        self, symbol: str, interval: int, start: datetime, end: datetime, limit: int | None = None
    ) -> list[Candle]:
        """The candles that open in ``[start, end)``; with ``limit`` the oldest so many of them."""
        file = await self.file_of(symbol, interval)
        return await self._fetch(symbol, interval, *clip_range(start, end), limit=limit, file=file)

    async def csv_between(
        self,
        symbol: str,
        interval: int,
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
        file = await self.file_of(symbol, interval)
        statement = select_candles(
            self._backend, symbol, interval, *clip_range(start, end), limit=limit, layout=layout, file=file
        )
        async with aclosing(copy_csv_out(self._connection, statement, block_size)) as blocks:
            async for block in blocks:
                yield block

    async def checksum(self, symbol: str, interval: int, start: datetime, end: datetime) -> Checksum:
        """Of the candles that open in ``[start, end)``, with all columns."""
        file = await self.file_of(symbol, interval)
        statement = select_checksum(self._backend, symbol, interval, *clip_range(start, end), file)
        rows = await fetch(self._connection, statement)
        return Checksum.of(rows[0])

    async def filled(self, symbol: str, interval: int, start: datetime, end: datetime) -> list[Candle]:
        """As ``between``, with flat candles in the quiet intervals that are known to be complete."""
        stored = await self.extent(symbol, interval, fill=True)
        if stored is None:
            return []
        start, end = max(start, stored[0]), min(end, stored[1])
        if start >= end:
            return []
        found = await self.between(symbol, interval, start, end)
        before = await self.latest(symbol, interval, 1, before=start)
        quiet = _open_times(await self._known(symbol, interval), interval, start, end)
        return flat_candles(found, before[-1] if before else None, quiet)

    async def latest(
        self, symbol: str, interval: int, count: int, *, before: datetime | None = None
    ) -> list[Candle]:
        """The newest ``count`` candles, of those that open before ``before`` if it is given.

        Looks at the newest stretch of time first and widens it only while too few were found there.
        """
        if count <= 0:
            return []
        found = await self._latest_at_known_end(symbol, interval, count, before)
        if len(found) == count:
            return found[::-1]
        file = await self.file_of(symbol, interval)
        bounds = await self._bounds(symbol, interval, file)
        if bounds is None:
            return []
        oldest, newest = bounds
        length = interval_length(interval)
        end = newest + length
        if before is not None:
            end = min(end, before)
        if end <= oldest:
            return []
        # Any count is allowed: a time that far back may not exist.
        count = min(count, (end - oldest) // length + 1)
        reach = _first_reach(interval, count)
        while True:
            start = max(oldest, end - reach) if reach < end - oldest else oldest
            found = await self._fetch(symbol, interval, start, end, limit=count, newest_first=True, file=file)
            if len(found) >= count or start <= oldest:
                return found[::-1]
            reach *= _GROWTH

    async def _latest_at_known_end(
        self, symbol: str, interval: int, count: int, before: datetime | None
    ) -> list[Candle]:
        """The same, newest first, if there are so many around the newest known minute: then no look-up has
        to find out where the candles begin and end. Perhaps fewer, else.
        """
        known = await known_span(self._connection, symbol, DataType.CANDLES_1M)
        if known is None:
            return []
        length = interval_length(interval)
        stop = _LAST if before is None else min(before, _LAST)
        end = min(floor_to_interval(known.newest, interval) + length, stop)
        if count >= (end - known.oldest) // length:
            return []
        *beyond, (_, near) = known.newer(CANDLE_REACH, stop)
        for first, last in beyond:
            if first < last and await self._fetch(symbol, interval, first, last, limit=1):
                return []
        start = end - _first_reach(interval, count)
        return await self._fetch(symbol, interval, start, min(near, stop), limit=count, newest_first=True)

    async def bounds(self, symbol: str, interval: int = BASE_INTERVAL) -> tuple[datetime, datetime] | None:
        """The open times of the oldest and the newest candle; None if there is none."""
        return await self._bounds(symbol, interval, await self.file_of(symbol, interval))

    async def file_of(self, symbol: str, interval: int) -> CandleFile | None:
        """Which candles of the interval are rows of an imported file; None where all are computed."""
        return await find_candle_file(self._connection, symbol, interval)

    async def _bounds(
        self, symbol: str, interval: int, file: CandleFile | None
    ) -> tuple[datetime, datetime] | None:
        computed = None
        if file is None or not file.is_all:
            computed = await self._backend.edges(self._connection, symbol, interval)
        oldest = await self._edge_of_file(symbol, interval, file, newest=False) if file is not None else None
        if file is None or oldest is None:
            return computed
        if computed is not None:
            return oldest, computed[1]
        return oldest, await self._edge_of_file(symbol, interval, file, newest=True) or oldest

    async def _edge_of_file(
        self, symbol: str, interval: int, file: CandleFile, *, newest: bool
    ) -> datetime | None:
        """None where somebody has taken all its rows away."""
        begin, stop = (file.end, file.start) if newest else (file.start, file.end)
        for start, end in reaches(begin, stop, CANDLE_REACH):
            found = await self._fetch(symbol, interval, start, end, limit=1, newest_first=newest, file=file)
            if found:
                return found[0].timestamp
        return None

    async def extent(
        self, symbol: str, interval: int, *, fill: bool = False
    ) -> tuple[datetime, datetime] | None:
        """The range ``[start, end)`` outside of which nothing is found, with ``fill`` by ``filled``."""
        bounds = await self.bounds(symbol, interval)
        if bounds is None:
            return None
        known = await self._known(symbol, interval) if fill else ()
        return bounds[0], max([bounds[1] + interval_length(interval), *(end for _, end in known)])

    async def _known(self, symbol: str, interval: int) -> Sequence[TimeRange]:
        # Not where only the trades are known: their candles may not have been built yet.
        if interval == BASE_INTERVAL:
            # Minutes that retention has dropped were not quiet; higher candles outlive them.
            return await RetentionRepository(self._connection).still_stored(symbol, DataType.CANDLES_1M)
        return await CoverageRepository(self._connection).covered(symbol, DataType.CANDLES_1M)

    async def _fetch(
        self,
        symbol: str,
        interval: int,
        start: datetime,
        end: datetime,
        *,
        limit: int | None,
        newest_first: bool = False,
        file: CandleFile | None = None,
    ) -> list[Candle]:
        statement = select_candles(
            self._backend, symbol, interval, start, end, limit=limit, newest_first=newest_first, file=file
        )
        with collector_paused():
            return build_candles(symbol, interval, await fetch(self._connection, statement))


def _first_reach(interval: int, count: int) -> timedelta:
    return interval_length(interval) * count * (_FIRST_REACH if interval == BASE_INTERVAL else 1)


def clip_range(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """What of a range can hold market data: arithmetic with the result does not overflow."""
    return min(max(start, _FIRST), _LAST), max(min(end, _LAST), _FIRST)


def _open_times(
    known: Sequence[tuple[datetime, datetime]], interval: int, start: datetime, end: datetime
) -> list[datetime]:
    """The candles that open in ``[start, end)`` and lie as a whole in one of the known ranges."""
    length = interval_length(interval)
    opens: set[datetime] = set()
    for first, last in known:
        moment = ceil_to_interval(max(first, start), interval)
        while moment < end and moment + length <= last:
            opens.add(moment)
            moment += length
    return sorted(opens)


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

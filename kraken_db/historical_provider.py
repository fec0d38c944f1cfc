"""HistoricalDataProvider: stored history for backtests and for the warm-up of strategies.

Replay reads ahead in stretches of bounded size, and hands candles out at the pace of the market.
"""

from __future__ import annotations

import asyncio
import operator
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, tzinfo
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.cache import Cache, CandleCache, cache_folder
from kraken_db.data_types import DataType
from kraken_db.errors import ConfigurationError, KrakenDBError
from kraken_db.frames import (
    CANDLE_COLUMNS,
    TRADE_COLUMNS,
    FrameBackend,
    Numbers,
    candle_blocks,
    frame_builder,
    frame_of_table,
    newest_rows,
    read_frame,
)
from kraken_db.intervals import (
    INTERVAL_VIEWS,
    Interval,
    IntervalLike,
    as_interval,
)
from kraken_db.pairs import parse_symbol
from kraken_db.ranges import TimeRange, union
from kraken_db.repositories.candles import CandleRepository, clip_range
from kraken_db.repositories.sync_status import SyncStatus, SyncStatusRepository
from kraken_db.repositories.trades import TradeRepository
from kraken_db.settings import Settings
from kraken_db.store import StoreService
from kraken_db.times import Moment, to_moment
from kraken_db.types import Candle, HistoricalTrade

Fill: TypeAlias = Literal["previous"]
_MOST = 2**60
_T = TypeVar("_T")


_EVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def to_range(start: Moment | None, end: Moment | None, now: datetime, zone: tzinfo = UTC) -> TimeRange:
    """From the first moment on without a start, until the last one without an end.

    ``zone``: of dates and texts that name none.
    """
    return (
        _EVER[0] if start is None else to_moment(start, "start", now, zone),
        _EVER[1] if end is None else to_moment(end, "end", now, zone),
    )


def check_count(count: int, name: str) -> int:
    """A number of rows that the database can be asked for."""
    try:
        number = operator.index(count)
    except TypeError:
        raise ConfigurationError(f"{name} is not a whole number: {count!r}") from None
    if number < 0:
        raise ConfigurationError(f"{name} is negative: {count}")
    return min(number, _MOST)


def check_limit(limit: int | None) -> int | None:
    return None if limit is None else check_count(limit, "limit")


def check_fill(fill: str | None) -> None:
    if fill not in (None, "previous"):
        raise ConfigurationError(f"fill={fill!r} is not known", hint="use fill='previous' or leave it out")


def check_speed(speed: float) -> None:
    if not speed >= 0:  # NaN is not
        raise ConfigurationError(f"speed is negative: {speed}" if speed < 0 else f"speed is {speed}")


def check_symbols(symbols: Sequence[str]) -> list[str]:
    """Each once, in our spelling."""
    if isinstance(symbols, str):
        raise ConfigurationError(f"symbols is one text: {symbols!r}", hint="pass a list: [symbol]")
    found = list(dict.fromkeys(parse_symbol(symbol) for symbol in symbols))
    if not found:
        raise ConfigurationError("no symbols were named")
    return found


ReadRange: TypeAlias = Callable[[str, datetime, datetime], Awaitable[list[Candle]]]
"""The candles of a symbol that open in a range, oldest first."""
FindExtent: TypeAlias = Callable[[], Awaitable[TimeRange | None]]
"""The range outside of which no symbol has a candle; it may grow while the replay runs."""

# In candles, of all symbols together: the first stretch is there at once, the others cost little each, and
# memory does not depend on the range.
FIRST_STRETCH, GROWTH, LONGEST_STRETCH = 500, 4, 20_000


async def replay(
    symbols: Sequence[str],
    interval: IntervalLike,
    start: datetime,
    end: datetime,
    speed: float,
    *,
    read: ReadRange,
    extent: FindExtent,
) -> AsyncIterator[Candle]:
    """Yield the candles of ``[start, end)`` in order of time; of one moment in the order of ``symbols``."""
    stored = await extent()
    if stored is None or start >= stored[1]:
        return
    start, every = max(start, stored[0]), as_interval(interval)
    pace: _Pace | None = None
    for_each = FIRST_STRETCH
    while start < end:
        longest = max(LONGEST_STRETCH // len(symbols), 1)
        stop = min(every.later(every.next_open(start), min(for_each, longest)), end)
        found = await asyncio.gather(*(read(symbol, start, stop) for symbol in symbols))
        for candle in _merged(found):
            if speed:
                pace = pace or _Pace(candle.timestamp, speed)
                await pace.wait_for(candle.timestamp)
            yield candle
        if not any(found):
            # Past the last one, or in a hole of years.
            stored = await extent()
            if stored is None or stop >= stored[1]:
                return
        start = stop
        for_each = min(for_each * GROWTH, longest)


def _merged(found: Sequence[list[Candle]]) -> list[Candle]:
    # Sorting keeps the order of what is equal, and takes what is in order already as it is.
    return found[0] if len(found) == 1 else sorted(chain.from_iterable(found), key=attrgetter("timestamp"))


class _Pace:
    """When a replayed candle is due: measured from the first one, so that errors don't add up."""

    def __init__(self, first: datetime, speed: float) -> None:
        self._first = first
        self._speed = speed
        self._began = time.monotonic()

    async def wait_for(self, moment: datetime) -> None:
        due = self._began + (moment - self._first).total_seconds() / self._speed
        await asyncio.sleep(max(due - time.monotonic(), 0))


DEFAULT_TIMEFRAMES = (1, 5, 15, 60, 240)


class HistoricalDataProvider(StoreService):
    """Reads candles and trades from a store.

    ``db_url`` is a PostgreSQL address, or ``embedded:`` for the embedded database; by default what
    ``DATABASE_URL`` says, else the embedded one, which is never made here. Pairs are taken in any spelling,
    intervals as ``"1h"``, 60 (minutes) or a timedelta, times as text (``"2023-01-31"``, ``"7 days ago"``; UTC
    unless it says otherwise), dates (midnight, UTC) or aware datetimes. A naive datetime raises
    ConfigurationError.

    Ranges include their start and exclude their end; without a start or an end they reach as far as what is
    stored. Lists are oldest first. An interval in which nothing was traded has no candle, unless
    ``fill="previous"`` asks for flat ones: these are made only where the store is known to be complete,
    so that a gap never looks like a quiet market.

    An interval may be any: ``"2h"``, ``"1M"`` (a month), days of a time zone (``as_interval``). Candles above
    1m are computed from minutes. What is older than the minutes of its pair comes from an imported file of
    the interval, if there is one: ``get_file_range`` tells.

    ``cache`` is for reads that come again and again: candles are kept in files of a directory (True: the
    user's own for caches), and read from there for as long as the database says that nothing has changed. The
    answers are the same. It needs the extra ``frames``.

    Use it as an asynchronous context manager, or call ``connect()`` and ``close()``; every other method
    raises NotConnectedError (a RuntimeError) before that.
    """

    INTERVAL_VIEWS: ClassVar[dict[int, str]] = INTERVAL_VIEWS

    def __init__(
        self,
        db_url: str | None = None,
        pool_min_size: int = 2,
        pool_max_size: int = 10,
        *,
        cache: Cache = False,
    ) -> None:
        super().__init__(
            Settings.from_environment().database_url if db_url is None else db_url,
            pool_min_size=pool_min_size,
            pool_max_size=pool_max_size,
            creates=False,
        )
        folder = cache_folder(cache)
        self._cache = None if folder is None else CandleCache.in_folder(folder)

    async def get_candles(
        self,
        symbol: str,
        interval_minutes: IntervalLike,
        start: Moment | None = None,
        end: Moment | None = None,
        limit: int | None = None,
        *,
        fill: Fill | None = None,
    ) -> list[Candle]:
        """The candles that open in ``[start, end)``; with ``limit`` the oldest so many of them.

        A date or text that names no zone is of the interval's zone: UTC, unless ``as_interval`` got another.
        """
        interval = as_interval(interval_minutes)
        first, last = to_range(start, end, self._clock(), interval.zone)
        check_fill(fill)
        most = check_limit(limit)
        symbol = parse_symbol(symbol)
        if self._cache is not None and fill is None and most is None:
            return await self._cache.between(self._connected(), symbol, interval, first, last)

        async def read(candles: CandleRepository) -> list[Candle]:
            if fill is None:
                return await candles.between(symbol, interval, first, last, most)
            return (await candles.filled(symbol, interval, first, last))[:most]

        return await self._read_candles(read)

    async def get_latest_candles(
        self, symbol: str, interval_minutes: IntervalLike, count: int, *, fill: Fill | None = None
    ) -> list[Candle]:
        """The newest ``count`` candles, the running one included.

        With ``fill``, those of the newest ``count`` intervals up to the newest candle.
        """
        return await self._latest(symbol, as_interval(interval_minutes), count, None, fill)

    async def get_warmup_data(
        self, symbol: str, interval_minutes: IntervalLike, warmup_periods: int, *, fill: Fill | None = None
    ) -> list[Candle]:
        """The newest ``warmup_periods`` candles that have closed: a running one would be seen twice."""
        interval = as_interval(interval_minutes)
        before = interval.opened_at(self._connected().clock())
        return await self._latest(symbol, interval, warmup_periods, before, fill)

    async def replay_candles(
        self,
        symbol: str,
        interval_minutes: IntervalLike,
        start: Moment | None = None,
        end: Moment | None = None,
        speed: float = 1.0,
        *,
        fill: Fill | None = None,
    ) -> AsyncIterator[Candle]:
        """Yield the candles of ``[start, end)`` at the pace at which they opened.

        ``speed=0`` does not wait at all, 1.0 is real time, 10.0 ten times faster. The first candle comes
        at once; the pace is held against the clock, so that slow consumers don't add up to a delay.
        """
        async for candle in self.replay_many([symbol], interval_minutes, start, end, speed, fill=fill):
            yield candle

    def replay_many(
        self,
        symbols: Sequence[str],
        interval_minutes: IntervalLike,
        start: Moment | None = None,
        end: Moment | None = None,
        speed: float = 1.0,
        *,
        fill: Fill | None = None,
    ) -> AsyncIterator[Candle]:
        """As ``replay_candles``, of several symbols, in order of time.

        Candles of one moment come in the order of ``symbols``.
        """
        interval = as_interval(interval_minutes)
        begin, stop = to_range(start, end, self._clock(), interval.zone)
        check_fill(fill)
        check_speed(speed)
        wanted = check_symbols(symbols)

        async def read(symbol: str, first: datetime, last: datetime) -> list[Candle]:
            return await self.get_candles(symbol, interval, first, last, fill=fill)

        async def extent(candles: CandleRepository) -> TimeRange | None:
            found = [await candles.extent(symbol, interval, fill=fill is not None) for symbol in wanted]
            known = union(part for part in found if part is not None)
            return (known[0][0], known[-1][1]) if known else None

        find_extent = partial(self._read_candles, extent)
        return replay(wanted, interval, begin, stop, speed, read=read, extent=find_extent)

    async def get_multi_timeframe_candles(
        self,
        symbol: str,
        end_time: Moment,
        intervals: Sequence[IntervalLike] | None = None,
        lookback_candles: int = 100,
        *,
        fill: Fill | None = None,
    ) -> dict[int | str, list[Candle]]:
        """For each interval (1, 5, 15, 60 and 240 by default) the newest candles closed by ``end_time``.

        The keys are minutes, however the intervals were written; those of a calendar are named: ``"1M"``,
        ``"1d Europe/Berlin"``.
        """
        moment = to_moment(end_time, "end_time", self._clock())
        end, _ = clip_range(moment, moment)
        wanted = [as_interval(one) for one in (DEFAULT_TIMEFRAMES if intervals is None else intervals)]
        found = await asyncio.gather(
            *(
                self._latest(symbol, interval, lookback_candles, interval.opened_at(end), fill)
                for interval in wanted
            )
        )
        return {interval.key: candles for interval, candles in zip(wanted, found, strict=True)}

    async def get_trades(
        self,
        symbol: str,
        start: Moment | None = None,
        end: Moment | None = None,
        limit: int | None = None,
    ) -> list[HistoricalTrade]:
        """The trades with ``start <= timestamp < end``, by time and id; ``limit`` keeps the oldest."""
        first, last = to_range(start, end, self._clock())
        most = check_limit(limit)
        symbol = parse_symbol(symbol)

        async def read(connection: AsyncConnection) -> list[HistoricalTrade]:
            return await TradeRepository(connection).between(symbol, *clip_range(first, last), most)

        return await self._connected().database.reading(read)

    async def get_candles_frame(
        self,
        symbol: str,
        interval_minutes: IntervalLike,
        start: Moment | None = None,
        end: Moment | None = None,
        limit: int | None = None,
        *,
        backend: FrameBackend = "polars",
        numbers: Numbers = "decimal",
        fill: Fill | None = None,
    ) -> Any:
        """As ``get_candles``, as a data frame: timestamp, open, high, low, close, volume, trade_count, vwap.

        ``backend``: a ``polars`` DataFrame, a ``pandas`` one whose index is ``timestamp``, or an ``arrow``
        Table. ``numbers``: ``decimal`` is exact, ``float`` the nearest 64-bit floats. Times are UTC. Raises
        ConfigurationError where the package is missing (extra ``frames``).
        """
        builder = frame_builder(backend, numbers, CANDLE_COLUMNS)
        interval = as_interval(interval_minutes)
        first, last = to_range(start, end, self._clock(), interval.zone)
        if fill is not None:
            found = await self.get_candles(symbol, interval, first, last, limit, fill=fill)
            return await read_frame(candle_blocks(found), builder)
        most = check_limit(limit)
        symbol = parse_symbol(symbol)
        if self._cache is not None and most is None:
            table = await self._cache.table(self._connected(), symbol, interval, first, last)
            return await asyncio.to_thread(frame_of_table, table, backend, numbers)

        async def read(candles: CandleRepository) -> Any:
            blocks = candles.csv_between(symbol, interval, first, last, "frame", limit=most)
            return await read_frame(blocks, frame_builder(backend, numbers, CANDLE_COLUMNS))

        return await self._read_candles(read)

    async def get_latest_candles_frame(
        self,
        symbol: str,
        interval_minutes: IntervalLike,
        count: int,
        *,
        before: Moment | None = None,
        backend: FrameBackend = "polars",
        numbers: Numbers = "decimal",
        fill: Fill | None = None,
    ) -> Any:
        """As ``get_latest_candles``, as a data frame; of those that open before ``before``, if it is given.

        ``backend`` and ``numbers`` as in ``get_candles_frame``.
        """
        builder = frame_builder(backend, numbers, CANDLE_COLUMNS)
        interval = as_interval(interval_minutes)
        stop = None if before is None else to_moment(before, "before", self._clock(), interval.zone)
        found = await self._latest(symbol, interval, count, stop, fill)
        return await read_frame(candle_blocks(found), builder)

    async def get_trades_frame(
        self,
        symbol: str,
        start: Moment | None = None,
        end: Moment | None = None,
        limit: int | None = None,
        *,
        backend: FrameBackend = "polars",
        numbers: Numbers = "decimal",
    ) -> Any:
        """As ``get_trades``, as a data frame: timestamp, id, price, volume, side, order_type, misc.

        ``backend`` and ``numbers`` as in ``get_candles_frame``.
        """
        frame_builder(backend, numbers, TRADE_COLUMNS)  # an unknown kind is refused before anything is read
        first, last = to_range(start, end, self._clock())
        most = check_limit(limit)
        symbol = parse_symbol(symbol)

        async def read(connection: AsyncConnection) -> Any:
            blocks = TradeRepository(connection).csv_between(
                symbol, *clip_range(first, last), "frame", limit=most
            )
            return await read_frame(blocks, frame_builder(backend, numbers, TRADE_COLUMNS))

        return await self._connected().database.reading(read)

    async def get_latest_trades_frame(
        self,
        symbol: str,
        count: int,
        *,
        before: Moment | None = None,
        backend: FrameBackend = "polars",
        numbers: Numbers = "decimal",
    ) -> Any:
        """The newest ``count`` trades, of those before ``before`` if it is given, as a data frame.

        Oldest first. ``backend`` and ``numbers`` as in ``get_candles_frame``.
        """
        frame_builder(backend, numbers, TRADE_COLUMNS)
        most = check_count(count, "the number of trades")
        _, stop = clip_range(*to_range(None, before, self._clock()))
        symbol = parse_symbol(symbol)

        async def read(connection: AsyncConnection) -> Any:
            trades = TradeRepository(connection)
            start = await trades.start_of_newest(symbol, most, stop) if most else None
            blocks = trades.csv_between(symbol, start or stop, stop, "frame")
            return await read_frame(blocks, frame_builder(backend, numbers, TRADE_COLUMNS))

        # Several trades may have the stamp of the first one.
        return newest_rows(await self._connected().database.reading(read), most)

    async def get_data_range(self, symbol: str) -> dict[str, Any]:
        """``{'oldest', 'newest', 'total_candles'}`` of the minutes: None and 0 for an unknown symbol."""
        status = await self.get_sync_status(symbol)
        return {
            "oldest": status["oldest"] if status else None,
            "newest": status["newest"] if status else None,
            "total_candles": status["total_records"] if status else 0,
        }

    async def get_file_range(self, symbol: str, interval_minutes: IntervalLike) -> TimeRange | None:
        """The range ``[start, end)`` whose candles of this interval are taken from an imported file.

        None, as a rule: all of them are computed from minutes. A pair without minutes has no others; else
        the range ends where its minutes begin.
        """
        interval = as_interval(interval_minutes)
        symbol = parse_symbol(symbol)
        file = await self._read_candles(lambda candles: candles.file_of(symbol, interval))
        return None if file is None else (file.start, file.end)

    async def get_symbols(self) -> list[str]:
        """All symbols of which anything is stored, sorted."""
        return sorted({status.symbol for status in await self._sync_statuses()})

    async def get_sync_status(
        self, symbol: str, data_type: str = DataType.CANDLES_1M
    ) -> dict[str, Any] | None:
        """The counters of a symbol's minutes, or of ``trades``, ``candles_1h``, ...; None without any.

        Keys: symbol, data_type, oldest, newest, last_sync, total_records.
        """
        symbol = parse_symbol(symbol)
        status = await self._connected().database.reading(
            lambda connection: SyncStatusRepository(connection).get(symbol, data_type)
        )
        if status is None:
            return None
        return {
            "symbol": status.symbol,
            "data_type": status.data_type,
            "oldest": status.oldest,
            "newest": status.newest,
            "last_sync": status.last_sync,
            "total_records": status.total_records,
        }

    async def health_check(self) -> dict[str, Any]:
        """Whether the store answers, and how much it holds; never raises.

        Keys: connected, symbols (their number), total_candles, oldest_data, newest_data; and error,
        one line, where it failed.
        """
        try:
            rows = await self._sync_statuses()
        except KrakenDBError as error:
            nothing = {"symbols": 0, "total_candles": 0, "oldest_data": None, "newest_data": None}
            return {"connected": False, **nothing, "error": str(error)}
        minutes = [row for row in rows if row.data_type == DataType.CANDLES_1M]
        return {
            "connected": True,
            "symbols": len({row.symbol for row in rows}),
            "total_candles": sum(row.total_records for row in minutes),
            "oldest_data": min((row.oldest for row in minutes if row.oldest), default=None),
            "newest_data": max((row.newest for row in minutes if row.newest), default=None),
        }

    async def _sync_statuses(self) -> Sequence[SyncStatus]:
        return await self._connected().database.reading(
            lambda connection: SyncStatusRepository(connection).all()
        )

    async def _read_candles(self, work: Callable[[CandleRepository], Awaitable[_T]]) -> _T:
        """What ``work`` returns; called again after an error that may pass."""
        store = self._connected()
        if self._cache is not None:
            return await self._cache.snapshot(store, work)
        return await store.database.reading(
            lambda connection: work(CandleRepository(connection, store.backend))
        )

    async def _latest(
        self, symbol: str, interval: Interval, count: int, before: datetime | None, fill: Fill | None
    ) -> list[Candle]:
        count = check_count(count, "the number of candles")
        check_fill(fill)
        symbol = parse_symbol(symbol)
        if self._cache is not None and fill is None and before is not None:
            return await self._cache.latest(self._connected(), symbol, interval, count, before)

        async def read(candles: CandleRepository) -> list[Candle]:
            newest = await candles.latest(symbol, interval, 1 if fill and count else count, before=before)
            stored = await candles.bounds(symbol, interval) if fill else None
            if not newest or not count or stored is None:
                return newest
            end = interval.closed_at(newest[-1].timestamp)
            return await candles.filled(symbol, interval, interval.back(end, count, stored[0]), end)

        return await self._read_candles(read)

"""Minutes from trades that are in the store already: from archives, or from a run without candles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import StaleRange
from kraken_db.data_types import DataType
from kraken_db.db.locks import lock_job
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval, interval_length
from kraken_db.ranges import TimeRange, difference, union
from kraken_db.repositories.candle_building import CandleBuilder
from kraken_db.repositories.candle_merge import CandlesWritten
from kraken_db.repositories.coverage import Coverage, CoverageRepository, Source
from kraken_db.repositories.pending_refresh import PendingRefreshRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.trades import TradeRepository
from kraken_db.retention import RetentionPause
from kraken_db.retry import CONFLICT
from kraken_db.store import Store

_DAY = 1440
_MINUTE = interval_length(BASE_INTERVAL)


async def build_missing(store: Store, retention: RetentionPause, symbol: str) -> list[CandlesWritten]:
    """Build the minutes whose trades are known to be complete, and that no candle is known of."""
    async with store.database.read() as connection:
        ranges = await CoverageRepository(connection).without_candles(symbol)
    return [
        written
        for start, end in ranges
        for written in await build_minutes(store, retention, symbol, start, end)
    ]


async def build_minutes(
    store: Store, retention: RetentionPause, symbol: str, start: datetime, end: datetime
) -> list[CandlesWritten]:
    """Build the minutes that lie in ``[start, end)`` as a whole and have ended, a day in a transaction."""
    async with store.database.read() as connection:
        status = await SyncStatusRepository(connection).get(symbol, DataType.TRADES)
    if status is None or status.oldest is None or status.newest is None:
        return []
    first = max(ceil_to_interval(start, BASE_INTERVAL), floor_to_interval(status.oldest, BASE_INTERVAL))
    stop = min(end, store.clock(), status.newest + _MINUTE)
    slices = _slices(first, floor_to_interval(stop, BASE_INTERVAL))
    return [await CONFLICT.run(partial(_build, store, retention, symbol, *one)) for one in slices]


async def _build(
    store: Store, retention: RetentionPause, symbol: str, start: datetime, end: datetime
) -> CandlesWritten:
    await retention.before_writing("candles", start)
    async with store.database.begin() as connection:
        await store.backend.prepare_bulk_write(connection)
        await lock_job(connection, DataType.TRADES, DataType.CANDLES_1M, of=symbol)
        known = _known_minutes(await CoverageRepository(connection).all(symbol), start, end)
        if not await TradeRepository(connection).any_between(symbol, start, end):
            known = {}  # a quiet day, or one that retention has dropped: no candle is known of it
        return await write_minutes(store, connection, symbol, start, end, known)


async def write_minutes(
    store: Store,
    connection: AsyncConnection,
    symbol: str,
    start: datetime,
    end: datetime,
    known: Mapping[Source, Sequence[TimeRange]],
) -> CandlesWritten:
    """Build the minutes of ``[start, end)`` from stored trades; ``known`` is where those are complete."""
    async with store.writing(connection, symbol, DataType.CANDLES_1M, start, end) as write:
        built = await CandleBuilder(connection, symbol).build(start, end)
    for source, ranges in (known or {"rest_trades": []}).items():
        await write.shows(source, ranges)
    if built.oldest is not None and built.newest is not None:
        await SyncStatusRepository(connection).record(
            symbol,
            DataType.CANDLES_1M,
            oldest=built.oldest,
            newest=built.newest,
            added=built.new - write.returned,
        )
        stale = StaleRange(symbol, built.oldest, built.newest + _MINUTE)
        await PendingRefreshRepository(connection).add(stale)
    return built


def _known_minutes(
    coverage: Sequence[Coverage], start: datetime, end: datetime
) -> dict[Source, list[TimeRange]]:
    """The minutes that each source knows all trades of; those that only two together know are the later's."""
    sources = [item for item in coverage if item.data_type == DataType.TRADES]
    known = {item.source: _minutes(item.ranges, start, end) for item in sources}
    together = tuple(union(*(item.ranges for item in sources)))
    seams = difference(_minutes(together, start, end), union(*known.values()))
    if seams:
        newest = max(sources, key=lambda item: item.ranges[-1][1])
        known[newest.source] = union(known[newest.source], seams)
    return known


def _slices(start: datetime, end: datetime) -> Iterator[TimeRange]:
    """Days: TimescaleDB drops trades by the day, whole or not at all."""
    while start < end:
        stop = min(floor_to_interval(start, _DAY) + interval_length(_DAY), end)
        yield start, stop
        start = stop


def _minutes(ranges: tuple[TimeRange, ...], start: datetime, end: datetime) -> list[TimeRange]:
    """The whole minutes of ``[start, end)`` that lie in the ranges."""
    inside = ((max(first, start), min(last, end)) for first, last in ranges)
    return [
        (ceil_to_interval(first, BASE_INTERVAL), floor_to_interval(last, BASE_INTERVAL))
        for first, last in inside
    ]

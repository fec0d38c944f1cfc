"""Minutes from trades that are in the store already: from archives, or from a run without candles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial

from kraken_db.data_types import DataType
from kraken_db.ingest.candles import build_minutes
from kraken_db.ingest.write_unit import Ingest, WriteTransaction, keys_with_trades
from kraken_db.intervals import BASE_INTERVAL, DAY, floor_to_interval, interval_length
from kraken_db.ranges import TimeRange, difference, intersection, union, whole_minutes
from kraken_db.repositories.candle_merge import CandlesWritten
from kraken_db.repositories.coverage import Coverage, CoverageRepository, Source
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.trades import TradeRepository

_MINUTE = interval_length(BASE_INTERVAL)


async def build_missing(ingest: Ingest, symbol: str) -> list[CandlesWritten]:
    """Build the minutes whose trades are known to be complete, and that no candle is known of."""
    async with ingest.store.database.read() as connection:
        ranges = await CoverageRepository(connection).without_candles(symbol)
    return await build_ranges(ingest, symbol, ranges)


async def build_ranges(ingest: Ingest, symbol: str, ranges: Sequence[TimeRange]) -> list[CandlesWritten]:
    """Build the minutes that lie in one of the ranges as a whole and have ended, a day in a transaction."""
    wanted = whole_minutes(ranges)
    if not wanted:
        return []
    await ingest.prepare(["trades"], wanted[0][0])
    async with ingest.store.database.read() as connection:
        status = await SyncStatusRepository(connection).get(symbol, DataType.TRADES)
        covered = await CoverageRepository(connection).covered(symbol, DataType.TRADES)
        extent = await TradeRepository(connection).extent(symbol)
    if status is None or status.oldest is None or extent is None:
        return []
    # Retention drops from the old end on: what lies before the oldest trade may have been dropped.
    kept_from = wanted[0][0] if extent[0] <= status.oldest else extent[0]
    stop = floor_to_interval(ingest.store.clock(), BASE_INTERVAL)
    first = floor_to_interval(extent[0], BASE_INTERVAL)
    known = whole_minutes(intersection(wanted, union(covered, [(first, extent[1] + _MINUTE)])))
    keys = keys_with_trades(symbol)
    return [
        written
        for day in _days([(start, min(end, stop)) for start, end in known])
        for written in await ingest.write(keys, day[0][0], partial(_build, symbol, day, kept_from))
    ]


async def _build(
    symbol: str, ranges: Sequence[TimeRange], kept_from: datetime, transaction: WriteTransaction
) -> list[CandlesWritten]:
    start, end = ranges[0][0], ranges[-1][1]
    known = known_minutes(await CoverageRepository(transaction.connection).all(symbol), start, end)
    if end <= kept_from and not await TradeRepository(transaction.connection).any_between(symbol, start, end):
        known = {}
    return [
        await build_minutes(
            transaction,
            symbol,
            *one,
            {source: intersection(parts, [one]) for source, parts in known.items()},
        )
        for one in ranges
    ]


def known_minutes(
    coverage: Sequence[Coverage], start: datetime, end: datetime
) -> dict[Source, list[TimeRange]]:
    """The minutes that each source knows all trades of; those that only two together know are the later's."""
    sources = [item for item in coverage if item.data_type == DataType.TRADES]
    known = {item.source: whole_minutes(intersection(item.ranges, [(start, end)])) for item in sources}
    together = union(*(item.ranges for item in sources))
    seams = difference(whole_minutes(intersection(together, [(start, end)])), union(*known.values()))
    if seams:
        newest = max(sources, key=lambda item: item.ranges[-1][1])
        known[newest.source] = union(known[newest.source], seams)
    return known


def _days(ranges: Sequence[TimeRange]) -> Iterator[list[TimeRange]]:
    """The ranges by the day: TimescaleDB drops trades by the day, whole or not at all."""
    days: dict[datetime, list[TimeRange]] = {}
    for start, end in ranges:
        while start < end:
            day = floor_to_interval(start, DAY)
            stop = min(day + interval_length(DAY), end)
            days.setdefault(day, []).append((start, stop))
            start = stop
    yield from days.values()

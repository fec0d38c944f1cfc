"""Candles of a live feed go into the store; none of them is claimed to be complete."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import MinutesWritten
from kraken_db.data_types import DataType
from kraken_db.database_writer.records import candle_end
from kraken_db.database_writer.trade_storing import SOURCE
from kraken_db.db.locks import lock_job_of_each
from kraken_db.intervals import BASE_INTERVAL
from kraken_db.repositories.candle_batch import CandleBatch
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.store import Store
from kraken_db.types import CandleRecord

Series = tuple[str, int]


@dataclass(slots=True)
class CandlesFlushed:
    """What a transaction has done; ``until`` is to be believed after the commit."""

    written: int = 0
    until: dict[Series, datetime] = field(default_factory=dict)


async def store_candles(
    store: Store, connection: AsyncConnection, candles: Sequence[CandleRecord], until: dict[Series, datetime]
) -> CandlesFlushed:
    """Write candles of any symbols and intervals; of two versions of one the one with more trades stays.

    ``until``: where the candles of a series that were written before ended.
    """
    by_series: dict[Series, dict[datetime, CandleRecord]] = defaultdict(dict)
    for candle in candles:
        known = by_series[(candle.symbol, candle.interval_minutes)]
        other = known.get(candle.timestamp)
        if other is None or candle.trade_count >= other.trade_count:
            known[candle.timestamp] = candle
    await store.prepare_bulk_write(connection)
    series = sorted(by_series)
    for interval in sorted({interval for _, interval in series}):
        symbols = [symbol for symbol, other in series if other == interval]
        await lock_job_of_each(connection, DataType.candles(interval), symbols)
    batch = CandleBatch(connection)
    await batch.stage([candle for one in series for candle in by_series[one].values()])
    flushed = CandlesFlushed()
    for one in series:
        own = list(by_series[one].values())
        flushed.written += await _write(store, connection, batch, own, until.get(one))
        flushed.until[one] = max(map(candle_end, own))
    return flushed


async def _write(
    store: Store,
    connection: AsyncConnection,
    batch: CandleBatch,
    candles: Sequence[CandleRecord],
    until: datetime | None,
) -> int:
    symbol, interval = candles[0].symbol, candles[0].interval_minutes
    data_type = DataType.candles(interval)
    oldest, end = min(candle.timestamp for candle in candles), max(map(candle_end, candles))
    # One range for what a feed brings, not one for each candle between quiet ones.
    begins = min(oldest, until or oldest)
    stale = (
        store.backend.writing_minutes(connection, symbol, oldest, end)
        if interval == BASE_INTERVAL
        else nullcontext(MinutesWritten(oldest, end))
    )
    async with store.writing(connection, symbol, data_type, begins, end) as write, stale as minutes:
        written = await batch.merge(symbol, interval)
        minutes.wrote(written.oldest, end)
    await write.shows(SOURCE, [])
    if written.oldest is None or written.newest is None:
        return 0
    await SyncStatusRepository(connection).record(
        symbol, data_type, oldest=written.oldest, newest=written.newest, added=written.new - write.returned
    )
    return written.new + written.changed

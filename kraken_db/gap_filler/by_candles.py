"""Fills minutes from Kraken's OHLC: the newest 720 that have ended, in one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import StaleRange
from kraken_db.data_types import DataType
from kraken_db.db.locks import lock_job
from kraken_db.gap_filler.gaps import Filled
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval, interval_length
from kraken_db.kraken.messages import OhlcPage
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.ranges import TimeRange, intersection, union
from kraken_db.repositories.candle_batch import CandleBatch
from kraken_db.repositories.candle_merge import CandlesWritten
from kraken_db.repositories.pending_refresh import PendingRefreshRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.retention import RetentionPause
from kraken_db.retry import CONFLICT
from kraken_db.store import Store
from kraken_db.types import CandleRecord

SERVED = timedelta(minutes=720)
"""How far back OHLC reaches, whatever is asked for."""

_MINUTE = interval_length(BASE_INTERVAL)


@dataclass(frozen=True, slots=True)
class CandleFiller:
    """Writes what OHLC says of a range, and claims the minutes that the answer has a row for."""

    store: Store
    client: KrakenRestClient
    retention: RetentionPause

    async def fill(
        self, symbol: str, pair: str, start: datetime, end: datetime
    ) -> tuple[Filled, list[TimeRange]]:
        """Fill ``[start, end)``; returns what was written, and which part of it is known now.

        ``pair`` is Kraken's name. Raises an ExchangeError.
        """
        start, end = ceil_to_interval(start, BASE_INTERVAL), floor_to_interval(end, BASE_INTERVAL)
        if start >= end:
            return Filled(), []
        # ``since`` leaves out its own minute.
        page = await self.client.ohlc(pair, BASE_INTERVAL, int((start - _MINUTE).timestamp()))
        reached = intersection(_minutes(page), [(start, end)])
        if not reached:
            return Filled(), []
        rows = [row for row in page.records(symbol) if start <= row.timestamp < end]
        await self.retention.before_writing("candles", reached[0][0])

        async def save() -> CandlesWritten:
            async with self.store.database.begin() as connection:
                await self.store.backend.prepare_bulk_write(connection)
                await lock_job(connection, DataType.CANDLES_1M, of=symbol)
                return await self._write(connection, symbol, rows, reached)

        written = await CONFLICT.run(save)
        return Filled(candles_new=written.new, candles_changed=written.changed), reached

    async def _write(
        self,
        connection: AsyncConnection,
        symbol: str,
        rows: Sequence[CandleRecord],
        reached: Sequence[TimeRange],
    ) -> CandlesWritten:
        batch = CandleBatch(connection)
        await batch.stage(rows)
        span = (reached[0][0], reached[-1][1])
        async with self.store.writing(connection, symbol, DataType.CANDLES_1M, *span) as write:
            written = await batch.merge(symbol, BASE_INTERVAL)
        status = SyncStatusRepository(connection)
        if written.oldest is not None and written.newest is not None:
            added = written.new - write.returned
            await status.record(
                symbol, DataType.CANDLES_1M, oldest=written.oldest, newest=written.newest, added=added
            )
            stale = StaleRange(symbol, written.oldest, written.newest + _MINUTE)
            await PendingRefreshRepository(connection).add(stale)
        else:
            await status.touch(symbol, [DataType.CANDLES_1M])
        await write.shows("rest_ohlc", reached)
        return written


def _minutes(page: OhlcPage) -> list[TimeRange]:
    """The minutes that the answer has a complete row for: quiet ones have one, too."""
    return union((row.timestamp, row.timestamp + _MINUTE) for row in page.committed)

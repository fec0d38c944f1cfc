"""One series as an export reads it, inside of a snapshot."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.exporting.layout import Series
from kraken_db.intervals import floor_to_interval
from kraken_db.ranges import TimeRange
from kraken_db.repositories.candles import CandleRepository
from kraken_db.repositories.pending_refresh import PendingRefreshRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.text_layouts import Checksum
from kraken_db.repositories.trades import TradeRepository
from kraken_db.timeseries import TimeSeries


class Source:
    """Reads on the caller's connection; never commits."""

    def __init__(
        self, connection: AsyncConnection, timeseries: TimeSeries, series: Series, now: datetime
    ) -> None:
        self.series = series
        self._connection = connection
        self._now = now
        self._candles = CandleRepository(connection, timeseries)
        self._trades = TradeRepository(connection)

    async def extent(self) -> TimeRange | None:
        """The range outside of which there is no row, and no closed candle; None if there is nothing."""
        symbol, interval = self.series.symbol, self.series.interval
        if interval is None:
            return await self._trades.extent(symbol)
        stored = await self._candles.extent(symbol, interval)
        return stored and (stored[0], min(stored[1], floor_to_interval(self._now, interval)))

    async def synced_at(self) -> datetime | None:
        """When the symbol was last written.

        None where that says nothing: higher candles may change once more, by a refresh that is due.
        """
        symbol = self.series.symbol
        _, waiting = await PendingRefreshRepository(self._connection).all()
        if self.series.interval is not None and any(
            item.symbol == symbol and item.refreshed_at is None for item in waiting
        ):
            return None
        status = await SyncStatusRepository(self._connection).get(symbol, self.series.data_type)
        return None if status is None else status.last_sync

    async def checksum(self, start: datetime, end: datetime) -> Checksum:
        if self.series.interval is None:
            return await self._trades.checksum(self.series.symbol, start, end)
        return await self._candles.checksum(self.series.symbol, self.series.interval, start, end)

    def blocks(
        self, start: datetime, end: datetime, layout: Literal["kraken", "file", "frame"], block_size: int
    ) -> AsyncGenerator[bytes]:
        """The rows of ``[start, end)`` as CSV, in blocks of whole rows."""
        symbol, interval = self.series.symbol, self.series.interval
        if interval is not None:
            return self._candles.csv_between(symbol, interval, start, end, layout, block_size=block_size)
        assert layout != "file"
        return self._trades.csv_between(symbol, start, end, layout, block_size=block_size)

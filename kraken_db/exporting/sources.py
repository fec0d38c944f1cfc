"""What an export reads of one series: its rows, and what tells whether they have changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import Backend, PendingRefresh
from kraken_db.exporting.manifest import Series
from kraken_db.intervals import Interval
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.candle_versions import CandleState, CandleVersionRepository
from kraken_db.repositories.candles import CandleRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.text_layouts import Checksum
from kraken_db.repositories.trades import TradeRepository


@dataclass(frozen=True, slots=True)
class State:
    """Of a series, at one moment."""

    extent: TimeRange | None
    """The range outside of which there is no row, and no closed candle; None if there is nothing."""
    synced_at: datetime | None
    """When the symbol was last written; None where that does not say whether its rows have changed."""

    candles: CandleState | None = None
    """Of candles: what vouches for those of each month."""

    def version(self, series: Series, start: datetime | None, end: datetime) -> str | None:
        """Another one whenever the rows of ``[start, end)`` have changed; None where nothing says so."""
        if self.candles is None or self.extent is None or series.every is None:
            return None
        return self.candles.stamp(start or self.extent[0], _last_close(series.every, end))


class Source:
    """Reads on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection, backend: Backend, series: Series, now: datetime) -> None:
        self.series = series
        self._connection = connection
        self._now = now
        self._candles = CandleRepository(connection, backend)
        self._trades = TradeRepository(connection)
        self._versions = CandleVersionRepository(connection, backend)

    async def extent(self) -> TimeRange | None:
        """The range outside of which there is no row, and no closed candle; None if there is nothing."""
        symbol, interval = self.series.symbol, self.series.every
        if interval is None:
            return await self._trades.extent(symbol)
        stored = await self._candles.extent(symbol, interval)
        return stored and (stored[0], min(stored[1], interval.opened_at(self._now)))

    async def state(self) -> State:
        """What tells without a look at the rows whether they have changed.

        No time of a write where that says nothing: higher candles may change once more, by a refresh that
        is due.
        """
        extent, symbol = await self.extent(), self.series.symbol
        candles = await self._candle_state(extent)
        waiting = await PendingRefresh(self._connection).unrefreshed()
        if self.series.interval is not None and any(item.symbol == symbol for item in waiting):
            return State(extent, None, candles)
        return State(extent, await self._synced_at(), candles)

    async def _candle_state(self, extent: TimeRange | None) -> CandleState | None:
        every = self.series.every
        if every is None or extent is None or not await self._versions.are_renewed():
            return None
        return await self._versions.state(self.series.symbol, every, extent[0], _last_close(every, extent[1]))

    async def _synced_at(self) -> datetime | None:
        """When the symbol was last written."""
        symbol = self.series.symbol
        counters = SyncStatusRepository(self._connection)
        known = [await counters.get(symbol, data_type) for data_type in self.series.data_types]
        return max((status.last_sync for status in known if status is not None), default=None)

    async def taken_until(self, start: datetime | None) -> datetime | None:
        """Candles that open before it are rows of an imported file; None if all from ``start`` on are not."""
        if self.series.interval is None:
            return None
        file = await self._candles.file_of(self.series.symbol, self.series.interval)
        return file.end if file is not None and (start is None or start < file.end) else None

    async def checksum(self, start: datetime, end: datetime) -> Checksum:
        if self.series.interval is None:
            return await self._trades.checksum(self.series.symbol, start, end)
        return await self._candles.checksum(self.series.symbol, self.series.interval, start, end)

    def blocks(
        self, start: datetime, end: datetime, layout: Literal["kraken", "file", "frame"], block_size: int
    ) -> AsyncGenerator[bytes]:
        """The rows of ``[start, end)`` as CSV, in blocks of whole rows."""
        symbol, interval = self.series.symbol, self.series.every
        if interval is not None:
            return self._candles.csv_between(symbol, interval, start, end, layout, block_size=block_size)
        assert layout != "file"
        return self._trades.csv_between(symbol, start, end, layout, block_size=block_size)


def _last_close(every: Interval, end: datetime) -> datetime:
    """When the last candle that opens before ``end`` closes: a week may lie in two months."""
    return every.closed_at(every.opened_at(end - TICK))

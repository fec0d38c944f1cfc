"""Fills minutes from Kraken's OHLC: the newest 720 that have ended, in one request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kraken_db.data_types import DataType
from kraken_db.gap_filler.gaps import Filled
from kraken_db.ingest.candles import stage_records, store_staged
from kraken_db.ingest.write_unit import Ingest, WriteTransaction
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval, interval_length
from kraken_db.kraken.messages import OhlcPage
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.ranges import TimeRange, intersection, union
from kraken_db.repositories.candle_merge import CandlesWritten

SERVED = timedelta(minutes=720)
"""How far back OHLC reaches, whatever is asked for."""

_MINUTE = interval_length(BASE_INTERVAL)


@dataclass(frozen=True, slots=True)
class CandleFiller:
    """Writes what OHLC says of a range, and claims the minutes that the answer has a row for."""

    ingest: Ingest
    client: KrakenRestClient

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

        async def work(transaction: WriteTransaction) -> CandlesWritten:
            unit = transaction.unit(symbol, DataType.CANDLES_1M)
            written = CandlesWritten()
            if rows:
                await stage_records(transaction, symbol, BASE_INTERVAL, rows)
                span = (reached[0][0], reached[-1][1])
                written = await store_staged(transaction, symbol, BASE_INTERVAL, span, rows=len(rows))
            else:
                unit.looked()
            unit.mark_complete("rest_ohlc", reached)
            return written

        written = await self.ingest.write([(symbol, DataType.CANDLES_1M)], reached[0][0], work)
        return Filled(candles_new=written.new, candles_changed=written.changed), reached


def _minutes(page: OhlcPage) -> list[TimeRange]:
    """The minutes that the answer has a complete row for: quiet ones have one, too."""
    return union((row.timestamp, row.timestamp + _MINUTE) for row in page.committed)

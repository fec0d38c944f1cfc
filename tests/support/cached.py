"""Reads by way of the cache beside the same reads without it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kraken_db import HistoricalDataProvider
from tests.support.archives import query

START, END = datetime(2023, 1, 1, tzinfo=UTC), datetime(2023, 4, 1, tzinfo=UTC)
COLUMNS = "symbol, timestamp, interval_minutes, open, high, low, close, volume, trade_count, vwap"


async def store_minutes(url: str, symbol: str, start: str, end: str, every: str = "10 minutes") -> None:
    """Minutes, as another program would write them; vwap is missing where a price is a whole hundred."""
    await query(
        url,
        f"INSERT INTO candles ({COLUMNS}) SELECT :symbol, g, 1, p, p + 5, p - 5, p + 1,"
        " CAST(12345678901.0123456789 AS numeric(38,10)), 3, CASE WHEN p % 100 <> 0 THEN p + 0.1234567891 END"
        " FROM generate_series(CAST(CAST(:start AS text) AS timestamptz),"
        " CAST(CAST(:end AS text) AS timestamptz) - INTERVAL '1 second',"
        " CAST(CAST(:every AS text) AS interval)) g,"
        " LATERAL (SELECT CAST(1000 + extract(epoch FROM g) / 600 % 977 AS numeric(20,10)) AS p) x",
        symbol=symbol,
        start=f"{start}+00",
        end=f"{end}+00",
        every=every,
    )


class Pair:
    """A provider with a cache, and one without, of one store."""

    def __init__(self, cached: HistoricalDataProvider, direct: HistoricalDataProvider) -> None:
        self.cached = cached
        self.direct = direct

    async def frames(self, interval: Any, symbol: str = "BTC/USD", **options: Any) -> tuple[Any, Any]:
        """From January to March: by the cache, and without it."""
        span = {"start": START, "end": END, **options}
        return (
            await self.cached.get_candles_frame(symbol, interval, **span),
            await self.direct.get_candles_frame(symbol, interval, **span),
        )

    async def are_equal(self, interval: Any, symbol: str = "BTC/USD") -> bool:
        one, other = await self.frames(interval, symbol)
        return bool(one.equals(other))


@asynccontextmanager
async def both(url: str, folder: Path) -> AsyncIterator[Pair]:
    async with HistoricalDataProvider(url, cache=folder) as cached, HistoricalDataProvider(url) as direct:
        yield Pair(cached, direct)

"""A backfill in this process, from archives and from the REST of a simulated exchange."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from kraken_db import KrakenTradesBackfill
from kraken_db.historical_backfill import BackfillReport
from kraken_db.simulator import SimulatedExchange, archive_url
from tests.support.archive_making import NOW
from tests.support.downloading import ShortTime, quick_client


async def backfill(
    url: str,
    exchange: SimulatedExchange,
    *symbols: str,
    archive: str = "",
    now: datetime = NOW,
    **options: Any,
) -> list[BackfillReport]:
    """From the archives at a place, or those that the exchange serves, and its REST."""
    async with exchange.serve() as base_url:
        service = KrakenTradesBackfill(
            url, client=quick_client(base_url), clock=lambda: now, sleep=ShortTime().sleep
        )
        async with service:
            return await service.backfill(symbols, archive=archive or archive_url(base_url), **options)

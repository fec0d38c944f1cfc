"""The archive, then REST: one history, whoever brought which part of it, and however often it was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kraken_db import KrakenTradesBackfill
from kraken_db.historical_backfill import BackfillReport
from kraken_db.simulator import SimulatedExchange, archive_url
from tests.support.archive_making import LATER, NOW, ArchivedMarkets, archived_markets
from tests.support.downloading import (
    ShortTime,
    assert_same,
    candles_of,
    in_order_of_the_store,
    quick_client,
    stored,
)

SYMBOLS = ("BTC/USD", "ETH/USD", "MATIC/USD")
TABLES = "trades, candles, data_sync_status, data_coverage, unproven_ranges, dropped_ranges, pending_refresh"


@pytest.fixture
def made(tmp_path: Path) -> ArchivedMarkets:
    markets = archived_markets()
    markets.write(tmp_path / "archives")
    return markets


async def backfill(
    url: str, exchange: SimulatedExchange, *symbols: str, archive: str = "", **options: Any
) -> list[BackfillReport]:
    """From the archives at a place, or those that the exchange serves, and its REST."""
    async with exchange.serve() as base_url:
        service = KrakenTradesBackfill(
            url, client=quick_client(base_url), clock=lambda: NOW, sleep=ShortTime().sleep
        )
        async with service:
            return await service.backfill(symbols, archive=archive or archive_url(base_url), **options)


async def assert_is_whole(url: str, made: ArchivedMarkets, symbol: str) -> None:
    """Trades, candles and counters are those of the market; coverage has no hole."""
    truth = in_order_of_the_store(made.truth(symbol))
    found = await stored(url, symbol)
    assert_same(found.trades, truth)
    candles = [one for one in candles_of(truth) if one.timestamp < found.coverage["candles_1m"][-1][1]]
    assert_same(found.candles, candles)
    assert found.status["trades"] == (truth[0].timestamp, truth[-1].timestamp, len(truth))
    assert found.status["candles_1m"][2] == len(candles)
    assert len(found.coverage["trades"]) == len(found.coverage["candles_1m"]) == 1
    assert len(candles_of(truth)) - len(candles) <= 1  # the last minute may not be over


async def test_archive_then_rest(db_url: str, made: ArchivedMarkets, tmp_path: Path) -> None:
    exchange = made.exchange(tmp_path / "archives")
    reports = await backfill(db_url, exchange, *SYMBOLS)
    assert [report.error for report in reports] == [None] * 3
    assert [report.outcome for report in reports] == ["caught up", "caught up", "delisted"]
    for symbol, report in zip(SYMBOLS, reports, strict=True):
        await assert_is_whole(db_url, made, symbol)
        archived = [trade for trade in made.truth(symbol) if trade.timestamp < LATER.end]
        assert report.archived == len(archived)
        assert report.new == len(made.truth(symbol))
    # All that REST was asked for the trades of one pair is what the archives do not have.
    assert reports[0].pages <= 3

"""Twice, after an import, before an import: nothing twice, the better version stays."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from kraken_db.historical_backfill import KrakenTradesBackfill
from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.simulator import Market, Scenario
from tests.support.archives import checksums, import_file, query, write
from tests.support.downloading import assert_is_truth, download_one, stored

SIZE = 2_500


@pytest.fixture
def market() -> Market:
    return Market("BTC/USD", seed=20, trades=SIZE, scenario=Scenario.LIVELY & ~Scenario.QUIET)


def time_and_sales(market: Market, fields: int) -> str:
    """An archive of the whole market with 3 fields a row (whole seconds, no id), or 7."""
    rows = market.texts(0, market.size or 0)
    if fields == 3:
        return "".join(f"{row.time.partition('.')[0]},{row.price},{row.volume}\n" for row in rows)
    return "".join(
        f"{row.price},{row.volume},{row.time},{row.side},{row.order_type},,{row.trade_id}\n" for row in rows
    )


def ohlcvt(market: Market) -> str:
    return "".join(
        f"{int(c.timestamp.timestamp())},{c.open},{c.high},{c.low},{c.close},{c.volume},{c.trade_count}\n"
        for c in market.truth_candles()
    )


@pytest.mark.parametrize("resume", [False, True], ids=["from the beginning", "resumed"])
@pytest.mark.parametrize("scenario", [Scenario.LIVELY, Scenario.LIVELY | Scenario.ZERO_IDS_COUNTED])
async def test_twice(db_url: str, scenario: Scenario, resume: bool) -> None:
    market = Market("BTC/USD", seed=21, trades=3_500, scenario=scenario)
    await download_one(db_url, market)
    before = await checksums(db_url)
    again = await download_one(db_url, market, resume=resume)
    assert (again.new, again.changed, again.removed) == (0, 0, 0)
    assert (again.candles_new, again.candles_changed) == (0, 0)
    assert again.outcome == "caught up"
    assert await checksums(db_url) == before


async def test_up_to_a_time_that_is_stored_already(db_url: str, market: Market) -> None:
    await download_one(db_url, market)
    before = await checksums(db_url)
    end = list(market.truth_candles())[9].timestamp
    again = await download_one(db_url, market, resume=True, end_timestamp=end)
    assert (again.error, again.outcome, again.received) == (None, "reached the end", 0)
    assert await checksums(db_url) == before


async def test_after_an_archive_without_ids(db_url: str, market: Market, tmp_path: Path) -> None:
    archive = await import_file(db_url, write(tmp_path, "XBTUSD.csv", time_and_sales(market, 3)))
    assert archive.new == SIZE
    report = await download_one(db_url, market)
    assert (report.new, report.removed) == (SIZE, SIZE)
    await assert_is_truth(db_url, market)


async def test_before_an_archive_without_ids(db_url: str, market: Market, tmp_path: Path) -> None:
    await download_one(db_url, market)
    archive = await import_file(db_url, write(tmp_path, "XBTUSD.csv", time_and_sales(market, 3)))
    assert (archive.new, archive.changed, archive.error) == (0, 0, None)
    await assert_is_truth(db_url, market)


async def test_after_and_before_an_archive_with_ids(db_url: str, market: Market, tmp_path: Path) -> None:
    path = write(tmp_path, "XBTUSD.csv", time_and_sales(market, 7))
    assert (await import_file(db_url, path)).new == SIZE
    report = await download_one(db_url, market)
    assert (report.new, report.changed, report.removed) == (0, 0, 0)
    await assert_is_truth(db_url, market)
    archive = await import_file(db_url, path)
    assert (archive.new, archive.changed, archive.unchanged) == (0, 0, SIZE)
    await assert_is_truth(db_url, market)


async def test_after_an_archive_of_candles(db_url: str, market: Market, tmp_path: Path) -> None:
    """The same candles: what the archive lacks, vwap and quote volume, is filled in."""
    path = write(tmp_path, "XBTUSD_1.csv", ohlcvt(market))
    count = (await import_file(db_url, path)).new
    report = await download_one(db_url, market)
    assert (report.candles_new, report.candles_changed) == (0, count)
    await assert_is_truth(db_url, market)
    before = await checksums(db_url)
    again = await import_file(db_url, path)
    assert (again.new, again.changed, again.unchanged) == (0, 0, count)
    assert {k: v for k, v in (await checksums(db_url)).items() if k != "data_coverage"} == {
        k: v for k, v in before.items() if k != "data_coverage"
    }


async def test_the_candle_that_knows_more_trades_stays(plain_url: str, tmp_path: Path) -> None:
    market = Market("BTC/USD", seed=22, trades=600, scenario=Scenario.CALM)
    candles = list(market.truth_candles())
    better, worse = candles[2], candles[4]
    rows = [
        f"{int(c.timestamp.timestamp())},{c.open},{c.high},{c.low},{c.close},{c.volume},{c.trade_count + n}\n"
        for c, n in ((better, 5), (worse, -1))
    ]
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", "".join(rows)))
    await download_one(plain_url, market)
    found = {c.timestamp: c for c in (await stored(plain_url, "BTC/USD")).candles}
    assert found[better.timestamp].trade_count == better.trade_count + 5
    assert found[worse.timestamp].trade_count == worse.trade_count
    assert found[worse.timestamp].vwap == worse.vwap
    assert len(found) == len(candles)


async def test_a_recorded_hour_of_kraken(db_url: str, real_data: Path) -> None:
    """1,000 rows of six fields, of which 559 are in the hour 11:00 (data/README.md)."""
    lines = (real_data / "trades" / "kraken_eth_usd_historical_price_source.csv").read_text().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    trades = [[row[0], row[1], float(row[2]), *row[3:6]] for row in rows]
    assert len(trades) == 1_000
    async with KrakenTradesBackfill(db_url) as service, HistoricalDataProvider(db_url) as provider:
        for _ in range(2):
            await service.store_trades("ETH/USD", trades)

        begin, end = datetime(2022, 3, 20, 11, tzinfo=UTC), datetime(2022, 3, 20, 12, tzinfo=UTC)
        await service.build_candles_from_trades("ETH/USD", begin, end)
        (hour,) = await provider.get_candles("ETH/USD", 60, begin, end)
    assert (hour.trade_count, hour.volume) == (559, Decimal("820.18040605"))
    inside = [row for row in rows if begin.timestamp() <= float(row[2]) < end.timestamp()]
    prices = [Decimal(row[0]) for row in inside]
    assert (hour.open, hour.high, hour.low, hour.close) == (prices[0], max(prices), min(prices), prices[-1])
    assert await query(db_url, "SELECT total_records FROM data_sync_status WHERE data_type = 'trades'") == [
        (1_000,)
    ]

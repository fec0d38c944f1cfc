"""What a download refuses, and what it does not let pass unseen."""

from __future__ import annotations

import asyncio

import pytest

from kraken_db.db.locks import JobLock
from kraken_db.errors import ExchangeFormatError, JobRunningError, UnknownPairError
from kraken_db.historical_backfill import KrakenTradesBackfill
from kraken_db.historical_backfill import download as download_module
from kraken_db.ranges import TICK
from kraken_db.simulator import Market, SimulatedExchange
from tests.support.archives import checksums, moved, query
from tests.support.downloading import assert_is_truth, download, download_one, downloading, stored
from tests.support.stores import opened

SIZE = 2_000


@pytest.fixture
def market() -> Market:
    return Market("BTC/USD", seed=40, trades=SIZE)


async def test_a_second_run_of_the_same_pair(plain_url: str, market: Market) -> None:
    other = Market("ETH/USD", seed=41, trades=SIZE)
    async with opened(plain_url) as store, JobLock(store.database, "download", "BTC/USD"):
        refused, free = await download(plain_url, [market, other])
        async with downloading(plain_url, SimulatedExchange([market])) as service:
            with pytest.raises(JobRunningError, match="another download of BTC/USD is running"):
                await service.backfill_symbol("BTC/USD")
    assert isinstance(refused.error, JobRunningError)
    assert (free.outcome, free.new) == ("caught up", SIZE)
    await assert_is_truth(plain_url, other)
    assert (await download_one(plain_url, market)).new == SIZE


async def test_two_at_once_share_the_work(plain_url: str, market: Market) -> None:
    exchange = SimulatedExchange([market], delay=0.02)
    async with downloading(plain_url, exchange) as one, downloading(plain_url, exchange) as other:
        results = await asyncio.gather(one.backfill_symbol("BTC/USD"), other.backfill_symbol("BTC/USD"))
    assert sum(results) == SIZE
    await assert_is_truth(plain_url, market)


async def test_a_pair_that_is_not_there_does_nothing_to_the_others(plain_url: str, market: Market) -> None:
    async with downloading(plain_url, SimulatedExchange([market])) as service:
        unknown, good = await service.backfill(["NOPE/USD", "BTC/USD"])
    assert isinstance(unknown.error, UnknownPairError)
    assert (good.outcome, good.new) == ("caught up", SIZE)
    await assert_is_truth(plain_url, market)


async def test_a_trade_that_is_stored_with_another_price(db_url: str, market: Market) -> None:
    await download_one(db_url, market)
    await query(db_url, "UPDATE trades SET price = price + 1 WHERE symbol = 'BTC/USD' AND id = 700")
    before = await checksums(db_url)
    report = await download_one(db_url, market)
    assert (report.outcome, report.conflicts, report.new, report.changed) == ("caught up", 1, 0, 0)
    assert report.is_flawed
    (told,) = report.conflict_examples
    assert told.startswith("trade 700 is stored as ")
    assert await checksums(db_url) == before


async def test_a_live_trade_takes_the_official_stamp_and_what_it_lacks(db_url: str, market: Market) -> None:
    await download_one(db_url, market)
    await query(
        db_url,
        f"UPDATE trades SET timestamp = {moved('timestamp', -TICK)}, order_type = NULL, misc = NULL"
        " WHERE symbol = 'BTC/USD' AND id = 1234",
    )
    report = await download_one(db_url, market)
    assert (report.new, report.changed, report.conflicts) == (0, 1, 0)
    await assert_is_truth(db_url, market)


@pytest.mark.parametrize(
    ("price", "volume"),
    [("1.00000000001", "1"), ("1e10", "1"), ("1", "1e18"), ("1e9", "1e9"), ("1", "1e-11")],
)
async def test_a_number_that_the_table_cannot_hold(plain_url: str, price: str, volume: str) -> None:
    rows = [["1", "1", 1704080000.25 + n, "b", "l", "", n] for n in range(1, 6)]
    rows[3][:2] = [price, volume]
    async with KrakenTradesBackfill(plain_url) as service:
        with pytest.raises(ExchangeFormatError, match="trade 4 of BTC/USD at 2024-01-01T03:33:24"):
            await service.store_trades("BTC/USD", rows)
        found = await stored(plain_url, "BTC/USD")
        assert (found.trades, found.status, found.coverage["trades"]) == ([], {}, [])
        # Zeros behind are no digits.
        await service.store_trades(
            "BTC/USD", [["1.100000000000", "899999999999999999", 1704080000.25, "b", "l", "", 1]]
        )
    assert len((await stored(plain_url, "BTC/USD")).trades) == 1


async def test_a_failure_while_many_pages_wait_ends_it(
    plain_url: str, market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fetcher is blocked by a full queue at that moment: nobody must wait for it."""
    monkeypatch.setattr(download_module, "AT_ONCE", 1)
    long = Market("BTC/USD", seed=42, trades=30_000)
    await query(plain_url, "ALTER TABLE trades ADD CONSTRAINT small CHECK (id < 5000 OR symbol <> 'BTC/USD')")
    async with asyncio.timeout(30):
        report = await download_one(plain_url, long)
    assert report.outcome == "failed"
    assert "small" in str(report.error)
    assert 0 < report.new < 5_000
    await query(plain_url, "ALTER TABLE trades DROP CONSTRAINT small")
    await download_one(plain_url, long, resume=True)
    await assert_is_truth(plain_url, long)


async def test_stops_in_the_middle(plain_url: str, market: Market) -> None:
    """Stopped at once, stopped later, resumed: the same tables as without a stop."""
    exchange = SimulatedExchange([market], delay=0.02)
    for seconds in (0.0, 0.03, 0.05):
        async with downloading(plain_url, exchange) as service:
            run = asyncio.create_task(service.backfill(["BTC/USD"], resume=True))
            await asyncio.sleep(seconds)
            service.request_stop()
            outcomes = [report.outcome for report in await run]
            assert outcomes in ([], ["stopped"], ["caught up"])
    await download_one(plain_url, market, resume=True)
    await assert_is_truth(plain_url, market)

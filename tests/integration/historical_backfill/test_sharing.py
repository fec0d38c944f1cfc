"""Several processes and one history: each takes what nobody has, and nothing is done twice for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from kraken_db import KrakenTradesBackfill
from kraken_db.db.locks import JobLock
from kraken_db.errors import JobRunningError
from kraken_db.heartbeat import Heartbeat, Word
from kraken_db.historical_backfill import BackfillReport, backfill, download, sharing
from kraken_db.historical_backfill.sharing import Grid
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.repositories.running_jobs import JobKind
from kraken_db.simulator import Market, SimulatedExchange
from tests.support.archives import checksums, query
from tests.support.downloading import ShortTime, assert_is_truth, quick_client
from tests.support.lanes import Lane
from tests.support.processes import backfilling, run_backfill
from tests.support.stores import opened

HOUR = timedelta(hours=1)
COUNTERS = (
    "SELECT data_type, oldest_timestamp, newest_timestamp, last_kraken_since, total_records"
    " FROM data_sync_status ORDER BY data_type"
)
NAMES = ("ADA", "ALGO", "APE", "ATOM", "AVAX", "BAT", "BCH", "DASH", "DOT", "ETC", "ETH", "FIL")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pairs are shared too, and nobody waits for long."""
    monkeypatch.setattr(sharing, "LEAST_PAGES", 2)
    monkeypatch.setattr(backfill, "HELP_AFTER", 0.0)
    monkeypatch.setattr(backfill, "ELSEWHERE_EVERY", 0.05)
    monkeypatch.setattr(download, "LOOK_EVERY", 0.0)


def trade(number: int | None, moment: datetime) -> KrakenTrade:
    return KrakenTrade(Decimal(1), Decimal(1), moment, "b", "l", "", number)


def service(url: str, base_url: str) -> KrakenTradesBackfill:
    return KrakenTradesBackfill(url, client=quick_client(base_url), sleep=ShortTime().sleep)


async def run(url: str, base_url: str, *symbols: str, **options: Any) -> list[BackfillReport]:
    async with service(url, base_url) as one:
        return await one.backfill(symbols, source="rest", **options)


@asynccontextmanager
async def working(url: str, kind: JobKind) -> AsyncIterator[None]:
    """Another process that has the lock of BTC/USD, and says so."""
    async with (
        opened(url) as store,
        Heartbeat(store, kind, ["BTC/USD"], lambda: Word("at work", ["BTC/USD"])),
        JobLock(store.database, "download", "BTC/USD"),
    ):
        yield


def test_the_grid_is_the_same_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 1,000 pages in 1,000 hours are 40 stretches of 25 hours: of 32 hours each."""
    monkeypatch.setattr(sharing, "LEAST_PAGES", 25)
    first = trade(1, datetime(2024, 1, 1, 0, 30, 5, tzinfo=UTC))
    for last_id in (1_000_000, 1_000_900):  # a trade more or less makes no other grid
        grid = Grid.between(first, trade(last_id, first.timestamp + 1000 * HOUR))
        assert grid == Grid(32 * HOUR)
    assert Grid.between(first, trade(49_000, first.timestamp + 1000 * HOUR)) is None
    assert Grid.between(trade(None, first.timestamp), trade(10**9, first.timestamp + HOUR)) is None
    # 2024-01-01 00:00 is hour 473,352 since 1970, which 32 does not divide: 473,344 does, 8 hours before.
    found = Grid(32 * HOUR).stretches(first.timestamp, datetime(2024, 1, 4, tzinfo=UTC))
    assert found == [
        (datetime(2024, 1, 1, 0, 30, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)),
        (datetime(2024, 1, 2, tzinfo=UTC), datetime(2024, 1, 3, 8, tzinfo=UTC)),
    ]


@pytest.mark.parametrize("resume", [False, True])
async def test_one_long_pair(plain_url: str, lanes: dict[str, Lane], resume: bool) -> None:
    """Two share it: both have a part of it, and the tables are those of one alone."""
    market = Market("BTC/USD", seed=8, trades=60_000)
    exchange = SimulatedExchange([market])
    with lanes["postgres"].migrated_database() as other_url:
        async with exchange.serve() as base_url:
            await run(other_url, base_url, "BTC/USD")
        one_alone, counters = await checksums(other_url), await query(other_url, COUNTERS)
    exchange.delay = 0.2
    async with exchange.serve() as base_url:
        alone = len(exchange.requests)
        first = asyncio.create_task(run(plain_url, base_url, "BTC/USD", resume=resume))
        await stored(plain_url, 1)
        (one,), (two,) = await asyncio.gather(first, run(plain_url, base_url, "BTC/USD", resume=resume))
    assert (one.error, two.error) == (None, None)
    assert {one.outcome, two.outcome} <= {"caught up", "elsewhere"}
    assert "caught up" in (one.outcome, two.outcome)
    await assert_is_truth(plain_url, market)
    assert await query(plain_url, COUNTERS) == counters
    assert await checksums(plain_url) == one_alone
    assert one.new + two.new == 60_000
    assert min(one.new, two.new) > 3_000, "both have had a part; how large a one is a matter of the machine"
    # A seam costs a page or two, and so does the stretch at which they meet.
    assert len(exchange.requests) - alone < 1.6 * alone
    exchange.delay = 0.0
    async with exchange.serve() as base_url:
        (again,) = await run(plain_url, base_url, "BTC/USD", resume=True)
    assert (again.outcome, again.new, again.pages <= 3) == ("caught up", 0, True)


async def test_pair_by_pair(plain_url: str) -> None:
    """Three processes and twelve small pairs: each pair is asked for by one of them."""
    markets = [Market(f"{base}/USD", seed=9, trades=1_500) for base in NAMES]
    exchange = SimulatedExchange(markets, delay=0.02)
    async with exchange.serve() as base_url:
        symbols = [market.symbol for market in markets]
        found = await asyncio.gather(*(run(plain_url, base_url, *symbols) for _ in range(3)))
    reports = [report for reports in found for report in reports]
    assert [report.error for report in reports] == [None] * 36
    assert sum(report.new for report in reports) == 12 * 1_500
    assert sum(report.received for report in reports) < 1.2 * 12 * 1_500
    for market in markets:
        await assert_is_truth(plain_url, market)


async def test_who_dies_leaves_nothing_undone(plain_url: str) -> None:
    """The one that walks is killed on the way, and so is a helper; the third has all of it in the end."""
    market = Market("BTC/USD", seed=10, trades=40_000)
    exchange = SimulatedExchange([market], delay=0.03)
    async with exchange.serve() as base_url:
        environment = {"DATABASE_URL": plain_url, "KRAKEN_BASE_URL": base_url}
        arguments = ("--symbols", "BTC/USD", "--rate-limit", "0")
        async with backfilling(*arguments, environment=environment) as walker:
            await stored(plain_url, 2_000)
            helping = asyncio.create_task(run(plain_url, base_url, "BTC/USD"))
            async with backfilling(*arguments, environment=environment) as helper:
                await stored(plain_url, 8_000)
                walker.kill()
                await stored(plain_url, 14_000)
                helper.kill()
            (report,) = await helping
        assert (report.error, report.outcome) == (None, "caught up")
        await assert_is_truth(plain_url, market)
        again = await run_backfill(*arguments, "--resume", environment=environment)
    assert again.code == 0


async def stored(url: str, count: int) -> None:
    async with asyncio.timeout(60):
        while (await query(url, "SELECT count(*) FROM trades"))[0][0] < count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_other_work_on_a_pair_is_no_backfill(plain_url: str) -> None:
    """A filling of gaps has the lock: that is an error as before, and nothing is waited for."""
    exchange = SimulatedExchange([Market("BTC/USD", trades=500)])
    async with exchange.serve() as base_url, working(plain_url, "gap filling"):
        (report,) = await run(plain_url, base_url, "BTC/USD")
    assert isinstance(report.error, JobRunningError)


async def test_one_that_stands_still_is_left_to_itself(plain_url: str) -> None:
    """It was alive at first, and gives no word any more: its pair stays with it, and that is no failure."""
    exchange = SimulatedExchange([Market("BTC/USD", trades=500)])
    async with exchange.serve() as base_url, working(plain_url, "backfill"):
        waiting = asyncio.create_task(run(plain_url, base_url, "BTC/USD"))
        await asyncio.sleep(1)
        assert not waiting.done()
        await query(plain_url, "UPDATE running_jobs SET heard_at = heard_at - interval '1 minute'")
        (report,) = await waiting
    assert (report.error, report.outcome) == (None, "elsewhere")

"""The API of the specification: signatures, defaults, pages, following the market live, addresses."""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import pytest

from kraken_db import KrakenTradesBackfill
from kraken_db.errors import ExchangeFormatError, NotConnectedError
from kraken_db.kraken import page_walk as paging
from kraken_db.simulator import Faults, ManualClock, Market, Scenario, SimulatedExchange
from tests.support.archives import query
from tests.support.downloading import (
    assert_is_truth,
    candles_of,
    coverage,
    download_one,
    downloading,
    quick_client,
    stored,
)

SECOND = 1_000_000_000


def test_signatures_and_defaults() -> None:
    expected: dict[str, dict[str, Any]] = {
        "__init__": {"db_url": ..., "rate_limit_delay": 1.1, "max_retries": 3},
        "fetch_trades_page": {"pair": ..., "since": 0},
        "fetch_all_trades": {
            "symbol": ...,
            "start_since": 0,
            "end_timestamp": None,
            "auto_stop_realtime": True,
        },
        "store_trades": {"symbol": ..., "trades": ...},
        "build_candles_from_trades": {"symbol": ..., "start_time": ..., "end_time": ...},
        "backfill_symbol": {
            "symbol": ...,
            "since": 0,
            "end_timestamp": None,
            "build_candles": True,
            "auto_stop_realtime": True,
        },
        "get_resume_point": {"symbol": ...},
    }
    assert (KrakenTradesBackfill.BASE_URL, KrakenTradesBackfill.RATE_LIMIT_DELAY) == (
        "https://api.kraken.com",
        1.1,
    )
    for name, parameters in expected.items():
        found = inspect.signature(getattr(KrakenTradesBackfill, name)).parameters
        positional = [p for p in found.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
        assert {p.name: ... if p.default is p.empty else p.default for p in positional} == parameters


async def test_what_needs_the_database_says_so(plain_url: str) -> None:
    service = KrakenTradesBackfill(plain_url)
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    for call in (
        service.backfill_symbol("BTC/USD"),
        service.backfill(["BTC/USD"]),
        service.get_resume_point("BTC/USD"),
        service.store_trades("BTC/USD", [["1", "1", 1.5, "b", "l", "", 1]]),
        service.build_candles_from_trades("BTC/USD", moment, moment),
    ):
        with pytest.raises(NotConnectedError, match=r"connect\(\)") as caught:
            await call
        assert isinstance(caught.value, RuntimeError)
    await service.close()


async def test_pages_as_kraken_has_them(plain_url: str) -> None:
    market = Market("BTC/USD", seed=1, trades=2_500)
    async with downloading(plain_url, SimulatedExchange([market])) as service:
        rows, last = await service.fetch_trades_page("XBTUSD")
        assert (len(rows), last) == (1_000, market.stamp(999))
        first = next(market.texts(0, 1))
        assert rows[0] == [first.price, first.volume, float(first.time), first.side, first.order_type, "", 1]
        assert await service.fetch_trades_page("BTC/USD") == (rows, last)
        rows, last = await service.fetch_trades_page("XBTUSD", market.stamp(2_499))
        assert ([row[6] for row in rows], last) == ([2_500], market.stamp(2_499))


@pytest.mark.parametrize("exclusive", [False, True])
async def test_all_trades_without_a_database(exclusive: bool) -> None:
    market = Market("BTC/USD", seed=2, trades=5_000)
    exchange = SimulatedExchange([market], Faults(since_exclusive=exclusive))
    async with exchange.serve() as base_url:
        service = KrakenTradesBackfill("postgresql://nobody@127.0.0.1:9/none", client=quick_client(base_url))
        pages = [page async for page in service.fetch_all_trades("BTC/USD")]
        assert [row[6] for page in pages for row in page] == list(range(1, 5_001))
        end = [*market.truth_trades()][3_000].timestamp
        before = [row async for page in service.fetch_all_trades("BTC/USD", 0, end) for row in page]
        assert [row[6] for row in before] == [t.id for t in market.truth_trades() if t.timestamp < end]
        await service.close()


async def test_since_in_seconds_and_in_nanoseconds(plain_url: str) -> None:
    market = Market("BTC/USD", seed=3, trades=3_000)
    moment = datetime(2024, 1, 1, 0, 20, tzinfo=UTC)
    wanted = [trade for trade in market.truth_trades() if trade.timestamp >= moment]
    seconds = int(moment.timestamp())
    async with downloading(plain_url, SimulatedExchange([market])) as service:
        assert await service.backfill_symbol("BTC/USD", since=seconds) == len(wanted)
        assert await service.backfill_symbol("BTC/USD", since=seconds * SECOND) == 0
    assert (await stored(plain_url, "BTC/USD")).trades == wanted


async def test_it_follows_the_market_until_it_is_stopped(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "POLLING", timedelta(seconds=0.02))
    market = Market("BTC/USD", seed=4)
    clock = ManualClock(market.stamp(1_500))
    exchange = SimulatedExchange([market], clock=clock)

    def now() -> datetime:
        return datetime.fromtimestamp(clock.now_ns // SECOND, UTC)

    async with downloading(db_url, exchange, clock=now) as service:
        run = asyncio.create_task(service.backfill_symbol("BTC/USD", auto_stop_realtime=False))
        for count in (1_501, 1_600, 3_300):
            clock.now_ns = market.stamp(count - 1)
            there = market.count_at(clock.now_ns)
            await total_reaches(db_url, there)
        assert not run.done()
        service.request_stop()
        assert await run == there
    trades = [*market.truth_trades(datetime.fromtimestamp(clock.now_ns // SECOND + 60, UTC))][:there]
    found = await stored(db_url, "BTC/USD")
    assert found.trades == trades
    # The minute that runs has no candle yet.
    whole = [
        trade for trade in trades if trade.timestamp < trades[-1].timestamp.replace(second=0, microsecond=0)
    ]
    assert found.candles == candles_of(whole)


async def total_reaches(url: str, count: int) -> None:
    for _ in range(600):
        if await total(url) >= count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{await total(url)} trades, not {count}")


async def total(url: str) -> int:
    rows = await query(url, "SELECT total_records FROM data_sync_status WHERE data_type = 'trades'")
    return rows[0][0] if rows else 0


async def test_the_address_of_a_subclass_and_of_the_environment(
    plain_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = Market("BTC/USD", seed=5, trades=100)
    exchange = SimulatedExchange([market])
    async with exchange.serve() as base_url:

        class Elsewhere(KrakenTradesBackfill):
            BASE_URL: ClassVar[str] = base_url

        async with Elsewhere(plain_url, 0.0) as elsewhere:
            assert await elsewhere.backfill_symbol("BTC/USD") == 100
        monkeypatch.setenv("KRAKEN_BASE_URL", base_url)
        async with KrakenTradesBackfill(plain_url, 0.0) as service:
            assert await service.backfill_symbol("BTC/USD") == 0
            assert await service.get_resume_point("BTC/USD") == market.stamp(99)
            assert await service.get_resume_point("ETH/USD") == 0


async def test_trades_of_ones_own(db_url: str) -> None:
    """As often as you like, in any order; coverage as far as the ids prove it."""
    market = Market("BTC/USD", seed=6, trades=300, scenario=Scenario.CALM)
    rows = [
        [t.price, t.volume, float(t.time), t.side, t.order_type, "", t.trade_id] for t in market.texts(0, 300)
    ]
    truth = list(market.truth_trades())
    async with KrakenTradesBackfill(db_url) as service:
        await service.store_trades("BTC/USD", rows[:100])
        await service.store_trades("BTC/USD", rows[200:])
        assert len(await coverage(db_url, "BTC/USD")) == 2
        await service.store_trades("BTC/USD", rows[50:250])
        await service.store_trades("BTC/USD", [])
        assert await coverage(db_url, "BTC/USD") == [(truth[0].timestamp, truth[-1].timestamp)]
        with pytest.raises(ExchangeFormatError, match=r"trade 301 of BTC/USD at .*: price 1\S+ does not"):
            await service.store_trades("BTC/USD", [["1e10", "1", 1704080000.5, "b", "l", "", 301]])
    found = await stored(db_url, "BTC/USD")
    assert found.trades == truth
    assert found.status["trades"] == (truth[0].timestamp, truth[-1].timestamp, 300)
    report = await download_one(db_url, market)
    assert (report.new, report.changed) == (0, 0)
    await assert_is_truth(db_url, market)
    assert isinstance(found.trades[0].price, Decimal)

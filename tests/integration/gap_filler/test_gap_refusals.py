"""What Kraken cannot or will not fill stays a gap and is told; nobody else notices."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from kraken_db import DataGap, GapFiller, run_gap_filler
from kraken_db.db.locks import JobLock
from kraken_db.errors import (
    ConfigurationError,
    DatabaseError,
    JobRunningError,
    NotConnectedError,
    UnknownPairError,
)
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.simulator import Faults, Market, RateLimit, SimulatedExchange
from kraken_db.store import Store
from tests.support.downloading import MINUTE, coverage, ended, floor, quick_client, stored
from tests.support.gap_filling import DAY, HOUR, LATER, START, World, assert_filled, calm
from tests.support.stores import opened

NOTHING = {"gaps_detected": 0, "gaps_filled": 0, "candles_inserted": 0, "trades_processed": 0, "errors": []}


async def test_one_of_two_pairs_is_refused(db_url: str) -> None:
    """ETH/USD is not known there at all; BTC/USD is filled as if it were alone."""
    world = World(calm(), now=START + 2 * HOUR + LATER)
    (market,) = world.exchange.markets.values()
    await world.backfill(db_url)
    world.advance(HOUR)
    result = await world.fill(db_url, ["ZZZ/USD", "BTC/USD"])
    assert (result["gaps_detected"], result["gaps_filled"]) == (2, 1)
    (error,) = result["errors"]
    assert error.startswith("ZZZ/USD: ") and "stays a gap" in error
    end = floor(world.now())
    (known,) = (await stored(db_url, "BTC/USD")).coverage["trades"]
    await assert_filled(db_url, market, end, by_candles=[(known[1], end)])
    assert await coverage(db_url, "ZZZ/USD", "candles_1m") == []


async def test_a_delisted_pair_gets_what_there_is_and_has_an_end(plain_url: str) -> None:
    """Its last trades can still be had. The newest of them was the last one: nothing more is expected."""
    market = Market("BTC/USD", seed=7, start=START, trades=300, trades_per_minute=2)
    newest = [*market.truth_trades()][-1].timestamp
    world = World(market, now=START + HOUR)
    await world.backfill(plain_url)
    world.advance(6 * HOUR)
    world.exchange = SimulatedExchange([market], Faults(delisted=["BTC/USD"]), clock=world.clock)
    result = await world.fill(plain_url)
    assert (result["gaps_detected"], result["gaps_filled"], result["errors"]) == (1, 1, [])
    found = await stored(plain_url, "BTC/USD")
    assert len(found.trades) == 300
    end = floor(newest) + MINUTE
    assert found.coverage["candles_1m"][-1][1] == found.coverage["trades"][-1][1] == end
    assert await ended(plain_url) == end
    world.advance(DAY)
    assert await world.fill(plain_url) == NOTHING
    assert world.asked() == ["AssetPairs"]


async def test_a_delisted_pair_that_is_listed_again(plain_url: str) -> None:
    """It was quiet meanwhile: that is known then, and what follows is wanted."""
    market = Market("BTC/USD", seed=7, start=START, trades=300, trades_per_minute=2)
    world = World(market, now=START + 6 * HOUR)
    world.exchange = SimulatedExchange([market], Faults(delisted=["BTC/USD"]), clock=world.clock)
    await world.backfill(plain_url)
    assert (await world.fill(plain_url))["errors"] == []
    assert await ended(plain_url) is not None
    world.advance(DAY + LATER)
    world.exchange = SimulatedExchange([market], clock=world.clock)
    result = await world.fill(plain_url)
    assert (result["gaps_detected"], result["gaps_filled"], result["errors"]) == (1, 1, [])
    assert await ended(plain_url) is None
    first = next(market.truth_trades()).timestamp
    assert await coverage(plain_url, "BTC/USD", "candles_1m") == [(floor(first), floor(world.now()))]


async def test_a_pair_that_is_gone_altogether_stays_a_gap(plain_url: str) -> None:
    """REST does not even have its trades; the archives may."""
    world = World(calm(), now=START + 2 * HOUR + LATER)
    await world.backfill(plain_url)
    world.advance(HOUR)
    world.exchange = SimulatedExchange([calm()], Faults(unknown=["BTC/USD"]), clock=world.clock)
    result = await world.fill(plain_url)
    assert (result["gaps_detected"], result["gaps_filled"]) == (1, 0)
    (error,) = result["errors"]
    assert "Kraken does not list BTC/USD any more" in error
    assert "kraken-db backfill --symbols BTC/USD --source archive" in error
    assert await ended(plain_url) is None


async def test_a_pair_without_data_gets_the_window(plain_url: str) -> None:
    world = World(calm(), now=START + 3 * DAY + LATER)
    (market,) = world.exchange.markets.values()
    since = floor(world.now()) - DAY
    async with world.filler(plain_url, window=DAY) as filler:
        (symbol,) = await filler.survey()
        assert (symbol.has_data, [found.kind for found in symbol.found]) == (False, ["no data"])
        result = await filler.fill_all_gaps()
    assert (result["gaps_filled"], result["errors"]) == (1, [])
    await assert_filled(plain_url, market, floor(world.now()), since=since)
    await world.assert_nothing_left(plain_url)


async def test_the_window_is_thirty_days(plain_url: str) -> None:
    now = datetime(2024, 6, 1, 12, 0, 30, tzinfo=UTC)
    async with GapFiller(plain_url, clock=lambda: now) as filler:
        gaps = await filler.detect_gaps()
    assert [gap.symbol for gap in gaps] == ["XRP/USDT", "BTC/USDT", "XRP/BTC"]
    assert {gap.duration for gap in gaps} == {30 * DAY}
    assert {gap.end_time for gap in gaps} == {floor(now)}


async def test_nobody_answers(plain_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address comes from the environment. Each pair has its own line."""
    monkeypatch.setenv("KRAKEN_BASE_URL", "http://127.0.0.1:1")
    async with GapFiller(plain_url, ["BTC/USD", "ETH/USD"], max_retries=0) as filler:
        result = await filler.fill_all_gaps()
    assert [error.partition(":")[0] for error in result["errors"]] == ["BTC/USD", "ETH/USD"]
    assert all("cannot be reached" in error for error in result["errors"])
    result = await run_gap_filler(plain_url, [])
    assert result == NOTHING


async def test_pairs_side_by_side_keep_the_limit_of_each(plain_url: str) -> None:
    """The exchange refuses a second call within the second, for each pair by itself."""
    markets = [calm(symbol) for symbol in ("BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD")]
    limit = Faults(rate_limit=RateLimit(per_second=5, burst=1))
    world = World(*markets, now=START + 2 * HOUR + LATER, faults=limit)
    async with world.exchange.serve() as base_url:
        client = KrakenRestClient(base_url, rate_limit_delay=0.25)
        async with GapFiller(plain_url, world.symbols, client=client, clock=world.now, window=HOUR) as filler:
            result = await filler.fill_all_gaps(max_concurrent=4)
    assert (result["gaps_filled"], result["errors"]) == (4, [])
    assert {request.answer for request in world.exchange.requests if request.pair} == {"ok"}


async def test_another_run_works_on_the_symbol(plain_url: str) -> None:
    world = World(calm(), calm("ETH/USD"), now=START + 2 * HOUR + LATER)
    async with (
        opened(plain_url) as store,
        JobLock(store.database, "download", "BTC/USD"),
        world.filler(plain_url) as filler,
    ):
        reports = {report.symbol: report for report in await filler.fill()}
        gap = result_gap(world)
        with pytest.raises(JobRunningError):
            await filler.fill_gap_trades(gap)
        with pytest.raises(JobRunningError):
            await filler.fill_gap_ohlc(gap)
    assert not any(report.errors for report in reports.values()), "it is left to the other one"
    assert reports["BTC/USD"].is_elsewhere and not reports["ETH/USD"].is_elsewhere
    assert (reports["BTC/USD"].filled, reports["ETH/USD"].filled) == (0, 1)


async def test_several_fillers_share_the_pairs(plain_url: str) -> None:
    """Each takes what nobody has; what one had that is through is done when the other looks again."""
    symbols = [f"{base}/USD" for base in ("BTC", "ETH", "XRP", "SOL", "ADA", "DOT")]
    world = World(*(calm(symbol) for symbol in symbols), now=START + 2 * HOUR + LATER)
    await world.backfill(plain_url)
    world.advance(DAY)
    async with AsyncExitStack() as stack:
        fillers = [await stack.enter_async_context(world.filler(plain_url)) for _ in range(3)]
        runs = await asyncio.gather(*(filler.fill(max_concurrent=2) for filler in fillers))
    assert not [error for reports in runs for report in reports for error in report.errors]
    end = floor(world.now())
    for symbol in symbols:
        await assert_filled(plain_url, world.exchange.markets[symbol], end)
    new = [sum(report.written.trades_new for report in reports) for reports in runs]
    known = sum(world.exchange.markets[symbol].count_at(world.clock()) for symbol in symbols)
    assert sum(new) < known, "nothing is written twice"


def result_gap(world: World, symbol: str = "BTC/USD") -> DataGap:
    end = floor(world.now())
    return DataGap(symbol, "candles_1m", end - HOUR, end, HOUR)


async def test_single_gaps_through_either_way(plain_url: str) -> None:
    world = World(calm(), now=START + DAY + LATER)
    (market,) = world.exchange.markets.values()
    gap = result_gap(world)
    truth = [t for t in market.truth_trades(gap.end_time) if t.timestamp >= gap.start_time]
    minutes = {floor(trade.timestamp) for trade in truth}
    async with world.filler(plain_url, ["BTC/USD", "ETH/USD"]) as filler:
        half = DataGap("BTC/USD", "candles_1m", gap.start_time + HOUR / 2, gap.end_time, HOUR / 2)
        newer = len([minute for minute in minutes if minute >= half.start_time])
        assert await filler.fill_gap_ohlc(half) == newer
        assert await filler.fill_gap_ohlc(gap) == len(minutes) - newer
        assert await filler.fill_gap_ohlc(gap) == 0
        assert await filler.fill_gap_trades(gap) == len(truth)
        assert await filler.fill_gap_trades(gap) == 0
        too_old = DataGap("BTC/USD", "candles_1m", START, START + HOUR, HOUR)
        assert await filler.fill_gap_ohlc(too_old) == 0
        with pytest.raises(UnknownPairError):
            await filler.fill_gap_trades(DataGap("ZZZ/USD", "trades", START, START + HOUR, HOUR))
        await filler.refresh_continuous_aggregates()
        # The status names what is there, whatever it is told.
        await filler.update_sync_status("BTC/USD", world.now() + DAY)
        await filler.update_sync_status("ETH/USD", world.now())
    # Trades are exact: the vwap of OHLC, which is cut, and its missing quote volume gave way.
    found = await assert_filled(plain_url, market, gap.end_time, since=gap.start_time)
    assert len(found.candles) == len(minutes)
    assert (await stored(plain_url, "ETH/USD")).status == {}


async def test_wrong_arguments(plain_url: str) -> None:
    with pytest.raises(ConfigurationError, match="window"):
        GapFiller(plain_url, window=timedelta())
    filler = GapFiller(plain_url)
    with pytest.raises(NotConnectedError, match=r"call start\(\) first"):
        await filler.detect_gaps()
    await filler.start()
    with pytest.raises(ConfigurationError, match="max_concurrent"):
        await filler.fill_all_gaps(max_concurrent=0)
    with pytest.raises(ConfigurationError, match="min_gap"):
        await filler.detect_gaps(min_gap_minutes=-1)
    with pytest.raises(ConfigurationError, match="no time zone"):
        await filler.update_sync_status("BTC/USD", datetime(2024, 1, 1))  # noqa: DTZ001
    await filler.stop()
    await filler.stop()


async def test_a_clock_that_is_ahead(plain_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """What Kraken's clock has not reached yet is not claimed."""
    world = World(calm(), now=START + 2 * HOUR + LATER)
    await world.backfill(plain_url)
    world.advance(HOUR)
    end = floor(world.now())
    async with (
        world.exchange.serve() as base_url,
        GapFiller(
            plain_url,
            world.symbols,
            client=quick_client(base_url),
            clock=lambda: world.now() + 10 * MINUTE,
        ) as filler,
    ):
        result = await filler.fill_all_gaps()
    assert (result["gaps_filled"], result["errors"]) == (1, [])
    assert (await coverage(plain_url, "BTC/USD", "candles_1m"))[-1][1] == end
    assert "ahead of Kraken's" in caplog.text


async def test_a_stop_stores_what_has_come(plain_url: str) -> None:
    """Asked to stop in the middle of a long gap, it ends; the next run does the rest."""
    market = calm(a_minute=2)
    world = World(market, now=START + 3 * DAY + LATER)
    async with world.filler(plain_url, window=3 * DAY) as filler:
        world.exchange.delay = 0.02
        running = asyncio.create_task(filler.fill())
        while len(world.asked("Trades")) < 5:  # noqa: ASYNC110 (the exchange tells nobody)
            await asyncio.sleep(0.005)
        filler.request_stop()
        (report,) = await running
    assert (report.was_stopped, report.filled, report.errors) == (True, 0, [])
    assert 0 < len((await stored(plain_url, "BTC/USD")).trades) < 8000
    world.exchange.delay = 0.0
    result = await world.fill(plain_url)
    assert (result["gaps_filled"], result["errors"]) == (result["gaps_detected"], [])
    await assert_filled(plain_url, market, floor(world.now()))


async def test_a_refresh_that_is_given_up_is_told(plain_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gap is filled all the same; the run has not done all of its work."""

    async def refuse(_: Store) -> None:
        raise DatabaseError("no refresh today")

    world = World(calm(), now=START + 2 * HOUR + LATER)
    await world.backfill(plain_url)
    world.advance(HOUR)
    monkeypatch.setattr(Store, "refresh_pending", refuse)
    result = await world.fill(plain_url)
    assert (result["gaps_detected"], result["gaps_filled"]) == (1, 1)
    (error,) = result["errors"]
    assert error.startswith("BTC/USD: the higher intervals are not up to date: no refresh today")

"""The gap from the newest known minute to now, of three lengths; and a pair that is quiet."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kraken_db.simulator import Market, TradeText
from tests.support.downloading import MINUTE, floor, stored
from tests.support.gap_filling import DAY, HOUR, LATER, START, World, assert_filled, calm


async def fill_tail(url: str, away: timedelta) -> tuple[World, dict[str, object]]:
    """Two hours are downloaded, then nobody is there for so long."""
    world = World(calm(), now=START + 2 * HOUR + LATER)
    await world.backfill(url)
    world.advance(away)
    return world, await world.fill(url)


@pytest.mark.parametrize("away", [timedelta(minutes=3), 5 * HOUR], ids=["3 minutes", "5 hours"])
async def test_a_small_tail_is_filled_by_candles(db_url: str, away: timedelta) -> None:
    world, result = await fill_tail(db_url, away)
    (market,) = world.exchange.markets.values()
    end = floor(world.now())
    (known,) = (await stored(db_url, "BTC/USD")).coverage["trades"]
    found = await assert_filled(db_url, market, end, by_candles=[(known[1], end)])
    added = [candle for candle in found.candles if candle.timestamp >= known[1]]
    assert result == {
        "gaps_detected": 1,
        "gaps_filled": 1,
        "candles_inserted": len(added),
        "trades_processed": 0,
        "errors": [],
    }
    assert (world.asked("Trades"), world.asked("OHLC")) == ([], ["OHLC"])
    await world.assert_nothing_left(db_url)


async def test_a_tail_of_three_days_is_filled_by_trades(db_url: str) -> None:
    world, result = await fill_tail(db_url, 3 * DAY)
    (market,) = world.exchange.markets.values()
    end = floor(world.now())
    found = await assert_filled(db_url, market, end)
    before = len([*market.truth_trades(START + 2 * HOUR + LATER)])
    assert (result["gaps_filled"], result["errors"]) == (1, [])
    assert result["trades_processed"] == len(found.trades) - before
    assert world.asked("OHLC") == []
    await world.assert_nothing_left(db_url)
    # A download goes on behind it, and has nothing to do.
    world.exchange.requests.clear()
    await world.backfill(db_url, resume=True)
    assert len(world.asked("Trades")) < 5


async def test_a_quiet_pair_has_no_gap(db_url: str) -> None:
    """It traded for ten minutes; then there were forty without a trade."""
    start = int(START.timestamp())
    rows = [TradeText("100.0", "1.0", str(start + 60 * n + 5), "b", "l", "", 0) for n in range(10)]
    world = World(Market.scripted("BTC/USD", rows), now=START + timedelta(minutes=50, seconds=20))
    await world.backfill(db_url)
    first = await world.fill(db_url)
    assert (first["gaps_detected"], first["gaps_filled"], first["candles_inserted"]) == (1, 1, 0)
    assert (await stored(db_url, "BTC/USD")).coverage["candles_1m"] == [(START, START + 50 * MINUTE)]
    await world.assert_nothing_left(db_url)
    # Quiet for longer than OHLC reaches back: then the newest trade of all is the proof.
    world.advance(3 * DAY)
    second = await world.fill(db_url)
    assert (second["gaps_filled"], second["errors"]) == (1, [])
    assert world.asked("OHLC") == []
    found = await stored(db_url, "BTC/USD")
    end = START + 3 * DAY + 50 * MINUTE
    assert found.coverage["candles_1m"] == [(START, end)]
    # OHLC says nothing of trades.
    assert found.coverage["trades"] == [(START, START + 10 * MINUTE), (START + 50 * MINUTE, end)]
    await world.assert_nothing_left(db_url)

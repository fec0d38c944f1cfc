"""Gaps within what is stored: old ones, one at the edge of what OHLC serves, and ids that are missing."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from kraken_db import DataGap
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.simulator import Market
from tests.support.archives import query
from tests.support.downloading import MINUTE, assert_is_truth, floor, stored
from tests.support.gap_filling import DAY, HOUR, LATER, START, World, assert_filled, calm, clock

TICK = timedelta(microseconds=1)


async def cursor(url: str) -> Any:
    rows = await query(url, "SELECT last_kraken_since FROM data_sync_status WHERE data_type = 'trades'")
    return rows[0][0]


async def test_an_old_hour_can_only_be_filled_by_trades(db_url: str) -> None:
    """It is a month old, and half of a minute at both of its ends is known."""
    market = Market("BTC/USD", seed=12, start=START, until=START + 31 * DAY, trades_per_minute=0.1)
    newest = [*market.truth_trades()][-1].timestamp
    world = World(market, now=floor(newest) + MINUTE + timedelta(seconds=10))
    await world.backfill(db_url, end_timestamp=clock(1000.4))
    await world.backfill(db_url, since=to_cursor(clock(1060.6)))
    before = await cursor(db_url)
    async with world.filler(db_url) as filler:
        hour, *_ = await filler.detect_gaps()
        assert (hour.start_time, hour.end_time) == (clock(1000), clock(1061))
        assert (hour.data_type, hour.is_small) == ("candles_1m", True)
        result = await filler.fill_all_gaps()
    missing = [t for t in market.truth_trades() if clock(1000.4) <= t.timestamp < clock(1060.6)]
    assert missing
    assert (result["trades_processed"], result["errors"]) == (len(missing), [])
    assert world.asked("OHLC") == []
    await assert_is_truth(db_url, market)
    assert await cursor(db_url) == before
    await world.assert_nothing_left(db_url)


async def test_a_gap_at_the_edge_of_what_ohlc_serves(db_url: str) -> None:
    """OHLC has its newer part only: trades fill the rest."""
    now = START + DAY + timedelta(seconds=30)
    world = World(calm(), now=now)
    (market,) = world.exchange.markets.values()
    begin, end, edge = START + 10 * HOUR, START + 16 * HOUR, START + 12 * HOUR
    await world.backfill(db_url, end_timestamp=begin)
    await world.backfill(db_url, since=to_cursor(end))
    result = await world.fill(db_url)
    assert (result["gaps_detected"], result["gaps_filled"], result["errors"]) == (1, 1, [])
    assert world.asked("OHLC") == ["OHLC"]
    until = (await stored(db_url, "BTC/USD")).coverage["candles_1m"][-1][1]
    await assert_filled(db_url, market, until, by_candles=[(edge, end)])
    in_trades = [t for t in market.truth_trades(edge) if t.timestamp >= begin]
    assert result["trades_processed"] == len(in_trades)
    await world.assert_nothing_left(db_url)


async def test_the_place_to_resume_from_never_moves_back(plain_url: str) -> None:
    """Several pages lie in the gap: none of them is where the next download goes on."""
    world = World(calm(a_minute=4), now=START + DAY + LATER)
    await world.backfill(plain_url)
    before = await cursor(plain_url)
    hours = {"start": START + 2 * HOUR, "end": START + 11 * HOUR}
    for table in ("trades", "candles"):
        where = "timestamp >= :start AND timestamp < :end"
        await query(plain_url, f"DELETE FROM {table} WHERE {where}", **hours)
    await query(
        plain_url,
        "UPDATE data_coverage SET covered = covered - tstzmultirange(tstzrange(:start, :end))",
        **hours,
    )
    result = await world.fill(plain_url)
    assert (result["gaps_filled"], result["errors"]) == (1, [])
    assert result["trades_processed"] > 2_000
    assert await cursor(plain_url) == before


class Leaky(Market):
    """A market of which some trades cannot be had for a while."""

    hidden: range = range(0)

    def json_rows(self, start: int, stop: int) -> list[str]:
        rows = super().json_rows(start, stop)
        return [row for at, row in enumerate(rows, start) if self.trade_id(at) not in self.hidden]


async def test_ids_that_were_missing(db_url: str) -> None:
    """However recent: candles alone would not bring the trades."""
    await check_missing_ids(db_url, is_recent=True)


async def test_ids_that_were_missing_long_ago(plain_url: str) -> None:
    await check_missing_ids(plain_url, is_recent=False)


async def check_missing_ids(db_url: str, *, is_recent: bool) -> None:
    market = Leaky("BTC/USD", seed=5, start=START, trades=2_000, trades_per_minute=20)
    trades = [*market.truth_trades()]
    market.hidden = range(700, 705)
    now = floor(trades[-1].timestamp) + MINUTE + timedelta(seconds=10)
    world = World(market, now=now if is_recent else now + 2 * DAY)
    await world.backfill(db_url)
    async with world.filler(db_url) as filler:
        found = [gap for gap in await filler.detect_gaps() if gap.data_type == "trades"]
        assert found == [gap_between(trades[698].timestamp, trades[704].timestamp)]
        # They still cannot be had: the gap stays, and is told.
        result = await filler.fill_all_gaps()
        assert result["gaps_filled"] == result["gaps_detected"] - 1
        (error,) = result["errors"]
        assert "Kraken has no trade for ids 700 to 704" in error
        market.hidden = range(0)
        again = await filler.fill_all_gaps()
    assert (again["gaps_detected"], again["gaps_filled"], again["errors"]) == (1, 1, [])
    assert again["trades_processed"] == 5
    if is_recent:
        await assert_is_truth(db_url, market)
    await world.assert_nothing_left(db_url)


def gap_between(after: datetime, before: datetime) -> DataGap:
    start = after + TICK
    return DataGap("BTC/USD", "trades", start, before, before - start)

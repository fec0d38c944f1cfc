"""Runs over parts of history: half-known minutes get no candle, no gap between two is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kraken_db.kraken.page_walk import to_cursor
from kraken_db.simulator import Faults, Market, Scenario, TradeText
from tests.support.archives import query
from tests.support.downloading import (
    MINUTE,
    assert_is_truth,
    candles_of,
    coverage,
    download_one,
    floor,
    stored,
)


def clock(minutes: float) -> datetime:
    return datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)


@pytest.fixture
def market() -> Market:
    return Market("BTC/USD", seed=30, trades=6_000, scenario=Scenario.SAME_STAMPS)


async def cursor(url: str) -> int | None:
    rows = await query(url, "SELECT last_kraken_since FROM data_sync_status WHERE data_type = 'trades'")
    value: int | None = rows[0][0]
    return value


async def test_minutes_at_both_ends_that_are_known_in_part(db_url: str, market: Market) -> None:
    begin, end = clock(10.4), clock(30.7)
    report = await download_one(db_url, market, since=to_cursor(begin), end_timestamp=end)
    assert report.outcome == "reached the end"
    wanted = [trade for trade in market.truth_trades() if begin <= trade.timestamp < end]
    whole = [trade for trade in wanted if clock(11) <= trade.timestamp < clock(30)]
    found = await stored(db_url, "BTC/USD")
    assert found.trades == wanted
    assert found.candles == candles_of(whole)
    assert found.coverage == {"trades": [(begin, end)], "candles_1m": [(clock(11), clock(30))]}


async def test_resuming_leaves_no_gap(db_url: str, market: Market) -> None:
    for minute in (10.4, 25.0, 43.3):
        await download_one(db_url, market, resume=True, end_timestamp=clock(minute))
    report = await download_one(db_url, market, resume=True)
    assert report.received < 6_000
    await assert_is_truth(db_url, market)


async def test_a_part_behind_a_gap_does_not_move_the_cursor(plain_url: str, market: Market) -> None:
    await download_one(plain_url, market, end_timestamp=clock(20.5))
    before = await cursor(plain_url)
    assert before is not None
    report = await download_one(plain_url, market, since=to_cursor(clock(60)), end_timestamp=clock(70))
    assert report.notes == [
        "there is a gap before this: 2024-01-01 00:20 to 2024-01-01 01:00 UTC;"
        " kraken-db gaps fill BTC/USD fills it"
    ]
    assert await cursor(plain_url) == before
    assert len(await coverage(plain_url, "BTC/USD")) == 2
    await download_one(plain_url, market, resume=True)
    await assert_is_truth(plain_url, market)


async def test_nothing_since_then_is_told_with_the_last_trade(plain_url: str, market: Market) -> None:
    last = list(market.truth_trades())[-1].timestamp
    report = await download_one(plain_url, market, since=to_cursor(last + timedelta(days=3)))
    assert (report.outcome, report.received) == ("caught up", 0)
    since = f"{last + timedelta(days=3):%Y-%m-%d %H:%M}"
    assert report.notes == [
        f"Kraken has no trade since {since} UTC; the last one is of {last:%Y-%m-%d %H:%M} UTC"
    ]
    again = await download_one(plain_url, market, since=to_cursor(last))
    assert again.notes == [], "the last one is there"


async def test_a_part_before_joins_what_is_there(plain_url: str, market: Market) -> None:
    await download_one(plain_url, market, since=to_cursor(clock(40.5)))
    newest = await cursor(plain_url)
    assert newest == market.stamp(5_999)
    # Not there yet: what lies between is missing, and the cursor says so.
    await download_one(plain_url, market, end_timestamp=clock(20.5))
    earlier = await cursor(plain_url)
    assert earlier is not None and earlier < newest
    await download_one(plain_url, market, resume=True)
    reached = await cursor(plain_url)
    # What is there is not asked for again: the cursor is made from the stamp of the last trade then.
    assert reached is not None and newest - 1000 < reached <= newest
    await assert_is_truth(plain_url, market)


async def test_candles_are_built_later(db_url: str, market: Market) -> None:
    report = await download_one(db_url, market, build_candles=False)
    assert (report.new, report.candles_new) == (6_000, 0)
    await assert_is_truth(db_url, market, has_candles=False)
    assert (await stored(db_url, "BTC/USD")).candles == []
    again = await download_one(db_url, market, resume=True)
    assert (again.new, again.candles_new) == (0, len(candles_of(market.truth_trades())))
    await assert_is_truth(db_url, market)


async def test_candles_of_a_part_later(plain_url: str, market: Market) -> None:
    """First half with candles, second without: the minute in the middle belongs to neither alone."""
    await download_one(plain_url, market, end_timestamp=clock(30.5))
    await download_one(plain_url, market, resume=True, build_candles=False)
    await download_one(plain_url, market, resume=True)
    await assert_is_truth(plain_url, market)


async def test_a_part_without_trades(plain_url: str) -> None:
    market = Market("BTC/USD", seed=31, trades=100)
    late = floor([*market.truth_trades()][-1].timestamp) + 60 * MINUTE
    report = await download_one(plain_url, market, since=to_cursor(late), end_timestamp=late + MINUTE)
    assert (report.outcome, report.received, report.error) == ("caught up", 0, None)
    await download_one(plain_url, market, resume=True)
    await assert_is_truth(plain_url, market)


@pytest.mark.parametrize("exclusive", [False, True])
async def test_a_part_begins_with_the_trade_of_that_very_moment(plain_url: str, exclusive: bool) -> None:
    """Stamps that the nearest float64 shows in the next microsecond: the second one here."""
    stamps = ["1704067200.000000500", "1704067200.000000920", "1704067201.000001990"]
    rows = [TradeText("1.00000", "1.00000000", stamp, "b", "l", "", 0) for stamp in stamps]
    market = Market.scripted("BTC/USD", rows)
    faults = Faults(since_exclusive=exclusive)
    second = [*market.truth_trades()][1]
    report = await download_one(plain_url, market, faults, since=to_cursor(second.timestamp))
    assert (report.oldest, report.new) == (second.timestamp, 2)

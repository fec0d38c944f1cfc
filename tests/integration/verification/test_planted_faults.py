"""Each fault that somebody may have planted is found, named by what it is, and repaired from Kraken's record.

The expected numbers are counted from the market's own truth, never from the store.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from kraken_db.simulator import Market, Scenario, TrueTrade
from tests.support.archives import query
from tests.support.downloading import assert_is_truth, download_one, floor
from tests.support.verifying import kinds, verify, wrong

SYMBOL = "BTC/USD"
COPY = """
    INSERT INTO trades (id, symbol, timestamp, price, volume, side, order_type, misc)
    SELECT CAST(:new_id AS bigint), symbol, timestamp, price, volume, side, order_type, misc
    FROM trades WHERE id = :id
"""


@pytest.fixture
async def market(plain_url: str) -> AsyncIterator[Market]:
    """Stored as a whole, 20 minutes of it."""
    market = Market(SYMBOL, seed=41, trades=1_200, scenario=Scenario.SAME_STAMPS)
    await download_one(plain_url, market)
    yield market


def lone(market: Market) -> TrueTrade:
    """A trade that is neither the first nor the last of its minute."""
    trades = list(market.truth_trades())
    return next(
        t for n, t in enumerate(trades) if n > 500 and floor(trades[n - 3].timestamp) == floor(t.timestamp)
    )


async def test_nothing_is_wrong(plain_url: str, market: Market) -> None:
    found = await verify(plain_url, market, all_trades=True)
    assert found.is_clean, found.findings
    trades, candles = found.trades, found.candles
    assert trades is not None and candles is not None
    assert (trades.first_id, trades.last_id, trades.with_ids, trades.without_ids) == (1, 1_200, 1_200, 0)
    assert candles.compared == candles.stored == len(list(market.truth_candles()))
    official = found.part("Kraken's trades")
    assert official is not None and official.compared == 1_200
    aggregates = found.part("higher intervals")
    assert aggregates is not None
    assert (
        aggregates.compared
        == sum(len(list(market.truth_candles(interval))) for interval in (5, 15, 30, 60, 240, 720, 1440)) + 1
    )  # the week


async def test_a_deleted_trade(plain_url: str, market: Market) -> None:
    gone = lone(market)
    await query(plain_url, "DELETE FROM trades WHERE id = :id", id=gone.id)
    found = await verify(plain_url)
    assert kinds(found, "trades") == {"missing ids": 1, "count differs": 1}
    assert kinds(found, "candles") == {"candle differs": 1}
    (missing,) = [item for item in found.findings if item.kind == "missing ids"]
    assert missing.text.startswith(f"id {gone.id} is missing between ")
    (candle,) = [item for item in found.findings if item.kind == "candle differs"]
    assert candle.start == floor(gone.timestamp)
    assert candle.details["stored_trades"] == candle.details["expected_trades"] + 1
    repaired = await verify(plain_url, market, repair=True)
    assert repaired.is_clean, repaired.findings
    assert repaired.repaired == ["1 trade taken from Kraken"]
    await assert_is_truth(plain_url, market)


async def test_the_last_trades_are_gone(plain_url: str, market: Market) -> None:
    """No id shows that, but the counters do, and the candle."""
    last = max(trade.timestamp for trade in market.truth_trades())
    await query(plain_url, "DELETE FROM trades WHERE timestamp >= :since", since=last - timedelta(seconds=5))
    found = await verify(plain_url)
    assert kinds(found, "trades").keys() == {"count differs", "edge differs"}
    assert kinds(found, "candles") == {"candle differs": 1}
    assert (await verify(plain_url, market, repair=True)).is_clean
    await assert_is_truth(plain_url, market)


@pytest.mark.parametrize("is_online", [True, False])
async def test_a_changed_price(plain_url: str, market: Market, is_online: bool) -> None:
    """The highest price of all, so that the candle shows it whatever trades are beside it."""
    changed = lone(market)
    await query(plain_url, "UPDATE trades SET price = 99999999 WHERE id = :id", id=changed.id)
    found = await verify(plain_url)
    assert wrong(found) == {"candles": {"candle differs": 1}}
    (candle,) = found.findings
    assert candle.start == floor(changed.timestamp)
    assert candle.details["numbers"]["high"]["expected"] == 99999999
    true_high = max(t.price for t in market.truth_trades() if floor(t.timestamp) == candle.start)
    assert candle.details["numbers"]["high"]["stored"] == true_high
    if not is_online:  # the same number of trades: who is right is Kraken's to say
        assert wrong(await verify(plain_url, repair=True)) == wrong(found)
        return
    found = await verify(plain_url, market, all_trades=True)
    assert kinds(found, "Kraken's trades") == {"trade differs": 1}
    repaired = await verify(plain_url, market, repair=True)
    assert repaired.is_clean, repaired.findings
    await assert_is_truth(plain_url, market)


async def test_a_price_that_was_changed_in_the_candle_too(plain_url: str, market: Market) -> None:
    """Everything that is stored agrees: only Kraken can tell."""
    changed = lone(market)
    await query(plain_url, "UPDATE trades SET price = price + 0.1 WHERE id = :id", id=changed.id)
    await query(plain_url, "DELETE FROM candles WHERE timestamp = :minute", minute=floor(changed.timestamp))
    offline = await verify(plain_url, repair=True)
    assert offline.is_clean, offline.findings
    found = await verify(plain_url, market, all_trades=True)
    assert wrong(found) == {"Kraken's trades": {"trade differs": 1}}
    (finding,) = found.findings
    assert finding.text.startswith(f"trade {changed.id} at ")
    assert "price " in finding.text and ", at Kraken " in finding.text
    assert (await verify(plain_url, market, all_trades=True, repair=True)).is_clean
    await assert_is_truth(plain_url, market)


@pytest.mark.parametrize("new_id", [1_201, 5_000_000, 1_150])
async def test_a_trade_twice_under_another_id(plain_url: str, market: Market, new_id: int) -> None:
    """The next id, one far away, and one that another trade has."""
    copied = lone(market)
    await query(plain_url, COPY, id=copied.id, new_id=new_id)
    found = await verify(plain_url)
    assert found.trades is not None and found.trades.missing_ids == 0
    planted = "id stored twice" if new_id == 1_150 else "id out of sequence"
    assert kinds(found, "trades") == {planted: 1, "count differs": 1}
    assert kinds(found, "candles") == {"candle differs": 1}
    (finding,) = [item for item in found.findings if item.kind == planted]
    assert str(new_id) in finding.text
    found = await verify(plain_url, market, all_trades=True)
    assert kinds(found, "Kraken's trades") == {"trade unknown to Kraken": 1}
    repaired = await verify(plain_url, market, repair=True)
    assert repaired.is_clean, repaired.findings
    await assert_is_truth(plain_url, market)


async def test_an_id_that_is_doubled_hides_none_that_is_missing(plain_url: str, market: Market) -> None:
    await query(plain_url, COPY, id=lone(market).id, new_id=1_150)
    await query(plain_url, "DELETE FROM trades WHERE id = 1160")
    found = await verify(plain_url)
    assert kinds(found, "trades") == {"id stored twice": 1, "missing ids": 1}
    assert found.trades is not None
    assert [(hole.first, hole.last) for hole in found.trades.missing_ranges] == [(1_160, 1_160)]


async def test_a_candle_one_trade_short(plain_url: str, market: Market) -> None:
    minute = floor(lone(market).timestamp)
    await query(
        plain_url, "UPDATE candles SET trade_count = trade_count - 1 WHERE timestamp = :minute", minute=minute
    )
    found = await verify(plain_url)
    assert kinds(found, "candles") == {"candle differs": 1}
    (finding,) = [item for item in found.findings if item.kind == "candle differs"][:1]
    count = sum(floor(trade.timestamp) == minute for trade in market.truth_trades())
    assert f"trade_count {count - 1}, not {count}" in finding.text
    assert (await verify(plain_url, repair=True)).is_clean
    await assert_is_truth(plain_url, market)


async def test_a_candle_is_gone(plain_url: str, market: Market) -> None:
    minute = floor(lone(market).timestamp)
    await query(plain_url, "DELETE FROM candles WHERE timestamp = :minute", minute=minute)
    found = await verify(plain_url)
    assert kinds(found, "candles") == {"candle missing": 1, "count differs": 1}
    assert (await verify(plain_url, market, repair=True)).is_clean
    await assert_is_truth(plain_url, market)


async def test_a_candle_too_many(plain_url: str, market: Market) -> None:
    late = floor(max(trade.timestamp for trade in market.truth_trades())) - timedelta(minutes=1)
    await query(
        plain_url,
        "DELETE FROM trades WHERE timestamp >= :a AND timestamp < :b",
        a=late,
        b=late + timedelta(minutes=1),
    )
    found = await verify(plain_url)
    assert kinds(found, "candles") == {"candle without trades": 1}
    assert (await verify(plain_url, market, repair=True)).is_clean
    await assert_is_truth(plain_url, market)


async def test_everything_at_once(timescale_url: str) -> None:
    """The same faults on TimescaleDB, side by side, and an aggregate that was not refreshed."""
    market = Market(SYMBOL, seed=42, trades=900, trades_per_minute=20, scenario=Scenario.CALM)
    await download_one(timescale_url, market)
    minutes = [candle.timestamp for candle in market.truth_candles()]
    first_of = {floor(trade.timestamp): trade for trade in reversed(list(market.truth_trades()))}
    gone, changed, copied = (first_of[minutes[number]] for number in (2, 5, 8))
    await query(timescale_url, "DELETE FROM trades WHERE id = :id", id=gone.id)
    await query(timescale_url, "UPDATE trades SET price = 99999999 WHERE id = :id", id=changed.id)
    await query(timescale_url, COPY, id=copied.id, new_id=7_000_000)
    short = "UPDATE candles SET trade_count = trade_count - 1 WHERE timestamp = :at"
    await query(timescale_url, short, at=minutes[11])
    found = await verify(timescale_url)
    assert kinds(found, "trades") == {"missing ids": 1, "id out of sequence": 1}  # the counts make up for it
    assert [item.start for item in found.findings if item.kind == "candle differs"][:4] == [
        minutes[n] for n in (2, 5, 8, 11)
    ]
    assert kinds(found, "candles") == {"candle differs": 4}
    # 5m, 15m, 30m and 1h do not know that a minute was changed; 4h and more agree with 1h.
    assert kinds(found, "higher intervals") == {"candle differs": 4}
    repaired = await verify(timescale_url, market, all_trades=True, repair=True)
    assert repaired.is_clean, repaired.findings
    await assert_is_truth(timescale_url, market)
    hours = await query(timescale_url, "SELECT sum(trade_count), count(*) FROM candles_1h")
    assert hours == [(900, len(list(market.truth_candles(60))))]

    # Changed where TimescaleDB keeps it: nothing was logged that a refresh would go by.
    (behind,) = await query(
        timescale_url,
        "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
        " FROM timescaledb_information.continuous_aggregates WHERE view_name = 'candles_15m'",
    )
    await query(timescale_url, f"UPDATE {behind[0]} SET close = close + 1 WHERE trade_count > 0")
    found = await verify(timescale_url)
    quarters = len(list(market.truth_candles(15)))
    assert wrong(found) == {"higher intervals": {"candle differs": quarters}}
    assert (await verify(timescale_url, repair=True)).is_clean

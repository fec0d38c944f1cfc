"""What cannot be a minute is found, whatever brought it, and mended from Kraken's record; or it is told.

The store of these tests has candles alone, as an older version took them from anybody: nothing else could say
that one of them is wrong. What should be stored is read from it before something is planted.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import make_url

from kraken_db.ranges import TICK
from kraken_db.simulator import Market
from kraken_db.verification import StoreVerifier
from tests.support.archives import is_cluster, moved, query
from tests.support.downloading import assert_is_truth, download_one, floor, quick_client
from tests.support.gap_filling import DAY
from tests.support.plans import touched, watched
from tests.support.verifying import NOWHERE, kinds, only_candles, verify, wrong

SYMBOL = "BTC/USD"
YEAR = 365 * DAY
CHANGES = {
    "high = low / 2": "the high is below another price",
    "low = high * 2": "the low is above another price",
    "open = high + 1": "the high is below another price",
    "open = low - 1": "the low is above another price",
    "close = high * 3": "the high is below another price",
    "vwap = 5000": "the vwap is not between low and high: 5000",
    "vwap = 0": "the vwap is not between low and high: 0",
    "trade_count = 1000000000": "the number of trades cannot be: 1000000000",
    "trade_count = -1": "the number of trades is negative: -1",
    "trade_count = 0": "it has no trade: a quiet minute has no candle",
    "volume = -2": "the volume is negative: -2",
    "volume = 'NaN'": "volume NaN does not fit: below 2E+23",
    "volume = 1e27, quote_volume = NULL": "0000.0000000000 does not fit: below 2E+23",
    "high = 'NaN'": "high NaN does not fit NUMERIC(20,10)",
    "low = 0": "a price is not above zero",
    "low = -low": "a price is not above zero",
    "open = 0, high = 0, low = 0, close = 0": "a price is not above zero",
    "quote_volume = volume * high * 2": "the quote volume is not between volume times low and",
    "quote_volume = 0": "the quote volume is not between volume times low and volume times high: 0",
    "vwap = high + 0.0000000001": "the vwap is not between low and high",
    f"timestamp = {moved('timestamp', timedelta(seconds=7))}": ":07+00 does not lie on the grid of 1m",
    f"timestamp = {moved('timestamp', TICK)}": "does not lie on the grid of 1m",
    f"timestamp = {moved('timestamp', 30 * DAY)}": "lies in the future",
    f"timestamp = {moved('timestamp', 7900 * YEAR)}": "lies in the future",
    f"timestamp = {moved('timestamp', -11 * YEAR)}": "is before September 2013, when Kraken's history begins",
}


async def minutes(url: str) -> list[Any]:
    return await query(
        url, "SELECT timestamp, open, high, low, close, volume, trade_count FROM candles ORDER BY timestamp"
    )


async def test_each_shape_is_found_and_mended(plain_url: str) -> None:
    world = await only_candles(plain_url)
    before = await minutes(plain_url)
    times = [row[0] for row in before]
    assert (await verify(plain_url, clock=world.now)).is_clean
    for change, at in zip(CHANGES, times[5::2], strict=False):
        await query(plain_url, f"UPDATE candles SET {change} WHERE timestamp = :at", at=at)
    found = await verify(plain_url, clock=world.now)
    assert wrong(found) == {"candles": {"candle cannot be": len(CHANGES)}}
    texts = [item.text for item in found.findings]
    for change, words in CHANGES.items():
        assert any(words in text for text in texts), change
    repaired = await verify(plain_url, world.exchange, clock=world.now, repair=True)
    assert repaired.is_clean, repaired.findings
    assert "5 candles deleted of what is no minute" in repaired.repaired
    assert await minutes(plain_url) == before


async def test_what_kraken_serves_no_more_stays_and_is_told(plain_url: str) -> None:
    """Nothing is deleted before its replacement is at hand."""
    world = await only_candles(plain_url)
    (at,) = (row[0] for row in (await minutes(plain_url))[30:31])
    await query(plain_url, "UPDATE candles SET vwap = 5000 WHERE timestamp = :at", at=at)
    world.advance(DAY)
    found = await verify(plain_url, world.exchange, clock=world.now, repair=True)
    assert wrong(found) == {"candles": {"candle cannot be": 1}}
    assert found.repaired == [
        "1 candle stays as it is, Kraken's candles do not reach back so far: download the trades from"
        f" {at:%Y-%m-%d %H:%M} UTC on, and repair again"
    ]
    await world.backfill(plain_url)
    repaired = await verify(plain_url, world.exchange, clock=world.now, repair=True)
    assert repaired.is_clean, repaired.findings
    assert await query(plain_url, "SELECT count(*) FROM candles WHERE vwap = 5000") == [(0,)]


@pytest.mark.parametrize("change", ["vwap = 0", f"timestamp = {moved('timestamp', timedelta(seconds=7))}"])
async def test_where_the_trades_are_known_nobody_has_to_be_asked(plain_url: str, change: str) -> None:
    market = Market(SYMBOL, seed=41, trades=600)
    await download_one(plain_url, market)
    at = floor(list(market.truth_trades())[300].timestamp)
    await query(plain_url, f"UPDATE candles SET {change} WHERE timestamp = :at", at=at)
    assert not (await verify(plain_url)).is_clean
    repaired = await verify(plain_url, repair=True)
    assert repaired.is_clean or "vwap" in change, repaired.findings
    assert (await verify(plain_url, market, repair=True)).is_clean
    await assert_is_truth(plain_url, market)


@pytest.mark.parametrize("is_counted", [True, False])
async def test_a_row_of_the_future_leaves_nothing_behind(plain_url: str, is_counted: bool) -> None:
    """Stored when nobody refused it, counted as it was then; or deleted by hand, and still counted."""
    world = await only_candles(plain_url)
    before = await minutes(plain_url)
    if is_counted:
        await query(
            plain_url,
            "INSERT INTO candles"
            " (symbol, timestamp, interval_minutes, open, high, low, close, volume, trade_count)"
            " SELECT symbol, timestamp + interval '30 days',"
            " interval_minutes, open, high, low, close, volume, trade_count"
            " FROM candles ORDER BY timestamp DESC LIMIT 1",
        )
    await query(
        plain_url,
        "UPDATE data_sync_status SET total_records = total_records + 1,"
        f" newest_timestamp = {moved('newest_timestamp', 30 * DAY)} WHERE data_type = 'candles_1m'",
    )
    found = await verify(plain_url, clock=world.now)
    expected = {"candle cannot be": 1} if is_counted else {"count differs": 1, "edge differs": 1}
    assert wrong(found) == {"candles": expected}
    repaired = await verify(plain_url, world.exchange, clock=world.now, repair=True)
    assert repaired.is_clean, repaired.findings
    assert f"the counters of candles_1m corrected to {len(before):,}" in repaired.repaired
    assert await minutes(plain_url) == before
    rows = await query(
        plain_url,
        "SELECT total_records, oldest_timestamp, newest_timestamp FROM data_sync_status"
        " WHERE data_type = 'candles_1m'",
    )
    assert rows == [(len(before), before[0][0], before[-1][0])]


async def test_a_minute_of_fewer_trades_than_are_stored(plain_url: str) -> None:
    """As a clock that was two hours ahead has left it: nobody says that its trades are complete."""
    market = Market(SYMBOL, seed=41, trades=600)
    await download_one(plain_url, market)
    at = floor(list(market.truth_trades())[300].timestamp)
    await query(plain_url, "UPDATE candles SET trade_count = trade_count - 1 WHERE timestamp = :at", at=at)
    await query(plain_url, "DELETE FROM data_coverage")
    found = await verify(plain_url)
    assert kinds(found, "candles") == {"candle lacks trades": 1}
    (finding,) = found.findings
    assert finding.start == at
    repaired = await verify(plain_url, repair=True)
    assert repaired.is_clean, repaired.findings
    (count,) = (len([t for t in market.truth_trades() if floor(t.timestamp) == at]),)
    rows = await query(plain_url, "SELECT trade_count FROM candles WHERE timestamp = :at", at=at)
    assert rows == [(count,)]


async def test_each_row_is_read_twice_at_most(plain_url: str) -> None:
    """However many rules there are, and whatever lies far beside the rest."""
    world = await only_candles(plain_url)
    rows = len(await minutes(plain_url))
    far = f"timestamp = {moved('timestamp', 7900 * YEAR)}"
    await query(plain_url, f"UPDATE candles SET {far} WHERE timestamp = (SELECT min(timestamp) FROM candles)")

    # Once its statistics are there, so small a table is read whole, and these come when the server likes.
    name = make_url(plain_url).database
    by_index = f'ALTER DATABASE "{name}" SET enable_seqscan = off'
    await query(plain_url, by_index)
    if await is_cluster(plain_url):
        await query(plain_url, f"SELECT run_command_on_workers('{by_index}')")
    await query(plain_url, "ANALYZE candles")

    def make(url: str) -> StoreVerifier:
        return StoreVerifier(url, client=quick_client(NOWHERE), clock=world.now)

    async with watched(plain_url, make) as (verifier, plans):
        (found,) = await verifier.verify(ask_exchange=False)
    assert kinds(found, "candles")["candle cannot be"] == 1
    looks = [plan for plan in plans if plan["Node Type"] == "Aggregate" and "<@" in str(plan)]
    assert 2 <= len(looks) <= 5  # a day, two days, ..., and all that is far
    # Once for all rules, and where minutes were made of trades once more for how many these were.
    assert sum(touched(plan) for plan in looks) <= 2 * rows

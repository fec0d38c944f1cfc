"""Kraken's REST stamps a trade at hh:mm:00.000000 that its feed has stamped 1 us earlier: in the minute
before.

Whichever comes first, the candles of both minutes are what the official stamps say. They are worked out
here in plain Python, from the texts of the trades.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

import pytest

from kraken_db import DatabaseWriter, KrakenTradesBackfill
from kraken_db.ranges import TICK
from kraken_db.simulator import Market, SimulatedExchange, TrueTrade
from kraken_db.simulator.truth import TradeText, true_candles
from kraken_db.types import TradeRecord
from tests.support.archives import import_file, query, read_candles, write
from tests.support.downloading import MINUTE, Stored, assert_same, candles_of, download, floor, stored
from tests.support.factories import EPOCH
from tests.support.live_writing import BTC, total, writing
from tests.support.verifying import verify, wrong

# Seconds after 2024-01-01 00:00, and a price. Every minute but two begins with a trade at its very start; in
# 00:03 there is none, and 00:06 has no other.
TAPE = [
    (0, 102), (20, 103), (40, 101),
    (60, 105), (80, 104), (119, 106),
    (120, 101), (130, 107),
    (240, 98), (250, 99), (260, 104),
    (300, 110), (330, 111),
    (360, 97),
    (420, 112), (450, 100),
    (481, 103), (500, 102),
]  # fmt: skip
BEGIN = int(EPOCH.timestamp())


def market() -> Market:
    texts = [
        TradeText(str(price), f"0.{number:02}", str(BEGIN + second), "sb"[number % 2], "l", "", 0)
        for number, (second, price) in enumerate(TAPE, 1)
    ]
    return Market.scripted(BTC, texts)


OFFICIAL = list(market().truth_trades())


def record(trade: TrueTrade, *, early: bool) -> TradeRecord:
    stamp = trade.timestamp - TICK if early else trade.timestamp
    return TradeRecord(BTC, stamp, trade.price, trade.volume, trade.side, trade.id, trade.order_type, "")


async def put(writer: DatabaseWriter, trades: Sequence[TrueTrade], *, official: bool = False) -> None:
    for trade in trades:
        await writer.write_trade(record(trade, early=not official), is_official=official)
    await writer.flush()


async def record_live(url: str, folder: Path) -> Stored:
    """All trades as the feed stamps them, and their candles."""
    async with writing(url, folder) as writer:
        await put(writer, OFFICIAL)
        await writer.build_candles(BTC, EPOCH - MINUTE, EPOCH + 9 * MINUTE)
    found = await stored(url, BTC)
    assert [(c.timestamp, int(c.open), int(c.close)) for c in found.candles[:3]] == [
        (EPOCH - MINUTE, 102, 102),
        (EPOCH, 103, 105),
        (EPOCH + MINUTE, 104, 101),
    ]
    assert EPOCH + 3 * MINUTE in {candle.timestamp for candle in found.candles}
    return found


def archive(trades: Sequence[TrueTrade]) -> str:
    return "".join(
        f"{t.price},{t.volume},{t.timestamp.timestamp():.6f},{t.side[0]},{t.order_type[0]},,{t.id}\n"
        for t in trades
    )


async def assert_official(url: str, *, until: int = 9) -> Stored:
    """Trades and candles are those of the official stamps, up to a minute; all counters and checks agree."""
    found = await stored(url, BTC)
    assert_same(found.trades, OFFICIAL)
    expected = [candle for candle in candles_of(OFFICIAL) if candle.timestamp < EPOCH + until * MINUTE]
    assert_same([candle for candle in found.candles if candle.timestamp < EPOCH + until * MINUTE], expected)
    assert await total(url) == len(OFFICIAL)
    assert await total(url, "candles_1m") == len(found.candles)
    checked = await verify(url)
    assert wrong(checked) == {}, checked.findings
    return found


async def assert_higher_intervals(url: str) -> None:
    """Also the day, and the hour, before: the only trade of them has left."""
    for interval in (5, 60, 1440):
        rows = [
            (c.timestamp, c.open, c.high, c.low, c.close, c.volume, c.trade_count)
            for c in await read_candles(url, BTC, interval)
        ]
        assert rows == [
            (c.timestamp, c.open, c.high, c.low, c.close, c.volume, c.trade_count)
            for c in true_candles(OFFICIAL, interval)
        ]


async def test_recorded_and_then_downloaded(db_url: str, tmp_path: Path) -> None:
    await record_live(db_url, tmp_path)
    (report,) = await download(db_url, market())
    assert report.error is None and report.refresh_error is None
    found = await assert_official(db_url)
    first = found.candles[0]
    assert (first.timestamp, int(first.open), int(first.close)) == (EPOCH, 102, 101)  # the feed's: 103, 105
    assert (int(found.candles[1].open), int(found.candles[1].close)) == (105, 106)
    assert found.coverage["trades"] == [(EPOCH, EPOCH + 9 * MINUTE)]
    assert found.coverage["candles_1m"] == [(EPOCH, EPOCH + 9 * MINUTE)]
    await assert_higher_intervals(db_url)


async def test_downloaded_and_then_recorded(db_url: str, tmp_path: Path) -> None:
    await download(db_url, market())
    async with writing(db_url, tmp_path) as writer:
        await put(writer, OFFICIAL)
        await writer.build_candles(BTC, EPOCH - MINUTE, EPOCH + 9 * MINUTE)
        assert writer.get_stats()["conflict_count"] == 0
    found = await assert_official(db_url)
    assert found.coverage["candles_1m"] == [(EPOCH, EPOCH + 9 * MINUTE)]
    await assert_higher_intervals(db_url)


async def test_an_archive_over_a_recording(db_url: str, tmp_path: Path) -> None:
    await record_live(db_url, tmp_path)
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", archive(OFFICIAL)))
    assert done.error is None and (done.new, done.changed) == (0, len(OFFICIAL))
    await assert_official(db_url)
    await assert_higher_intervals(db_url)


async def test_an_archive_of_one_trade_over_a_recording(db_url: str, tmp_path: Path) -> None:
    """Only the trade of 00:02:00.000000: two minutes change, and no other."""
    before = await record_live(db_url, tmp_path)
    (only,) = [trade for trade in OFFICIAL if trade.timestamp == EPOCH + 2 * MINUTE]
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", archive([only])))
    after = await stored(db_url, BTC)
    changed = [new for old, new in zip(before.candles, after.candles, strict=True) if old != new]
    stamps = [t.timestamp if t is only else t.timestamp - TICK for t in OFFICIAL]
    mixed = [replace(trade, timestamp=stamp) for trade, stamp in zip(OFFICIAL, stamps, strict=True)]
    expected = {candle.timestamp: candle for candle in candles_of(mixed)}
    assert changed == [expected[EPOCH + MINUTE], expected[EPOCH + 2 * MINUTE]]
    assert wrong(await verify(db_url)) == {}


async def test_official_trades_through_the_writer(db_url: str, tmp_path: Path) -> None:
    await record_live(db_url, tmp_path)
    async with writing(db_url, tmp_path) as writer:
        await put(writer, OFFICIAL, official=True)
    await assert_official(db_url, until=8)


async def test_official_trades_one_by_one(plain_url: str, tmp_path: Path) -> None:
    """A minute whose trades move one after the other is right after each of them."""
    await record_live(plain_url, tmp_path)
    async with writing(plain_url, tmp_path) as writer:
        for count in range(1, len(OFFICIAL) + 1):
            await put(writer, [OFFICIAL[count - 1]], official=True)
            assert wrong(await verify(plain_url)) == {}, count
    await assert_official(plain_url, until=8)


async def test_official_trades_before_those_of_the_feed(plain_url: str, tmp_path: Path) -> None:
    async with writing(plain_url, tmp_path) as writer:
        await put(writer, OFFICIAL[:9], official=True)
        await put(writer, OFFICIAL[5:])
        await put(writer, OFFICIAL, official=True)
        await writer.build_candles(BTC, EPOCH - MINUTE, EPOCH + 9 * MINUTE)
    await assert_official(plain_url)


@pytest.mark.parametrize("minute", range(1, 9))
async def test_a_download_that_begins_within_a_recording(plain_url: str, tmp_path: Path, minute: int) -> None:
    """It begins at the start of a minute: with a trade that was recorded in the minute before."""
    await record_live(plain_url, tmp_path)
    since = int((EPOCH + minute * MINUTE).timestamp()) * 10**9 - 5_000_000
    await download(plain_url, market(), since=since)
    found = await stored(plain_url, BTC)
    begin = EPOCH + minute * MINUTE
    mixed = [t if t.timestamp >= begin else replace(t, timestamp=t.timestamp - TICK) for t in OFFICIAL]
    assert_same(found.trades, mixed)
    assert_same(found.candles, candles_of(mixed))
    assert await total(plain_url, "candles_1m") == len(found.candles)
    assert wrong(await verify(plain_url)) == {}


async def test_a_repair_moves_a_trade_out_of_the_minute_before(plain_url: str, tmp_path: Path) -> None:
    """Something is wrong in 00:02 alone; its first trade was recorded in 00:01, whose candle has it."""
    await record_live(plain_url, tmp_path)
    await query(
        plain_url,
        "UPDATE candles SET high = 999 WHERE timestamp = :minute",
        minute=EPOCH + 2 * MINUTE,
    )
    repaired = await verify(plain_url, SimulatedExchange([market()]), repair=True)
    assert wrong(repaired) == {}, repaired.findings
    found = await stored(plain_url, BTC)
    moved = next(trade for trade in found.trades if trade.id == 7)
    assert moved.timestamp == EPOCH + 2 * MINUTE
    assert_same(found.candles, candles_of(found.trades))
    assert await total(plain_url) == len(found.trades)
    assert await total(plain_url, "candles_1m") == len(found.candles)
    assert wrong(await verify(plain_url)) == {}


def test_the_tape_is_what_it_says() -> None:
    """By hand: 00:00 has 0.01 at 102, 0.02 at 103 and 0.03 at 101. Its mean is 6.11 / 0.06."""
    first = candles_of(OFFICIAL)[0]
    assert list(map(int, (first.open, first.high, first.low, first.close))) == [102, 103, 101, 101]
    assert (first.volume, first.quote_volume) == (Decimal("0.06"), Decimal("6.11"))
    assert first.vwap == Decimal("101.8333333333")
    assert floor(OFFICIAL[0].timestamp) == EPOCH and timedelta(0) == OFFICIAL[0].timestamp - EPOCH


@pytest.mark.parametrize("source", ["live", "official", "archive", "rest", "download"])
async def test_a_trade_enters_a_minute_that_has_a_candle(plain_url: str, tmp_path: Path, source: str) -> None:
    """The feed has lost the trade of 00:04:10, and the candle of 00:04 was built without it."""
    before, lost, behind = OFFICIAL[8:11]
    async with writing(plain_url, tmp_path) as writer:
        await put(writer, [before, behind])
        await writer.build_candles(BTC, EPOCH, EPOCH + 9 * MINUTE)
        if source in ("live", "official"):
            await put(writer, [lost], official=source == "official")
    if source == "archive":
        await import_file(plain_url, write(tmp_path, "XBTUSD.csv", archive([lost])))
    elif source == "rest":
        row = [str(lost.price), str(lost.volume), lost.timestamp.timestamp(), lost.side[0], "l", "", lost.id]
        async with KrakenTradesBackfill(plain_url) as service:
            await service.store_trades(BTC, [row])
    elif source == "download":
        await download(plain_url, market(), build_candles=False)
    found = await stored(plain_url, BTC)
    assert lost.id in [trade.id for trade in found.trades]
    minutes = [candle.timestamp for candle in found.candles]
    assert EPOCH + 4 * MINUTE in minutes
    assert_same(found.candles, [c for c in candles_of(found.trades) if c.timestamp in minutes])
    assert await total(plain_url, "candles_1m") == len(found.candles)


STEPS = ["live", "official", "archive", "download", "build"]
ALLOWED = {"gap", "missing ids"}
"""What there is while trades are missing."""


async def take_step(url: str, folder: Path, step: str, random: Random) -> None:
    first, last = sorted(random.sample(range(len(OFFICIAL) + 1), 2))
    some = OFFICIAL[first:last]
    if step == "download":
        since = int(floor(some[0].timestamp).timestamp()) * 10**9 - random.choice((1_000, 5_000_000))
        await download(url, market(), since=random.choice((0, since)), build_candles=random.random() < 0.8)
    elif step == "archive":
        done = await import_file(url, write(folder, "XBTUSD.csv", archive(some)))
        assert done.error is None, done.error
    else:
        async with writing(url, folder) as writer:
            if step == "build":
                await writer.build_candles(BTC, EPOCH - MINUTE, EPOCH + 9 * MINUTE)
            else:
                await put(writer, some, official=step == "official")


@pytest.mark.parametrize("seed", range(6))
async def test_any_order(plain_url: str, tmp_path: Path, seed: int) -> None:
    """Parts of the market, from any source after any other: no candle ever contradicts the trades."""
    random = Random(seed)
    for number in range(8):
        step = random.choice(STEPS if number else STEPS[:4])
        await take_step(plain_url, tmp_path, step, random)
        checked = await verify(plain_url)
        told = [finding for part in checked.parts for finding in part.findings]
        assert {finding.kind for finding in told} <= ALLOWED, (number, step, told)
    await download(plain_url, market())
    found = await assert_official(plain_url)
    assert found.coverage["candles_1m"] == [(EPOCH, EPOCH + 9 * MINUTE)]
    await assert_higher_intervals(plain_url)

"""This machine's clock is hours or days away from Kraken's: what is stored is what Kraken's clock says.

Each service is given a clock of its own; the exchange has the right one. The expected tables are the market's
truth up to the exchange's time.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kraken_db import GapFiller, KrakenTradesBackfill
from tests.support.archives import query
from tests.support.downloading import MINUTE, ShortTime, candles_of, coverage, floor, quick_client
from tests.support.gap_filling import DAY, HOUR, LATER, START, World, assert_filled, calm
from tests.support.live_writing import BTC, trade, write, writing
from tests.support.recording import (
    all_is_there,
    assert_candles,
    assert_recorded,
    exchange_of,
    market,
    recorder_of,
    recording,
    until,
)
from tests.support.verifying import kinds, verify

AWAY = [2 * HOUR, -2 * HOUR, 30 * DAY, -30 * DAY]


async def backfill(url: str, world: World, away: timedelta) -> None:
    async with (
        world.exchange.serve() as base_url,
        KrakenTradesBackfill(
            url,
            client=quick_client(base_url),
            sleep=ShortTime().sleep,
            clock=lambda: world.now() + away,
        ) as service,
    ):
        (report,) = await service.backfill(world.symbols)
    assert report.error is None, report.error


async def fill(url: str, world: World, away: timedelta) -> None:
    async with (
        world.exchange.serve() as base_url,
        GapFiller(
            url,
            world.symbols,
            client=quick_client(base_url),
            sleep=ShortTime().sleep,
            clock=lambda: world.now() + away,
        ) as filler,
    ):
        result = await filler.fill_all_gaps()
    assert result["errors"] == []


async def assert_only_what_is_over(url: str, world: World) -> None:
    """No running minute is stored, and nothing is covered that has not happened."""
    now = world.now()
    assert await query(url, "SELECT count(*) FROM candles WHERE timestamp >= :now", now=floor(now)) == [(0,)]
    for data_type in ("trades", "candles_1m"):
        assert (await coverage(url, BTC, data_type))[-1][1] <= now


@pytest.mark.parametrize("away", AWAY, ids=str)
async def test_a_download_and_gaps(plain_url: str, away: timedelta) -> None:
    """Trades, then an hour by candles, then 13 hours by trades."""
    world = World(calm(a_minute=4), now=START + 2 * HOUR + LATER)
    await backfill(plain_url, world, away)
    await assert_only_what_is_over(plain_url, world)
    await assert_filled(plain_url, calm(a_minute=4), floor(world.now()))
    for passed in (HOUR, 13 * HOUR):
        world.advance(passed)
        await fill(plain_url, world, away)
        await assert_only_what_is_over(plain_url, world)
        truth = candles_of(calm(a_minute=4).truth_trades(floor(world.now())))
        rows = await query(plain_url, "SELECT timestamp, close, trade_count FROM candles ORDER BY timestamp")
        assert rows == [(one.timestamp, one.close, one.trade_count) for one in truth]
    found = await verify(plain_url, world.exchange, clock=lambda: world.now() + away)
    assert kinds(found, "candles") == kinds(found, "Kraken's candles") == {}, found.findings


@pytest.mark.parametrize("away", AWAY, ids=str)
async def test_a_recording(plain_url: str, tmp_path: Path, away: timedelta) -> None:
    """It never closes the minute that runs: its candle is not there before the minute is over."""
    wanted = market(trades=1_500)
    exchange, clock = exchange_of(wanted)
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, [wanted.symbol], tmp_path)
        away_from = recorder._clock._clock  # type: ignore[attr-defined]
        recorder._clock._clock = lambda: away_from() + away  # type: ignore[attr-defined]
        recorder._feed._now = recorder._clock._clock  # type: ignore[attr-defined]
        async with recording(recorder) as running:
            await until(recorder, lambda status: status.pairs[0].last_id is not None, running)
            clock.go()
            early: list[datetime] = []
            while not all_is_there(wanted)(recorder.status()):
                rows = await query(plain_url, "SELECT max(timestamp) FROM candles")
                if rows[0][0] is not None and rows[0][0] + MINUTE > clock.now():
                    early.append(rows[0][0])
                assert not running.done()
                await asyncio.sleep(0.1)
            await asyncio.sleep(3)
    assert early == []
    first = (await query(plain_url, "SELECT min(id) FROM trades"))[0][0]
    found = await assert_recorded(plain_url, wanted, first)
    assert_candles(
        found,
        wanted,
        since=floor(found.trades[0].timestamp) + MINUTE,
        until=floor(found.trades[-1].timestamp) + MINUTE,
    )


@pytest.mark.parametrize("away", [2 * HOUR, 30 * DAY], ids=str)
async def test_a_writer_that_nobody_tells_the_time(plain_url: str, tmp_path: Path, away: timedelta) -> None:
    """What it takes for a minute that is over grows with its trades, and is not said to be complete."""
    last = trade(900)
    minute = floor(last.timestamp)
    async with writing(plain_url, tmp_path, clock=lambda: last.timestamp + away) as writer:
        await write(writer, map(trade, range(1, 901)))
        await writer.build_candles(BTC, minute - MINUTE, minute + MINUTE)
        rows = await query(plain_url, "SELECT timestamp, trade_count FROM candles ORDER BY timestamp")
        assert rows == [(minute - MINUTE, 599), (minute, 301)]
        assert await coverage(plain_url, BTC, "candles_1m") == []
        for first in (901, 1000, 1100):
            await write(writer, map(trade, range(first, first + 100)))
        await write(writer, map(trade, range(1200, 1300)))
    rows = await query(plain_url, "SELECT trade_count FROM candles ORDER BY timestamp")
    assert rows == [(599,), (600,)]

"""Recording a simulated market: the tables equal its truth, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from kraken_db.errors import JobRunningError, UnknownPairError
from kraken_db.historical_backfill import KrakenTradesBackfill
from kraken_db.kraken.websocket_subscriptions import Watch
from kraken_db.simulator import FeedFaults
from tests.support.archives import query
from tests.support.downloading import download_one, floor, quick_client
from tests.support.recording import (
    MINUTE,
    ROUGH,
    START,
    all_is_there,
    assert_candles,
    assert_recorded,
    exchange_of,
    first_whole_minute,
    has_come_to,
    is_live,
    market,
    record_all,
    recorder_of,
    recording,
    until,
)


async def test_a_market_without_a_past(db_url: str, tmp_path: Path) -> None:
    """Of what was never stored the recording begins now: with the last 50 trades."""
    wanted = market(trades=1_200)
    exchange, clock = exchange_of(wanted)
    status = await record_all(db_url, exchange, clock, tmp_path, watch=Watch())
    found = await assert_recorded(db_url, wanted, 1_201 - status.received)
    last = floor(found.trades[-1].timestamp)
    assert_candles(found, wanted, since=first_whole_minute(found), until=last + MINUTE)
    assert (status.repaired, status.pairs[0].holes) == (0, 0)
    # The last minute is closed by the clock: nothing proves yet that no trade of it is missing.
    assert found.coverage["candles_1m"] == [(first_whole_minute(found), last)]


async def test_through_cuts_lost_frames_and_silences(plain_url: str, tmp_path: Path) -> None:
    """After a download of the past: every trade of both markets since the first, once, and every candle."""
    markets = market(trades=2_200), market("ETH/USD", 1_800, first_id=7_000)
    exchange, clock = exchange_of(*markets, faults=ROUGH)
    for one in markets:
        await download_one(plain_url, one, end_timestamp=START + MINUTE / 2)
    status = await record_all(plain_url, exchange, clock, tmp_path)
    counts = exchange.feed.counts
    assert counts.cuts > 3
    assert counts.lost > 3
    assert status.repaired > 100
    for one in markets:
        found = await assert_recorded(plain_url, one, one.first_id)
        assert_candles(found, one, since=START, until=floor(found.trades[-1].timestamp) + MINUTE)


async def test_the_first_look_after_a_long_pause(plain_url: str, tmp_path: Path) -> None:
    """What has happened since the last stored trade comes through REST, more than a page of it."""
    wanted = market(trades=4_000)
    await download_one(plain_url, wanted, end_timestamp=START + MINUTE / 2)
    exchange, clock = exchange_of(wanted, since=6 * MINUTE)
    status = await record_all(plain_url, exchange, clock, tmp_path)
    (pair,) = status.pairs
    assert pair.caught_up > 2_000
    found = await assert_recorded(plain_url, wanted, 1)
    assert_candles(found, wanted, since=START, until=floor(found.trades[-1].timestamp) + MINUTE)


async def test_a_recording_goes_on_where_the_last_one_ended(plain_url: str, tmp_path: Path) -> None:
    wanted = market(trades=2_000)
    await download_one(plain_url, wanted, end_timestamp=START + MINUTE / 2)
    exchange, clock = exchange_of(wanted)
    clock.go()
    async with exchange.serve() as base_url:
        for target in (900, 1_500):
            recorder = recorder_of(plain_url, base_url, clock, [wanted.symbol], tmp_path)
            async with recording(recorder) as running:
                await until(recorder, has_come_to(target), running)
            await asyncio.sleep(0.3)
    await record_all(plain_url, exchange, clock, tmp_path)
    found = await assert_recorded(plain_url, wanted, 1)
    assert_candles(found, wanted, since=START, until=floor(found.trades[-1].timestamp) + MINUTE)


async def test_one_recording_of_a_pair_at_a_time(plain_url: str, tmp_path: Path) -> None:
    exchange, clock = exchange_of(market(), market("ETH/USD"))
    async with exchange.serve() as base_url:
        first = recorder_of(plain_url, base_url, clock, ["BTC/USD"], tmp_path)
        async with recording(first) as running:
            await until(first, lambda status: status.received > 0, running)
            second = recorder_of(plain_url, base_url, clock, ["ETH/USD", "BTC/USD"], tmp_path / "2")
            async with second:
                with pytest.raises(JobRunningError, match="another recording of BTC/USD") as refused:
                    await asyncio.wait_for(second.run(), 20)
            where = f"{socket.gethostname()} (process {os.getpid()})"
            assert f": recording of BTC/USD on {where}, since " in str(refused.value)
            assert "pg_terminate_backend" not in str(refused.value), "it is at work"
            third = recorder_of(plain_url, base_url, clock, ["ETH/USD"], tmp_path / "3")
            async with recording(third) as beside:
                await until(third, lambda status: status.received > 0, beside)


async def test_a_download_of_the_same_pair_may_run_beside_it(plain_url: str, tmp_path: Path) -> None:
    """The download brings the past while the recording goes on: together they are the whole truth."""
    wanted = market(trades=4_000)
    exchange, clock = exchange_of(wanted, since=2 * MINUTE, faults=FeedFaults(cut=300, lost=0.02))
    exchange.delay = 0.02
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, [wanted.symbol], tmp_path)
        client = quick_client(base_url)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            clock.go()
            async with KrakenTradesBackfill(plain_url, client=client, clock=clock.now) as backfill:
                for _ in range(3):
                    (report,) = await backfill.backfill([wanted.symbol])
                    assert report.error is None
                    assert (report.conflicts, report.holes) == (0, [])
            await until(recorder, all_is_there(wanted), running)
        async with KrakenTradesBackfill(plain_url, client=client, clock=clock.now) as backfill:
            await backfill.backfill([wanted.symbol])
    found = await assert_recorded(plain_url, wanted, 1)
    assert_candles(found, wanted, since=START, until=floor(found.trades[-1].timestamp) + MINUTE)


async def test_a_pair_that_does_not_exist_leaves_the_others(plain_url: str, tmp_path: Path) -> None:
    exchange, clock = exchange_of(market())
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, ["NOPE/USD", "BTC/USD"], tmp_path)
        async with recording(recorder) as running:
            clock.go()
            await until(
                recorder,
                lambda status: status.received > 100 and status.pairs[0].state != "catching up",
                running,
            )
            states = {pair.symbol: pair.state for pair in recorder.status().pairs}
            assert states == {"NOPE/USD": "refused", "BTC/USD": "live"}
        alone = recorder_of(plain_url, base_url, clock, ["NOPE/USD"], tmp_path)
        async with alone:
            with pytest.raises(UnknownPairError, match="NOPE/USD"):
                await asyncio.wait_for(alone.run(), 10)


async def test_a_pair_that_is_known_to_be_delisted(plain_url: str, tmp_path: Path) -> None:
    """One line says so, and when it ended."""
    await query(
        plain_url,
        "INSERT INTO data_sync_status (symbol, data_type, ended_at)"
        " VALUES ('NOPE/USD', 'trades', '2026-02-01 00:00Z')",
    )
    exchange, clock = exchange_of(market())
    async with (
        exchange.serve() as base_url,
        recorder_of(plain_url, base_url, clock, ["NOPE/USD"], tmp_path) as alone,
    ):
        with pytest.raises(UnknownPairError) as refused:
            await asyncio.wait_for(alone.run(), 10)
    assert str(refused.value) == (
        "NOPE/USD is delisted: its trades up to 2026-02-01 00:00 UTC are known, and there are no others"
    )


async def test_stopping_is_quick_also_where_nobody_answers(plain_url: str, tmp_path: Path) -> None:
    exchange, clock = exchange_of(market(), faults=FeedFaults(silence=1))
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, ["BTC/USD"], tmp_path)
        async with recording(recorder) as running:
            clock.go()
            await until(recorder, lambda status: status.received > 0, running)
            recorder.request_stop()
            await asyncio.wait_for(running, 10)

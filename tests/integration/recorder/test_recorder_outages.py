"""The database goes away while it records, or its connections are cut: in the end nothing shows of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest

from kraken_db.database_writer import pipeline
from kraken_db.database_writer.journal import Space
from kraken_db.database_writer.writer import DatabaseWriter
from kraken_db.db.embedded import EmbeddedServer
from kraken_db.simulator import FeedFaults
from tests.support.archives import query
from tests.support.downloading import download_one, floor
from tests.support.live_writing import Gateway
from tests.support.recording import (
    MINUTE,
    START,
    all_is_there,
    assert_candles,
    assert_recorded,
    exchange_of,
    has_come_to,
    is_live,
    market,
    recorder_of,
    recording,
    until,
)


async def test_the_database_is_killed_and_comes_back(open_folder: Path) -> None:
    """The embedded server, killed twice while trades come and holes are filled."""
    url, server = f"embedded://{open_folder}/k", EmbeddedServer(open_folder / "k")
    wanted = market(trades=2_200)
    await download_one(url, wanted, end_timestamp=START + MINUTE / 2)
    exchange, clock = exchange_of(wanted, faults=FeedFaults(cut=300, lost=0.02))
    async with exchange.serve() as base_url:
        recorder = recorder_of(url, base_url, clock, [wanted.symbol], open_folder)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            clock.go()
            for reached in (1_000, 1_800):
                await until(recorder, has_come_to(reached + 1), running)
                pid = server.status().pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
            await until(recorder, all_is_there(wanted), running)
            await asyncio.sleep(3)  # the last minute is closed by then
    found = await assert_recorded(url, wanted, 1)
    assert_candles(found, wanted, since=START, until=floor(found.trades[-1].timestamp) + MINUTE)


async def test_connections_are_cut(plain_url: str, tmp_path: Path) -> None:
    wanted = market(trades=1_500)
    await download_one(plain_url, wanted, end_timestamp=START + MINUTE / 2)
    exchange, clock = exchange_of(wanted, faults=FeedFaults(lost=0.02))
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, [wanted.symbol], tmp_path)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            clock.go()
            for reached in (750, 950, 1_200):
                await until(recorder, has_come_to(reached + 1), running)
                await query(
                    plain_url,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()",
                )
            await until(recorder, all_is_there(wanted), running)
            # A recording that ends while the database fails leaves the rest to the journal.
            await until(recorder, lambda status: not status.kept, running)
    await assert_recorded(plain_url, wanted, 1)


async def test_it_says_that_the_database_is_away(
    plain_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In what it shows all the time, and in the log a line a minute, not one for each attempt."""
    caplog.set_level(logging.WARNING)
    wanted = market(trades=3_000)
    exchange, clock = exchange_of(wanted)
    async with exchange.serve() as base_url, Gateway(plain_url) as gateway:
        recorder = recorder_of(gateway.url, base_url, clock, [wanted.symbol], tmp_path)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            clock.go()
            await until(recorder, has_come_to(700), running)
            assert recorder.status().database_outage is None
            gateway.close()
            await until(recorder, lambda status: status.database_outage is not None, running)
            await asyncio.sleep(2)  # some attempts
            away = recorder.status()
            assert away.kept > 0
            gateway.open()
            await until(recorder, all_is_there(wanted), running)
            await until(recorder, lambda status: status.database_outage is None, running)
    said = [one.getMessage() for one in caplog.records if one.getMessage().startswith("trades: the database")]
    assert len(said) == 2, said
    assert "does not take them: since " in said[0]
    assert "takes them again, after " in said[1]


async def test_the_journal_is_full(plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has no room for REST brings, once the database is back: nothing of it is ever missing."""
    monkeypatch.setattr(DatabaseWriter, "MAX_TRADE_BUFFER_SIZE", 50)
    monkeypatch.setattr(pipeline, "Space", lambda _most: Space(10_000))
    wanted = market(trades=2_200)
    await download_one(plain_url, wanted, end_timestamp=START + MINUTE / 2)
    exchange, clock = exchange_of(wanted)
    async with exchange.serve() as base_url, Gateway(plain_url) as gateway:
        recorder = recorder_of(gateway.url, base_url, clock, [wanted.symbol], tmp_path)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            clock.go()
            await until(recorder, has_come_to(700), running)
            gateway.close()
            before = recorder._writer.get_stats()["dropped_count"]
            await until(recorder, lambda status: status.pairs[0].state == "catching up", running)
            await asyncio.sleep(0.5)
            gateway.open()
            await until(recorder, all_is_there(wanted), running)
            await asyncio.sleep(3)  # the last minute is closed by then
            assert recorder._writer.get_stats()["dropped_count"] > before == 0
    found = await assert_recorded(plain_url, wanted, 1)
    assert_candles(found, wanted, since=START, until=floor(found.trades[-1].timestamp) + MINUTE)

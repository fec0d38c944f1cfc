"""SIGKILL at random moments while it records, catches up or joins: in the end nothing shows of it.

``KRAKEN_DB_TEST_KILLS`` is how often, ``KRAKEN_DB_TEST_SEED`` chooses other moments.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random

from kraken_db.simulator import FeedFaults
from tests.support.downloading import download_one, floor
from tests.support.processes import running
from tests.support.recording import (
    MINUTE,
    START,
    assert_candles,
    assert_recorded,
    exchange_of,
    market,
    record_all,
)
from tests.support.shell import forked_module

ROOT = Path(__file__).parents[3]
KILLS = int(os.environ.get("KRAKEN_DB_TEST_KILLS", "4"))
SEED = os.environ.get("KRAKEN_DB_TEST_SEED", "0")


def recording_process(*arguments: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    return running(*forked_module("tests.support.recording_process"), *arguments, cwd=ROOT)


async def test_kills(plain_url: str, tmp_path: Path) -> None:
    random = Random(SEED)
    wanted = market(trades=250 * KILLS, trades_per_minute=150)
    await download_one(plain_url, wanted, end_timestamp=START + MINUTE / 2)
    exchange, clock = exchange_of(wanted, faults=FeedFaults(cut=150, lost=0.02, duplicates=5))
    exchange.delay = 0.02
    clock.go()
    async with exchange.serve() as base_url:
        arguments = (plain_url, base_url, str(tmp_path), str(clock.began_ns), wanted.symbol)
        for number in range(KILLS):
            async with recording_process(*arguments) as process:
                assert process.stdout is not None
                if number % 3 < 2:
                    assert await process.stdout.readline() == b"live\n"
                    await asyncio.sleep(random.random() * 0.6)
                else:  # while it begins
                    await asyncio.sleep(random.random() * 0.3)
                assert process.returncode is None
                process.send_signal(signal.SIGKILL)
    await record_all(plain_url, exchange, clock, tmp_path)
    found = await assert_recorded(plain_url, wanted, 1)
    assert_candles(found, wanted, since=START, until=floor(found.trades[-1].timestamp) + MINUTE)


async def test_sigterm_ends_it_in_order(plain_url: str, tmp_path: Path) -> None:
    """What has come is stored, the exchange is told, and the process ends with 0 within seconds."""
    wanted = market()
    exchange, clock = exchange_of(wanted)
    clock.go()
    async with exchange.serve() as base_url:
        arguments = (plain_url, base_url, str(tmp_path), str(clock.began_ns), wanted.symbol)
        async with recording_process(*arguments) as process:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"live\n"
            await asyncio.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(15):
                _, errors = await process.communicate()
            assert (process.returncode, errors) == (0, b"")

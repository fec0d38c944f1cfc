"""SIGKILL at random moments, of the download and of its database: in the end nothing shows of it.

``KRAKEN_DB_TEST_SEED`` chooses other moments.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from random import Random

import pytest

from kraken_db.db.embedded import EmbeddedServer
from kraken_db.simulator import Fault, Faults, Market, Scenario, SimulatedExchange
from tests.support.archives import checksums
from tests.support.downloading import assert_is_truth, download_one
from tests.support.lanes import Lane
from tests.support.processes import backfilling, ended, requests_reach, run_backfill

SEED = os.environ.get("KRAKEN_DB_TEST_SEED", "0")
ODD = Faults({Fault.MISSING_LAST: 0.1, Fault.REPEATED_PAGE: 0.1}, seed=SEED)
KILLS = 50


async def kill_often(url: str, exchange: SimulatedExchange, kills: int) -> None:
    """Start, kill at a random moment, start again; then let it come to the end."""
    random = Random(SEED)
    arguments = ("--symbols", *exchange.markets, "--resume", "--rate-limit", "0")
    async with exchange.serve() as base_url:
        environment = {"DATABASE_URL": url, "KRAKEN_BASE_URL": base_url}
        for _ in range(kills):
            async with backfilling(*arguments, environment=environment) as process:
                exchange.requests.clear()
                await requests_reach(exchange, 1, process)
                await asyncio.sleep(random.random() * 8 * exchange.delay)
                assert process.returncode is None, "it was over before it was killed: take a larger market"
                process.send_signal(signal.SIGKILL)
                await ended(process)
        exchange.delay = 0.0
        last = await run_backfill(*arguments, environment=environment)
        assert last.code == 0, last.err


async def test_fifty_kills(plain_url: str, lanes: dict[str, Lane]) -> None:
    market = Market("BTC/USD", seed=SEED, trades=200_000)
    await kill_often(plain_url, SimulatedExchange([market], ODD, delay=0.03), KILLS)
    with lanes["postgres"].migrated_database() as undisturbed:
        await download_one(undisturbed, market)
        assert await checksums(plain_url) == await checksums(undisturbed)
    await assert_is_truth(plain_url, market)


async def test_kills_among_trades_without_ids(plain_url: str) -> None:
    scenario = Scenario.LIVELY | Scenario.ZERO_IDS_COUNTED
    market = Market("ETH/USD", seed=SEED, trades=40_000, scenario=scenario)
    await kill_often(plain_url, SimulatedExchange([market], ODD, delay=0.03), 10)
    await assert_is_truth(plain_url, market)


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_the_database_goes_away_in_the_middle(open_folder: Path, how: str) -> None:
    """The embedded server is started again by whoever needs it."""
    market = Market("BTC/USD", seed=SEED, trades=60_000)
    exchange = SimulatedExchange([market], delay=0.05)
    data_dir = open_folder / "k"
    server = EmbeddedServer(data_dir)
    await asyncio.to_thread(server.start)
    async with exchange.serve() as base_url:
        environment = {"KRAKEN_DB_DATA_DIR": str(data_dir), "KRAKEN_BASE_URL": base_url}
        arguments = ("--symbols", market.symbol, "--rate-limit", "0")
        async with backfilling(*arguments, environment=environment) as process:
            for reached in (10, 30):
                assert await requests_reach(exchange, reached, process)
                await asyncio.to_thread(_end, server, how)
            done = await ended(process)
        assert (done.code, "Traceback" in done.err) == (0, False), done.err
    url = await asyncio.to_thread(server.attach)
    try:
        await assert_is_truth(url, market)
    finally:
        await asyncio.to_thread(server.detach)


def _end(server: EmbeddedServer, how: str) -> None:
    pid = server.status().pid
    if how == "stop":
        server.stop()
    elif pid:
        os.kill(pid, signal.SIGKILL)

"""Hundreds of pairs at once: they wait for the connections that there are, and none fails."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg

from kraken_db.db.embedded import EmbeddedServer
from kraken_db.simulator import Market, SimulatedExchange
from tests.support.processes import backfilling, ended
from tests.support.shell import KRAKEN_DB, Shell

PAIRS, TRADES = 300, 20


async def test_three_hundred_pairs_at_once(own_data_dir: Path) -> None:
    markets = [Market(f"P{number}/USD", seed=number, trades=TRADES) for number in range(PAIRS)]
    shell = Shell(own_data_dir, KRAKEN_DB_DATA_DIR=str(own_data_dir))
    assert shell.run("db", "start").returncode == 0
    async with SimulatedExchange(markets).serve() as base_url:
        environment = {"KRAKEN_DB_DATA_DIR": str(own_data_dir), "KRAKEN_BASE_URL": base_url}
        arguments = (
            "backfill",
            "--symbols",
            "P[0-9]*/USD",
            "--jobs",
            str(PAIRS),
            "--rate-limit",
            "0",
            "--json",
        )
        async with backfilling(*arguments, environment=environment, program=KRAKEN_DB) as process:
            done = await ended(process, 300)
    assert done.code == 0, done.err[-2000:]
    pairs = json.loads(done.out)["pairs"]
    assert [(pair["new"], pair["error"]) for pair in pairs] == [(TRADES, None)] * PAIRS
    connection = await asyncpg.connect(EmbeddedServer(own_data_dir).url())
    try:
        assert await connection.fetchval("SELECT count(*) FROM trades") == PAIRS * TRADES
    finally:
        await connection.close()

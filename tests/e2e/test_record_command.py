"""``kraken-db record`` as a process: what it prints, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from kraken_db.simulator import FeedFaults, Market, Scenario, SimulatedExchange, feed_url
from tests.support.archives import query
from tests.support.shell import STRICT
from tests.support.spoiling import RefusingExchange

RECORD = (*STRICT, "record")
SYMBOL = "BTC/USD"


def market() -> Market:
    start = datetime.now(UTC) - timedelta(seconds=30)
    return Market(SYMBOL, seed=2, start=start, trades_per_minute=6_000, scenario=Scenario.SAME_STAMPS)


async def record(url: str, base_url: str, journal: Path, *arguments: str) -> asyncio.subprocess.Process:
    addresses = {"DATABASE_URL": url, "KRAKEN_BASE_URL": base_url, "KRAKEN_WS_URL": feed_url(base_url)}
    return await asyncio.create_subprocess_exec(
        *(*RECORD, "--journal-dir", str(journal), *arguments),
        env=os.environ | addresses,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def line_that_has(process: asyncio.subprocess.Process, wanted: str) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while line := (await process.stdout.readline()).decode():
            if wanted in line:
                return line
    raise AssertionError(f"it ended without {wanted!r}")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_lines_and_an_end_within_seconds(
    plain_url: str, tmp_path: Path, ending: signal.Signals
) -> None:
    async with SimulatedExchange([market()]).serve() as base_url:
        arguments = ("--symbols", SYMBOL, "NOPE/USD", "--every", "0.3")
        process = await record(plain_url, base_url, tmp_path, *arguments)
        line = await line_that_has(process, "2 pairs (1 live)")
        assert "trades/s" in line
        assert "buffer" in line
        assert process.stderr is not None
        refused = (await process.stderr.readline()).decode()
        process.send_signal(ending)
        async with asyncio.timeout(15):
            out, err = await process.communicate()
    assert process.returncode == 1, "a pair was refused"
    last = out.decode().splitlines()[-1]
    assert last.endswith("stopped")
    assert "NOPE/USD is not recorded" in refused
    assert err == b""
    ((rows, first, last_id),) = await query(plain_url, "SELECT count(*), min(id), max(id) FROM trades")
    assert rows == last_id - first + 1 >= 50
    assert f"{rows:,} trades received" in last, "what was received is stored"


async def test_reports_as_json(plain_url: str, tmp_path: Path) -> None:
    async with SimulatedExchange([market()]).serve() as base_url:
        process = await record(plain_url, base_url, tmp_path, "--symbols", SYMBOL, "--every", "0.3", "--json")
        report = json.loads(await line_that_has(process, '"live"'))
        process.terminate()
        async with asyncio.timeout(15):
            out, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert report["pairs"][0]["symbol"] == SYMBOL
    assert report["is_connected"] is True
    keys = {"time", "trades_per_second", "lag", "reconnects", "repaired", "buffer", "journal"}
    assert keys <= report.keys()
    for line in out.decode().splitlines():
        assert json.loads(line)["received"] >= report["received"]


async def test_a_refusal_that_lasts_is_the_exit_code(plain_url: str, tmp_path: Path) -> None:
    """The pair is still being caught up with, and the report says why."""
    exchange = RefusingExchange([market()], feed_faults=FeedFaults(lost=0.2))
    exchange.answer = lambda: web.Response(status=403)
    async with exchange.serve() as base_url:
        process = await record(plain_url, base_url, tmp_path, "--symbols", SYMBOL, "--every", "0.3", "--json")
        report = json.loads(await line_that_has(process, "HTTP 403"))
        process.terminate()
        async with asyncio.timeout(15):
            await process.communicate()
    (pair,) = report["pairs"]
    assert (pair["state"], process.returncode) == ("catching up", 1)


async def test_a_second_recording_is_refused_in_one_line(plain_url: str, tmp_path: Path) -> None:
    async with SimulatedExchange([market()]).serve() as base_url:
        first = await record(plain_url, base_url, tmp_path, "--symbols", SYMBOL, "--every", "0.3")
        await line_that_has(first, "trades/s")
        second = await record(plain_url, base_url, tmp_path / "2", "--symbols", SYMBOL)
        async with asyncio.timeout(60):
            out, err = await second.communicate()
        first.terminate()
        await first.communicate()
    assert (second.returncode, out) == (1, b"")
    assert err.decode().count("\n") == 1
    assert "another recording of BTC/USD is running" in err.decode()


async def test_patterns(plain_url: str, tmp_path: Path) -> None:
    """All pairs in dollars but one: of those without trades nothing is missing either."""
    start = datetime.now(UTC) - timedelta(seconds=30)
    markets = [
        Market(symbol, start=start, trades_per_minute=600) for symbol in (SYMBOL, "ETH/USD", "ETH/EUR")
    ]
    async with SimulatedExchange(markets).serve() as base_url:
        arguments = ("--symbols", "ETH/*", "*/USD", "--exclude", "SOL/*", "--every", "0.3", "--json")
        process = await record(plain_url, base_url, tmp_path, *arguments)
        report = json.loads(await line_that_has(process, '"live"'))
        process.terminate()
        async with asyncio.timeout(15):
            _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
    symbols = {pair["symbol"] for pair in report["pairs"]}
    assert {SYMBOL, "ETH/USD", "ETH/EUR", "ETH/BTC", "XRP/USD"} <= symbols
    assert not {symbol for symbol in symbols if symbol.startswith("SOL/")}
    assert {symbol.partition("/")[2] for symbol in symbols if not symbol.startswith("ETH/")} == {"USD"}

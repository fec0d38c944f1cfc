"""``kraken-db backfill`` and its module as processes, against a simulated exchange."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kraken_db.pairs import DEFAULT_SYMBOLS
from kraken_db.simulator import Market, SimulatedExchange
from tests.support.archives import query
from tests.support.downloading import assert_is_truth
from tests.support.processes import Ended, backfilling, ended, requests_reach, run_backfill
from tests.support.sandbox import new_sandbox
from tests.support.shell import KRAKEN_DB

COMMAND = (*KRAKEN_DB, "backfill")
MODULE = (sys.executable, "-W", "error", "-m", "kraken_db.historical_backfill")
QUICK = ("--rate-limit", "0")


@asynccontextmanager
async def exchange_of(
    url: str, *symbols: str, trades: int = 2_500, delay: float = 0.0
) -> AsyncIterator[tuple[SimulatedExchange, dict[str, str]]]:
    """An exchange, and the environment of a process that downloads from it into the database."""
    exchange = SimulatedExchange([Market(symbol, seed=50, trades=trades) for symbol in symbols], delay=delay)
    async with exchange.serve() as base_url:
        yield exchange, {"DATABASE_URL": url, "KRAKEN_BASE_URL": base_url}


def pairs(done: Ended) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(done.out)["pairs"]
    return found


@pytest.mark.parametrize("program", [COMMAND, MODULE], ids=["command", "module"])
async def test_two_pairs_and_all_of_what_the_json_says(plain_url: str, program: tuple[str, ...]) -> None:
    async with exchange_of(plain_url, "BTC/USD", "ETH/USD") as (exchange, environment):
        arguments = ("--symbols", "BTC/USD", "ETH/USD", "--json", *QUICK)
        done = await run_backfill(*arguments, environment=environment, program=program)
    assert (done.code, "Traceback" in done.err) == (0, False), done.err
    first, second = pairs(done)
    market = exchange.markets["BTC/USD"]
    truth = list(market.truth_trades())
    assert second["symbol"] == "ETH/USD"
    assert first == {
        "symbol": "BTC/USD",
        "outcome": "caught up",
        "archived": 0,
        "notes": [],
        "requests": first["requests"],
        "received": 2_500,
        "new": 2_500,
        "changed": 0,
        "candles_new": len(list(market.truth_candles())),
        "candles_changed": 0,
        "removed": 0,
        "oldest": truth[0].timestamp.isoformat().replace("+00:00", "Z"),
        "newest": truth[-1].timestamp.isoformat().replace("+00:00", "Z"),
        "cursor": str(market.stamp(2_499)),
        "missing_ids": [],
        "conflicts": 0,
        "conflict_examples": [],
        "error": None,
        "refresh_error": None,
    }
    await assert_is_truth(plain_url, market)


async def test_the_default_pairs_and_a_pattern(plain_url: str) -> None:
    symbols = [*DEFAULT_SYMBOLS, "XRP/USD"]
    async with exchange_of(plain_url, *symbols, trades=300) as (_, environment):
        usual = await run_backfill("--json", *QUICK, environment=environment)
        assert [pair["symbol"] for pair in pairs(usual)] == list(DEFAULT_SYMBOLS)
        matched = await run_backfill("--symbols", "XRP/*", "--json", *QUICK, environment=environment)
    counts = {pair["symbol"]: pair["new"] for pair in pairs(matched)}
    assert counts["XRP/USD"] == 300
    assert counts["XRP/USDT"] == counts["XRP/BTC"] == 0
    assert all(symbol.startswith("XRP/") for symbol in counts)
    assert (usual.code, matched.code) == (0, 0)


async def test_the_table(plain_url: str) -> None:
    async with exchange_of(plain_url, "BTC/USD", trades=300) as (_, environment):
        done = await run_backfill("--symbols", "xbtusd", *QUICK, environment=environment)
        assert done.code == 0, done.err
        title, row = done.out.splitlines()
        assert title.split()[:4] == ["symbol", "outcome", "received", "new"]
        assert row.split()[:3] == ["BTC/USD", "caught", "up"]
        again = await run_backfill("--symbols", "BTC/USD", "--resume", *QUICK, environment=environment)
    assert again.out.splitlines()[1].split()[3:] == ["0", "0", "0", "-", "-"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
async def test_a_signal_in_the_middle(plain_url: str, number: signal.Signals, code: int) -> None:
    async with exchange_of(plain_url, "BTC/USD", trades=40_000, delay=0.05) as (exchange, environment):
        arguments = ("--symbols", "BTC/USD", "--resume", *QUICK)
        async with backfilling(*arguments, environment=environment) as process:
            assert await requests_reach(exchange, 12, process)
            process.send_signal(number)
            done = await ended(process, seconds=10)
        assert done.code == code
        assert "BTC/USD: stopped at 2024-01-01 " in done.err
        assert "--resume goes on from there" in done.err
        assert "Traceback" not in done.err
        assert done.out.splitlines()[1].split()[:2] == ["BTC/USD", "stopped"]
        exchange.delay = 0.0
        assert (await run_backfill(*arguments, environment=environment)).code == 0
    await assert_is_truth(plain_url, exchange.markets["BTC/USD"])


async def test_it_follows_the_market_until_ctrl_c(plain_url: str) -> None:
    async with exchange_of(plain_url, "BTC/USD", trades=1_500) as (exchange, environment):
        arguments = ("--symbols", "BTC/USD", "--no-auto-stop", *QUICK)
        async with backfilling(*arguments, environment=environment) as process:
            assert await requests_reach(exchange, 5, process)
            process.send_signal(signal.SIGINT)
            done = await ended(process, seconds=10)
    assert done.code == 130
    assert "Traceback" not in done.err
    await assert_is_truth(plain_url, exchange.markets["BTC/USD"])


async def test_nobody_listens_at_the_address(plain_url: str) -> None:
    environment = {"DATABASE_URL": plain_url, "KRAKEN_BASE_URL": "http://127.0.0.1:9"}
    done = await run_backfill("--symbols", "BTC/USDT", environment=environment)
    assert done.code == 1
    assert "127.0.0.1:9 cannot be reached" in done.err
    assert "Traceback" not in done.err


async def test_a_pair_that_kraken_does_not_list(plain_url: str) -> None:
    async with exchange_of(plain_url, "BTC/USD", trades=300) as (_, environment):
        done = await run_backfill("--symbols", "BTC/USD", "NOPE/USD", *QUICK, environment=environment)
    assert done.code == 1
    assert "Failed: NOPE/USD: Kraken does not list NOPE/USD" in done.err
    assert "Traceback" not in done.err
    assert [line.split()[0] for line in done.out.splitlines()[1:]] == ["BTC/USD", "NOPE/USD"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--resume", "--since", "2024-01-01"), "--resume cannot be combined with --since"),
        (("--since", "2024-01-02", "--until", "2024-01-01"), "--since is not before --until"),
        (("--symbols", "what is this"), "'WHAT IS THIS' is not a name of a pair"),
        (("--source", "rest", "--archive", "files"), "--archive goes with --source auto or archive"),
        (("--jobs", "0"), "0"),
        (("--rate-limit", "-1"), "-1"),
    ],
)
async def test_wrong_usage_is_one_line(plain_url: str, arguments: tuple[str, ...], told: str) -> None:
    done = await run_backfill(*arguments, environment={"DATABASE_URL": plain_url})
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert told in done.err


async def test_a_part_of_history(plain_url: str) -> None:
    async with exchange_of(plain_url, "BTC/USD") as (exchange, environment):
        truth = list(exchange.markets["BTC/USD"].truth_trades())
        begin, end = truth[500].timestamp, truth[1_500].timestamp
        wanted = [trade for trade in truth if begin <= trade.timestamp < end]
        arguments = ("--symbols", "BTC/USD", "--no-candles", "--json", *QUICK)
        part = ("--since", begin.isoformat(), "--until", end.isoformat())
        (done,) = pairs(await run_backfill(*arguments, *part, environment=environment))
    assert (done["outcome"], done["candles_new"]) == ("reached the end", 0)
    # Of the microsecond before, what may be of this one: Kraken's stamps are finer than its numbers.
    assert len(wanted) <= done["new"] <= len(wanted) + 2
    found = await query(plain_url, "SELECT id FROM trades WHERE timestamp >= :begin ORDER BY id", begin=begin)
    assert [row[0] for row in found] == [trade.id for trade in wanted]
    assert await query(plain_url, "SELECT count(*) FROM candles") == [(0,)]


async def test_a_dry_run_on_the_embedded_database() -> None:
    """Which knows its disk; nothing is stored, and nothing is downloaded but some single trades."""
    with new_sandbox() as sandbox:
        async with exchange_of("embedded:", "BTC/USD", "ETH/USD") as (exchange, environment):
            environment = {**sandbox.environment, **environment}
            arguments = ("--symbols", "BTC/USD", "ETH/USD", "--dry-run")
            told = await run_backfill(*arguments, environment=environment)
            done = await run_backfill(*arguments, "--json", environment=environment)
            unknown = await run_backfill("--symbols", "NONE/USD", "--dry-run", environment=environment)
        asked = [request for request in exchange.requests if "/Trades" in request.path]
    assert told.code == 0, told.err
    assert "BTC/USD         0    2,500" in told.out
    assert "Would download 5,000 trades: 375.0 kB to download" in told.err
    assert "can be used there" in told.err
    found = json.loads(done.out)
    assert [(pair["archived"], pair["by_rest"], pair["error"]) for pair in found["pairs"]] == [
        (0, 2_500, None)
    ] * 2
    assert found["disk"]["path"] == str(sandbox.data / "data")
    assert 0 < found["disk"]["usable"] < found["disk"]["free"]
    assert found["refusal"] is None
    assert (unknown.code, "Failed: NONE/USD: Kraken does not list" in unknown.err) == (1, True)
    assert len(asked) < 12

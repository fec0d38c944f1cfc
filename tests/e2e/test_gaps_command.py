"""``kraken-db gaps`` and its module as processes, against a simulated exchange that lives now."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from kraken_db.simulator import Market, Scenario, SimulatedExchange
from tests.support.archives import query
from tests.support.processes import Ended, backfilling, ended, requests_reach, run_backfill
from tests.support.shell import STRICT, forked

FILL, LIST = ("gaps", "fill"), ("gaps", "list")
MODULE = (sys.executable, "-W", "error", "-m", "kraken_db.gap_filler")
QUICK = ("--rate-limit", "0", "--min-gap", "30")


@asynccontextmanager
async def exchange_of(
    url: str, *symbols: str, delay: float = 0.0
) -> AsyncIterator[tuple[SimulatedExchange, dict[str, str]]]:
    """Markets that have been trading for three days, and the environment of a process that asks them."""
    start = datetime.now(UTC) - timedelta(days=3)
    markets = [Market(symbol, start=start, scenario=Scenario.CALM, trades_per_minute=2) for symbol in symbols]
    exchange = SimulatedExchange(markets, delay=delay)
    async with exchange.serve() as base_url:
        yield exchange, {"DATABASE_URL": url, "KRAKEN_BASE_URL": base_url}


async def test_list_fill_and_list_again(plain_url: str) -> None:
    async with exchange_of(plain_url, "BTC/USD", "ETH/USD") as (_, environment):

        async def run(*arguments: str, program: tuple[str, ...] | None = None) -> Ended:
            return await run_backfill(*arguments, environment=environment, program=program or forked())

        before = await run(*LIST, "--symbols", "BTC/USD", "--window", "2d")
        assert (before.code, before.out.split()[-2:]) == (0, ["nothing", "stored"])
        assert "BTC/USD: nothing is stored; wanted: 2 days up to now" in before.err
        wanted = ("--symbols", "BTC/USD", "ETH/USD", "--window", "1d")
        done = await run(*FILL, *wanted, "--json", *QUICK)
        assert done.code == 0, done.err
        document = json.loads(done.out)
        assert (document["gaps_detected"], document["gaps_filled"], document["errors"]) == (2, 2, [])
        counts = await query(
            plain_url, "SELECT (SELECT count(*) FROM candles), (SELECT count(*) FROM trades)"
        )
        assert counts == [(document["candles_inserted"], document["trades_processed"])]
        first = document["symbols"][0]
        assert (first["symbol"], first["has_data"], first["gaps"][0]["kind"]) == ("BTC/USD", False, "no data")
        assert first["trades_new"] + document["symbols"][1]["trades_new"] == document["trades_processed"]
        again = await run("--symbols", "BTC/USD,ETH/USD", *QUICK, program=MODULE)
        assert (again.code, again.out.splitlines()[1].split()[:5]) == (0, ["BTC/USD", "0", "0", "0", "0"])
        after = await run(*LIST, "--stored", "--json", "--min-gap", "30")
        symbols = json.loads(after.out)["symbols"]
        assert [(one["symbol"], one["gaps"]) for one in symbols] == [("BTC/USD", []), ("ETH/USD", [])]
        assert "No gaps in 2 pairs." in after.err


async def test_what_stays_is_told_and_ends_with_1(plain_url: str) -> None:
    async with exchange_of(plain_url, "BTC/USD") as (_, environment):
        arguments = ("--symbols", "BTC/USD", "ZZZ/USD", "--window", "3h", *QUICK)
        done = await run_backfill(*arguments, environment=environment, program=MODULE)
    assert done.code == 1
    failed = [line for line in done.err.splitlines() if line.startswith("Failed: ")]
    assert len(failed) == 1 and failed[0].startswith("Failed: ZZZ/USD: ")
    assert done.err.count(failed[0].removeprefix("Failed: ZZZ/USD: ")) == 1
    assert "Traceback" not in done.err
    assert [line.split()[:3] for line in done.out.splitlines()[1:]] == [
        ["BTC/USD", "1", "1"],
        ["ZZZ/USD", "1", "0"],
    ]


async def test_a_signal_stores_what_has_come(plain_url: str) -> None:
    async with exchange_of(plain_url, "BTC/USD", delay=0.15) as (exchange, environment):
        arguments = (*FILL, "--symbols", "BTC/USD", "--window", "3d", *QUICK)
        async with backfilling(*arguments, environment=environment, program=STRICT) as process:
            assert await requests_reach(exchange, 5, process)
            process.send_signal(signal.SIGTERM)
            done = await ended(process)
        assert done.code == 143, done.err
        assert "BTC/USD: stopped; the same command goes on from there" in done.err
        exchange.delay = 0.0
        rest = await run_backfill(*arguments, environment=environment, program=forked())
        assert rest.code == 0, rest.err
    ids = await query(plain_url, "SELECT count(*), max(id) - min(id) + 1 FROM trades")
    assert ids[0][0] == ids[0][1] > 2_000


async def test_wrong_usage(plain_url: str) -> None:
    for arguments, told in [
        (("--window", "never"), "write a period that ends"),
        (("--window", "0d"), "write a period that ends"),
        (("--min-gap", "-1"), "is not in the range"),
        (("--max-concurrent", "0"), "is not in the range"),
        (("--stored", "--symbols", "BTC/USD"), "--stored cannot be combined with --symbols"),
    ]:
        environment = {"DATABASE_URL": plain_url}
        done = await run_backfill(*FILL, *arguments, environment=environment, program=forked())
        assert (done.code, told in done.err, done.out) == (2, True, ""), done.err

"""``kraken-db verify`` as a process: what it prints, its exit codes, and wrong use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kraken_db.simulator import Market, Scenario, SimulatedExchange
from tests.support.archives import query
from tests.support.downloading import assert_is_truth, download_one
from tests.support.processes import Ended, run_backfill
from tests.support.shell import forked

MARKET = Market("BTC/USD", seed=81, trades=600, trades_per_minute=30, scenario=Scenario.CALM)


async def run(*arguments: str, url: str, exchange: str = "http://127.0.0.1:9") -> Ended:
    environment = {"DATABASE_URL": url, "KRAKEN_BASE_URL": exchange}
    done = await run_backfill(*arguments, environment=environment, program=(*forked(), "verify"))
    assert "Traceback" not in done.err
    return done


async def test_a_certificate_and_a_repair(plain_url: str) -> None:
    await download_one(plain_url, MARKET)
    done = await run("--offline", url=plain_url)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("BTC/USD  nothing is wrong; not compared: Kraken's candles\n")
    assert "600 trades, ids 1 to 600 without a hole, 2024-01-01 00:00 to " in done.out

    await query(plain_url, "DELETE FROM trades WHERE id = 300")
    done = await run("btc-usd", "--no-exchange", url=plain_url)
    assert done.code == 1
    assert done.out.startswith("BTC/USD  WRONG: missing ids (1), count differs (1), candle differs (1)\n")
    assert "! id 300 is missing between 2024-01-01 00:" in done.out

    async with SimulatedExchange([MARKET]).serve() as base_url:
        quick = ("--rate-limit", "0", "--json")
        done = await run("--repair", "--trades", *quick, url=plain_url, exchange=base_url)
    assert done.code == 0, done.out
    (symbol,) = json.loads(done.out)["symbols"]
    assert (symbol["symbol"], symbol["clean"]) == ("BTC/USD", True)
    assert symbol["repaired"] == ["1 trade taken from Kraken"]
    assert [part["name"] for part in symbol["parts"]] == [
        "trades",
        "candles",
        "higher intervals",
        "Kraken's candles",
        "Kraken's trades",
    ]
    assert symbol["parts"][0]["last_id"] == symbol["parts"][4]["compared"] == 600
    await assert_is_truth(plain_url, MARKET)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["BTC/USD"], 1, "nothing is stored of BTC/USD"),
        ([], 1, "nothing is stored yet"),
        (["--trades", "--offline"], 2, "cannot be combined"),
        (["--since", "2024-01-02", "--until", "2024-01-01"], 2, "--since is not before --until"),
        (["--since", "last-week"], 2, "is not a time"),
        (["nonsense"], 2, "is not a pair"),
        (["--against", ""], 2, "a path is empty"),
    ],
)
async def test_wrong_use(plain_url: str, arguments: list[str], code: int, told: str) -> None:
    done = await run(*arguments, url=plain_url)
    assert (done.code, done.out) == (code, "")
    assert told in done.err
    assert len(done.err.splitlines()) == 1


async def test_an_archive_that_is_not_there(plain_url: str, tmp_path: Path) -> None:
    await download_one(plain_url, MARKET)
    done = await run("--offline", "--against", str(tmp_path / "nowhere"), url=plain_url)
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
    assert "nowhere" in done.err

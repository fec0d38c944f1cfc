"""Tokenized assets and patterns through the commands: from the simulated exchange into files and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kraken_db.simulator import Market, Scenario, SimulatedExchange
from tests.support.archives import query
from tests.support.downloading import assert_is_truth
from tests.support.processes import Ended, run_backfill
from tests.support.shell import forked

MARKETS = {
    symbol: Market(symbol, seed=number, trades=300, trades_per_minute=30, scenario=Scenario.CALM)
    for number, symbol in enumerate(("AAPLx/USD", "BRK.Bx/USD", "AVAX/USD"), 90)
}


async def run(*arguments: str, url: str, exchange: str = "http://127.0.0.1:9", code: int = 0) -> Ended:
    environment = {"DATABASE_URL": url, "KRAKEN_BASE_URL": exchange}
    done = await run_backfill(*arguments, environment=environment, program=forked())
    assert (done.code, "Traceback" in done.err) == (code, False), done.err
    return done


async def documents(*arguments: str, url: str, name: str, **options: Any) -> list[Any]:
    found = json.loads((await run(*arguments, "--json", url=url, **options)).out)[name]
    assert isinstance(found, list)
    return found


async def symbols(*arguments: str, url: str, name: str = "symbols", **options: Any) -> list[str]:
    return [one["symbol"] for one in await documents(*arguments, url=url, name=name, **options)]


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.csv"))


async def test_downloaded_shown_exported_and_imported(plain_url: str, tmp_path: Path) -> None:
    async with SimulatedExchange(MARKETS.values()).serve() as base_url:
        wanted = ("--symbols", "*x/USD", "avax/usd", "--exclude", "TSLA*x/*", "--rate-limit", "0")
        asked: dict[str, Any] = {"url": plain_url, "exchange": base_url}
        found = await symbols("backfill", *wanted, name="pairs", **asked)
        assert found == ["AAPLx/USD", "BRK.Bx/USD", "AVAX/USD"]
        # Again, by what is stored; in another spelling it is the same pair.
        stored = ("backfill", "--stored", "--resume", "--exclude", "avax/*", "--rate-limit", "0")
        assert await symbols(*stored, name="pairs", **asked) == found[:2]
        again = ("backfill", "--symbols", "aaplx/usd", "--resume", "--rate-limit", "0")
        assert await symbols(*again, name="pairs", **asked) == ["AAPLx/USD"]
        filled = ("gaps", "fill", "--symbols", "aaplx/*", "--rate-limit", "0", "--min-gap", "60000000")
        assert await symbols(*filled, **asked) == ["AAPLx/USD"]
    for market in MARKETS.values():
        await assert_is_truth(plain_url, market)

    url = plain_url
    assert await symbols("status", "--symbols", "*x/*", "--exclude", "brk.bx/*", url=url) == ["AAPLx/USD"]
    assert await symbols("status", "--exclude", "*x/*", url=url) == ["AVAX/USD"]
    assert await symbols("gaps", "list", "--symbols", "*/USD", "NO/SUCH", url=url) == ["AVAX/USD", "NO/SUCH"]
    assert await symbols("gaps", "list", "--stored", "--exclude", "*/USD", url=url) == [
        "AAPLx/USD",
        "BRK.Bx/USD",
    ]
    assert await symbols("verify", "A*", "brk.bx/usd", "--offline", url=url) == ["AVAX/USD", "BRK.Bx/USD"]
    assert await symbols("verify", "--exclude", "*x/*", "--offline", url=url) == ["AVAX/USD"]
    await run("status", "--symbols", "aaplx/usd", "--check", "--max-lag", "never", url=url)
    assert (await run("candles", "aaplx/usd", "--json", url=url)).out.startswith('{"symbol": "AAPLx/USD"')

    await query(url, "DELETE FROM candles WHERE symbol = 'BRK.Bx/USD'")
    built = await documents("candles", "build", "*x/USD", "--exclude", "AAPLx/USD", url=url, name="pairs")
    assert [one["symbol"] for one in built] == ["BRK.Bx/USD"]

    out = str(tmp_path / "out")
    trades = ("--what", "trades", "--format", "csv", "--out", out)
    files = ("export", "*x/USD", "avaxusd", "--exclude", "BRK*x/*", *trades)
    assert await symbols(*files, url=url, name="files") == ["AAPLx/USD", "AVAX/USD"]
    assert await symbols("export", "--stored", *trades, url=url, name="files") == sorted(MARKETS)
    assert files_in(tmp_path / "out") == ["AAPLxUSD.csv", "AVAXUSD.csv", "BRK.BxUSD.csv"]
    await query(url, "TRUNCATE trades, candles, data_sync_status, data_coverage")
    imported = ("import-csv", out, "--symbols", "aaplx/*", "BRK.Bx/USD", "AVAX/USD", "--exclude", "AVA*")
    assert await symbols(*imported, url=url, name="groups") == ["AAPLx/USD", "BRK.Bx/USD"]
    assert await query(url, "SELECT symbol, count(*) FROM trades GROUP BY symbol ORDER BY symbol") == [
        ("AAPLx/USD", 300),
        ("BRK.Bx/USD", 300),
    ]


async def test_what_fits_nothing_is_told_everywhere(plain_url: str, tmp_path: Path) -> None:
    async with SimulatedExchange([MARKETS["AVAX/USD"]]).serve() as base_url:
        asked: dict[str, Any] = {"url": plain_url, "exchange": base_url}
        await run("backfill", "--symbols", "AVAX/USD", "--rate-limit", "0", **asked)
        for arguments in (
            ("backfill", "--symbols", "AVXA/*"),
            ("gaps", "fill", "--symbols", "AVXA/*"),
            ("gaps", "list", "--symbols", "AVXA/*"),
            ("status", "--symbols", "AVXA/*"),
            ("verify", "AVXA/*"),
            ("candles", "build", "AVXA/*"),
            ("export", "AVXA/*", "--out", str(tmp_path)),
        ):
            done = await run(*arguments, code=1, **asked)
            assert "matches 'AVXA/*'" in done.err and "AVAX/*" in done.err, done.err
            assert done.err.count("\n") == 1
        for words in (["status"], ["gaps", "list"], ["verify", "--offline"]):
            done = await run(*words, "--exclude", "*", code=1, **asked)
            assert "no pair is left" in done.err
        for words in (["backfill", "--symbols", "AVAX/USD"], ["export", "AVAX/USD", "--out", "x"]):
            done = await run(*words, "--stored", code=2, **asked)
            assert "--stored cannot be combined with" in done.err

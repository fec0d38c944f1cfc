"""What ``scripts/demo`` shows once the environment is there, and the check that it ends with."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kraken_db.simulator import Market, SimulatedExchange
from tests.support.sandbox import Done, Sandbox, new_sandbox

SCRIPTS = Path(__file__).parents[2] / "scripts"
DEMO, CHECK = SCRIPTS / "demo_main.py", SCRIPTS / "check_history.py"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with new_sandbox() as found:
        yield found


def test_one_history_in_a_folder_that_an_earlier_demo_left(sandbox: Sandbox) -> None:
    folder = sandbox.root / "demo"
    for old in ("archives/old.zip", "database/old", "journal/old", ".kraken-db-demo", "notes"):
        (folder / old).parent.mkdir(parents=True, exist_ok=True)
        (folder / old).touch()
    done = sandbox.run(sys.executable, DEMO, "--data-dir", folder, timeout=600)
    assert done.returncode == 0, done.stdout
    assert not list(folder.glob("*/old*"))
    assert (folder / "notes").exists(), "what somebody has put there stays"
    assert "$ kill -9 " in done.stdout
    assert " trades stored, up to " in done.stdout
    assert "\nsymbol   outcome    archived  received" in done.stdout, (
        "it was killed before all was read there"
    )
    assert done.stdout.count("trades received, 0 of them new\n") == 2
    assert re.search(r"\n[\d,]+ trades read, 0 of them new\n", done.stdout)
    # a frame that is lost just before the end leaves its pair catching up: (1 live)
    assert re.search(r" 2 pairs( \(\d live\))?, .* trades received, .*, stopped\n", done.stdout)
    assert done.stdout.count("  nothing is wrong\n") == 2
    for symbol in ("BTC/USD  ", "ETH/USD  "):
        assert re.search(f"{symbol} ([\\d,]+) trades equal, ids 1 to \\1: none missing", done.stdout)
    assert done.stdout.count("candles of 4h equal") == 2
    assert "The exchange stopped after " in done.stdout
    assert [path.name for path in sandbox.root.iterdir()] == ["demo"], "all that it makes is in its folder"


def test_what_is_not_the_demos_is_refused_in_one_line(sandbox: Sandbox) -> None:
    (sandbox.root / "file").write_text("not a folder")
    (sandbox.root / "folder").mkdir()
    (sandbox.root / "folder" / "file").write_text("of somebody else")
    for name in ("file", "folder"):
        done = sandbox.run(sys.executable, DEMO, "--data-dir", sandbox.root / name)
        assert done.returncode == 1
        assert re.fullmatch(rf"\nFAILED: \S+/{name} is not the demo's\. Name .*\n", done.stdout)
    assert (sandbox.root / "folder" / "file").read_text() == "of somebody else"


DAMAGES = {
    "UPDATE candles SET volume = 2 * volume WHERE symbol = 'ETH/USD'": (
        "4h candles of ETH/USD differ from the independent computation"
    ),
    "UPDATE trades SET volume = 2 * volume WHERE symbol = 'ETH/USD' AND id = 4000": (
        "the trades of ETH/USD differ from what the exchange has"
    ),
    "DELETE FROM trades WHERE symbol = 'ETH/USD' AND id = 4000": "ETH/USD: ids 1 to 9000, but 8999 trades",
}
"""What is done to a database, one after the other, and what is said of it."""


async def test_what_is_wrong_in_the_database_is_found(sandbox: Sandbox) -> None:
    sandbox.add_commands()
    markets = [Market(symbol, seed=1, trades=9_000) for symbol in ("BTC/USD", "ETH/USD")]
    async with SimulatedExchange(markets).serve() as base_url:
        sandbox.environment["KRAKEN_BASE_URL"] = base_url

        async def run(*command: str | Path) -> Done:
            return await asyncio.to_thread(sandbox.run, *command)

        await run("kraken-db", "db", "start")
        done = await run("kraken-db", "backfill", "--symbols", "BTC/USD", "ETH/USD", "--rate-limit", "0")
        assert done.returncode == 0, done.stdout
        check = (sys.executable, CHECK, "BTC/USD=XBTUSD", "ETH/USD=ETHUSD")
        done = await run(*check)
        assert done.returncode == 0, done.stdout
        for symbol in ("BTC/USD  ", "ETH/USD  "):
            assert f"{symbol} 9,000 trades equal, ids 1 to 9,000: none missing, none twice" in done.stdout
        assert done.stdout.count("candles of 4h equal") == 2
        for damage, told in DAMAGES.items():
            done = await run("bash", "-c", f'psql "$(kraken-db db url)" -c "{damage}"')
            assert done.returncode == 0, done.stdout
            done = await run(*check)
            assert done.returncode == 1, done.stdout
            assert done.stdout.endswith(f"\nFAILED: {told}\n")

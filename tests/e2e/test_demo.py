"""What ``scripts/demo`` shows once the environment is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sandbox import Sandbox, new_sandbox

DEMO = Path(__file__).parents[2] / "scripts" / "demo_main.py"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with new_sandbox() as found:
        yield found


def test_once_again_and_with_a_wrong_database(sandbox: Sandbox) -> None:
    """The second time finds everything there; what is wrong in the database is found."""
    for was_there in (False, True):
        done = sandbox.run(sys.executable, DEMO, "--data-dir", sandbox.data, "--trades", "20000")
        assert done.returncode == 0, done.stdout
        assert ("All 40,000 trades are there already" in done.stdout) is was_there
        assert ("$ kill -9 " in done.stdout) is not was_there
        assert "BTC/USD   20,000 trades received, 0 of them new" in done.stdout
        for symbol in ("BTC/USD  ", "ETH/USD  ", "DOGE/USD "):
            assert f"{symbol} 20,000 trades equal, ids 1 to 20,000: none missing, none twice" in done.stdout
        assert done.stdout.count("candles of 4h equal") == 3
        assert "The exchange stopped after " in done.stdout

    damage = (
        "UPDATE candles SET close = close + 0.1 WHERE symbol = 'ETH/USD' AND timestamp > '2024-01-01 04:00'"
    )
    sandbox.add_commands()
    sandbox.run("kraken-db", "db", "start")
    done = sandbox.run("bash", "-c", f'psql "$(kraken-db db url)" -c "{damage}" && kraken-db db stop')
    assert done.returncode == 0, done.stdout
    done = sandbox.run(sys.executable, DEMO, "--data-dir", sandbox.data, "--trades", "20000")
    assert done.returncode == 1, done.stdout
    assert "FAILED: 4h candles of ETH/USD differ" in done.stdout


def test_a_failure_is_told_and_ends_with_an_error(sandbox: Sandbox) -> None:
    sandbox.data.write_text("not a folder")
    done = sandbox.run(sys.executable, DEMO, "--data-dir", sandbox.data)
    assert done.returncode == 1
    assert "FAILED: " in done.stdout
    assert "Traceback" not in done.stdout

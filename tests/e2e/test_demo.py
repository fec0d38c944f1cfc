"""What ``scripts/demo`` shows once the environment is there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox import Sandbox, new_sandbox

DEMO = Path(__file__).parents[2] / "scripts" / "demo_main.py"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with new_sandbox() as found:
        yield found


def test_twice(sandbox: Sandbox) -> None:
    """The second time finds everything there."""
    for was_there in (False, True):
        done = sandbox.run(sys.executable, DEMO, "--data-dir", sandbox.data, "--days", "10")
        assert done.returncode == 0, done.stdout
        minutes = next(line.split() for line in done.stdout.splitlines() if line.startswith("BTC/USD   1m"))
        read, new = (int(minutes[column].replace(",", "")) for column in (3, 4))
        assert read > 12_000
        assert new == (0 if was_there else read)
        assert "0 rows written." in done.stdout
        assert "BTC/USD   60 candles of 4h equal" in done.stdout


def test_a_failure_is_told_and_ends_with_an_error(sandbox: Sandbox) -> None:
    sandbox.data.write_text("not a folder")
    done = sandbox.run(sys.executable, DEMO, "--data-dir", sandbox.data)
    assert done.returncode == 1
    assert "FAILED: kraken-db import-csv" in done.stdout
    assert "Traceback" not in done.stdout

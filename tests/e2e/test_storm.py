"""All commands at once while everything fails; ``scripts/storm`` runs it for as long as one likes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sandbox import Sandbox, new_sandbox

STORM = Path(__file__).parents[2] / "scripts" / "storm_main.py"


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with new_sandbox() as found:
        yield found


def test_two_minutes_of_a_storm_leave_every_row_exact(sandbox: Sandbox) -> None:
    """As many blows as in five at its usual pace."""
    done = sandbox.run(sys.executable, STORM, "--seed", "1", "--minutes", "2", "--pause", "2", timeout=1_500)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("\nseed 1: exact\n")
    assert done.stdout.count(" 0 missing, 0 other, 0 twice, 0 candles differ\n") == 4
    for what in ("SIGKILL to record", "SIGKILL to the server", "stands still", "the clock is off"):
        assert what in done.stdout, "it was no storm"

"""Ctrl-C while the command line itself is still loaded: one word, exit code 130, no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

# SIGINT at the first import of a module: the process sends it to itself.
_INTERRUPTED_AT = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["kraken-db", "pairs", "--help"]
runpy.run_module("kraken_db", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "module",
    ["kraken_db.cli", "click", "asyncio", "kraken_db.cli.base", "kraken_db.cli.pairs", "kraken_db.pairs"],
)
def test_an_interrupted_start_is_told_in_one_word(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_AT.format(module=module)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "interrupted")


def test_what_is_loaded_before_an_interrupt_can_be_told() -> None:
    """``import kraken_db`` comes first, outside of the command line: it has to be next to nothing."""
    code = (
        "import sys; before = set(sys.modules); import kraken_db; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["kraken_db"]

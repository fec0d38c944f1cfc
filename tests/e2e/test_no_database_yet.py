"""Commands that only read, where there is no embedded database: they say so, and make none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.shell import Shell

READING = (
    ("status",),
    ("status", "--check"),
    ("candles", "BTC/USD"),
    ("export", "BTC/USD", "--out", "out"),
    ("chart", "BTC/USD"),
    ("verify", "--offline"),
    ("gaps", "list"),
    ("jobs",),
    ("policies", "show"),
    ("sql", "SELECT 1"),
    ("db", "current"),
    ("db", "dump", "kraken.dump"),
)


@pytest.fixture
def nowhere() -> Iterator[Shell]:
    with tempfile.TemporaryDirectory(prefix="kraken-db-") as name:
        yield Shell(Path(name), KRAKEN_DB_DATA_DIR=f"{name}/mistyped")


def test_who_reads_makes_none(nowhere: Shell) -> None:
    folder = nowhere.cwd / "mistyped"
    for command in READING:
        done = nowhere.run(*command)
        assert (done.returncode, done.stdout) == (1, ""), command
        assert done.stderr == (
            f"Error: there is no database yet in {folder}. Get history first: kraken-db backfill"
            " --symbols BTC/USD, or kraken-db import-csv --help; DATABASE_URL or KRAKEN_DB_DATA_DIR name a"
            " database that is elsewhere\n"
        ), command
        assert not list(nowhere.cwd.iterdir()), command
    named = nowhere.run("status", "--db-url", f"embedded://{nowhere.cwd}/other")
    assert f"there is no database yet in {nowhere.cwd}/other" in named.stderr
    assert nowhere.run("candles", "--help").returncode == 0


def test_a_folder_of_something_else_is_named(nowhere: Shell) -> None:
    (nowhere.cwd / "mistyped").mkdir()
    (nowhere.cwd / "mistyped" / "thesis.txt").write_text("mine")
    done = nowhere.run("status")
    assert (done.returncode, "it holds thesis.txt" in done.stderr) == (1, True)
    assert [path.name for path in (nowhere.cwd / "mistyped").iterdir()] == ["thesis.txt"]

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
    ("gaps", "fill", "--stored"),
    ("backfill", "--stored"),
    ("candles", "build"),
    ("db", "dump", "kraken.dump"),
    ("db", "maintain"),
    ("db", "psql", "--", "-c", "SELECT 1"),
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


WRONG = (
    (("export", "BTC/USD", "--what", "trades", "-i", "1h", "--out", "out"), "--interval belongs to candles"),
    (("export", "BTC/USD"), "Missing option '--out'"),
    (("verify", "--offline", "--trades"), "--trades asks Kraken"),
    (("verify", "--since", "now", "--until", "2 days ago"), "--since is not before --until"),
    (("gaps", "list", "--window", "never"), "write a period that ends"),
    (("gaps", "fill", "--stored", "BTC/USD"), "--stored cannot be combined with SYMBOL"),
    (("status", "--notify-test"), "--notify and --notify-test need --check"),
    (("sql", " "), "it is empty"),
    (("candles", "BTC/USD", "--last", "x"), "'x'"),
    (("db", "grant-read", "ann", "--create", "--revoke"), "exclude each other"),
)


def test_wrong_usage_is_told_first(nowhere: Shell) -> None:
    for command, told in WRONG:
        done = nowhere.run(*command)
        assert (done.returncode, told in done.stderr) == (2, True), (command, done.stderr)
    assert not list(nowhere.cwd.iterdir())


def test_a_folder_of_something_else_is_named(nowhere: Shell) -> None:
    (nowhere.cwd / "mistyped").mkdir()
    (nowhere.cwd / "mistyped" / "thesis.txt").write_text("mine")
    done = nowhere.run("status")
    assert (done.returncode, "it holds thesis.txt" in done.stderr) == (1, True)
    assert [path.name for path in (nowhere.cwd / "mistyped").iterdir()] == ["thesis.txt"]

"""``kraken-db cache``: what it shows, and what it deletes."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kraken_db.cache import BlockFolder
from kraken_db.cache.folder import BlockName
from kraken_db.cli import cli
from kraken_db.frames import CANDLE_COLUMNS, arrow_schema


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["cache", *arguments], prog_name="kraken-db")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlockFolder:
    """Two months of one pair, and one of another."""
    monkeypatch.setenv("KRAKEN_DB_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("KRAKEN_DB_CACHE_LIMIT", "500 MB")
    made = BlockFolder(tmp_path, 10**9)
    made.make()
    for symbol, month in (("BTC/USD", 1), ("BTC/USD", 2), ("ETH/USD", 1)):
        name = BlockName(symbol, "1m", datetime(2023, month, 1, tzinfo=UTC), "0" * 8, "a" * 32)
        made.put(name, arrow_schema(CANDLE_COLUMNS, "decimal").empty_table())
    return made


def test_status(folder: BlockFolder) -> None:
    done = run("status")
    assert done.exit_code == 0, done.output
    assert re.search(r"^BTC/USD +2 +\d\.\d kB +20\d\d-", done.stdout, re.MULTILINE), done.stdout
    assert f"{folder.path}: " in done.stderr
    assert " of 500.0 MB at most" in done.stderr
    document = json.loads(run("status", "--json").stdout)
    assert document["limit_bytes"] == 500_000_000
    assert [(pair["symbol"], pair["blocks"]) for pair in document["pairs"]] == [
        ("BTC/USD", 2),
        ("ETH/USD", 1),
    ]
    assert document["bytes"] == sum(pair["bytes"] for pair in document["pairs"]) > 0


def test_clear(folder: BlockFolder) -> None:
    assert "1 pair deleted" in run("clear", "xbtusd").stderr
    assert [one.symbol for one in folder.usage()] == ["ETH/USD"]
    assert "1 pair deleted" in run("clear").stderr
    assert folder.usage() == []
    assert "0 pairs deleted" in run("clear").stderr


def test_another_directory(folder: BlockFolder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert f"{other}/candles: 0 bytes" in run("status", "--cache-dir", str(other)).stderr
    assert not other.exists()


def test_a_limit_that_is_no_size(folder: BlockFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRAKEN_DB_CACHE_LIMIT", "much")
    done = run("status")
    assert done.exit_code != 0
    assert "KRAKEN_DB_CACHE_LIMIT is no size: 'much'" in done.stderr

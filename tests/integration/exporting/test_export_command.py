"""``kraken-db export`` as a process: what it prints, what it refuses, and what a kill leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import polars as pl
import pytest

from tests.support.archives import OVER_TWO_YEARS, import_file, minutes, write
from tests.support.shell import MAIN, forked

# A slow machine tells no more than a fast one.
_UNTOLD = f"""
import kraken_db.cli.progress as progress
progress.SECONDS_BETWEEN_LINES = 600
{MAIN}
"""
# The second file is complete, and not in its place yet.
_KILLED = f"""
import os, signal
put, count = os.fsync, 0
def fsync(fd):
    global count
    count += 1
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    put(fd)
os.fsync = fsync
{MAIN}
"""


def run(url: str, folder: Path, *arguments: object, code: str = _UNTOLD) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*forked(), "-c", code, "export", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
async def plain(plain_url: str, tmp_path: Path) -> str:
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", OVER_TWO_YEARS))
    await import_file(plain_url, write(tmp_path, "ETHUSD_1.csv", minutes(3)))
    return plain_url


def test_what_it_tells(plain: str, tmp_path: Path) -> None:
    done = run(plain, tmp_path, "BTC/USD", "eth-usd", "SOL/USD", "-i", "1m", "--out", "out")
    assert (done.returncode, done.stderr) == (0, "Note: nothing is stored of SOL/USD 1m in this range\n")
    header, btc, eth = done.stdout.splitlines()
    assert header.split() == ["symbol", "what", "written", "unchanged", "rows", "size", "where"]
    assert btc.split()[:6] == ["BTC/USD", "1m", "2", "files", "-", "20"]
    assert eth.split()[:6] == ["ETH/USD", "1m", "1", "file", "-", "3"]
    again = run(plain, tmp_path, "BTC/USD", "ETH/USD", "--out", "out", "--json")
    files = json.loads(again.stdout)["files"]
    assert [(file["symbol"], file["outcome"], file["rows"]) for file in files] == [
        ("BTC/USD", "unchanged", 10),
        ("BTC/USD", "unchanged", 10),
        ("ETH/USD", "unchanged", 3),
    ]


def test_wrong_input_is_told_in_one_line(plain: str, tmp_path: Path) -> None:
    for arguments, code, told in (
        (("--out", "data"), 2, "Missing argument 'SYMBOL...'"),
        (("BTC/USD",), 2, "Missing option '--out'"),
        (("bitcoin", "--out", "out"), 2, "is not a pair"),
        (("BTC/USD", "--out", "out", "-i", "7x"), 2, "there is no interval '7x'"),
        (("BTC/USD", "--out", "out", "--what", "trades", "-i", "1h"), 2, "--interval belongs to candles"),
        (("BTC/USD", "--out", "out", "--since", "2024-01-02", "--until", "2024-01-01"), 2, "is not before"),
        (("BTC/USD", "--out", "XBTUSD_1.csv"), 2, "is a file"),
        (("SOL/USD", "--out", "out"), 1, "nothing is stored of SOL/USD 1m in this range"),
        (("BTC/USD", "--out", ".", "--format", "csv"), 1, "XBTUSD_1.csv is not of an export"),
        (("BTC/USD", "--out", "/proc/none"), 1, "/proc/none cannot be written"),
    ):
        done = run(plain, tmp_path, *arguments)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert told in done.stderr
        assert "Traceback" not in done.stderr


def test_nothing_is_stored_yet(plain_url: str, tmp_path: Path) -> None:
    done = run(plain_url, tmp_path, "--stored", "--out", "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: nothing is stored yet. See: kraken-db status\n"
    assert not (tmp_path / "out").exists()


def test_killed_it_goes_on_where_it_was(plain: str, tmp_path: Path) -> None:
    killed = run(plain, tmp_path, "BTC/USD", "--out", "out", code=_KILLED)
    assert killed.returncode == -signal.SIGKILL
    # What it has written waits for the end of a run.
    assert list((tmp_path / "out").rglob("*.parquet")) == []
    done = run(plain, tmp_path, "BTC/USD", "--out", "out", "--json")
    assert [file["outcome"] for file in json.loads(done.stdout)["files"]] == ["unchanged", "written"]
    # Nothing of the killed run is left.
    assert pl.scan_parquet(tmp_path / "out").select(pl.len()).collect().item() == 20


def test_a_pair_that_fails_leaves_the_others_alone(plain: str, tmp_path: Path) -> None:
    """A foreign file is in the way of the first: it stays, the next ones are written, the end is not 0."""
    out = tmp_path / "out"
    write(out, "XBTUSD_1.csv", "mine\n")
    asked = ("BTC/USD", "ETH/USD", "--format", "csv", "--out", "out")
    done = run(plain, tmp_path, *asked)
    assert (done.returncode, (out / "XBTUSD_1.csv").read_text()) == (1, "mine\n")
    assert done.stderr == (
        "Error: BTC/USD 1m: out/XBTUSD_1.csv is not of an export. Take another folder for --out\n"
    )
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:]] == [["ETH/USD", "1m", "1"]]
    assert len((out / "ETHUSD_1.csv").read_text().splitlines()) == 3
    again = run(plain, tmp_path, *asked, "--json")
    report = json.loads(again.stdout)
    assert (again.returncode, list(report["failed"])) == (1, ["BTC/USD 1m"])
    assert [(file["symbol"], file["outcome"]) for file in report["files"]] == [("ETH/USD", "unchanged")]
    write(out, "ETHUSD_1.csv", "mine as well\n")
    (out / ".kraken-db-export.json").unlink()
    nothing = run(plain, tmp_path, *asked)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert nothing.stderr.count("is not of an export") == 2

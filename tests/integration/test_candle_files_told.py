"""What the commands say of pairs of which a coarse file was imported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kraken_db.cli import cli
from tests.support.archives import START, write

FILE = "".join(f"{START + 3600 * h},1,2,1,2,1.5,{h + 1}\n" for h in range(3))
NOTE = (
    "Note: candles from before 2023-01-01 03:00 UTC are taken from an imported file of 1h,"
    " not computed from minutes\n"
)


def run(url: str, *arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments), "--db-url", url])


@pytest.fixture
def url(plain_url: str, tmp_path: Path) -> str:
    """A file of hours, and a minute at 5:00 after it for ETH/USD alone."""
    write(tmp_path, "in/XDGUSD_60.csv", FILE)
    write(tmp_path, "in/ETHUSD_60.csv", FILE)
    write(tmp_path, "in/ETHUSD_1.csv", f"{START + 5 * 3600},1,2,1,2,1.5,100\n")
    done = run(plain_url, "import-csv", tmp_path / "in", "--all")
    assert done.exit_code == 0, done.stderr
    return plain_url


def test_candles(url: str) -> None:
    done = run(url, "candles", "DOGE/USD", "-i", "1h", "--start", "2023-01-01T01:00", "--format", "csv")
    assert (done.exit_code, done.stderr) == (0, NOTE)
    assert done.stdout.splitlines() == [
        "timestamp,open,high,low,close,volume,trades,vwap",
        "2023-01-01T01:00:00Z,1,2,1,2,1.5,2,",
        "2023-01-01T02:00:00Z,1,2,1,2,1.5,3,",
    ]
    done = run(url, "candles", "ETH/USD", "-i", "1h", "--last", "2", "--json")
    assert [c["trades"] for c in json.loads(done.stdout)["candles"]] == [3, 100]
    assert done.stderr == NOTE
    # Nothing of the file is among these.
    for arguments in (("--last", "1"), ("--start", "2023-01-01T03:00"), ("-i", "4h", "--last", "9")):
        done = run(url, "candles", "ETH/USD", *arguments, "--format", "csv")
        assert (done.exit_code, done.stderr, len(done.stdout.splitlines())) == (0, "", 2)


def test_a_range_without_candles(url: str) -> None:
    done = run(url, "candles", "DOGE/USD", "-i", "1h", "--start", "2024-01-01")
    assert done.exit_code == 1
    assert "DOGE/USD has no 1h candles in this range" in done.stderr
    assert "candles go from 2023-01-01 00:00 to 2023-01-01 02:00 UTC" in done.stderr


def test_chart(url: str) -> None:
    done = run(url, "chart", "DOGE/USD", "-i", "1h")
    assert (done.exit_code, done.stderr) == (0, NOTE)


def test_export(url: str, tmp_path: Path) -> None:
    done = run(url, "export", "DOGE/USD", "ETH/USD", "-i", "1h", "-i", "4h", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.splitlines() == [
        "Note: nothing is stored of DOGE/USD 4h in this range",
        *(
            f"Note: {symbol} 1h from before 2023-01-01 03:00 UTC is taken from an imported file of 1h,"
            " not computed from minutes"
            for symbol in ("DOGE/USD", "ETH/USD")
        ),
    ]
    done = run(url, "export", "ETH/USD", "-i", "1h", "-i", "4h", "--out", tmp_path / "out", "--json")
    files = json.loads(done.stdout)["files"]
    assert [file["taken_until"] for file in files] == ["2023-01-01T03:00:00Z", None]


def test_status_says_what_is_a_file(url: str) -> None:
    done = run(url, "status", "--details")
    rows = [line.split("  ")[:2] for line in done.stdout.splitlines() if "/USD" in line and "2023-" in line]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["DOGE/USD", "candles, file"],
        ["ETH/USD", "candles"],
        ["ETH/USD", "candles, file"],
    ]
    entry, _ = json.loads(run(url, "status", "--json").stdout)["symbols"]
    assert (entry["symbol"], entry["intervals"]) == ("DOGE/USD", ["1h"])
    assert (entry["data"][0]["gaps"], entry["data"][0]["covered"]) == (None, [])


def test_gaps_are_those_of_minutes(url: str) -> None:
    done = run(url, "gaps", "list", "--symbols", "DOGE/USD")
    assert "DOGE/USD: nothing is stored; wanted: 30 days up to now" in done.stderr
    assert "imported files above 1m do not count" in done.stderr


def test_what_cannot_be_verified_is_not_claimed(url: str) -> None:
    done = run(url, "verify", "DOGE/USD", "--offline", "--json")
    (certificate,) = json.loads(done.stdout)["symbols"]
    assert certificate["error"] is None
    assert [part["compared"] for part in certificate["parts"]] == [0] * len(certificate["parts"])
    assert [part["findings"] for part in certificate["parts"]] == [[]] * len(certificate["parts"])

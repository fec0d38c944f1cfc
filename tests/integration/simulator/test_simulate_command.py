"""``kraken-db simulate`` as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.shell import MAIN


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-c", MAIN, "simulate", *arguments]


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        command("--port", "0", *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        name, _, url = process.stdout.readline().strip().partition("=")
        assert name == "export KRAKEN_BASE_URL"
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ask(url: str, path: str) -> dict[str, object]:
    with urllib.request.urlopen(f"{url}/0/public/{path}", timeout=10) as response:
        answer: dict[str, object] = json.loads(response.read())
    return answer


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_starts_serves_and_stops(ending: signal.Signals) -> None:
    arguments = ("--pairs", "BTC/USD", "ethusd", "--pairs", "SOL/USD,XRP/USD", "--trades", "1500")
    with running(*arguments, "--seed", "x") as (process, url):
        for pair, key in (("XBTUSD", "XXBTZUSD"), ("ETHUSD", "XETHZUSD"), ("SOLUSD", "SOLUSD")):
            result = ask(url, f"Trades?pair={pair}&since=0")["result"]
            assert isinstance(result, dict)
            assert len(result[key]) == 1000
        process.send_signal(ending)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "XRP/USD: 1,500 trades" in errors
    assert errors.endswith("stopped after 3 requests\n")


def test_faults_and_live() -> None:
    with running("--live", "--fault", "unknown-pair=1", "--maintenance") as (_, url):
        assert ask(url, "Trades?pair=XRPUSDT") == {"error": ["EQuery:Unknown asset pair"]}
    with running("--live", "BTC/USD") as (_, url):
        result = ask(url, "OHLC?pair=XBTUSD")["result"]
        assert isinstance(result, dict)
        rows = result["XXBTZUSD"]
        assert 119 <= len(rows) <= 122
        assert sum(row[-1] for row in rows) > 1_000


def test_archives(tmp_path: Path) -> None:
    folder = tmp_path / "archives"
    options = ("--archive", str(folder), "--archive-until", "2023Q4", "--archive-part-size", "20000")
    market = ("--pairs", "BTC/USD", "--trades", "3000", "--start", "2023-12-31T23:30")
    for _ in range(2):  # the second one finds what the first has written
        with running(*market, *options, "--archive-only", "LUNA/USD") as (process, url):
            assert process.stdout is not None
            process.stdout.readline()
            name, _, archives = process.stdout.readline().strip().partition("=")
            assert (name, archives) == ("export KRAKEN_ARCHIVE_URL", f"{url}/marketing/institutions/")
            assert ask(url, "Trades?pair=LUNAUSD")["error"] == ["EQuery:Unknown asset pair"]
            request = urllib.request.Request(f"{archives}Kraken_Trades_Full_2023Q4.zip.part01")
            request.add_header("Range", "bytes=10-19")
            with urllib.request.urlopen(request, timeout=10) as response:
                part = (folder / "Kraken_Trades_Full_2023Q4.zip.part01").read_bytes()
                assert (response.status, response.read()) == (206, part[10:20])
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=10)
        assert "; of archives 1 request and 10 bytes" in errors
    with zipfile.ZipFile(folder / "Kraken_Trades_2024Q1.zip") as quarter:
        assert quarter.namelist()[:2] == ["LUNAUSD.csv", "XBTUSD.csv"]
    parts = sorted(folder.glob("Kraken_Trades_Full_*"))
    assert {path.stat().st_size for path in parts[:-1]} == {20_000}
    sums = folder / "Trades_Full_PARTS_SHA256SUMS.txt"
    assert subprocess.run(["sha256sum", "--check", sums.name], cwd=folder, check=False).returncode == 0


def test_a_long_history_before_a_live_market(tmp_path: Path) -> None:
    def newest(url: str) -> int:
        result = ask(url, "Trades?pair=XBTUSD&count=1")["result"]
        assert isinstance(result, dict)
        return int(result["XXBTZUSD"][0][-1])

    folder = tmp_path / "archives"
    start = datetime.now(UTC) - timedelta(days=200)
    market = ("--live", "--pairs", "BTC/USD", "--start", f"{start:%Y-%m-%d}", "--archive", str(folder))
    made_from = []
    for _ in range(2):
        with running(*market, "--pace-before", "0.001", "--pace", "200") as (_, url):
            before = newest(url)
            assert 200 * 86_400 * 0.001 / 2 < before < 200 * 86_400 * 0.001 * 2
            time.sleep(1)
            assert newest(url) >= before + 50
            made_from.append((folder / ".kraken-db-simulate").read_text().splitlines()[0])
    assert made_from[0] != made_from[1], "what the archives have depends on when the command was started"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--fault", "nonsense"), "one of transient, too-many-requests"),
        (("--fault", "reset=much"), "a number from 0 to 1"),
        (("--fault", "reset=2"), "between 0 and 1"),
        (("--scenario", "nonsense"), "one of calm, quiet"),
        (("--pairs", "nonsense"), "nonsense"),
        (("--host", "192.0.2.1"), "cannot listen"),
        (("--pace-before", "1"), "--pace-before goes with --live"),
        (("--archive-fault", "nonsense"), "one of transient, cut, slow"),
        (("--archive", "DIR", "--archive-until", "soon"), "write it like 2024Q1"),
        (("--archive", "DIR", "--archive-until", "2999Q1"), "not over yet"),
        (("--archive", "."), "name a new or an empty folder"),
    ],
)
def test_what_cannot_work_is_one_line(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    arguments = tuple(str(tmp_path) if argument == "DIR" else argument for argument in arguments)
    done = subprocess.run(command("--port", "0", *arguments), capture_output=True, text=True, timeout=30)
    assert done.returncode in (1, 2)
    assert said.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert done.stdout == ""

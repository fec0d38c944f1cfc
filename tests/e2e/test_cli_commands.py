"""The command line as its users run it: as processes, on a database server and on the embedded one."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.archives import START, import_texts, minutes, write
from tests.support.lanes import Lane
from tests.support.shell import KRAKEN_DB, Shell


@pytest.fixture
def shell(tmp_path: Path, plain_url: str) -> Shell:
    return Shell(tmp_path, DATABASE_URL=plain_url)


async def fill(url: str) -> None:
    await import_texts(url, TWO_HOURS)


TWO_HOURS = {"XBTUSD_1.csv": minutes(120)}


@pytest.fixture
def filled(tmp_path: Path, plain_lane: Lane) -> Iterator[Shell]:
    """Two hours of BTC/USD, all minutes alike."""
    for name, content in TWO_HOURS.items():
        write(tmp_path, name, content)
    with plain_lane.filled_database(fill) as url:
        yield Shell(tmp_path, DATABASE_URL=url)


def test_import_then_read(filled: Shell) -> None:
    again = filled.run("import-csv", "XBTUSD_1.csv")
    assert (again.returncode, again.stderr) == (0, "")
    assert [" ".join(line.split()) for line in again.stdout.splitlines()] == [
        "symbol data files read new changed unchanged rejected from (UTC) to (UTC)",
        "BTC/USD 1m 1 120 0 0 120 0 2023-01-01 00:00 2023-01-01 01:59",
    ]
    hours = filled.run("candles", "xbtusd", "--json")
    assert hours.returncode == 0
    assert json.loads(hours.stdout)["candles"] == [
        {
            "timestamp": f"2023-01-01T0{hour}:00:00Z",
            "open": "100.5",
            "high": "102",
            "low": "99.5",
            "close": "101",
            "volume": "150",
            "trades": 420,
            "vwap": None,
        }
        for hour in (0, 1)
    ]


def test_import_as_module_takes_the_same_arguments(shell: Shell) -> None:
    write(shell.cwd, "data/kraken_csv/deep/XBTUSD_1.csv", minutes(3))
    module = (sys.executable, "-W", "error", "-m", "kraken_db.bulk_csv_importer")
    done = shell.run("--all", "--batch-size", 5000, "--json", program=module)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["totals"]["new"] == 3


def test_a_bad_file_is_told_and_the_others_go_on(shell: Shell) -> None:
    write(shell.cwd, "a/XBTUSD_1.csv", minutes(3))
    write(shell.cwd, "a/ETHUSD_1.csv", minutes(1) + "1672531260,abc,102,99.5,101,2.5,7\n")
    done = shell.run("import-csv", "a", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert [(file["symbol"], file["stored"], file["new"]) for file in document["files"]] == [
        ("BTC/USD", True, 3),
        ("ETH/USD", False, 0),
    ]
    (failure,) = document["failures"]
    assert failure["file"] == "a/ETHUSD_1.csv"
    assert failure["line"] == 2
    assert "Failed: a/ETHUSD_1.csv, line 2: " in done.stderr
    assert done.stderr.endswith("Error: 1 of 2 files not imported; nothing of it is stored.\n")
    assert "Traceback" not in done.stderr


def test_latest_candles_and_the_note_that_there_are_more(filled: Shell) -> None:
    latest = filled.run("candles", "BTC/USD", "-i", "1m")
    assert len(latest.stdout.splitlines()) == 51
    assert latest.stderr.startswith("These are the newest 50 candles")
    last = filled.run("candles", "BTC/USD", "-i", "1", "--last", 2, "--format", "csv")
    assert last.stderr == ""
    assert last.stdout.splitlines() == [
        "timestamp,open,high,low,close,volume,trades,vwap",
        "2023-01-01T01:58:00Z,100.5,102,99.5,101,2.5,7,",
        "2023-01-01T01:59:00Z,100.5,102,99.5,101,2.5,7,",
    ]


@pytest.mark.parametrize(
    ("options", "first", "count"),
    [
        (["--start", "2023-01-01T01:30"], "2023-01-01T01:30:00Z", 30),
        (["--end", "2023-01-01 00:10"], "2023-01-01T00:00:00Z", 10),
        (["--start", "2023-01-01T01:00+01:00", "--end", "2023-01-01T00:05Z"], "2023-01-01T00:00:00Z", 5),
        (["--start", "2001-01-01", "--end", "now"], "2023-01-01T00:00:00Z", 120),
    ],
)
def test_a_range_includes_its_start_and_excludes_its_end(
    filled: Shell, options: list[str], first: str, count: int
) -> None:
    done = filled.run("candles", "BTC/USD", "-i", "1m", "--format", "csv", *options)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert (rows[0]["timestamp"], len(rows)) == (first, count)


def test_quiet_minutes_are_filled_on_request(shell: Shell) -> None:
    write(shell.cwd, "XBTUSD_1.csv", minutes(1) + minutes(1, start=START + 180))
    assert shell.run("import-csv", "XBTUSD_1.csv").returncode == 0
    options = ("BTC/USD", "-i", "1m", "--start", "2023-01-01", "--json")
    plain = json.loads(shell.run("candles", *options).stdout)["candles"]
    filled = json.loads(shell.run("candles", *options, "--fill", "previous").stdout)["candles"]
    assert [candle["trades"] for candle in plain] == [7, 7]
    assert [candle["trades"] for candle in filled] == [7, 0, 0, 7]
    assert filled[1]["open"] == filled[1]["close"] == "101"


def test_minutes_that_have_trades_but_no_candles_are_not_filled(shell: Shell) -> None:
    write(shell.cwd, "a/XBTUSD_1.csv", minutes(2))
    write(shell.cwd, "a/XBTUSD.csv", "".join(f"{START + 30 * n}.5,{500 + n}.0,1.0\n" for n in range(10, 22)))
    assert shell.run("import-csv", "a", "--no-candles").returncode == 0
    done = shell.run(
        "candles", "BTC/USD", "-i", "1m", "--end", "2023-01-01T00:12", "--fill", "previous", "--json"
    )
    assert [candle["timestamp"][11:16] for candle in json.loads(done.stdout)["candles"]] == ["00:00", "00:01"]


def test_status(filled: Shell) -> None:
    document = json.loads(filled.run("status", "--json").stdout)
    assert document["database"]["kind"] == "PostgreSQL"
    assert document["database"]["embedded"] is False
    assert document["pending_refresh"] == {"ranges": 0, "oldest": None}
    (symbol,) = document["symbols"]
    assert symbol["symbol"] == "BTC/USD"
    assert symbol["intervals"] == ["1m", "5m", "15m", "30m", "1h", "4h", "12h", "1d", "1w"]
    (data,) = symbol["data"]
    assert (data["data_type"], data["rows"], data["sources"]) == ("candles_1m", 120, ["csv"])
    assert (data["oldest"], data["newest"]) == ("2023-01-01T00:00:00Z", "2023-01-01T01:59:00Z")
    assert data["covered"] == [["2023-01-01T00:00:00Z", "2023-01-01T02:00:00Z"]]
    assert (data["gaps"], data["covered_ranges"]) == (0, 1)
    assert next(iter(data["months"].items())) == ("2023-01", "part")
    assert set(list(data["months"].values())[1:]) == {"none"}
    assert document["database"]["size"] > sum(table["size"] for table in document["database"]["tables"])
    assert symbol["last_price"] == "101"
    text = filled.run("status").stdout
    assert "Pairs     1: 1 behind by more than 1 day; 120 candles\n" in text
    row = "BTC/USD       -      120  2023-01-01 00:00  2023-01-01 01:59     0  1,"
    assert row in text
    text = filled.run("status", "--details").stdout
    assert "BTC/USD  candles  1m to 1w    120  2023-01-01 00:00  2023-01-01 01:59     0  " in text
    assert "\n            2023         2024" in text
    assert "\nBTC/USD 1m  +........... ............" in text
    assert "\n# whole month   + part of it   . nothing\n" in text


def test_status_is_a_check_for_cron(filled: Shell) -> None:
    passed = filled.run("status", "--check", "--max-lag", "never", "--symbols", "BTC/USD")
    assert (passed.returncode, passed.stderr) == (0, "")
    assert passed.stdout.endswith(
        "\nCheck passed: no gaps, any lag allowed, no failing jobs, nothing left undone\n"
    )
    # Far from the first two hours.
    write(filled.cwd, "later/XBTUSD_1.csv", minutes(10, start=START + 86400))
    assert filled.run("import-csv", "later").returncode == 0
    failed = filled.run("status", "--check", "--symbols", "BTC/USD", "SOL/USD", "--json")
    assert failed.returncode == 1
    missing, gap, lag = json.loads(failed.stdout)["check"]["problems"]
    assert missing == "nothing is stored of SOL/USD"
    assert gap == (
        "BTC/USD 1m has 1 gap, from 2023-01-01 02:00 to 2023-01-02 00:00 UTC."
        " To fill: kraken-db gaps fill BTC/USD"
    )
    assert lag.startswith("BTC/USD 1m is ")
    assert lag.endswith(" days behind (allowed: 1 day)")
    assert failed.stderr == f"Error: check failed: {missing}; {gap}; {lag}\n"


def test_an_empty_store_is_not_all_well(shell: Shell) -> None:
    done = shell.run("status", "--check")
    assert (done.returncode, done.stderr) == (1, "Error: check failed: nothing is stored\n")


def test_an_empty_store_says_what_to_do(shell: Shell) -> None:
    done = shell.run("status")
    assert done.returncode == 0
    assert "Nothing is stored yet" in done.stdout
    assert "kraken-db import-csv" in done.stdout
    candles = shell.run("candles", "BTC/USD")
    assert (candles.returncode, candles.stdout) == (1, "")
    assert candles.stderr == (
        "Error: the store is empty. Get history first: kraken-db backfill --symbols BTC/USD,"
        " or kraken-db import-csv --help\n"
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["BTC/USDT"], "nothing is stored of BTC/USDT. Did you mean BTC/USD? Stored: BTC/USD"),
        (["LINK/EUR"], "nothing is stored of LINK/EUR. Stored: BTC/USD"),
        (
            ["BTC/USD", "--start", "2024-01-01"],
            "BTC/USD has no 1h candles in this range."
            " Its candles go from 2023-01-01 00:00 to 2023-01-01 01:59 UTC",
        ),
    ],
)
@pytest.mark.parametrize("style", ["table", "csv", "json"])
def test_no_candles_is_one_line(filled: Shell, arguments: list[str], expected: str, style: str) -> None:
    done = filled.run("candles", *arguments, "--format", style)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Error: {expected}\n")


def test_status_and_verify_name_the_nearest_pairs_as_candles_does(filled: Shell) -> None:
    told = "othing is stored of BTC/EUR. Did you mean BTC/USD? Stored: BTC/USD\n"
    shown = filled.run("status", "BTC/EUR")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.endswith(f"\nN{told}")
    verified = filled.run("verify", "BTC/EUR", "--offline")
    assert (verified.returncode, verified.stdout, verified.stderr) == (1, "", f"Error: n{told}")


def test_the_schema_is_asked_for_and_made(tmp_path: Path, plain_empty_url: str) -> None:
    shell = Shell(tmp_path, DATABASE_URL=plain_empty_url)
    refused = shell.run("status")
    assert refused.returncode == 1
    assert refused.stderr == "Error: this database has no kraken-db tables yet. Run: kraken-db db upgrade\n"
    assert "no tables yet" in shell.run("db", "current").stdout
    assert (
        shell.run("db", "upgrade", "--revision", "1002").stdout
        == "schema upgraded from nothing to revision 1002\n"
    )
    assert "too old: revision 1002" in shell.run("status").stderr
    assert shell.run("db", "upgrade").stdout.startswith("schema upgraded from 1002 to revision ")
    assert shell.run("db", "upgrade").stdout.endswith(" already\n")
    assert json.loads(shell.run("db", "current", "--json").stdout)["fits"] is True
    unknown = shell.run("db", "upgrade", "--revision", "9999")
    assert unknown.returncode == 1
    assert unknown.stderr.count("\n") == 1


def test_a_reader_that_leaves_is_no_error(filled: Shell) -> None:
    write(filled.cwd, "ETHUSD_1.csv", minutes(20_000))
    assert filled.run("import-csv", "ETHUSD_1.csv").returncode == 0
    with filled.start(
        "candles", "ETH/USD", "-i", "1m", "--start", "2023-01-01", "--format", "csv"
    ) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline().startswith("timestamp")
        program.stdout.close()
        assert program.stderr.read() == ""
        assert program.wait(30) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_the_output_is_not_taken_for_the_databases(filled: Shell) -> None:
    """Each piece is written while the connection that reads the next one is open."""
    write(filled.cwd, "ETHUSD_1.csv", minutes(20_000))
    assert filled.run("import-csv", "ETHUSD_1.csv").returncode == 0
    for style in ("csv", "table", "json"):
        options = ["ETH/USD", "-i", "1m", "--start", "2023-01-01", "--format", style]
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [*KRAKEN_DB, "candles", *options],
                env=filled.environment,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
            )
        assert done.stderr == "Error: cannot write to standard output: No space left on device\n"
        assert done.returncode == 1


def test_an_interrupted_import_stores_nothing_of_its_file(shell: Shell) -> None:
    write(shell.cwd, "XBTUSD_1.csv", minutes(1_000_000))
    with shell.start("import-csv", "XBTUSD_1.csv") as program:
        time.sleep(2.5)
        program.send_signal(signal.SIGINT)
        out, err = program.communicate(timeout=30)
    assert (program.returncode, out) == (130, "")
    assert err.endswith("interrupted\n")
    assert "Traceback" not in err
    assert "Nothing is stored yet" in shell.run("status").stdout


@pytest.fixture
def embedded() -> Iterator[Shell]:
    # Not in tmp_path: root runs the server as another user, who must be able to reach the folder.
    with tempfile.TemporaryDirectory(prefix="kraken-db-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        shell = Shell(folder, KRAKEN_DB_DATA_DIR=str(folder / "pg"))
        yield shell
        shell.run("db", "stop")


def test_the_first_command_on_a_fresh_machine(embedded: Shell) -> None:
    write(embedded.cwd, "XBTUSD_1.csv", minutes(60))
    done = embedded.run("import-csv", "XBTUSD_1.csv", "--json")
    where = embedded.cwd / "pg"
    told = f"making the embedded database in {where}, once; it takes some seconds\n"
    assert (done.returncode, done.stderr) == (0, told)
    assert json.loads(done.stdout)["totals"]["new"] == 60
    rows = list(csv.DictReader(io.StringIO(embedded.run("candles", "BTC/USD", "--format", "csv").stdout)))
    assert [(row["close"], Decimal(row["volume"])) for row in rows] == [("101", Decimal("150.0"))]
    status = embedded.run("status").stdout
    assert status.startswith(f"Database  PostgreSQL, embedded, {embedded.cwd / 'pg'}\n")


def test_candles_of_trades_that_are_stored(shell: Shell) -> None:
    """By hand: a trade every 30 seconds from 00:00 on, at 500, 501, ..; the last minute is not whole."""
    rows = "".join(f"{START + 30 * n}.0,{500 + n},0.5,{'bs'[n % 2]},l,,{n + 1}\n" for n in range(7))
    write(shell.cwd, "a/XBTUSD.csv", "timestamp,price,volume,type,order_type,misc,trade_id\n" + rows)
    assert shell.run("import-csv", "a", "--no-candles").returncode == 0
    assert shell.run("candles", "BTC/USD", "-i", "1m").returncode == 1
    built = shell.run("candles", "build", "--json")
    assert json.loads(built.stdout) == {"pairs": [{"symbol": "BTC/USD", "candles": 3}]}
    done = shell.run("candles", "BTC/USD", "-i", "1m", "--json")
    found = [(row["open"], row["close"], row["volume"]) for row in json.loads(done.stdout)["candles"]]
    assert [tuple(map(float, row)) for row in found] == [(500, 501, 1), (502, 503, 1), (504, 505, 1)]
    assert "0" in shell.run("candles", "build", "XBTUSD").stdout
    assert shell.run("candles", "build", "nonsense").returncode == 2  # as of every command

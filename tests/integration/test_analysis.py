"""The synchronous door: frames by hand on both lanes, wrong arguments, loops, threads, forks, Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import kraken_db
from kraken_db import analysis
from kraken_db.errors import ConfigurationError, KrakenDBError, PairError, SchemaError
from tests.support.archives import START, at, import_file, minutes, write
from tests.support.lanes import Lane
from tests.support.sandbox import Sandbox, new_sandbox

# Minutes 0, 1 and 3 of 2023: one was quiet.
BTC = "".join(
    f"{START + 60 * m},{100 + m},{110 + m},{90 + m},{105 + m},{m + 1}.5,{m + 1}\n" for m in (0, 1, 3)
)
ETH = f"{START + 60},7,8,6,7.5,2,4\n"
TRADES = "".join(f"{100 + n},0.1,{START + n // 2}.5,b,l,,{n + 1}\n" for n in range(5))
EMPTY = "2019-01-01", "2020-01-01"


@pytest.fixture(scope="module", params=["postgres", "timescale"])
def both_lanes(lanes: dict[str, Lane], request: pytest.FixtureRequest) -> Iterator[str]:
    """BTC/USD and ETH/USD, and trades of BTC/EUR. No test writes: one store is enough for all."""
    with lanes[request.param].migrated_database() as url, tempfile.TemporaryDirectory() as folder:
        for name, content in (("XBTUSD_1.csv", BTC), ("ETHUSD_1.csv", ETH), ("XBTEUR.csv", TRADES)):
            asyncio.run(import_file(url, write(Path(folder), name, content)))
        yield url
        analysis.close()


@pytest.fixture(scope="module")
def one_lane(lanes: dict[str, Lane]) -> Iterator[str]:
    """BTC/USD alone, for what has nothing to do with the kind of database."""
    with lanes["postgres"].migrated_database() as url, tempfile.TemporaryDirectory() as folder:
        asyncio.run(import_file(url, write(Path(folder), "XBTUSD_1.csv", BTC)))
        yield url
        analysis.close()


@pytest.fixture
def store(both_lanes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names it."""
    monkeypatch.setenv("DATABASE_URL", both_lanes)


@pytest.fixture
def plain(one_lane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", one_lane)


def test_a_frame_of_pandas_by_hand(store: None) -> None:
    frame = kraken_db.load("BTC/USD", "1m")
    assert isinstance(frame.index, pd.DatetimeIndex)
    assert (frame.index.name, str(frame.index.tz)) == ("timestamp", "UTC")
    assert list(frame.index) == [at(START), at(START + 60), at(START + 180)]
    assert list(frame.columns) == ["open", "high", "low", "close", "volume", "trade_count", "vwap"]
    assert [str(kind) for kind in frame.dtypes] == ["float64"] * 5 + ["int64", "float64"]
    assert frame.iloc[2, :6].tolist() == [103, 113, 93, 108, 4.5, 4]
    assert frame["vwap"].isna().all()
    hours = kraken_db.load("XBTUSD")
    assert hours[["open", "high", "low", "close", "volume"]].values.tolist() == [[100, 113, 90, 108, 8.5]]


def test_frames_of_the_other_engines(store: None) -> None:
    polars = kraken_db.load("BTC/USD", 1, engine="polars", numbers="decimal")
    assert polars.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert polars["volume"].to_list() == [Decimal("1.5"), Decimal("2.5"), Decimal("4.5")]
    arrow = kraken_db.load("BTC/USD", timedelta(minutes=1), engine="arrow")
    assert arrow.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert arrow["close"].to_pylist() == [105.0, 106.0, 108.0]


@pytest.mark.parametrize(
    ("start", "end", "opens"),
    [
        (None, None, [0, 1, 3]),
        ("2023-01-01 00:01", None, [1, 3]),
        (None, datetime(2023, 1, 1, 0, 3, tzinfo=UTC), [0, 1]),
        (date(2023, 1, 1), date(2023, 1, 2), [0, 1, 3]),
        ("2023-01-01T01:01+01:00", "now", [1, 3]),
        (pd.Timestamp("2023-01-01 00:01", tz="UTC"), "2023-01-01T00:02Z", [1]),
    ],
)
def test_ranges(plain: None, start: Any, end: Any, opens: list[int]) -> None:
    found = kraken_db.load("BTC/USD", "1m", start, end).index
    assert list(found) == [at(START + 60 * minute) for minute in opens]


def test_the_newest(store: None) -> None:
    assert list(kraken_db.load("BTC/USD", "1m", last=2)["open"]) == [101, 103]
    assert list(kraken_db.load("BTC/USD", "1m", last=1, end="2023-01-01 00:03")["open"]) == [101]
    assert list(kraken_db.load("BTC/USD", "1m", last=500)["open"]) == [100, 101, 103]
    # Of the five trades the first two have one stamp, the next two another.
    for count in range(7):
        ids = list(kraken_db.load_trades("BTC/EUR", last=count)["id"]) if count else []
        assert ids == [1, 2, 3, 4, 5][-count:][: count or 0]
    before = kraken_db.load_trades("BTC/EUR", last=1, end=at(START + 2))
    assert list(before["id"]) == [4]


def test_quiet_minutes_are_filled_on_request(plain: None) -> None:
    filled = kraken_db.load("BTC/USD", "1m", fill="previous")
    assert filled["close"].tolist() == [105, 106, 106, 108]
    assert filled["volume"].tolist() == [1.5, 2.5, 0, 4.5]


def test_the_running_candle_can_be_left_out(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis, "utc_now", lambda: at(START + 181))
    assert len(kraken_db.load("BTC/USD", "1m")) == 3
    assert len(kraken_db.load("BTC/USD", "1m", closed=True)) == 2
    assert list(kraken_db.load("BTC/USD", "1m", closed=True, last=1)["open"]) == [101]


def test_columns_by_other_names_and_chosen(plain: None) -> None:
    titles = kraken_db.load("BTC/USD", "1m", columns="title")
    assert list(titles.columns) == ["Open", "High", "Low", "Close", "Volume", "TradeCount", "VWAP"]
    assert titles.index.name == "Timestamp"
    chosen = kraken_db.load("BTC/USD", "1m", columns=["Close", "volume"])
    assert (list(chosen.columns), chosen.index.name) == (["Close", "volume"], "timestamp")
    polars = kraken_db.load("BTC/USD", "1m", engine="polars", columns=["close"])
    assert polars.columns == ["timestamp", "close"]
    arrow = kraken_db.load("BTC/USD", "1m", engine="arrow", columns="title")
    assert arrow.column_names[:2] == ["Timestamp", "Open"]


def test_days_are_those_of_the_zone(plain: None) -> None:
    for tz in ("America/New_York", ZoneInfo("America/New_York")):
        (day,) = kraken_db.load("BTC/USD", "1d", tz=tz).index
        assert day.isoformat() == "2022-12-31T00:00:00-05:00"
    assert str(kraken_db.load("BTC/USD", "1d", tz=UTC).index.tz) == "UTC"


@pytest.mark.parametrize("engine", ["pandas", "polars", "arrow"])
def test_times_of_a_zone_are_the_same_moments(plain: None, engine: Any) -> None:
    frame = kraken_db.load("BTC/USD", "1m", tz="Europe/Berlin", engine=engine)
    match engine:
        case "pandas":
            shown = list(frame.index)
        case "polars":
            shown = frame["timestamp"].to_list()
        case _:
            shown = frame["timestamp"].to_pylist()
    assert shown[0].isoformat() == "2023-01-01T01:00:00+01:00"
    assert shown[0] == at(START)


def test_many_pairs_are_one_frame(store: None) -> None:
    both = kraken_db.load(["eth-usd", "BTC/USD", "ETH/USD"], "1m")
    assert list(both.index.names) == ["symbol", "timestamp"]
    assert list(both.index.get_level_values("symbol")) == ["ETH/USD"] + ["BTC/USD"] * 3
    pd.testing.assert_frame_equal(both.loc["BTC/USD"], kraken_db.load("BTC/USD", "1m"))
    wide = both["close"].unstack("symbol")
    assert wide.loc[at(START + 60)].to_dict() == {"BTC/USD": 106, "ETH/USD": 7.5}
    polars = kraken_db.load("*/USD", "1m", engine="polars", columns="title")
    assert polars["Symbol"].to_list() == ["BTC/USD"] * 3 + ["ETH/USD"]
    arrow = kraken_db.load(("BTC/USD",), "1m", engine="arrow")
    assert arrow["symbol"].to_pylist() == ["BTC/USD"] * 3
    with pytest.warns(UserWarning, match="ETH/USD has no 1m candles in this range"):
        late = kraken_db.load(["BTC/USD", "ETH/USD"], "1m", "2023-01-01 09:02", tz="Asia/Tokyo")
    assert len(late) == 1


def test_trades(store: None) -> None:
    frame = kraken_db.load_trades("BTC/EUR", start=at(START + 1))
    assert list(frame.columns) == ["id", "price", "volume", "side", "order_type", "misc"]
    assert frame.iloc[0].tolist() == [3, 102.0, 0.1, "buy", "limit", ""]
    assert list(kraken_db.load_trades("BTC/EUR", columns="title").columns)[:3] == ["ID", "Price", "Volume"]
    exact = kraken_db.load_trades(["BTC/EUR"], numbers="decimal", engine="polars")
    assert exact["price"].to_list()[0] == Decimal(100)


def test_what_is_stored(store: None) -> None:
    assert kraken_db.symbols() == ["BTC/EUR", "BTC/USD", "ETH/USD"]
    assert kraken_db.symbols("*/USD") == ["BTC/USD", "ETH/USD"]
    assert kraken_db.symbols("SOL/*") == kraken_db.symbols("SOL/USD") == []
    assert kraken_db.symbols("xbtusd") == ["BTC/USD"]
    with pytest.raises(PairError, match="'///' is not a pair"):
        kraken_db.symbols("///")


# --- what is wrong is said in one line ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("BTC/USDT",), r"nothing is stored of BTC/USDT \(did you mean BTC/USD\? Stored: BTC/USD\)"),
        (("ETH/EUR",), r"nothing is stored of ETH/EUR \(Stored: BTC/USD\)"),
        (("btc",), r"'BTC' is not a pair: .* \(did you mean BTC/USD\?\)"),
        ((b"BTC/USD",), r"b'BTC/USD' is not a pair"),
        ((5,), r"5 is not a pair \(write it as 'BTC/USD'\)"),
        (([],), "no pairs were named"),
        (("BTC/USD", "1x"), "there is no interval '1x'"),
        (("BTC/USD", 1.5), "1.5 is no interval"),
        (("BTC/USD", "1h", "2023-13-01"), r"'2023-13-01' is not a time \(a year has 12 months"),
        (("BTC/USD", "1h", datetime(2023, 1, 1)), r"start has no time zone: .* \(pass an aware"),  # noqa: DTZ001
        (("BTC/USD", "1h", pd.Timestamp("2023-01-01")), "start has no time zone"),
        (("BTC/USD", "1h", pd.NaT), "start=NaT is not a time"),
        (("BTC/USD", "1h", "2024-01-01", "2023-01-01"), r"start \(2024.*\) is not before end \(2023"),
    ],
)
def test_wrong_arguments(plain: None, arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(KrakenDBError, match=said) as failed:
        kraken_db.load(*arguments)
    assert "\n" not in str(failed.value)
    assert isinstance(failed.value, ValueError)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"last": -1}, "last is negative"),
        ({"last": "x"}, "last is not a whole number"),
        ({"last": 5, "start": "2023-01-01"}, "start and last cannot be combined"),
        ({"engine": "numpy"}, r"engine='numpy' is not known \(known: 'pandas', 'polars', 'arrow'\)"),
        ({"columns": "upper"}, r"columns='upper' is not known"),
        ({"columns": ["close", "adj"]}, "there is no column 'adj'"),
        ({"numbers": "exact"}, r"numbers='exact' is not known \(known: 'decimal', 'float'\)"),
        ({"fill": "zero"}, "fill='zero' is not known"),
        ({"tz": "Berlin"}, r"there is no time zone 'Berlin' \(.*Write an IANA name"),
        ({"tz": timezone(timedelta(hours=1))}, r"tz=UTC\+01:00 has no name"),
        ({"last": 0}, r"last is 0 \(ask for one row at least"),
        ({"columns": ["close", "Close"]}, "columns names 'Close' twice"),
        ({"columns": None}, "columns=None is not known"),
        ({"db_url": Path("/data")}, r"db_url=PosixPath\('/data'\) is not a text"),
        ({"db_url": "mysql://here/there"}, "the database URL cannot be used: it starts with 'mysql:'"),
    ],
)
def test_wrong_options(plain: None, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        kraken_db.load("BTC/USD", **options)


def test_an_empty_range_warns_where_it_was_asked_for(store: None) -> None:
    said = r"BTC/USD has no 1h candles in this range \(its candles go from 2023-01-01 00:00 to .* 00:03 UTC\)"
    with pytest.warns(UserWarning, match=said) as told:
        assert kraken_db.load("BTC/USD", "1h", *EMPTY).empty
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match="BTC/EUR has no trades in this range"):
        assert len(kraken_db.load_trades("BTC/EUR", *EMPTY, engine="arrow")) == 0
    with pytest.raises(ConfigurationError, match="BTC/USD has candles in the store, but no trades"):
        kraken_db.load_trades("BTC/USD")


def test_an_error_does_not_show_the_way_through_the_package(plain: None) -> None:
    for arguments in (("SOL/USD",), ("BTC/USD", "1x"), ("BTC/USD", "1h", "2023-13-01")):
        with pytest.raises(KrakenDBError) as failed:
            kraken_db.load(*arguments)
        assert len(failed.traceback) == 2, "this line, and that of load"
        assert failed.value.__suppress_context__


def test_no_database_is_ever_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("KRAKEN_DB_DATA_DIR", str(tmp_path / "typo"))
    for _ in range(2):
        with pytest.raises(
            ConfigurationError, match=r"no database yet in .*typo \(get history first: kraken-db"
        ):
            kraken_db.load("BTC/USD")
    assert not (tmp_path / "typo").exists()
    analysis.close()


def test_a_database_without_tables_says_what_to_do(plain_empty_url: str) -> None:
    with pytest.raises(SchemaError, match="kraken-db db upgrade"):
        kraken_db.symbols(db_url=plain_empty_url)
    analysis.close()


# --- loops, threads and processes ---


async def test_it_works_inside_of_a_running_loop(plain: None) -> None:
    assert len(kraken_db.load("BTC/USD", "1m")) == 3


def test_many_threads_share_what_is_open(plain: None) -> None:
    found: list[int] = []
    work = lambda: found.append(len(kraken_db.load("BTC/USD", "1m")))  # noqa: E731
    threads = [threading.Thread(target=work) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [3] * 40


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with new_sandbox() as found:
        found.add_commands()
        write(found.root, "XBTUSD_1.csv", minutes(60))
        done = found.run("kraken-db", "import-csv", "XBTUSD_1.csv")
        assert done.returncode == 0, done.stdout
        yield found


PROCESS = """
import asyncio, os, signal, subprocess, sys, threading, time
import kraken_db
from kraken_db import analysis

def count():
    return len(kraken_db.load("BTC/USD", "1m"))

print("first", count())
child = os.fork()
if not child:
    print("child", count())
    sys.exit(0)
print("ended", os.waitpid(child, 0)[1])
print("parent", count())
subprocess.run(["kraken-db", "db", "stop"], stdout=subprocess.DEVNULL)
print("stopped", count())

async def slow(provider):
    await asyncio.sleep(60)

threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
try:
    analysis._call(slow, None)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - began < 5)
print("after", count())
"""


@pytest.mark.skipif(not hasattr(sys, "abiflags"), reason="forks and signals")
def test_one_process_forks_is_interrupted_and_ends(sandbox: Sandbox) -> None:
    """And the server that was stopped under it is started again; it stops with the process."""
    done = sandbox.run(sys.executable, "-u", "-W", "error", "-c", PROCESS)
    assert done.stdout.splitlines() == [
        "first 60",
        "child 60",
        "ended 0",
        "parent 60",
        "stopped 60",
        "interrupted True",
        "after 60",
    ]
    assert done.returncode == 0
    for _ in range(100):
        state = sandbox.run("kraken-db", "db", "status").stdout
        if "not running" in state:
            break
    assert "not running" in state

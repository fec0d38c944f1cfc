"""What readers of an export take: the files that a filter leaves, and of a store the versions of one state.

Here the generator is called that polars calls in its threads.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kraken_db.exporting import scanning
from kraken_db.exporting.manifest import Entry
from kraken_db.exporting.places import PlaceFailedError
from kraken_db.exporting.scanning import _BucketReading, _FolderReading, _Reading, partition, wanted
from kraken_db.exporting.states import MANIFEST, Named, State, replaced_path
from kraken_db.exporting.stores import Bucket

DECEMBER, JANUARY, HOURS, ETHER = PATHS = [
    "symbol=BTC-USD/interval=1m/year=2023/candles-12.parquet",
    "symbol=BTC-USD/interval=1m/year=2024/candles-01.parquet",
    "symbol=BTC-USD/interval=1h/year=2024/candles.parquet",
    "symbol=ETH-USD/interval=1m/year=2024/candles-01.parquet",
]
NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2024, 2, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
PAIR, VOLUME = pl.col("pair"), pl.col("volume")
timestamp = pl.col("timestamp")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (None, PATHS),
        (PAIR == "ETH/USD", [ETHER]),
        (pl.col("symbol") == "BTC-USD", [DECEMBER, JANUARY, HOURS]),
        (pl.col("year") < 2024, [DECEMBER]),
        ((pl.col("interval") == "1m") & PAIR.is_in(["BTC/USD"]) & (VOLUME > 1), [DECEMBER, JANUARY]),
        # Neither side of an "or" rules anything out by itself.
        ((PAIR == "ETH/USD") | (VOLUME > 1), PATHS),
        ((PAIR == "ETH/USD") | (pl.col("interval") == "1h"), [HOURS, ETHER]),
        (pl.col("interval") == "1d", []),
        # A file has times of its month or year: its first moment, but not its last.
        (timestamp < NEW_YEAR, [DECEMBER]),
        (timestamp <= NEW_YEAR, PATHS),
        (pl.lit(NEW_YEAR) > timestamp, [DECEMBER]),
        (timestamp >= NEW_YEAR, [JANUARY, HOURS, ETHER]),
        (timestamp >= NEW_YEAR - TICK, PATHS),
        (timestamp > FEBRUARY, [HOURS]),
        (timestamp == NEW_YEAR - TICK, [DECEMBER]),
        (timestamp.is_between(NEW_YEAR - TICK, NEW_YEAR - TICK), [DECEMBER]),
        (timestamp.is_between(FEBRUARY, FEBRUARY, closed="left"), [HOURS]),
        # What compares no moment rules nothing out.
        (timestamp.dt.year() == 2023, PATHS),
        (timestamp == pl.col("other"), PATHS),
        (timestamp != NEW_YEAR, PATHS),
        (timestamp.is_not_null(), PATHS),
        (pl.when(timestamp < NEW_YEAR).then(True).otherwise(False), PATHS),
    ],
)
def test_the_files_that_a_filter_leaves(condition: pl.Expr | None, expected: list[str]) -> None:
    assert wanted(PATHS, condition) == expected


def test_the_times_that_a_store_knows_rule_out_more_than_names() -> None:
    times = {path: (NEW_YEAR, NEW_YEAR + timedelta(days=3)) for path in PATHS}
    late = timestamp >= NEW_YEAR + timedelta(days=3)
    assert wanted(PATHS, late) == [JANUARY, HOURS, ETHER]
    assert wanted(PATHS, late, times.__getitem__) == []


# --- rows ---


def table(pair: str, first_volume: int) -> pl.DataFrame:
    """Two rows of a file, as far as these tests look at them."""
    return pl.DataFrame({"pair": [pair, pair], "volume": [first_volume, first_volume + 1]})


def read(
    reading: _Reading, columns: list[str], predicate: pl.Expr | None = None, rows: int | None = None
) -> list[list[tuple[Any, ...]]]:
    return [frame.rows() for frame in reading(columns, predicate, rows, None)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path, pair, volume in ((JANUARY, "BTC/USD", 0), (HOURS, "BTC/USD", 10), (ETHER, "ETH/USD", 20)):
        (tmp_path / path).parent.mkdir(parents=True)
        table(pair, volume).write_parquet(tmp_path / path)
    return tmp_path


def test_a_folder_is_read_file_by_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their names, with columns of their folders, and no further than so many rows."""
    monkeypatch.setattr(scanning, "_TOGETHER", 1)
    reading = _FolderReading(folder, "candles")
    hours, minutes = ("BTC-USD", "1h", 2024), ("BTC-USD", "1m", 2024)
    assert read(reading, ["symbol", "interval", "year", "volume"])[:2] == [
        [(*hours, 10), (*hours, 11)],
        [(*minutes, 0), (*minutes, 1)],
    ]
    assert read(reading, ["volume"], rows=3) == [[(10,), (11,)], [(0,)]]
    assert read(reading, ["volume"], pl.col("interval") == "1m") == [[(0,), (1,)], [(20,), (21,)]]
    odd = (pl.col("interval") == "1m") & (VOLUME % 2 == 1)
    assert read(reading, ["interval", "volume"], odd, rows=2) == [[("1m", 1)], [("1m", 21)]]


def test_the_folders_of_a_path_are_columns() -> None:
    assert partition(HOURS) == {"symbol": "BTC-USD", "interval": "1h", "year": "2024"}


# --- a store ---


@pytest.fixture
def bucket(folder: Path) -> Bucket:
    """A store whose state names the versions that are there."""
    pytest.importorskip("obstore")
    found = Bucket(str(folder))
    entry = Entry(None, None, FEBRUARY, None, NEW_YEAR, 2, "", 0)
    files = {path: Named(held.tag, held.size, entry) for path, held in found.below("").items()}
    found.put(MANIFEST, State("candles", files).to_json(), None)
    return found


def write_over(bucket: Bucket, path: str) -> None:
    found = bucket.get(path)
    assert found is not None
    bucket.put(path, b"a later version", found[1])


def test_a_version_that_was_replaced_meanwhile_is_read(bucket: Bucket) -> None:
    held = bucket.below("")[JANUARY]
    bucket.copy(JANUARY, replaced_path(JANUARY, held.tag))
    write_over(bucket, JANUARY)
    reading = _BucketReading(bucket, "candles")
    assert read(reading, ["volume"], PAIR == "BTC/USD") == [[(10,), (11,)], [(0,), (1,)]]


def test_a_version_that_is_gone(bucket: Bucket) -> None:
    write_over(bucket, JANUARY)
    reading = _BucketReading(bucket, "candles")
    assert read(reading, ["volume"], PAIR == "ETH/USD") == [[(20,), (21,)]]
    with pytest.raises(
        PlaceFailedError, match=r"candles-01\.parquet is no longer as it was when the reading"
    ):
        read(reading, ["volume"])


def test_what_is_fetched_ahead_keeps_its_order(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there are more files than are fetched at a time, and where the reader leaves early."""
    monkeypatch.setattr(scanning, "_READ_AHEAD", 1)
    reading = _BucketReading(bucket, "candles")
    assert read(reading, ["volume"]) == [[(10,), (11,)], [(0,), (1,)], [(20,), (21,)]]
    assert read(reading, ["volume"], rows=1) == [[(10,)]]

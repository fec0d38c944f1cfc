"""The folder of blocks: what a file survives, who may read it, how large all of them become."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

from kraken_db.cache import BlockFolder, cache_folder
from kraken_db.cache.folder import BlockName
from kraken_db.errors import ConfigurationError
from kraken_db.frames import CANDLE_COLUMNS, arrow_schema
from kraken_db.settings import Settings, parse_size

MONTH = datetime(2023, 1, 1, tzinfo=UTC)


def block(rows: int = 1000, price: int = 7) -> pa.Table:
    schema = arrow_schema(CANDLE_COLUMNS, "decimal")
    number = Decimal(price)
    moments = [MONTH + timedelta(minutes=minute) for minute in range(rows)]
    columns = [moments, *[[number] * rows] * 5, [3] * rows, [None] * rows]
    return pa.table(
        [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
    )


def named(stamp: str = "a" * 32, symbol: str = "BTC/USD", month: datetime = MONTH) -> BlockName:
    return BlockName(symbol, "1m", month, "0" * 8, stamp)


def opened(path: Path, limit: int = 10**9) -> BlockFolder:
    folder = BlockFolder(path, limit)
    folder.make()
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_stored_comes_back_in_every_process(tmp_path: Path) -> None:
    opened(tmp_path).put(named(), block())
    found = opened(tmp_path).find(named())
    assert found is not None
    assert found.equals(block())


def test_another_state_is_not_found_and_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    folder.put(named("a" * 32), block())
    mapped = folder.find(named("a" * 32))
    assert folder.find(named("b" * 32)) is None
    folder.put(named("b" * 32), block(price=8))
    assert folder.find(named("a" * 32)) is None
    # Who reads it still has it.
    assert mapped is not None
    assert mapped.equals(block())


def test_nobody_else_may_look_into_it(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    folder.put(named(), block())
    modes = {stat.S_IMODE(path.stat().st_mode) for path in files(tmp_path)}
    assert modes == {0o600}
    folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


@pytest.mark.parametrize("at", [0, 5, 20, 70, 1000, -1])
def test_a_byte_that_has_changed(tmp_path: Path, at: int) -> None:
    opened(tmp_path).put(named(), block())
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    assert opened(tmp_path).find(named()) is None
    assert files(tmp_path) == []


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1000])
def test_a_file_that_was_cut_off(tmp_path: Path, length: int) -> None:
    opened(tmp_path).put(named(), block())
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    assert opened(tmp_path).find(named()) is None
    opened(tmp_path).put(named(), block())
    assert opened(tmp_path).find(named()) is not None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    folder = opened(tmp_path / "cache")
    folder.put(named(), block())
    (path,) = files(tmp_path)
    elsewhere = path.rename(tmp_path / "elsewhere.arrow")
    path.symlink_to(elsewhere)
    assert opened(tmp_path / "cache").find(named()) is None
    # Nor one to a folder.
    target = tmp_path / "target"
    target.mkdir()
    (folder.path / "ETH%2FUSD").symlink_to(target)
    with pytest.raises(NotADirectoryError):
        folder.put(named(symbol="ETH/USD"), block())
    assert list(target.iterdir()) == []


def test_a_folder_of_another_user_or_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "candles").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"the cache .*candles cannot be used: Not a directory"):
        opened(tmp_path)


def test_the_least_recently_used_go(tmp_path: Path) -> None:
    size = sum(path.stat().st_size for path in _stored_once(tmp_path / "once"))
    folder = opened(tmp_path / "all", limit=20 * size)
    months = [MONTH.replace(year=year, month=month) for year in (2020, 2021, 2022) for month in range(1, 13)]
    first = named(month=months[0])
    for number, month in enumerate(months):
        folder.put(named(month=month), block())
        os.utime(folder.path / named(month=month).place, (number, number))
        # The first one is used all the time.
        os.utime(folder.path / first.place)
        assert sum(path.stat().st_size for path in files(tmp_path / "all")) <= 20 * size
    left = {path.name[:7] for path in files(tmp_path / "all")}
    assert "2020-01" in left
    assert "2022-12" in left
    assert not {"2020-02", "2020-03"} & left
    assert len(left) >= 17


def _stored_once(path: Path) -> list[Path]:
    opened(path).put(named(), block())
    return files(path)


def test_a_block_that_leaves_no_room_for_others_is_not_stored(tmp_path: Path) -> None:
    folder = opened(tmp_path, limit=1000)
    folder.put(named(), block())
    assert files(tmp_path) == []


WRITES = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.unit.cache.test_folder import block, named, opened
folder = opened(Path(sys.argv[1]))
table = block(40_000)
print("ready", flush=True)
number = 0
while True:
    number += 1
    folder.put(named(f"{number % 7:032x}"), table)
"""


def test_processes_that_are_killed(tmp_path: Path) -> None:
    """Whatever is found is whole, and what they leave is taken away in time."""
    root = Path(__file__).parents[3]
    whole = block(40_000)
    for kill in range(3):
        pair = [
            subprocess.Popen(
                [sys.executable, "-c", WRITES, str(tmp_path), str(root)], stdout=subprocess.PIPE, cwd=root
            )
            for _ in range(2)
        ]
        for process in pair:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        time.sleep(0.02 + 0.03 * kill)
        for process in pair:
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
        folder = opened(tmp_path)
        for number in range(7):
            name = named(f"{number:032x}")
            there = (folder.path / name.place).exists()
            found = folder.find(name)
            assert (found is not None) is there
            assert found is None or found.equals(whole)
    for path in tmp_path.rglob("*.tmp"):
        os.utime(path, (0, 0))
    opened(tmp_path).put(named("f" * 32), block())
    assert [path.name for path in files(tmp_path)] == [named("f" * 32).place.name]


def test_usage_and_clear(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    for symbol in ("BTC/USD", "ETH/USD"):
        folder.put(named(symbol=symbol), block())
    folder.put(named(month=datetime(2023, 2, 1, tzinfo=UTC)), block())
    assert [(one.symbol, one.blocks) for one in folder.usage()] == [("BTC/USD", 2), ("ETH/USD", 1)]
    mapped = folder.find(named())
    freed = folder.clear(["BTC/USD"])
    assert freed == 2 * folder.usage()[0].size
    assert [one.symbol for one in folder.usage()] == ["ETH/USD"]
    assert folder.find(named()) is None
    assert mapped is not None
    assert mapped.equals(block())
    folder.clear()
    assert list(folder.path.iterdir()) == []
    assert BlockFolder(tmp_path / "none", 1).usage() == []
    assert BlockFolder(tmp_path / "none", 1).clear() == 0


def test_a_file_that_others_have_deleted_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute: until then its rows are as good as they were."""
    folder = opened(tmp_path)
    folder.put(named(), block())
    assert folder.find(named()) is not None
    opened(tmp_path).clear()
    assert folder.find(named()) is not None
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert folder.find(named()) is not None
    assert folder.find(named()) is None


def open_files() -> int:
    """How many this process has, where the system tells."""
    numbers = Path("/proc/self/fd")
    return len(list(numbers.iterdir())) if numbers.exists() else 0


def test_more_blocks_than_files_may_be_open(tmp_path: Path) -> None:
    folder = opened(tmp_path)
    small = block(3)
    months = [MONTH.replace(year=1000 + number) for number in range(300)]
    for month in months:
        folder.put(named(month=month), small)
    before = open_files()
    kept = [folder.find(named(month=month)) for month in months]
    assert all(table is not None and table.equals(small) for table in kept)
    assert open_files() < before + 10


@pytest.mark.parametrize(
    ("text", "size"),
    [("4 GB", 4 * 10**9), ("500MB", 5 * 10**8), ("1.5 GiB", 1610612736), ("4096", 4096), ("2k", 2000)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text, "the limit") == size
    assert Settings.from_environment({"KRAKEN_DB_CACHE_LIMIT": text}).cache_limit == size


@pytest.mark.parametrize("text", ["", "0", "-1", "4 apples", "GB", "1e9"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"the limit is no size: .* \(write it like 4 GB\)"):
        parse_size(text, "the limit")


def test_which_directory_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRAKEN_DB_CACHE_DIR", str(tmp_path))
    assert cache_folder(False) is None
    assert cache_folder(True) == tmp_path
    assert cache_folder("a/b") == Path.cwd() / "a/b"
    assert cache_folder(tmp_path / "other") == tmp_path / "other"

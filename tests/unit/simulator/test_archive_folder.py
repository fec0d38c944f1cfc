"""The folder of ``simulate --archive``: what is in it already counts."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.simulator.archive_folder import fill_archive_folder
from kraken_db.simulator.archives import Packing
from tests.support.archive_making import FULL, LATER, archived_markets


def fill(folder: Path, made_from: str = "this") -> list[str]:
    packing = Packing(part_size=100_000, level=1)
    return fill_archive_folder(
        folder, archived_markets().all, FULL, LATER, made_from=made_from, packing=packing
    )


NAMES = [
    "Kraken_Trades_Full_2024Q1.zip.part00",
    "Kraken_Trades_Full_2024Q1.zip.part01",
    "Trades_Full_PARTS_SHA256SUMS.txt",
    "Kraken_OHLCVT_Full_2024Q1.zip.part00",
    "Kraken_OHLCVT_Full_2024Q1.zip.part01",
    "OHLCVT_Full_PARTS_SHA256SUMS.txt",
    "Kraken_Trades_2024Q2.zip",
    "Kraken_OHLCVT_2024Q2.zip",
]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_full_archives_and_later_quarters(tmp_path: Path) -> None:
    folder = tmp_path / "new/folder"
    assert fill(folder) == NAMES
    assert files(folder) == sorted(NAMES)
    assert zipfile.ZipFile(folder / "Kraken_Trades_2024Q2.zip").testzip() is None


def test_quarters_without_a_trade_have_no_archive(tmp_path: Path) -> None:
    names = fill_archive_folder(
        tmp_path, archived_markets().delisted, FULL.previous, LATER.next, made_from="x"
    )
    assert names == [
        "Kraken_Trades_2024Q1.zip",
        "Kraken_OHLCVT_2024Q1.zip",
        "Kraken_Trades_2024Q2.zip",
        "Kraken_OHLCVT_2024Q2.zip",
    ]


def test_what_it_has_written_is_kept_and_replaced_when_it_is_to_be_another(tmp_path: Path) -> None:
    fill(tmp_path)
    kept = tmp_path / "Kraken_Trades_2024Q2.zip"
    kept.write_bytes(b"as it is")
    assert fill(tmp_path) == NAMES
    assert kept.read_bytes() == b"as it is"
    assert fill(tmp_path, "that") == NAMES
    assert zipfile.ZipFile(kept).testzip() is None


def test_an_unfinished_run_is_done_again(tmp_path: Path) -> None:
    fill(tmp_path)
    mark = tmp_path / ".kraken-db-simulate"
    mark.write_text("".join(mark.read_text().splitlines(keepends=True)[:3]))
    for name in NAMES[2:]:
        (tmp_path / name).unlink()
    (tmp_path / NAMES[1]).write_bytes(b"half of i")
    assert fill(tmp_path) == NAMES
    assert len((tmp_path / NAMES[1]).read_bytes()) > 9
    assert files(tmp_path) == sorted(NAMES)


def test_files_of_somebody_else_are_refused_and_left(tmp_path: Path) -> None:
    real = tmp_path / "Kraken_Trades_Full_2024Q1.zip.part00"
    real.write_bytes(b"27 GB")
    with pytest.raises(ConfigurationError, match="no simulator has written"):
        fill(tmp_path)
    assert real.read_bytes() == b"27 GB"
    real.unlink()
    fill(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"notes\.txt"):
        fill(tmp_path, "that")
    assert files(tmp_path) == sorted([*NAMES, "notes.txt"])
    with pytest.raises(ConfigurationError, match="not a folder"):
        fill(tmp_path / "notes.txt")

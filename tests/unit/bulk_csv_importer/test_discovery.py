"""Which files are found, passed over and refused; and reading them, as far as it needs no database."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kraken_db.archives.byte_source import ByteSource
from kraken_db.archives.zip_reading import ZipMember, read_directory
from kraken_db.bulk_csv_importer import BulkCSVImporter, discovery, reading
from kraken_db.bulk_csv_importer.discovery import Discovery
from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import ArchiveFile, ImportPlan
from kraken_db.errors import ImportFileError
from tests.support.archives import minutes, write


def plan_of(*paths: Path, symbols: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> ImportPlan:
    planning = Discovery(only_1m=True, symbols=symbols, skip_empty=False, exclude=exclude).plan(paths)
    with ThreadPoolExecutor(1) as thread:  # some tests have a loop of their own
        return thread.submit(asyncio.run, planning).result()


def skipped(plan: ImportPlan) -> dict[str, str]:
    return {file.name: file.reason for file in plan.skipped}


def refused(plan: ImportPlan) -> list[str]:
    return [str(file.error) for file in plan.refused]


def zip_of(path: Path, *members: tuple[str, str], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", kind) as archive:
        warnings.simplefilter("ignore")  # about names that are there twice
        for name, content in members:
            archive.writestr(name, content)
    return path


async def content(file: ArchiveFile, block_size: int = 4096) -> bytes:
    async with ArchiveReader(file, block_size) as reader:
        return b"".join([block async for block in reader.blocks()])


def test_two_files_of_one_name_in_a_zip(tmp_path: Path) -> None:
    """Opened by name, the content of the first would be lost without a word."""
    archive = zip_of(
        tmp_path / "a.zip",
        ("XBTUSD_1.csv", minutes(10)),
        ("XBTUSD_1.csv", minutes(3)),
        ("ETHUSD_1.csv", minutes(1)),
    )
    plan = plan_of(archive)
    assert [file.symbol for file in plan.files] == ["ETH/USD"]
    assert len(plan.refused) == 2
    for text in refused(plan):
        assert text.startswith(
            f"{archive}:XBTUSD_1.csv: the archive has 2 files of this name, of 360 and 108 bytes"
        )
    # What is not wanted need not be right.
    assert refused(plan_of(archive, symbols=["ETH/USD"])) == []


def test_files_of_one_name_in_two_folders_of_a_zip(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", ("2022/XBTUSD_1.csv", minutes(2)), ("2023/XBTUSD_1.csv", minutes(3)))
    plan = plan_of(archive)
    assert [file.member for file in plan.files] == ["2022/XBTUSD_1.csv", "2023/XBTUSD_1.csv"]
    assert refused(plan) == []


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
async def test_members_side_by_side(kind: int, tmp_path: Path) -> None:
    """Also behind other bytes, as in a self-extracting archive, and with a name beyond ASCII."""
    members = [(f"Kräken/A{number}USD_1.csv", minutes(2000 + number)) for number in range(20)]
    packed = zip_of(tmp_path / "a.zip", *members, kind=kind).read_bytes()
    plan = plan_of(write(tmp_path, "b.zip", b"#!/bin/sh\n" + packed))
    assert len(plan.files) == 20
    found = await asyncio.gather(*map(content, plan.files))
    by_member = dict(members)
    assert [by_member[file.member or ""].encode() for file in plan.files] == found


async def test_a_member_without_its_place(tmp_path: Path) -> None:
    """As somebody may build one: the reader looks it up."""
    archive = zip_of(tmp_path / "a.zip", ("XBTUSD_1.csv", minutes(3)))
    assert await content(ArchiveFile(archive, "XBTUSD_1.csv", 105, "BTC/USD", 1)) == minutes(3).encode()
    with pytest.raises(ImportFileError, match="the archive has no such file"):
        await content(ArchiveFile(archive, "ETHUSD_1.csv", 105, "BTC/USD", 1))


@pytest.mark.parametrize("replacement", [b"", b"PK\x03\x04", b"x" * 500])
async def test_a_zip_that_changes_after_the_plan(replacement: bytes, tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", ("ETHUSD_1.csv", minutes(3)), ("XBTUSD_1.csv", minutes(3)))
    (_, second) = sorted(plan_of(archive).files, key=lambda file: file.symbol == "ETH/USD", reverse=True)
    archive.write_bytes(replacement)
    with pytest.raises(ImportFileError, match="the file was changed"):
        await content(second)
    zip_of(archive, ("ETHUSD_1.csv", minutes(2)), ("SOLUSD_1.csv", minutes(3)))
    with pytest.raises(ImportFileError, match="the file was changed"):
        await content(second)


def test_the_directory_of_a_zip_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zip_of(tmp_path / "a.zip", *((f"A{n}USD_1.csv", minutes(1)) for n in range(500)))
    looked: list[object] = []

    async def counted(source: ByteSource) -> list[ZipMember]:
        looked.append(source)
        return await read_directory(source)

    for module in (discovery, reading):
        monkeypatch.setattr(module, "read_directory", counted)
    importer = BulkCSVImporter("embedded:")

    async def count() -> int:
        return sum([await importer.count_rows(file) for file in importer.plan([archive]).files])

    assert asyncio.run(count()) == 500
    assert len(looked) == 1


async def test_packings_that_kraken_does_not_use(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "a.zip", ("XBTUSD_1.csv", minutes(1)), kind=zipfile.ZIP_LZMA)
    (file,) = plan_of(archive).files
    with pytest.raises(ImportFileError, match="packed by method 14, which is not read"):
        await content(file)


def test_links_to_folders_and_zips_in_zips_are_told_of(tmp_path: Path) -> None:
    write(tmp_path, "real/ETHUSD_1.csv", minutes(1))
    write(tmp_path, "in/SOLUSD_1.csv", minutes(1))
    (tmp_path / "in/other").symlink_to(tmp_path / "real")
    inner = zip_of(tmp_path / "inner.zip", ("XBTUSD_1.csv", minutes(1)))
    with zipfile.ZipFile(tmp_path / "in/outer.zip", "w") as archive:
        archive.write(inner, "deep/inner.zip")
    plan = plan_of(tmp_path / "in")
    assert [file.symbol for file in plan.files] == ["SOL/USD"]
    assert skipped(plan) == {
        str(tmp_path / "in/other"): "links to folders are not followed: name the folder itself",
        f"{tmp_path}/in/outer.zip:deep/inner.zip": "a zip inside of a zip is not opened: unpack it first",
    }
    assert refused(plan) == []


@pytest.mark.parametrize(
    ("symbols", "names", "expected"),
    [
        (["BTC/USD"], ["BTCUSD_1.csv", "ETHUSD_1.csv"], {"BTCUSD_1.csv": "BTC/USD"}),
        (["BTC/USD"], ["XXBTZUSD_1.csv"], {"XXBTZUSD_1.csv": "BTC/USD"}),
        (["DOGE/BTC"], ["DOGEBTC_1.csv"], {"DOGEBTC_1.csv": "DOGE/BTC"}),
        (["XYZ/AUSD"], ["XYZAUSD_1.csv"], {"XYZAUSD_1.csv": "XYZ/AUSD"}),
        (["XYZA/USD"], ["XYZAUSD_1.csv"], {"XYZAUSD_1.csv": "XYZA/USD"}),
        (["BTC/USD"], ["XYZAUSD_1.csv", "XBTUSD_1.csv", "rubbish_1.csv"], {"XBTUSD_1.csv": "BTC/USD"}),
    ],
)
def test_symbols_by_whatever_name(
    symbols: list[str], names: list[str], expected: Mapping[str, str], tmp_path: Path
) -> None:
    for name in names:
        write(tmp_path, name, minutes(1))
    plan = plan_of(tmp_path, symbols=symbols)
    assert {file.path.name: file.symbol for file in plan.files} == expected
    assert set(skipped(plan).values()) <= {"not among the symbols asked for"}
    assert refused(plan) == []


def test_a_name_that_two_wanted_symbols_fit(tmp_path: Path) -> None:
    write(tmp_path, "XYZAUSD_1.csv", minutes(1))
    plan = plan_of(tmp_path, symbols=["XYZA/USD", "XYZ/AUSD"])
    assert plan.files == []
    assert "XYZ/AUSD or XYZA/USD" in refused(plan)[0]


def test_the_same_file_by_two_ways(tmp_path: Path) -> None:
    path = write(tmp_path, "a/XBTUSD_1.csv", minutes(1))
    archive = zip_of(tmp_path / "a/b.zip", ("ETHUSD_1.csv", minutes(1)))
    (tmp_path / "link.zip").symlink_to(archive)
    (tmp_path / "hard").mkdir()
    (tmp_path / "hard/XBTUSD_1.csv").hardlink_to(path)
    plan = plan_of(path, path.parent, tmp_path / "a/../hard", tmp_path / "link.zip")
    assert [file.symbol for file in plan.files] == ["BTC/USD", "ETH/USD"]
    assert [(file.name, file.reason) for file in plan.skipped] == [
        (str(path), f"the same file as {path}"),
        (f"{tmp_path}/a/../hard/XBTUSD_1.csv", f"the same file as {path}"),
        (f"{tmp_path}/link.zip", f"the same file as {archive}"),
    ]


async def test_pipes_and_devices_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "XBTUSD_1.csv"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null"), tmp_path):
        with pytest.raises(ImportFileError, match="this is not a file"):
            await asyncio.wait_for(content(ArchiveFile(path, None, 0, "BTC/USD", 1)), 5)
    assert refused(plan_of(pipe)) == [f"{pipe}: this is not a file"]
    assert refused(plan_of(tmp_path)) == [f"{pipe}: this is not a file"]
    with pytest.raises(ImportFileError, match="no such file"):
        await content(ArchiveFile(tmp_path / "none.csv", None, 0, "BTC/USD", 1))


async def test_numbers_of_any_length(tmp_path: Path) -> None:
    """Python turns at most 4300 digits into a number; no column holds a hundred."""
    rows = f"{'1' * 4050},1,1,1,1,1,1\n".encode()
    file = ArchiveFile(write(tmp_path, "XBTUSD_1.csv", rows), None, len(rows), "BTC/USD", 1)
    wrong = r"line 1: timestamp '1{60}\.\.\.' is not a whole number$"
    with pytest.raises(ImportFileError, match=wrong):
        await content(file)
    rows = b"1" * 5000 + b",1,1,1,1,1,1\n" + b"60,1,1,1,1,1,1\n" * 400
    write(tmp_path, "XBTUSD_1.csv", rows)
    with pytest.raises(ImportFileError, match=wrong):
        await content(file, 2**20)
    rows = b"1" * 40 + b"," + b"1" * 60 + b"." + b"1" * 60 + b"E-0010,1,1,1,1,1\n"
    write(tmp_path, "XBTUSD_1.csv", rows)
    assert await content(file) == rows


def test_the_epoch_is_not_there_twice(tmp_path: Path) -> None:
    rows = "0,1,1,1,1,1,1\n60,1,1,1,1,1,1\n"
    file = ArchiveFile(write(tmp_path, "XBTUSD_1.csv", rows), None, len(rows), "BTC/USD", 1)
    assert asyncio.run(content(file)) == rows.encode()
    write(tmp_path, "XBTUSD_1.csv", "0,1,1,1,1,1,1\n0,1,1,1,1,1,1\n")
    with pytest.raises(ImportFileError, match="line 2: timestamp 0 is there twice"):
        asyncio.run(content(file))


def test_an_archive_of_many_small_files(tmp_path: Path) -> None:
    """Ten thousand members: minutes, while the directory was read for each of them."""
    archive = zip_of(tmp_path / "a.zip", *((f"A{n}USD_1.csv", minutes(1)) for n in range(10_000)))
    importer = BulkCSVImporter("embedded:")

    async def count() -> int:
        return sum([await importer.count_rows(file) for file in importer.plan([archive]).files])

    began = time.monotonic()
    assert asyncio.run(count()) == 10_000
    assert time.monotonic() - began < 60


def files_of_pairs(folder: Path) -> Path:
    names = ("XBTUSD", "XBTEUR", "AVAXUSD", "XRPEUR", "AAPLxUSD", "BRK.BxUSD", "ABCAUSD")
    for name in names:
        write(folder, f"{name}_1.csv", minutes(1))
    write(folder, "XRPUSD_60.csv", minutes(1))
    return folder


@pytest.mark.parametrize(
    ("symbols", "exclude", "found"),
    [
        (["*/EUR"], [], ["BTC/EUR", "XRP/EUR"]),
        (["*"], [], ["AVAX/USD", "BTC/EUR", "BTC/USD", "XRP/EUR"]),
        (["*x/*"], [], ["AAPLx/USD", "BRK.Bx/USD"]),
        (["aaplx/*", "AAPLX/USD", "xbt/*"], ["*/EUR"], ["AAPLx/USD", "BTC/USD"]),
        (["AAPLX/USD", "AVAX/USD"], [], ["AAPLx/USD", "AVAX/USD"]),
        (["BTC/USD", "ABC/AUSD"], [], ["ABC/AUSD", "BTC/USD"]),
        (["XRP/*"], [], ["XRP/EUR"]),  # the other one has no file of minutes, and was not named
    ],
)
def test_patterns_are_of_what_there_are_files_of(
    symbols: list[str], exclude: list[str], found: list[str], tmp_path: Path
) -> None:
    plan = plan_of(files_of_pairs(tmp_path), symbols=symbols, exclude=exclude)
    assert [file.symbol for file in plan.files] == found
    assert refused(plan) == []


def test_all_but_some(tmp_path: Path) -> None:
    plan = plan_of(files_of_pairs(tmp_path), exclude=["*/USD", "BRK.Bx/USD"])
    assert [file.symbol for file in plan.files] == ["AAPLx/USD", "BTC/EUR", "XRP/EUR"]
    (unclear,) = refused(plan)  # a name that nobody can read is not left out in silence
    assert "'ABCAUSD' cannot be told apart" in unclear


def test_a_pattern_without_a_file_and_a_name_without_one(tmp_path: Path) -> None:
    (told,) = refused(plan_of(files_of_pairs(tmp_path), symbols=["XPR/*"]))
    assert told == "XPR/*: no pair in these files matches 'XPR/*' (near it: XRP/*)"
    plan = plan_of(tmp_path, symbols=["XRP/*", "XRP/USD"])
    assert [file.symbol for file in plan.files] == ["XRP/EUR"]
    assert refused(plan)[0].startswith("XRP/USD: no file to import for this symbol")


def test_a_file_of_ones_own_name_needs_to_be_told(tmp_path: Path) -> None:
    """It was stored as the pair MY/TRADES."""
    path = write(tmp_path, "my-trades.csv", minutes(1))
    (why,) = refused(plan_of(path))
    assert "'my-trades' is not a name of a pair" in why
    assert "or say which it is: --as BTC/USD" in why
    *_, why = refused(plan_of(path, symbols=["SOL/USD"]))
    assert "a file of another name: kraken-db import-csv FILE --as SOL/USD" in why

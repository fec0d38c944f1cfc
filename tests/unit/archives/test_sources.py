"""Files, and parts that are one file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from kraken_db.archives.sources import (
    FileSource,
    PartedSource,
    check_sums,
    find_parts,
    find_sums,
    open_local,
)
from kraken_db.errors import ImportFileError
from tests.support.zips import contents, cut, rows, sums_of, write_parts, zip_bytes

MEMBERS = {"XBTUSD.csv": rows(4000), "MANIFEST.json": b"{}", "EMPTY.csv": b""}
DATA = zip_bytes(MEMBERS)
NAME = "Kraken_Trades_Full_2026Q2.zip"


def whole_parts(folder: Path, count: int = 12) -> list[Path]:
    size = -(-len(DATA) // count)
    return write_parts(folder, NAME, cut(DATA, size))


async def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(DATA)
    source = await open_local(path)
    assert (source.name, source.size) == (str(path), len(DATA))
    assert await source.read(5, 7) == DATA[5:12]
    assert await source.read(len(DATA), 0) == b""
    assert await contents(source) == MEMBERS
    await source.close()


async def test_blocks_have_at_most_a_mebibyte(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(os.urandom(3_000_001))
    blocks = [block async for block in FileSource(path).stream(1, 3_000_000)]
    assert max(map(len, blocks)) <= 1 << 20
    assert b"".join(blocks) == path.read_bytes()[1:]


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, len(DATA) + 1), (len(DATA), 1), (3, -1)])
async def test_bytes_that_are_not_there(start: int, length: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(DATA)
    with pytest.raises(ImportFileError, match="are not in it"):
        await (await open_local(path)).read(start, length)


async def test_a_file_that_is_replaced_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(DATA)
    source = await open_local(path)
    path.unlink()
    path.write_bytes(DATA + b"more")
    with pytest.raises(ImportFileError, match="was changed"):
        await source.read(0, 1)


async def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ImportFileError, match="there is no such file"):
        await open_local(tmp_path / "a.zip")
    with pytest.raises(ImportFileError, match="there is no such file"):
        await open_local(tmp_path / "nowhere" / "a.zip")
    with pytest.raises(ImportFileError, match="there is no such file"):
        await open_local(tmp_path / "a.zip.part03")
    with pytest.raises(ImportFileError, match="not a file"):
        await open_local(tmp_path)


@pytest.mark.parametrize("named", [NAME, f"{NAME}.part00", f"{NAME}.part07"])
async def test_parts_are_one_file(named: str, tmp_path: Path) -> None:
    parts = whole_parts(tmp_path)
    (tmp_path / "another.zip.part00").write_bytes(b"x")
    (tmp_path / f"{NAME}.part03.crdownload").write_bytes(b"x")
    source = await open_local(tmp_path / named)
    assert (source.name, source.size) == (f"{tmp_path / NAME} ({len(parts)} parts)", len(DATA))
    assert await source.read(0, len(DATA)) == DATA
    assert await contents(source) == MEMBERS
    await source.close()


async def test_every_range_of_parts(tmp_path: Path) -> None:
    parts = [FileSource(part) for part in write_parts(tmp_path, "a", cut(b"0123456789", 3))]
    source = PartedSource(parts, "a")
    for start in range(11):
        for end in range(start, 11):
            assert await source.read(start, end - start) == b"0123456789"[start:end]


def test_parts_are_sorted_by_their_numbers(tmp_path: Path) -> None:
    """As text, part10 comes before part9."""
    parts = write_parts(tmp_path, NAME, cut(DATA, -(-len(DATA) // 12)), width=1)
    assert sorted(parts) != parts
    assert find_parts(tmp_path / NAME) == parts
    assert b"".join(part.read_bytes() for part in find_parts(parts[3])) == DATA


def _remove(number: int) -> Callable[[list[Path]], None]:
    return lambda parts: parts[number].unlink()


def _shorten(number: int) -> Callable[[list[Path]], None]:
    return lambda parts: os.truncate(parts[number], parts[number].stat().st_size - 1)


@pytest.mark.parametrize(
    ("harm", "named", "reason"),
    [
        (_remove(0), "part00", "this part is missing"),
        (_remove(5), "part05", "this part is missing"),
        (_remove(11), "part11", "this part is missing"),
        (_shorten(0), "part00", "it is not whole"),
        (_shorten(5), "part05", "it is not whole"),
        (lambda parts: parts[11].write_bytes(b""), "part11", "it is not whole"),
        (lambda parts: parts[11].write_bytes(bytes(10**6)), "part11", "it is not whole"),
        (lambda parts: parts[5].with_name(f"{NAME}.part5").touch(), NAME, "part 05 is there twice"),
    ],
)
def test_a_set_that_is_not_whole(
    harm: Callable[[list[Path]], None], named: str, reason: str, tmp_path: Path
) -> None:
    harm(whole_parts(tmp_path))
    with pytest.raises(ImportFileError, match=reason) as error:
        find_parts(tmp_path / NAME)
    assert str(error.value.path).endswith(named)


def test_the_first_of_two_parts_is_cut(tmp_path: Path) -> None:
    parts = whole_parts(tmp_path, 2)
    os.truncate(parts[0], 10)
    with pytest.raises(ImportFileError, match="it is not whole") as error:
        find_parts(tmp_path / NAME)
    assert error.value.path == str(parts[0])


def test_the_last_parts_hold_only_the_end_of_the_zip(tmp_path: Path) -> None:
    """The mark that a zip ends with may be cut in two itself."""
    pieces = cut(DATA, len(DATA) - 20)
    assert [len(piece) for piece in pieces] == [len(DATA) - 20, 20]
    parts = write_parts(tmp_path, NAME, pieces)
    assert find_parts(tmp_path / NAME) == parts


def test_no_parts(tmp_path: Path) -> None:
    assert find_parts(tmp_path / NAME) == []


async def test_sums(tmp_path: Path) -> None:
    parts = whole_parts(tmp_path)
    text = sums_of({part.name: part.read_bytes() for part in parts})
    sums = tmp_path / "Trades_Full_PARTS_SHA256SUMS.txt"
    assert find_sums(parts) is None
    (tmp_path / "OHLCVT_Full_PARTS_SHA256SUMS.txt").write_text(sums_of({"Kraken_OHLCVT.zip.part00": b""}))
    sums.write_text(
        text.upper().replace("KRAKEN_TRADES_FULL", "Kraken_Trades_Full").replace(".ZIP.PART", ".zip.part")
    )
    found = find_sums(parts)
    assert found is not None
    read: list[int] = []
    await check_sums(parts, found, advance=read.append)
    assert sum(read) == len(DATA)
    await check_sums(parts, text.replace("  ", " *").replace("\n", "\r\n"))


async def test_a_changed_byte_by_its_sum(tmp_path: Path) -> None:
    parts = whole_parts(tmp_path)
    text = sums_of({part.name: part.read_bytes() for part in parts})
    changed = bytearray(parts[10].read_bytes())
    changed[100] ^= 1
    parts[10].write_bytes(changed)
    with pytest.raises(ImportFileError, match="not what its SHA-256 sum says") as error:
        await check_sums(parts, text)
    assert error.value.path == parts[10]


async def test_sums_and_parts_that_do_not_fit(tmp_path: Path) -> None:
    parts = whole_parts(tmp_path)
    text = sums_of({part.name: part.read_bytes() for part in parts})
    with pytest.raises(ImportFileError, match="does not have this part") as error:
        await check_sums(parts, text.replace("part11", "part1x"))
    assert error.value.path == parts[11]
    with pytest.raises(ImportFileError, match="this part is missing") as error:
        await check_sums(parts[:-1], text)
    assert error.value.path == parts[11]

"""Zips from any source: what is in them, and what is refused."""

from __future__ import annotations

import asyncio
import os
import random
import tracemalloc
import zipfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from io import BytesIO
from pathlib import Path

import pytest

from kraken_db.archives import zip_reading
from kraken_db.archives.sources import FileSource
from kraken_db.archives.zip_reading import ZipMember, printable, read_ahead, read_directory, unpack
from kraken_db.errors import ImportFileError
from tests.support.zips import contents, rows, unpacked, with_end, with_end_64, with_entry, zip_bytes

MEMBERS = {"0GEUR.csv": rows(3000), "a/b/ETHUSD.csv": rows(10), "EMPTY.csv": b"", "XBTUSD.csv": rows(9000)}
DATA = zip_bytes(MEMBERS)


class Counted:
    """Bytes in memory, as a source; ``asked``: what was read."""

    def __init__(self, data: bytes) -> None:
        self.name = "a.zip"
        self.size = len(data)
        self.asked: list[tuple[int, int]] = []
        self.streams = 0
        self._data = data

    async def read(self, start: int, length: int) -> bytes:
        assert 0 <= start <= start + length <= self.size
        self.asked.append((start, length))
        return self._data[start : start + length]

    async def stream(self, start: int, length: int) -> AsyncGenerator[bytes]:
        self.streams += 1
        try:
            for at in range(start, start + length, 1 << 20):
                yield await self.read(at, min(1 << 20, start + length - at))
        finally:
            self.streams -= 1

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("comment", [b"", b"PK\x05\x06 is how a zip ends" + bytes(65_000)])
async def test_members(kind: int, zip64: bool, comment: bytes) -> None:
    source = Counted(zip_bytes(MEMBERS, kind=kind, zip64=zip64, comment=b"" if zip64 else comment))
    assert await contents(source) == MEMBERS


async def test_the_directory_says_what_zipfile_says() -> None:
    with zipfile.ZipFile(BytesIO(DATA)) as archive:
        expected = [
            ZipMember(
                i.filename, i.file_size, i.compress_size, i.CRC, i.header_offset, i.compress_type, False
            )
            for i in archive.infolist()
        ]
    assert await read_directory(Counted(DATA)) == expected


async def test_a_zip_written_as_a_stream_with_folders_and_other_alphabets(tmp_path: Path) -> None:
    """Where a zip is written to a pipe, the sizes stand behind the members."""

    class Pipe(BytesIO):
        def seekable(self) -> bool:
            return False

    packed = Pipe()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/Größe.csv", b"1\n")
    assert await contents(Counted(packed.getvalue())) == {"folder/Größe.csv": b"1\n"}


async def test_bytes_before_a_zip() -> None:
    for data in (DATA, zip_bytes(MEMBERS, zip64=True)):
        assert await contents(Counted(b"#!/bin/sh\n" + data)) == MEMBERS


async def test_an_empty_zip() -> None:
    assert await read_directory(Counted(zip_bytes({}))) == []


async def test_only_the_end_and_the_wanted_member_are_read() -> None:
    draw = random.Random(1)
    data = zip_bytes({f"A{number}USD.csv": draw.randbytes(2000) for number in range(1659)})
    source = Counted(data)
    members = await read_directory(source)
    assert len(members) == 1659
    assert len(source.asked) == 1
    assert source.asked[0][1] < 0.1 * len(data)
    source.asked.clear()
    assert len(await unpacked(source, members[700])) == 2000
    assert source.asked == [(members[700].offset, source.asked[0][1])]
    assert source.asked[0][1] < 2500


async def test_a_directory_larger_than_what_is_read_first() -> None:
    members = {f"{number:0200}.csv": b"" for number in range(2000)}
    assert await contents(Counted(zip_bytes(members))) == members


@pytest.mark.parametrize(
    "size", [1, zip_reading.BLOCK - 1, zip_reading.BLOCK, zip_reading.BLOCK + 1, 3_000_000]
)
@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
async def test_sizes_of_blocks(size: int, kind: int) -> None:
    for content in (bytes(size), os.urandom(size)):
        source = Counted(zip_bytes({"a.csv": content}, kind=kind))
        (member,) = await read_directory(source)
        blocks = [block async for block in unpack(source, member)]
        assert b"".join(blocks) == content
        assert max(map(len, blocks)) <= zip_reading.BLOCK


async def test_an_extra_field_longer_than_usual() -> None:
    data = zip_bytes({"a.csv": b"1,2,3\n"})
    field = b"\xca\xfe" + (996).to_bytes(2, "little") + bytes(996)
    changed = data[:28] + len(field).to_bytes(2, "little") + data[30:35] + field + data[35:]
    source = Counted(with_end(changed, start=int.from_bytes(data[-6:-2], "little") + len(field)))
    assert await contents(source) == {"a.csv": b"1,2,3\n"}


# --- what is refused ---


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no end"),
        (b"PK", "no end"),
        (DATA[:-1], "no end"),
        (DATA[: len(DATA) // 2], "no end"),
        (b"<html>not found</html>" * 20, "no end"),
        (with_end(DATA, disk=1), "several disks"),
        (with_end(DATA, first_disk=1), "several disks"),
        (with_end(DATA, here=3), "several disks"),
        (with_end(DATA, here=3, count=3), "has 4 files, its end says 3"),
        (with_end(DATA, here=5, count=5), "not where its end says"),
        (with_end(DATA, here=65535, count=65535), "not where its end says"),
        (with_end(DATA, size=10**9), "more than are read"),
        (with_end(DATA, size=len(DATA)), "not where its end says"),
        (with_end(DATA, size=5), "not where its end says"),
        (with_end(DATA, size=200), "directory is damaged"),
        (with_end(DATA, start=2**31), "not where its end says"),
        (with_end(DATA, start=0), "outside of it"),
        (with_entry(DATA, 0, disk=1), "several disks"),
        (with_entry(DATA, 0, offset=2**31), "outside of it"),
        (with_entry(DATA, 3, packed_size=2**31), "outside of it"),
        (with_entry(DATA, 3, packed_size=len(DATA) - 1000), "outside of it"),
        (with_entry(DATA, 0, packed_size=len(DATA) // 3), "same place"),
        (with_entry(DATA, 1, offset=0), "same place"),
        (with_entry(DATA, 0, name_length=65535), "directory is damaged"),
        (with_entry(DATA, 0, size=0xFFFFFFFF), None),
        (with_end_64(DATA, disk=1), "contradict each other"),
        (with_end_64(DATA, first_disk=1), "contradict each other"),
        (with_end_64(DATA, locator_disk=1), "several disks"),
        (with_end_64(DATA, disks=2), "several disks"),
        (with_end_64(DATA, here=1), "several disks"),
        (with_end_64(DATA, here=2**40, count=2**40), "more than are read"),
        (with_end_64(DATA, here=3, count=3), "has 4 files, its end says 3"),
        (with_end_64(DATA, size=2**63), "more than are read"),
        (with_end_64(DATA, size=1), "not where its end says"),
        (with_end_64(DATA, start=2**63), "not where its end says"),
        (with_end_64(DATA, start=7), "outside of it"),
        (with_end_64(DATA, length=2**63), "not where it says"),
        (with_end(with_end_64(DATA), here=5, count=5), "contradict each other"),
    ],
)
async def test_a_directory_that_lies(data: bytes, reason: str | None) -> None:
    source = Counted(data)
    if reason is None:  # a size of all bits set needs ZIP64's field; without one it is the size
        (member, *_) = await read_directory(source)
        with pytest.raises(ImportFileError, match="instead of 4,294,967,295"):
            await unpacked(source, member)
        return
    with pytest.raises(ImportFileError, match=reason) as error:
        await read_directory(source)
    assert str(error.value).startswith("a.zip: not a readable zip archive: ")
    assert sum(length for _, length in source.asked) <= 2 * len(data)


async def test_too_large_a_directory_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_reading, "MAX_MEMBERS", 3)
    with pytest.raises(ImportFileError, match="has 4 files and"):
        await read_directory(Counted(DATA))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (with_entry(DATA, 0, flags=1), "is encrypted"),
        (with_entry(DATA, 0, method=12), "packed by method 12"),
        (with_entry(DATA, 0, crc=5), "check sum"),
        (with_entry(DATA, 0, size=10), "more than its 10 bytes"),
        (with_entry(DATA, 0, size=10**9), "instead of 1,000,000,000"),
        (with_entry(DATA, 0, packed_size=1000), "cut short"),
        (with_entry(DATA, 0, offset=1, packed_size=100), "not where the zip's directory has it"),
        (DATA.replace(b"0GEUR.csv", b"0GUSD.csv", 1), "another file is where"),
        (DATA.replace(b"PK\x03\x04", b"PK\x03\x05", 1), "not where the zip's directory has it"),
    ],
)
async def test_a_member_that_lies(data: bytes, reason: str) -> None:
    source = Counted(data)
    (member, *_) = await read_directory(source)
    with pytest.raises(ImportFileError, match=reason) as error:
        await unpacked(source, member)
    assert str(error.value).startswith("a.zip:0GEUR.csv: ")


async def test_a_member_that_ends_before_its_place_does() -> None:
    """Stored behind the packed bytes there would be room for something else."""
    source = Counted(DATA)
    (member, *_) = await read_directory(source)
    longer = ZipMember(member.name, member.size, member.packed_size + 10, member.crc, member.offset, 8, False)
    with pytest.raises(ImportFileError, match="ends before its place"):
        await unpacked(source, longer)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
async def test_a_changed_byte(place: float, kind: int) -> None:
    data = bytearray(zip_bytes({"a.csv": rows(3000)}, kind=kind))
    data[int(place * len(data))] ^= 4
    source = Counted(bytes(data))
    (member,) = await read_directory(source)
    with pytest.raises(ImportFileError):
        await unpacked(source, member)


async def test_every_cut_is_seen() -> None:
    data = zip_bytes({"a.csv": rows(20)}, zip64=True)
    for length in range(len(data)):
        with pytest.raises(ImportFileError):
            await contents(Counted(data[:length]))


async def test_random_damage_is_an_error_or_nothing() -> None:
    """Whatever is changed: an ImportFileError, or the right content (a date, say, is not looked at)."""
    members = {"a.csv": rows(30), "b.csv": rows(20, seed=2)}
    data = zip_bytes(members, zip64=True)
    draw = random.Random(7)
    for _ in range(1500):
        changed = bytearray(data)
        for _ in range(draw.choice((1, 1, 2, 8))):
            changed[draw.randrange(len(data))] = draw.choice((0, 255, draw.randrange(256)))
        try:
            found = await contents(Counted(bytes(changed)))
        except ImportFileError:
            continue
        assert list(found.values()) in (list(members.values()), [])


def test_names_in_messages() -> None:
    assert printable("a\n\x1b[2J\u202eÄ.csv") == "a\\n\\x1b[2J\\u202eÄ.csv"
    assert len(printable("a" * 70_000)) < 250


async def test_a_control_character_does_not_get_into_a_message() -> None:
    data = zip_bytes({"a\x1b[2J\n.csv": b"1\n"})
    source = Counted(with_entry(data, 0, crc=1))
    (member,) = await read_directory(source)
    with pytest.raises(ImportFileError) as error:
        await unpacked(source, member)
    assert str(error.value).startswith("a.zip:a\\x1b[2J\\n.csv: ")


# --- memory, and what runs at once ---


async def test_memory_stays_bounded(tmp_path: Path) -> None:
    """200 MB of zeros are packed to 200 kB: one block of those must not become a block of these."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.csv", "w") as member:
        for _ in range(200):
            member.write(bytes(1_000_000))
    source = FileSource(path)
    (zeros,) = await read_directory(source)
    size = 0
    tracemalloc.start()
    try:
        async with aclosing(unpack(source, zeros)) as blocks:
            async for block in blocks:
                size += len(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size == zeros.size == 200_000_000
    assert peak < 8_000_000


async def test_a_bomb_is_stopped_at_the_size_that_it_says() -> None:
    data = zip_bytes({"a.csv": bytes(100_000_000)})
    source = Counted(with_entry(data, 0, size=1000))
    (member,) = await read_directory(source)
    tracemalloc.start()
    try:
        with pytest.raises(ImportFileError, match="more than its 1,000 bytes"):
            await unpacked(source, member)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


async def test_nothing_is_left_running_by_a_consumer_that_stops() -> None:
    source = Counted(zip_bytes({"a.csv": os.urandom(8_000_000)}))
    (member,) = await read_directory(source)
    async with aclosing(unpack(source, member)) as blocks:
        async for _ in blocks:
            break
    assert source.streams == 0
    assert len(asyncio.all_tasks()) == 1


async def test_nothing_is_left_running_by_a_consumer_that_is_cancelled() -> None:
    source = Counted(zip_bytes({"a.csv": os.urandom(8_000_000)}))
    (member,) = await read_directory(source)

    async def consume() -> None:
        async with aclosing(unpack(source, member)) as blocks:
            async for _ in blocks:
                await asyncio.sleep(60)

    task = asyncio.create_task(consume())
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert source.streams == 0
    assert len(asyncio.all_tasks()) == 1


async def test_closing_does_not_wait_for_what_is_on_its_way() -> None:
    async def items() -> AsyncGenerator[int]:
        yield 1
        await asyncio.sleep(60)
        yield 2

    async with asyncio.timeout(5), aclosing(read_ahead(items())) as ahead:
        async for _ in ahead:
            await asyncio.sleep(0.01)
            break


async def test_one_item_is_made_ahead_and_no_more() -> None:
    made = []

    async def items() -> AsyncGenerator[int]:
        for number in range(1, 6):
            made.append(number)
            yield number

    async with aclosing(read_ahead(items())) as ahead:
        async for number in ahead:
            await asyncio.sleep(0.01)
            assert made == list(range(1, min(number + 2, 6)))
    assert made == [1, 2, 3, 4, 5]

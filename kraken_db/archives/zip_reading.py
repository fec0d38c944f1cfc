"""Zips whose bytes are anywhere: the directory at their end, and one member unpacked at a time.

Python's ``zipfile`` needs a file that blocks while it is read. Here only the directory and the wanted members
are read, and nothing that a zip says of itself is believed before it was compared with what is there.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise
from typing import NoReturn, TypeVar

from kraken_db.archives.byte_source import ByteSource
from kraken_db.errors import DamagedFileError, ImportFileError

MAX_MEMBERS = 65_536
"""Of one zip: 3 kB of memory each. Kraken's largest has 12,037."""
MAX_DIRECTORY = 16 << 20
"""Bytes of the directory of a zip."""
BLOCK = 256 << 10
"""Bytes: the most that ``unpack`` hands out at once."""

STORED, DEFLATED = 0, 8

# The end: signature, this disk, disk of the directory, entries here, entries, bytes, place, comment's length.
_END = struct.Struct("<4s4H2LH")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
# An entry: signature, flags, method, CRC, packed, size, lengths of name, extra and comment, disk, place.
_ENTRY = struct.Struct("<4s4x2H4x3L4H6xL")
# Before a member: signature, flags, lengths of name and extra.
_LOCAL = struct.Struct("<4s2xH18x2H")
_FIELD = struct.Struct("<2H")
_LONGEST_COMMENT = 65535
_TAIL = 256 << 10  # holds the directory of 1,659 members too: one request
_HEAD = 1 << 20  # what is asked for together with a member's header: all of a small one
_EXTRA = 128  # bytes of a local header after its name, as many as are usual
_INPUT = 64 << 10  # is unpacked at once: to about a block
_BLOCKS_AT_ONCE = 4  # of a step of the thread
_UTF8_NAME, _ENCRYPTED = 0x800, 0x2041
_LIMIT_16, _LIMIT_32 = 0xFFFF, 0xFFFFFFFF
_AGAIN = "get the file again"

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file in a zip. ``offset``: of its local header; sizes in bytes."""

    name: str
    size: int
    packed_size: int
    crc: int
    offset: int
    method: int
    is_encrypted: bool


def printable(name: str) -> str:
    """A name for messages: control characters escaped, and not without end."""
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name[:200])
    return text if len(name) <= 200 else f"{text}..."


# --- the directory ---


@dataclass(frozen=True, slots=True)
class _Directory:
    """Where the directory is. ``shift``: bytes that were put before the zip after it was made."""

    start: int
    size: int
    count: int
    shift: int


async def read_directory(source: ByteSource) -> list[ZipMember]:
    """The files of a zip or ZIP64, in the order of its directory; folders are left out.

    Only the end of the source and the directory are read. Raises ImportFileError for what is no zip, is cut
    short, is larger than ``MAX_MEMBERS`` and ``MAX_DIRECTORY``, or says of itself what cannot be.
    """
    tail_start = max(0, source.size - _TAIL)
    tail = await source.read(tail_start, source.size - tail_start)
    try:
        found = _locate(tail, tail_start)
        if found.start >= tail_start:
            data = tail[found.start - tail_start :][: found.size]
        else:
            data = await source.read(found.start, found.size)
        members = await asyncio.to_thread(_members, data, found)
    except (_DirectoryError, struct.error) as error:
        raise ImportFileError(source.name, f"not a readable zip archive: {error}", hint=_AGAIN) from error
    return [member for member in members if not member.name.endswith("/")]


class _DirectoryError(Exception):
    """What the directory says cannot be."""


def _lie(reason: str) -> NoReturn:
    raise _DirectoryError(reason)


def _locate(tail: bytes, tail_start: int) -> _Directory:
    at = _find_end(tail)
    _, *numbers, _ = _END.unpack_from(tail, at)
    if tail[:at][-_LOCATOR_64.size :].startswith(b"PK\x06\x07"):
        at, numbers = _locate_64(tail, tail_start, at - _LOCATOR_64.size, numbers)
    disk, first_disk, here, count, size, start = numbers
    end = tail_start + at
    if disk or first_disk or here != count:
        _lie("it is split over several disks")
    if count > MAX_MEMBERS or size > MAX_DIRECTORY:
        _lie(f"its directory has {count:,} files and {size:,} bytes, more than are read")
    if count * _ENTRY.size > size or start + size > end:
        _lie("its directory is not where its end says")
    return _Directory(end - size, size, count, end - size - start)


def _find_end(tail: bytes) -> int:
    """Where the last record begins: the one whose comment goes to the end of the file."""
    at = len(tail) - _END.size + 1
    while (at := tail.rfind(b"PK\x05\x06", 0, max(at + 3, 0))) >= 0:
        room = len(tail) - at - _END.size
        if room <= _LONGEST_COMMENT and _END.unpack_from(tail, at)[-1] == room:
            return at
    _lie("it has no end: it is cut short, or no zip")


def _locate_64(tail: bytes, tail_start: int, at: int, short: list[int]) -> tuple[int, list[int]]:
    """Where ZIP64's own record begins, and its numbers.

    ``at``: of the locator, which follows it. ``short``: the numbers of the usual record.
    """
    _, disk, place, disks = _LOCATOR_64.unpack_from(tail, at)
    if disk or disks > 1:
        _lie("it is split over several disks")
    for start in (place - tail_start, at - _END_64.size):  # the second where bytes were put before the zip
        if 0 <= start <= at - _END_64.size:
            signature, length, _, _, *numbers = _END_64.unpack_from(tail, start)
            if signature == b"PK\x06\x06" and start + 12 + length == at:
                break
    else:
        _lie("the end of its directory (ZIP64) is not where it says")
    for old, new, limit in zip(short, numbers, [_LIMIT_16] * 4 + [_LIMIT_32] * 2, strict=True):
        if old not in (limit, new):
            _lie("its two ends contradict each other")
    return start, numbers


def _members(data: bytes, found: _Directory) -> list[ZipMember]:
    if len(data) != found.size:
        _lie("its directory is cut short")
    entries = list(_entries(data, found.shift))
    if len(entries) != found.count:
        _lie(f"its directory has {len(entries):,} files, its end says {found.count:,}")
    ranges = sorted((member.offset, end) for member, end in entries)
    if ranges and (ranges[0][0] < 0 or max(end for _, end in ranges) > found.start):
        _lie("a file in it would lie outside of it")
    if any(end > following for (_, end), (following, _) in pairwise(ranges)):
        _lie("two files in it would lie in the same place")
    return [member for member, _ in entries]


def _entries(data: bytes, shift: int) -> Iterator[tuple[ZipMember, int]]:
    """Each member, and where it ends at the earliest."""
    at = 0
    while at < len(data):
        signature, flags, method, crc, packed, size, *lengths, disk, offset = _ENTRY.unpack_from(data, at)
        name_length, extra_length, comment_length = lengths
        at += _ENTRY.size
        name_end, extra_end = at + name_length, at + name_length + extra_length
        if signature != b"PK\x01\x02" or extra_end + comment_length > len(data):
            _lie("its directory is damaged")
        values = [size, packed, offset, disk]
        limits = [_LIMIT_32, _LIMIT_32, _LIMIT_32, _LIMIT_16]
        if any(value == limit for value, limit in zip(values, limits, strict=True)):
            values = _values_64(values, limits, data[name_end:extra_end])
        size, packed, offset, disk = values
        if disk:
            _lie("it is split over several disks")
        if method == STORED and size != packed and not flags & _ENCRYPTED:
            _lie("a file in it has two sizes")
        name = _text(data[at:name_end], flags)
        place = offset + shift
        yield (
            ZipMember(name, size, packed, crc, place, method, bool(flags & _ENCRYPTED)),
            place + _LOCAL.size + name_length + packed,
        )
        at = extra_end + comment_length


def _values_64(values: list[int], limits: list[int], extra: bytes) -> list[int]:
    """The values of an entry, those too large for it from its field of ZIP64, which has only these."""
    at = 0
    while at + _FIELD.size <= len(extra):
        kind, length = _FIELD.unpack_from(extra, at)
        at += _FIELD.size
        if kind == 1:
            field = extra[at : at + length]
            found = []
            for value, limit in zip(values, limits, strict=True):
                width = 8 if limit == _LIMIT_32 else 4
                if value == limit:
                    if len(field) < width:
                        _lie("a size in its directory (ZIP64) is missing")
                    value, field = int.from_bytes(field[:width], "little"), field[width:]
                found.append(value)
            return found
        at += length
    return values


def _text(name: bytes, flags: int) -> str:
    return name.decode("utf-8", "replace") if flags & _UTF8_NAME else name.decode("cp437")


# --- a member ---


async def unpack(source: ByteSource, member: ZipMember) -> AsyncGenerator[bytes]:
    """The content of a member, in blocks of at most 256 KiB.

    Unpacking runs in a thread and one step ahead; the source is read one block ahead of that. So the
    consumer, the unpacking and the network overlap. Close it (``aclosing``) where it is not read to its end.

    Raises ImportFileError: at once for a packing that is not read, later for content that is cut short,
    longer than the directory says, or not what was packed (CRC); the consumer has got what came before.
    """
    unpacking = _Unpacking(member, f"{source.name}:{printable(member.name)}")
    async with (
        aclosing(read_ahead(_packed(source, member, unpacking))) as packed,
        aclosing(read_ahead(_steps(unpacking, packed))) as steps,
    ):
        async for blocks in steps:
            for block in blocks:
                yield block


async def read_ahead(items: AsyncGenerator[_T]) -> AsyncGenerator[_T]:
    """The same items; the next one is in the making while one is in use. Closes ``items`` in the end."""
    following = asyncio.ensure_future(anext(items, None))
    try:
        while (item := await following) is not None:
            following = asyncio.ensure_future(anext(items, None))
            yield item
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await items.aclose()


async def _packed(source: ByteSource, member: ZipMember, about: _Unpacking) -> AsyncGenerator[bytes]:
    """The bytes of a member as they are in the zip; of a small one with a single reading."""
    usual = _LOCAL.size + len(member.name.encode("utf-8", "replace")) + _EXTRA
    head = await source.read(
        member.offset, min(usual + min(member.packed_size, _HEAD), max(0, source.size - member.offset))
    )
    if len(head) < _LOCAL.size:
        raise about.error("the file is not where the zip's directory has it")
    signature, flags, name_length, extra_length = _LOCAL.unpack_from(head)
    start = _LOCAL.size + name_length + extra_length
    end = member.offset + start + member.packed_size
    if signature != b"PK\x03\x04" or end > source.size:
        raise about.error("the file is not where the zip's directory has it")
    if start > len(head):
        head += await source.read(member.offset + len(head), start - len(head))
    if _text(head[_LOCAL.size : _LOCAL.size + name_length], flags) != member.name:
        raise about.error("another file is where the zip's directory has it")
    yield head[start : start + member.packed_size]
    at = member.offset + len(head)
    if at < end:
        async with aclosing(source.stream(at, end - at)) as blocks:
            async for block in blocks:
                yield block


async def _steps(unpacking: _Unpacking, packed: AsyncGenerator[bytes]) -> AsyncGenerator[list[bytes]]:
    async for piece in packed:
        unpacking.feed(piece)
        while blocks := await asyncio.to_thread(unpacking.step):
            yield blocks
    unpacking.finish()


class _Unpacking:
    """One member on its way: packed pieces in, blocks out, and never more than the directory says."""

    def __init__(self, member: ZipMember, name: str) -> None:
        self._name = name
        if member.is_encrypted:
            raise self.error("the file is encrypted", hint="Kraken's are not: get the archive from Kraken")
        if member.method not in (STORED, DEFLATED):
            reason = f"the file is packed by method {member.method}, which is not read"
            raise self.error(reason, hint="pack it anew by deflate, or unpack it")
        self._member = member
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == DEFLATED else None
        self._input = memoryview(b"")
        self._at = 0
        self._may_have_more = False
        self._size = 0
        self._crc = 0

    def error(self, reason: str, hint: str = _AGAIN) -> ImportFileError:
        return ImportFileError(self._name, reason, hint=hint)

    def _damage(self, reason: str) -> DamagedFileError:
        return DamagedFileError(self._name, reason, hint=_AGAIN)

    def feed(self, packed: bytes) -> None:
        self._input = memoryview(packed)
        self._at = 0

    def step(self) -> list[bytes]:
        """The next blocks, a few together; none where all that was fed is used up."""
        blocks: list[bytes] = []
        while len(blocks) < _BLOCKS_AT_ONCE and (block := self._next()):
            self._size += len(block)
            if self._size > self._member.size:
                raise self._damage(f"the file unpacks to more than its {self._member.size:,} bytes")
            self._crc = zlib.crc32(block, self._crc)
            blocks.append(block)
        return blocks

    def _next(self) -> bytes:
        if self._inflate is None:
            block = bytes(self._input[self._at : self._at + BLOCK])
            self._at += len(block)
            return block
        # One byte more than is left, so that a file that goes on is seen.
        room = min(BLOCK, self._member.size - self._size + 1)
        block = b""
        while not block and (self._at < len(self._input) or self._may_have_more):
            if self._inflate.eof:
                raise self._damage("the packed file ends before its place in the zip does")
            piece = self._input[self._at : self._at + _INPUT]
            try:
                block = self._inflate.decompress(piece, room)
            except zlib.error as error:
                raise self._damage(f"the file cannot be unpacked: {error}") from error
            unused = len(self._inflate.unconsumed_tail) + len(self._inflate.unused_data)
            self._at += len(piece) - unused
            self._may_have_more = len(block) == room and not self._inflate.eof
        return block

    def finish(self) -> None:
        """Raises ImportFileError where what was unpacked is not all, or not what was packed."""
        if self._inflate is not None and not self._inflate.eof:
            raise self._damage("the packed file is cut short")
        if self._size != self._member.size:
            raise self._damage(f"the file unpacks to {self._size:,} bytes instead of {self._member.size:,}")
        if self._crc != self._member.crc:
            raise self._damage("the file is not what was packed: its check sum (CRC) is another one")

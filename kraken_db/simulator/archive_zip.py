"""Zip files as Kraken publishes them: written in one go, whole or cut into parts, with the parts' sums.

A member is compressed into a temporary file first, so its header can say how long it is, and no content is
ever in memory as a whole. The same members give the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Self

_IN_MEMORY = 1 << 20
_AT_ONCE = 1 << 18
_TOO_LONG = 0xFFFFFFFF
_TOO_MANY = 0xFFFF
_DEFLATED = 8
_UNIX_FILE = 0o100644 << 16


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A file on disk, and the SHA-256 of its bytes in hexadecimal digits."""

    path: Path
    sha256: str


class FilesSink:
    """Takes bytes and writes them into one file, or into parts of ``part_size`` bytes.

    Parts are named ``<name>.part00``, ``.part01``, and so on. ``announce`` gets the name of each file before
    it is made.
    """

    def __init__(
        self, folder: Path, name: str, part_size: int | None, announce: Callable[[str], None] | None = None
    ) -> None:
        self.position = 0
        self.files: list[WrittenFile] = []
        """Finished ones."""
        self._folder = folder
        self._name = name
        self._part_size = part_size
        self._announce = announce
        self._begin()

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if self._left == 0:
                self._finish()
                self._begin()
            piece = view if self._left is None else view[: self._left]
            self._file.write(piece)
            self._sum.update(piece)
            self.position += len(piece)
            if self._left is not None:
                self._left -= len(piece)
            view = view[len(piece) :]

    def close(self) -> None:
        if not self._file.closed:
            self._finish()

    def _begin(self) -> None:
        name = self._name if self._part_size is None else f"{self._name}.part{len(self.files):02d}"
        if self._announce is not None:
            self._announce(name)
        self._path = self._folder / name
        self._file: BinaryIO = self._path.open("wb")
        self._sum = hashlib.sha256()
        self._left = self._part_size

    def _finish(self) -> None:
        self._file.close()
        self.files.append(WrittenFile(self._path, self._sum.hexdigest()))


class Member:
    """The content of one file in the zip, compressed as it comes."""

    def __init__(self, name: str, level: int) -> None:
        self.name = name
        self.size = 0
        self.packed_size = 0
        self.crc = 0
        self._deflate = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by the context

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self.crc = zlib.crc32(data, self.crc)
        self._keep(self._deflate.compress(data))

    def copy_to(self, sink: FilesSink) -> None:
        """Write all compressed bytes; ``finish`` comes first."""
        self._file.seek(0)
        while piece := self._file.read(_AT_ONCE):
            sink.write(piece)

    def finish(self) -> None:
        self._keep(self._deflate.flush())

    def _keep(self, packed: bytes) -> None:
        self.packed_size += len(packed)
        self._file.write(packed)


class ZipWriter:
    """Writes members one after another, and the directory at the end.

    ``zip64``: all lengths and offsets stand in the fields for large archives, as in one of more than 4 GiB;
    without it only those that need it. ``day`` is the date of every member.
    """

    def __init__(self, sink: FilesSink, day: date, *, zip64: bool, level: int) -> None:
        self._sink = sink
        self._moment = ((day.year - 1980) << 9 | day.month << 5 | day.day) << 16
        self._zip64 = zip64
        self._level = level
        self._directory = bytearray()
        self._count = 0

    def member(self, name: str) -> Member:
        return Member(name, self._level)

    def add(self, member: Member) -> None:
        """Append a member that has all its content."""
        member.finish()
        offset = self._sink.position
        sizes = (member.packed_size, member.size)
        is_large = self._zip64 or max(*sizes, offset) >= _TOO_LONG
        version = 45 if is_large else 20
        common = struct.pack("<HHHLL", version, 0, _DEFLATED, self._moment, member.crc)
        lengths = (_TOO_LONG, _TOO_LONG) if is_large else sizes
        name = member.name.encode()

        extra = struct.pack("<HHQQ", 1, 16, member.size, member.packed_size) if is_large else b""
        names = struct.pack("<LLHH", *lengths, len(name), len(extra))
        self._sink.write(b"PK\x03\x04" + common + names + name + extra)
        member.copy_to(self._sink)

        extra = struct.pack("<HHQQQ", 1, 24, member.size, member.packed_size, offset) if is_large else b""
        names = struct.pack("<LLHHHHHL", *lengths, len(name), len(extra), 0, 0, 0, _UNIX_FILE)
        self._directory += b"PK\x01\x02" + struct.pack("<BB", version, 3) + common + names
        self._directory += struct.pack("<L", _TOO_LONG if is_large else offset) + name + extra
        self._count += 1

    def close(self) -> None:
        """Write the directory. The sink stays open."""
        begin, length, count = self._sink.position, len(self._directory), self._count
        self._sink.write(bytes(self._directory))
        if self._zip64 or max(begin, length) >= _TOO_LONG or count >= _TOO_MANY:
            end = struct.pack("<QBBHLLQQQQ", 44, 45, 3, 45, 0, 0, count, count, length, begin)
            self._sink.write(b"PK\x06\x06" + end + b"PK\x06\x07" + struct.pack("<LQL", 0, begin + length, 1))
            begin, length, count = _TOO_LONG, _TOO_LONG, _TOO_MANY
        self._sink.write(b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, count, count, length, begin, 0))


def sums_text(files: Iterable[WrittenFile]) -> str:
    """A line ``<sha256>  <file>`` for each."""
    return "".join(f"{file.sha256}  {file.path.name}\n" for file in files)

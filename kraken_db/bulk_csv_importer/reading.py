"""Reading a file of an archive: in blocks of whole lines, checked for what no number contains."""

from __future__ import annotations

import asyncio
import operator
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator
from contextlib import ExitStack
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import IO, Protocol

from kraken_db.bulk_csv_importer.report import ArchiveFile
from kraken_db.errors import ImportFileError

EARLIEST = datetime.min.replace(tzinfo=UTC)
# The longest line of Kraken's is a tenth of this.
MAX_LINE = 4096
_STAMPS = re.compile(rb"^\+?\d{1,18}(?!\d)", re.MULTILINE)
_NUMBERS = b"0123456789+-.eE,\n"
# What a trade's side, order type and flags may hold besides; a quote would change how a line is split.
_WORDS = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
_BYTE_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError)
# What stands before a zip's member: signature, flags, lengths of the name and of the extra field.
_LOCAL_HEADER = struct.Struct("<4s2xH18x2H")
_UTF8_NAME, _UNREADABLE = 0x800, 0x61


class ReadingProgress(Protocol):
    """Who wants to know how far the reading is."""

    def advance(self, size: int) -> None:
        """So many more bytes were read."""

    def all_read(self) -> None:
        """The last block is on its way to the database."""


def check_file(path: Path) -> os.stat_result:
    """What the system knows of a file. Raises ImportFileError where there is none to be read.

    Devices and pipes are none: opening one may wait for ever.
    """
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise ImportFileError(path, "there is no such file") from error
    except (OSError, ValueError) as error:
        raise ImportFileError(path, system_reason(error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise ImportFileError(path, "this is not a file")
    return found


def system_reason(error: OSError | ValueError) -> str:
    """Why the system does not let us read, in words."""
    if isinstance(error, PermissionError):
        return "no permission to read it"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _open_member(stream: IO[bytes], entry: zipfile.ZipInfo) -> zipfile.ZipExtFile:
    """A member of a zip whose directory is known: ZipFile would read all of that again for each member.

    ``stream`` is this reader's own: members of one zip can be read side by side.
    """
    stream.seek(entry.header_offset)
    signature, flags, name_length, extra_length = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
    name = stream.read(name_length).decode("utf-8" if flags & _UTF8_NAME else "cp437")
    if signature != b"PK\x03\x04" or name != entry.orig_filename or entry.flag_bits & _UNREADABLE:
        raise zipfile.BadZipFile("the file is not where the zip's directory has it")
    stream.seek(extra_length, os.SEEK_CUR)
    return zipfile.ZipExtFile(stream, "r", entry)


def _moment(seconds: bytes) -> datetime:
    try:
        # To know on which day it is, a float will do.
        return datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return EARLIEST  # The database says what is wrong with it, with the line.


class ArchiveReader:
    """One pass over a file. Lines count from 1; every ImportFileError names the line where it can.

    Reading and unpacking run in a thread, so that the database parses one block while the next is read.
    """

    def __init__(self, file: ArchiveFile, block_size: int, progress: ReadingProgress | None = None) -> None:
        self._file = file
        self._block_size = max(block_size, MAX_LINE)
        self._progress = progress
        self._stack = ExitStack()
        self._stream: IO[bytes] | zipfile.ZipExtFile | None = None
        self._rest = b""
        self._line = 1
        self._newest = -1
        self._allowed = _NUMBERS
        self.header_lines = 0
        self.fields = 0
        """How many fields the first row has; known once the file is open."""
        self.first_moment = EARLIEST
        """The time of the first row, the oldest of a file in order; ``EARLIEST`` if there is none in it."""
        self.ends_with_newline = True

    async def __aenter__(self) -> ArchiveReader:
        try:
            await asyncio.to_thread(self._open)
            self._rest = await self._read()
            self._inspect_start()
        except BaseException:
            self._stack.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stack.close()

    def error(self, reason: str, line: int | None = None, hint: str | None = None) -> ImportFileError:
        """An error about this file; ``line`` counts rows as they were handed out, from 1."""
        shown = None if line is None else line + self.header_lines
        return ImportFileError(self._file.name, reason, line=shown, hint=hint)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Blocks of whole lines. The last line counts as whole even where its line end is missing."""
        rest, self._rest = self._rest, b""
        while True:
            cut = rest.rfind(b"\n") + 1
            if cut:
                yield self._checked(rest[:cut])
                rest = rest[cut:]
            if len(rest) > MAX_LINE:
                raise self._at(rest, 0, "the line has no end: this is not a CSV file")
            more = await self._read()
            if not more:
                break
            rest += more
        if rest:
            self.ends_with_newline = False
            yield self._checked(rest) + b"\n"
        if self._progress is not None:
            self._progress.all_read()

    def _open(self) -> None:
        path, member, entry = self._file.path, self._file.member, self._file.entry
        check_file(path)
        try:
            if member is None:
                self._stream = self._stack.enter_context(path.open("rb"))
            elif entry is not None:
                stream = self._stack.enter_context(path.open("rb"))
                self._stream = self._stack.enter_context(_open_member(stream, entry))
            else:
                archive = self._stack.enter_context(zipfile.ZipFile(path))
                self._stream = self._stack.enter_context(archive.open(member))
        except PermissionError as error:
            raise self.error("no permission to read it") from error
        except (OSError, KeyError, *_BROKEN) as error:
            raise self.error(f"it cannot be opened: {error}", hint="get the file again") from error

    async def _read(self) -> bytes:
        assert self._stream is not None, "used as an asynchronous context manager"
        try:
            block = await asyncio.to_thread(self._stream.read, self._block_size)
        except (OSError, *_BROKEN) as error:
            raise self.error(f"it cannot be read to its end: {error}", hint="get the file again") from error
        if self._progress is not None:
            self._progress.advance(len(block))
        return block

    def _inspect_start(self) -> None:
        if not self._rest:
            raise self.error("the file is empty")
        if self._rest.startswith(_BYTE_ORDER_MARKS):
            raise self.error(
                "it starts with a byte-order mark, which Kraken's files don't have",
                1,
                hint="save it as plain UTF-8 without a mark",
            )
        if self._file.interval is None:
            self._inspect_trades()
        fields = self._rest.partition(b"\n")[0].split(b",")
        at = 2 if self.fields > 3 else 0
        if len(fields) > at:
            self.first_moment = _moment(fields[at])

    def _inspect_trades(self) -> None:
        first, newline, rest = self._rest.partition(b"\n")
        if newline and first.startswith(b"price,volume,time"):
            self._rest, self.header_lines, self._line = rest, 1, 2
            first = rest.partition(b"\n")[0]
        self.fields = first.count(b",") + 1
        if self.fields != 3:
            self._allowed = _WORDS + b"\n"

    def _checked(self, block: bytes) -> bytes:
        if block.translate(None, self._allowed):
            allowed = set(self._allowed)
            where = next(index for index, byte in enumerate(block) if byte not in allowed)
            raise self._at(block, where, self._what_is_wrong(block, where))
        if self._file.interval is not None:
            self._check_order(block)
        self._line += block.count(b"\n")
        return block

    def _check_order(self, block: bytes) -> None:
        """Candles rise strictly in time. Looked at here, while the database parses the block before."""
        stamps = _STAMPS.findall(block)
        if len(stamps) != block.count(b"\n"):
            return  # A line does not begin with a number: the database says which, and why.
        times = [self._newest, *map(int, stamps)]
        if not all(map(operator.lt, times, times[1:])):
            at = next(index for index, pair in enumerate(pairwise(times)) if pair[0] >= pair[1])
            wrong = (
                "is there twice" if times[at] == times[at + 1] else "is earlier than that of the line before"
            )
            reason = f"timestamp {times[at + 1]} {wrong}"
            raise ImportFileError(self._file.name, reason, line=self._line + at)
        self._newest = times[-1]

    def _at(self, block: bytes, where: int, reason: str) -> ImportFileError:
        return ImportFileError(self._file.name, reason, line=self._line + block.count(b"\n", 0, where))

    def _what_is_wrong(self, block: bytes, where: int) -> str:
        byte = block[where]
        if byte == 0x0D:
            return "it ends with CR LF, as Windows writes it; Kraken's files end lines with LF alone"
        start = max(block.rfind(b",", 0, where), block.rfind(b"\n", 0, where)) + 1
        stops = [stop for stop in (block.find(b",", where), block.find(b"\n", where)) if stop >= 0]
        field = block[start : min([*stops, start + 40])]
        if not field.isascii() or not field.decode("ascii").isprintable():
            return f"binary data (byte 0x{byte:02x}): this is not a CSV file"
        shown = field.decode("ascii")
        if self._line == 1 and start == 0:
            return f"{shown!r} where a number belongs: Kraken's files have no header line"
        return f"{shown!r} where a number belongs"

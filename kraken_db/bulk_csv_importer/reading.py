"""Reading a file of an archive: in blocks of whole lines, checked for what no number contains."""

from __future__ import annotations

import operator
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime
from itertools import pairwise
from typing import Protocol

from kraken_db.archives.fields import WORD_COLUMNS, RowGrammar
from kraken_db.archives.layouts import LayoutError, candle_layout, trade_layout
from kraken_db.archives.sources import FileSource, open_local
from kraken_db.archives.zip_reading import read_directory, unpack
from kraken_db.bulk_csv_importer.report import ArchiveFile
from kraken_db.errors import ImportFileError
from kraken_db.times import Clock, utc_now

EARLIEST = datetime.min.replace(tzinfo=UTC)
# The longest line of Kraken's is a tenth of this.
MAX_LINE = 4096
_SAMPLE = 2**14
"""Bytes from which the columns of a file are told."""
_STAMPS = re.compile(rb"^\+?\d{1,18}(?!\d)", re.MULTILINE)
_NUMBERS = b"0123456789+-.eE,\n"
# What a trade's side, order type and flags may hold besides; a quote would change how a line is split.
_WORDS = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class ReadingProgress(Protocol):
    """Who wants to know how far the reading is."""

    def advance(self, size: int) -> None:
        """So many more bytes were read."""

    def all_read(self) -> None:
        """The last block is on its way to the database."""


def _moment(seconds: bytes) -> datetime:
    try:
        # To know on which day it is, a float will do.
        return datetime.fromtimestamp(float(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        return EARLIEST  # The database says what is wrong with it, with the line.


class ArchiveReader:
    """One pass over a file. Lines count from 1; every ImportFileError names the line where it can.

    Unpacking runs in a thread, so that the database parses one block while the next is read.
    """

    def __init__(
        self,
        file: ArchiveFile,
        block_size: int,
        progress: ReadingProgress | None = None,
        *,
        clock: Clock = utc_now,
    ) -> None:
        self._file = file
        self._block_size = max(block_size, MAX_LINE)
        self._progress = progress
        self._clock = clock
        self._stack = AsyncExitStack()
        self._stream: AsyncGenerator[bytes] | None = None
        self._rest = b""
        self._line = 1
        self._newest = -1
        self._allowed = _NUMBERS
        self._grammar = RowGrammar(())
        self.header_lines = 0
        self.columns: tuple[str, ...] = ()
        """What the fields of a row are (``archives.layouts``); known once the file is open."""
        self.first_moment = EARLIEST
        """The time of the first row, the oldest of a file in order; ``EARLIEST`` if there is none in it."""
        self.ends_with_newline = True

    async def __aenter__(self) -> ArchiveReader:
        try:
            self._stream = await self._stack.enter_async_context(aclosing(await self._open()))
            self._rest = await self._read()
            self._inspect_start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def has_ids(self) -> bool:
        """Whether the rows of a trade file carry ids, so that it can be stored in steps."""
        return "trade_id" in self.columns

    @property
    def rows(self) -> int:
        """How many rows were handed out."""
        return self._line - 1 - self.header_lines

    def error(self, reason: str, line: int | None = None, hint: str | None = None) -> ImportFileError:
        """An error about this file; ``line`` counts rows as they were handed out, from 1."""
        shown = None if line is None else line + self.header_lines
        return ImportFileError(self._file.name, reason, line=shown, hint=hint)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Blocks of whole lines. The last line counts as whole even where its line end is missing."""
        rest, self._rest = self._rest, b""
        while True:
            start = 0
            while cut := rest.rfind(b"\n", start, start + self._block_size) + 1:
                yield self._checked(rest[start:cut])
                start = cut
            rest = rest[start:]
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

    async def _open(self) -> AsyncGenerator[bytes]:
        file = self._file
        source, entry = file.source, file.entry
        if file.member is None:
            source = source or FileSource(file.path)
            return source.stream(0, source.size)
        source = source or await open_local(file.path)
        if entry is None:
            members = [member for member in await read_directory(source) if member.name == file.member]
            if not members:
                raise self.error("the archive has no such file")
            entry = members[-1]
        return unpack(source, entry)

    async def _read(self) -> bytes:
        assert self._stream is not None, "used as an asynchronous context manager"
        block = await anext(self._stream, b"")
        if self._progress is not None:
            self._progress.advance(len(block))
        return block

    def _inspect_start(self) -> None:
        if not self._rest:
            raise self.error("the file is empty")
        sample, now, interval = self._rest[:_SAMPLE], self._clock().timestamp(), self._file.interval
        try:
            if interval is None:
                layout = trade_layout(sample, now=now, declared=self._file.declared)
                self.columns, self.header_lines = layout.columns, layout.header_lines
            else:
                candles = candle_layout(sample, now=now, interval=interval)
                self.columns, self.header_lines = candles.columns, candles.header_lines
        except LayoutError as error:
            raise ImportFileError(self._file.name, error.reason, line=error.line, hint=error.hint) from error
        self._grammar = RowGrammar(self.columns)
        if not WORD_COLUMNS.isdisjoint(self.columns):
            self._allowed = _WORDS + b"\n"
        self._rest = self._rest.removeprefix(_BYTE_ORDER_MARK)
        for _ in range(self.header_lines):
            self._rest = self._rest.partition(b"\n")[2]
            self._line += 1
        fields = self._rest.partition(b"\n")[0].split(b",")
        at = self.columns.index("time" if interval is None else "timestamp")
        if len(fields) > at:
            self.first_moment = _moment(fields[at])

    def _checked(self, block: bytes) -> bytes:
        if b"\r" in block:
            block = block.replace(b"\r\n", b"\n").removesuffix(b"\r")
        if block.translate(None, self._allowed):
            allowed = set(self._allowed)
            where = next(index for index, byte in enumerate(block) if byte not in allowed)
            raise self._at(block, where, self._what_is_wrong(block, where))
        if (misfit := self._grammar.misfit(block)) is not None:
            raise ImportFileError(self._file.name, misfit[1], line=self._line + misfit[0])
        if self._file.interval is not None:
            self._check_order(block)
        self._line += block.count(b"\n")
        return block

    def _check_order(self, block: bytes) -> None:
        """Candles rise strictly in time. Looked at here, while the database parses the block before."""
        stamps = self._stamps(block)
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

    def _stamps(self, block: bytes) -> list[bytes]:
        at = self.columns.index("timestamp")
        if at == 0:
            return _STAMPS.findall(block)
        fields = [line.split(b",") for line in block.splitlines()]
        return [row[at] for row in fields if len(row) > at and row[at].isdigit()]

    def _at(self, block: bytes, where: int, reason: str) -> ImportFileError:
        return ImportFileError(self._file.name, reason, line=self._line + block.count(b"\n", 0, where))

    def _what_is_wrong(self, block: bytes, where: int) -> str:
        byte = block[where]
        start = max(block.rfind(b",", 0, where), block.rfind(b"\n", 0, where)) + 1
        stops = [stop for stop in (block.find(b",", where), block.find(b"\n", where)) if stop >= 0]
        field = block[start : min([*stops, start + 40])]
        if not field.isascii() or not field.decode("ascii").isprintable():
            return f"binary data (byte 0x{byte:02x}): this is not a CSV file"
        return f"{field.decode('ascii')!r} where a number belongs"

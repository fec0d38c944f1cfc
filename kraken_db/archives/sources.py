"""Where the bytes of an archive are: in a file, in parts that are one file, or on a server (``web.py``)."""

from __future__ import annotations

import asyncio
import os
from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from itertools import accumulate
from pathlib import Path
from typing import IO

from kraken_db.archives.byte_source import BLOCK, ByteSource, check_range, whole
from kraken_db.archives.parts import (
    check_file,
    check_sums,
    find_parts,
    find_sums,
    split_name,
    system_reason,
)
from kraken_db.archives.web import HttpSource
from kraken_db.errors import ImportFileError

__all__ = [
    "ByteSource",
    "FileSource",
    "HttpSource",
    "PartedSource",
    "check_sums",
    "find_parts",
    "find_sums",
    "open_local",
]


class FileSource:
    """A file. It is opened for each reading, and must stay the same file until the last one."""

    def __init__(self, path: Path) -> None:
        """Raises ImportFileError where there is no file to be read."""
        self._path = path
        self._known = check_file(path)
        self.name = str(path)
        self.size = self._known.st_size

    async def read(self, start: int, length: int) -> bytes:
        return await whole(self.stream(start, length))

    async def stream(self, start: int, length: int) -> AsyncGenerator[bytes]:
        check_range(self, start, length)
        try:
            with await asyncio.to_thread(self._open, start) as stream:
                while length:
                    block = await asyncio.to_thread(stream.read, min(BLOCK, length))
                    if not block:
                        raise self._changed()
                    length -= len(block)
                    yield block
        except OSError as error:
            raise ImportFileError(self.name, system_reason(error)) from error

    async def close(self) -> None:
        pass

    def _open(self, start: int) -> IO[bytes]:
        stream = self._path.open("rb", buffering=0)
        if _identity(os.fstat(stream.fileno())) != _identity(self._known):
            stream.close()
            raise self._changed()
        stream.seek(start)
        return stream

    def _changed(self) -> ImportFileError:
        return ImportFileError(self.name, "the file was changed while it was read", hint="run it again")


class PartedSource:
    """Several sources as one, in this order. ``name``: of the whole, for people. Closes all of them."""

    def __init__(self, parts: Sequence[ByteSource], name: str) -> None:
        self._parts = list(parts)
        self._starts = list(accumulate((part.size for part in parts), initial=0))
        self.name = name
        self.size = self._starts.pop()

    async def read(self, start: int, length: int) -> bytes:
        return await whole(self.stream(start, length))

    async def stream(self, start: int, length: int) -> AsyncGenerator[bytes]:
        check_range(self, start, length)
        number = bisect_right(self._starts, start) - 1
        while length:
            part, within = self._parts[number], start - self._starts[number]
            here = min(length, part.size - within)
            async with aclosing(part.stream(within, here)) as blocks:
                async for block in blocks:
                    yield block
            start, length, number = start + here, length - here, number + 1

    async def close(self) -> None:
        for part in self._parts:
            await part.close()


async def open_local(path: Path) -> ByteSource:
    """A file; or its parts as one: of ``X.zip`` that is there as ``X.zip.part00``, .. only, or of any part.

    Raises ImportFileError where nothing is there, or the set of parts is not whole.
    """
    return await asyncio.to_thread(_open_local, path)


def _open_local(path: Path) -> ByteSource:
    part = split_name(path.name)
    try:
        is_there = path.exists()
    except OSError as error:
        raise ImportFileError(path, system_reason(error)) from error
    if part is None and is_there:
        return FileSource(path)
    parts = find_parts(path) if path.parent.is_dir() else []
    if not parts or (part and not is_there):
        return FileSource(path)  # says what is wrong with it
    made_up = path.with_name(part[0]) if part else path
    count = "1 part" if len(parts) == 1 else f"{len(parts)} parts"
    return PartedSource([FileSource(part) for part in parts], f"{made_up} ({count})")


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

"""The files of the cache: blocks of candles, each of them the candles of a month in one state of the store.

A file never changes. It is written beside its place and renamed, so that a process that is killed leaves it
whole or not at all; what it leaves beside is taken away later. Other processes may delete a file that is in
use: who has mapped it keeps it. Nothing here is ever needed: what is lost or damaged is read anew.
"""

from __future__ import annotations

import os
import secrets
import struct
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import quote, unquote

from kraken_db.db.state_folder import make_private
from kraken_db.errors import ConfigurationError
from kraken_db.extras import require
from kraken_db.frames import CANDLE_COLUMNS, arrow_schema
from kraken_db.new_files import is_plain_file, replacing
from kraken_db.settings import Settings, expanded

if TYPE_CHECKING:
    import pyarrow

# Before the rows, a stream of Arrow: what the file is, its length, its checksum. As long as Arrow aligns to.
_HEADER = struct.Struct("<16sQI36x")
_MAGIC = b"kraken-db cache1"
_ENDING, _UNFINISHED = ".arrow", ".tmp"
_ABANDONED_SECONDS = 3600.0
"""Nobody writes one file for so long."""
_TOUCHED_SECONDS = 60.0
"""A block that is read again and again is noted as used once in this time."""
_MOST_OPEN = 2048
"""Blocks that stay mapped for the next read of this process. They cost no memory of their own."""
_FREED = 10
"""When there is no room, one part in so many is made free: not at every new block."""


Cache: TypeAlias = bool | str | os.PathLike[str]
"""A directory; True for that of ``KRAKEN_DB_CACHE_DIR``, or the user's own for caches; False for none."""


def cache_folder(cache: Cache) -> Path | None:
    """The directory that is meant; None for no cache. Raises ConfigurationError for what is none of these."""
    if cache is False:
        return None
    if cache is True:
        import platformdirs

        return Settings.from_environment().cache_dir or Path(platformdirs.user_cache_dir("kraken-db", False))
    if not isinstance(cache, str | os.PathLike) or not os.fspath(cache):
        raise ConfigurationError(f"cache={cache!r} is no directory", hint="write a path, or True")
    return expanded(Path(cache)).absolute()


@dataclass(frozen=True, slots=True)
class BlockName:
    """Which candles a block holds, and in which state: of two states there are two names."""

    symbol: str
    interval: str
    month: datetime
    store: str
    stamp: str

    @property
    def place(self) -> Path:
        # A month and a minute differ by their case alone, which some file systems do not keep.
        interval = quote(self.interval.replace("M", "mo"), safe="")
        return Path(quote(self.symbol, safe=""), interval, f"{self._stem}-{self.stamp}{_ENDING}")

    @property
    def _stem(self) -> str:
        return f"{self.month:%Y-%m}-{self.store}"

    def is_older(self, name: str) -> bool:
        """Whether a file holds the same candles of the same store in another state."""
        return name.startswith(f"{self._stem}-") and name != self.place.name


@dataclass(frozen=True, slots=True)
class PairUsage:
    """What the cache holds of a symbol. Sizes are bytes; ``used_at``: when a block was last read."""

    symbol: str
    blocks: int
    size: int
    used_at: datetime


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    size: int
    used_at: float


class BlockFolder:
    """Blocks in a directory, of at most ``limit`` bytes. May be used by many threads and processes at once.

    It makes a directory ``candles`` in ``folder``, private to the user. Methods raise OSError where the file
    system fails; ``find`` never does.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.path = folder / "candles"
        self.limit = limit
        self._guard = threading.Lock()
        self._open: OrderedDict[Path, tuple[pyarrow.Table, float]] = OrderedDict()
        self._unweighed = limit
        """What was written since all of it was weighed; at first nobody knows what is there."""

    def make(self) -> None:
        """Make the directory. Raises ConfigurationError where it can be none of ours."""
        make_private(self.path, "cache", hint="choose another directory")

    def opened(self, name: BlockName) -> pyarrow.Table | None:
        """The block, if this process has it open: that takes no time."""
        path, now = self.path / name.place, time.monotonic()
        with self._guard:
            table, touched = self._open.get(path, (None, 0.0))
            if table is None:
                return None
            self._open.move_to_end(path)
            if now - touched < _TOUCHED_SECONDS:
                return table
            self._open[path] = table, now
        try:
            os.utime(path)
        except OSError:
            # Somebody has deleted it: the room that it takes is free when nobody has it open.
            self._forget(path)
        return table

    def find(self, name: BlockName) -> pyarrow.Table | None:
        """The block; None if there is none, or a damaged one, which is deleted."""
        if (table := self.opened(name)) is not None:
            return table
        path = self.path / name.place
        if not is_plain_file(path):
            return None
        table = _mapped(path)
        if table is None:
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        with self._guard:
            self._open[path] = table, time.monotonic()
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
        return table

    def put(self, name: BlockName, table: pyarrow.Table) -> None:
        """Store a block, delete older ones of the same candles, and what there is no room for any more."""
        body = _body(table)
        if len(body) + _HEADER.size > self.limit // _FREED:
            return
        path = self.path / name.place
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, exist_ok=True)
            if folder.is_symlink():
                raise NotADirectoryError(20, os.strerror(20), str(folder))
        with replacing(path, path.parent / f".{secrets.token_hex(8)}{_UNFINISHED}", 0o600) as file:
            file.write(_HEADER.pack(_MAGIC, len(body), zlib.crc32(body)))
            file.write(body)
        for other in path.parent.iterdir():
            if name.is_older(other.name):
                other.unlink(missing_ok=True)
                self._forget(other)
        self._weigh(len(body))

    def usage(self) -> list[PairUsage]:
        """What there is of each symbol, the largest first."""
        of_pairs: dict[str, list[_File]] = {}
        for file in self._files():
            of_pairs.setdefault(unquote(file.path.parts[len(self.path.parts)]), []).append(file)
        found = [
            PairUsage(
                symbol,
                len(files),
                sum(file.size for file in files),
                datetime.fromtimestamp(max(file.used_at for file in files), UTC),
            )
            for symbol, files in of_pairs.items()
        ]
        return sorted(found, key=lambda one: (-one.size, one.symbol))

    def clear(self, symbols: Collection[str] | None = None) -> int:
        """Delete the blocks of these symbols, or all of them; returns how many bytes are free now."""
        freed = 0
        for file in self._files(unfinished=symbols is None):
            if symbols is None or unquote(file.path.parts[len(self.path.parts)]) in symbols:
                file.path.unlink(missing_ok=True)
                freed += file.size
        with self._guard:
            self._open.clear()
        for symbol in _folders(self.path):
            for interval in _folders(symbol):
                with suppress(OSError):  # it is not empty
                    interval.rmdir()
            with suppress(OSError):
                symbol.rmdir()
        return freed

    def _forget(self, path: Path) -> None:
        with self._guard:
            self._open.pop(path, None)

    def _weigh(self, written: int) -> None:
        """Look after the limit, each time that something was written that counts."""
        with self._guard:
            self._unweighed += written
            if self._unweighed < self.limit // (2 * _FREED):
                return
            self._unweighed = 0
        for file in self._files(unfinished=True):
            if file.path.suffix == _UNFINISHED and time.time() - file.used_at > _ABANDONED_SECONDS:
                file.path.unlink(missing_ok=True)
        files = sorted(self._files(), key=lambda file: file.used_at)
        size = sum(file.size for file in files)
        if size <= self.limit - self.limit // (2 * _FREED):
            return
        for file in files:
            if size <= self.limit - self.limit // _FREED:
                return
            file.path.unlink(missing_ok=True)
            self._forget(file.path)
            size -= file.size

    def _files(self, *, unfinished: bool = False) -> Iterator[_File]:
        """All blocks; ``unfinished``: and what is only being written, or was left by a killed process."""
        endings = (_ENDING, _UNFINISHED) if unfinished else (_ENDING,)
        for symbol in _folders(self.path):
            for interval in _folders(symbol):
                with suppress(FileNotFoundError), os.scandir(interval) as entries:
                    for entry in entries:
                        if entry.name.endswith(endings) and entry.is_file(follow_symlinks=False):
                            with suppress(FileNotFoundError):
                                found = entry.stat(follow_symlinks=False)
                                yield _File(Path(entry.path), found.st_size, found.st_mtime)


def _folders(folder: Path) -> list[Path]:
    """Those in it, without links."""
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _body(table: pyarrow.Table) -> pyarrow.Buffer:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return sink.getvalue()


def _mapped(path: Path) -> pyarrow.Table | None:
    """The rows of a file, which stay where they are; None if it is not what was written there."""
    pa = require("pyarrow", "the cache")
    try:
        # The mapping stays when the file is closed: there may be more of them than open files.
        with pa.memory_map(str(path)) as file:
            data = file.read_buffer()
        magic, length, checksum = _HEADER.unpack_from(data)
        body = data.slice(_HEADER.size)
        if magic != _MAGIC or length != len(body) or zlib.crc32(body) != checksum:
            return None
        table = pa.ipc.open_stream(pa.BufferReader(body)).read_all()
    except (OSError, struct.error, pa.ArrowException):
        return None
    return table if table.schema == arrow_schema(CANDLE_COLUMNS, "decimal") else None

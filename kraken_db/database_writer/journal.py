"""A journal: the records of one stream that memory must not hold, or not alone, on disk and in order.

::

    <journal_dir>/<fingerprint of the address>/          0700
        trades-<stream>.lock                             held by the process that writes the stream
        trades-<stream>-<first number>.journal           0600, a segment; more of them while it grows
        trades-<stream>-<first number>.journal.unreadable  one that was put aside

A segment is a row of frames: each a record with its number and a checksum, which tells a whole one from a
torn one. Segments are appended to, read from any place, and removed when all of them is stored. One that
cannot be read must not stop what comes after it: it is put aside as a stream of its own, and never removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import stat
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from kraken_db.db.embedded.keeper import try_lock
from kraken_db.db.embedded.locks import open_private

_MAGIC = b"\xa7\x4b"
_HEAD = struct.Struct("<2sII")  # magic, length of what follows, its checksum
_NUMBER = struct.Struct("<Q")
LONGEST = 65_536
"""Bytes of the longest frame: nothing that is written comes near it."""


def frame(number: int, payload: bytes) -> bytes:
    """One record. ``number`` counts up along the stream."""
    body = _NUMBER.pack(number) + payload
    return _HEAD.pack(_MAGIC, len(body), zlib.crc32(body)) + body


@dataclass(slots=True)
class Scan:
    """What a piece of a file held."""

    records: list[tuple[int, bytes]] = field(default_factory=list)
    used: int = 0
    """How many bytes have been looked at; what follows may be the beginning of a record."""
    damaged: int = 0
    """How many of these belong to no whole record."""
    whole: int = 0
    """Where the last whole record ends."""


def scan(data: bytes, *, is_end: bool, most: int) -> Scan:
    """Read up to ``most`` records. ``is_end``: nothing will follow upon ``data``."""
    found = Scan()
    while len(found.records) < most and found.used < len(data):
        end = _end_of_frame(data, found.used)
        if end is None:
            if not is_end and len(data) - found.used < LONGEST:
                break
            # Whatever it is: the next whole record is behind the next mark, if there is one.
            following = data.find(_MAGIC, found.used + 1)
            skipped_to = len(data) if following < 0 else following
            found.damaged += skipped_to - found.used
            found.used = skipped_to
            continue
        start = found.used + _HEAD.size
        (number,) = _NUMBER.unpack_from(data, start)
        found.records.append((number, data[start + _NUMBER.size : end]))
        found.used = found.whole = end
    return found


def _end_of_frame(data: bytes, at: int) -> int | None:
    """Where the frame that begins here ends; None if no whole one does."""
    if at + _HEAD.size > len(data):
        return None
    magic, length, checksum = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    if magic != _MAGIC or not _NUMBER.size <= length <= LONGEST - _HEAD.size or start + length > len(data):
        return None
    return start + length if zlib.crc32(data[start : start + length]) == checksum else None


@dataclass(frozen=True, slots=True)
class Ownership:
    """One stream of one kind (``trades``, ``candles``), which this process alone reads and writes."""

    folder: Path
    kind: str
    stream: UUID
    _lock: int

    @classmethod
    def of_new(cls, folder: Path, kind: str) -> Ownership:
        while True:
            owned = cls._take(folder, kind, uuid4())
            if owned is not None:
                return owned

    @classmethod
    def of_abandoned(cls, folder: Path, kind: str) -> list[Ownership]:
        """The streams whose process has ended without storing all of them, or without tidying up."""
        found: list[Ownership] = []
        for path in sorted(folder.glob(f"{kind}-*.lock")):
            try:
                owned = cls._take(folder, kind, UUID(path.stem.removeprefix(f"{kind}-")))
            except ValueError:
                continue
            except OSError as error:
                _log.error("a journal is left alone, for its lock %s cannot be used: %s", path, _why(error))
                continue
            if owned is not None:
                found.append(owned)
        return found

    @classmethod
    def _take(cls, folder: Path, kind: str, stream: UUID) -> Ownership | None:
        path = _lock_path(folder, kind, stream)
        fd = open_private(path)
        with contextlib.suppress(FileNotFoundError):
            # Who had it before may have taken it away in the meantime.
            if try_lock(fd, exclusive=True) and path.stat().st_ino == os.fstat(fd).st_ino:
                return cls(folder, kind, stream, fd)
        os.close(fd)
        return None

    def segments(self) -> list[Path]:
        """In the order of their first numbers."""
        return sorted(self.folder.glob(f"{self.kind}-{self.stream.hex}-*.journal"))

    def segment(self, first: int) -> Path:
        return self.folder / f"{self.kind}-{self.stream.hex}-{first:020}.journal"

    def unreadable(self) -> list[Path]:
        """What has been put aside."""
        return sorted(self.folder.glob(f"{self.kind}-{self.stream.hex}-*.journal{_ASIDE}"))

    def put_aside(self, path: Path, error: OSError) -> None:
        """Have a segment out of the way, as a stream of its own: the numbers of this one go on without it."""
        stream = uuid4()
        first = path.stem.removeprefix(f"{self.kind}-{self.stream.hex}-")
        aside = self.folder / f"{self.kind}-{stream.hex}-{first}.journal{_ASIDE}"
        try:
            os.close(open_private(_lock_path(self.folder, self.kind, stream)))
            path.rename(aside)
        except OSError as failure:
            _log.error("%s cannot be read (%s) and is passed over: %s", path, _why(error), _why(failure))
            return
        _log.error("%s cannot be read (%s): it is put aside, %s", path, _why(error), _restore_hint(aside))

    def release(self, *, leave_sign: bool = False) -> None:
        """Leave it to whoever comes next; without any segment, nothing is left at all, or a sign of it."""
        if not leave_sign and not self.segments() and not self.unreadable():
            _lock_path(self.folder, self.kind, self.stream).unlink(missing_ok=True)
        os.close(self._lock)


def _lock_path(folder: Path, kind: str, stream: UUID) -> Path:
    return folder / f"{kind}-{stream.hex}.lock"


def _restore_hint(aside: Path) -> str:
    return f"as {aside}. To store it: make it readable, take {_ASIDE} off its name, and begin again"


def _why(error: OSError) -> str:
    return error.strerror or str(error)


_ASIDE = ".unreadable"
_CHUNK = 1 << 20
_log = logging.getLogger(__name__)
# Not the fault of the file that was to be opened or read.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN}


@dataclass(slots=True)
class Segment:
    """A file with some of the records of a stream, in order."""

    path: Path
    last: int
    """The number of its last record."""
    size: int
    """Bytes of whole records."""


class Appender:
    """Appends to one segment. ``failed``: what the last write failed with, None if it did not."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.failed: OSError | None = None
        self._fd = open_private(segment.path, os.O_RDWR | os.O_APPEND)

    def append(self, number: int, frame: bytes) -> bool:
        """Whether it is in the file, whole. A part of it is taken off again."""
        try:
            if os.write(self._fd, frame) == len(frame):
                self.segment.last = number
                self.segment.size += len(frame)
                self.failed = None
                return True
            self.failed = OSError(28, "the disk is full")
        except OSError as error:
            self.failed = error
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self.segment.size)
        return False

    def sync(self) -> None:
        os.fsync(self._fd)

    def duplicate(self) -> int:
        """Another descriptor of the file, for a thread to sync and to close."""
        return os.dup(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class Reader:
    """Reads a segment from ``offset`` on. It may still grow, unless it ``is_final``."""

    def __init__(self, segment: Segment, offset: int = 0, *, is_final: bool = False) -> None:
        self.segment = segment
        self._offset = offset
        self._is_final = is_final
        self._fd: int | None = None

    @property
    def is_done(self) -> bool:
        """Whether everything that is there has been read."""
        return self._offset >= self.segment.size

    def read(self, most: int) -> list[tuple[int, bytes]]:
        """Up to ``most`` records; none when there is no more, or only what is damaged."""
        if self._fd is None:
            self._fd = os.open(self.segment.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        length = min(_CHUNK, self.segment.size - self._offset)
        data = os.pread(self._fd, length, self._offset)
        if not data:  # somebody has cut the file
            self._offset = self.segment.size
            return []
        is_end = self._offset + len(data) >= self.segment.size
        found = scan(data, is_end=is_end, most=most)
        if found.damaged:
            self._log_damage(found)
        self._offset += found.used
        return found.records

    def _log_damage(self, found: Scan) -> None:
        is_tail = self._offset + found.used >= self.segment.size
        if is_tail and self._is_final and found.damaged == found.used - found.whole:
            _log.warning(
                "%s: its last %d bytes are no whole record, as after a crash: they are cut off",
                self.segment.path,
                found.damaged,
            )
            with contextlib.suppress(OSError):
                os.truncate(self.segment.path, self._offset + found.whole)
            return
        _log.error("%s: %d bytes are damaged, their records are lost", self.segment.path, found.damaged)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)


SEGMENT_BYTES = 4 << 20
_LARGEST = 4 << 30
"""Bytes of the largest segment: all that a writer's memory held. A larger one would be searched for hours."""
_UNKNOWN = 2**63


@dataclass(slots=True)
class Space:
    """How much the journals of a writer may take together, in bytes."""

    limit: int
    used: int = 0


class Journal:
    """The journal of one stream. ``sync_interval``: None leaves it to the system when bytes reach the disk, 0
    waits for the disk at every record; else ``sync`` is to be called so often.
    """

    def __init__(self, owned: Ownership, space: Space, sync_interval: float | None) -> None:
        self.stream = owned.stream
        self.failure: OSError | None = None
        """Why the last record could not be written; None if the journal was full."""
        self._owned = owned
        self._space = space
        self._sync_interval = sync_interval
        self._segments: list[Segment] = []
        self._appender: Appender | None = None
        self._reader: Reader | None = None
        self._to_sync: list[int] = []
        self._is_dirty = False
        self._is_old = False
        self._highest = 0

    @classmethod
    def left_behind(cls, owned: Ownership) -> Journal | None:
        """One that an ended process did not store; None, and tidied up, if it left no records."""
        journal = cls(owned, Space(0), None)
        journal._is_old = True
        for path in owned.segments():
            found = path.lstat()
            if not stat.S_ISREG(found.st_mode):
                owned.put_aside(path, OSError(errno.EINVAL, "it is no file"))
            elif found.st_size > _LARGEST:
                owned.put_aside(path, OSError(errno.EFBIG, "no writer makes a file as large"))
            elif found.st_size:
                journal._segments.append(Segment(path, _UNKNOWN, found.st_size))
            else:
                _remove(path)
        if journal._segments:
            return journal
        for path in owned.unreadable():
            _log.warning("a part of the journal is still put aside, %s", _restore_hint(path))
        owned.release()
        return None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self._segments)

    @property
    def folder(self) -> Path:
        return self._owned.folder

    def append(self, number: int, payload: bytes) -> bool:
        """Whether the record is in the journal: not, if that is full or cannot be written."""
        framed = frame(number, payload)
        self.failure = None
        if self._space.used + len(framed) > self._space.limit:
            return False
        appender = self._appender_for(number, len(framed))
        if appender is None or not appender.append(number, framed):
            self.failure = appender.failed if appender else self.failure
            return False
        self._space.used += len(framed)
        self._is_dirty = True
        if self._sync_interval == 0:
            _sync_and_close([appender.duplicate()])
        return True

    def begin_reading(self) -> None:
        """What is appended from now on is what ``read`` gives."""
        self._stop_reading()
        if self._appender is not None:
            self._reader = Reader(self._appender.segment, self._appender.segment.size)

    def read(self, most: int) -> list[tuple[int, bytes]]:
        """The next records, at most so many; none at the end of what there is."""
        records: list[tuple[int, bytes]] = []
        while len(records) < most and self._find_unread():
            assert self._reader is not None
            try:
                records += self._reader.read(most - len(records))
            except OSError as error:
                if error.errno in _PASSING:
                    raise
                self._put_aside(self._reader.segment, error)
                continue
            self._highest = max(self._highest, records[-1][0] if records else 0)
            if self._is_old and self._reader.is_done:
                self._reader.segment.last = self._highest
        return records

    def forget(self, last: int) -> None:
        """The records up to ``last`` are stored: remove the files that have no others."""
        while self._segments and self._segments[0].last <= last:
            segment = self._segments[0]
            self._let_go_of(segment)
            _remove(segment.path)
            self._space.used -= 0 if self._is_old else segment.size

    def _put_aside(self, segment: Segment, error: OSError) -> None:
        at = self._segments.index(segment)
        self._let_go_of(segment)
        self._owned.put_aside(segment.path, error)
        if at < len(self._segments):
            self._reader = self._reader_at(at)
        elif self._segments:  # what stands before it has been read
            last = self._segments[-1]
            self._reader = Reader(last, last.size)

    def _reader_at(self, at: int) -> Reader:
        return Reader(self._segments[at], is_final=self._is_old and at + 1 == len(self._segments))

    def _let_go_of(self, segment: Segment) -> None:
        if self._reader is not None and self._reader.segment is segment:
            self._stop_reading()
        if self._appender is not None and self._appender.segment is segment:
            self._appender.close()
            self._appender = None
        self._segments.remove(segment)

    def spill(self, records: Iterable[tuple[int, bytes]]) -> None:
        """Put records in front of those that are there: memory is given up. Raises OSError."""
        framed = [(number, frame(number, payload)) for number, payload in records]
        if not framed:
            return
        segment = Segment(self._owned.segment(framed[0][0]), 0, 0)
        if segment.path.exists():
            segment.path = segment.path.with_stem(segment.path.stem + "a")
        appender = Appender(segment)
        try:
            for number, piece in framed:
                if not appender.append(number, piece):
                    raise appender.failed or OSError("it could not be written")
            appender.sync()
        finally:
            appender.close()
        self._segments.insert(0, segment)

    async def sync(self) -> None:
        """Have on the disk what has been appended; a thread waits for it."""
        if not self._is_dirty:
            return
        self._is_dirty = False
        waiting, self._to_sync = self._to_sync, []
        if self._appender is not None:
            waiting.append(self._appender.duplicate())
        await asyncio.to_thread(_sync_and_close, waiting)

    def close(self, *, leave_sign: bool = False) -> None:
        """Leave the rest of it to the next process; if there is none, at least a sign that there was one."""
        self._stop_reading()
        waiting, self._to_sync = self._to_sync, []
        if self._appender is not None:
            waiting.append(self._appender.duplicate())
            self._appender.close()
            self._appender = None
        _sync_and_close(waiting)
        self._owned.release(leave_sign=leave_sign)

    def _appender_for(self, number: int, length: int) -> Appender | None:
        if self._appender is not None and self._appender.segment.size + length > SEGMENT_BYTES:
            if self._sync_interval is not None:
                self._to_sync.append(self._appender.duplicate())
            self._appender.close()
            self._appender = None
        if self._appender is None:
            segment = Segment(self._owned.segment(number), 0, 0)
            try:
                self._appender = Appender(segment)
            except OSError as error:
                self.failure = error
                return None
            self._segments.append(segment)
        return self._appender

    def _find_unread(self) -> bool:
        """Have the reader where there is something to read."""
        while True:
            if self._reader is None:
                if not self._segments:
                    return False
                self._reader = self._reader_at(0)
            if not self._reader.is_done:
                return True
            at = self._segments.index(self._reader.segment)
            if at + 1 == len(self._segments):
                return False
            self._stop_reading()
            self._reader = self._reader_at(at + 1)

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _remove(path: Path) -> None:
    """What is left of it is read again, and found to be stored."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _log.error("the journal %s is stored, and cannot be removed: %s", path, _why(error))


def _sync_and_close(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        try:
            os.fsync(fd)
        except OSError as error:
            _log.error("the journal could not be written to the disk: %s", error)
        finally:
            os.close(fd)

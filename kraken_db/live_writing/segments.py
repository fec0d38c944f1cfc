"""The files of a journal: appended to, read from any place, and removed when all of them is stored."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from kraken_db.db.embedded.locks import open_private
from kraken_db.live_writing.frames import Scan, scan

_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


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
            self._fd = os.open(self.segment.path, os.O_RDONLY | os.O_CLOEXEC)
        length = min(_CHUNK, self.segment.size - self._offset)
        data = os.pread(self._fd, length, self._offset)
        if not data:  # somebody has cut the file
            self._offset = self.segment.size
            return []
        is_end = self._offset + len(data) >= self.segment.size
        found = scan(data, is_end=is_end, most=most)
        if found.damaged:
            self._tell(found)
        self._offset += found.used
        return found.records

    def _tell(self, found: Scan) -> None:
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

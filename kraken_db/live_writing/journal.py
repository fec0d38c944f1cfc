"""A journal: the records of one stream that memory must not hold, or not alone, on disk and in order."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kraken_db.live_writing.folder import Ownership
from kraken_db.live_writing.frames import frame
from kraken_db.live_writing.segments import Appender, Reader, Segment

SEGMENT_BYTES = 4 << 20
_UNKNOWN = 2**63
_log = logging.getLogger(__name__)


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
            size = path.stat().st_size
            if size:
                journal._segments.append(Segment(path, _UNKNOWN, size))
            else:
                path.unlink()
        if journal._segments:
            return journal
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
            records += self._reader.read(most - len(records))
            self._highest = max(self._highest, records[-1][0] if records else 0)
            if self._is_old and self._reader.is_done:
                self._reader.segment.last = self._highest
        return records

    def forget(self, last: int) -> None:
        """The records up to ``last`` are stored: remove the files that have no others."""
        while self._segments and self._segments[0].last <= last:
            segment = self._segments[0]
            if self._reader is not None and self._reader.segment is segment:
                self._stop_reading()
            if self._appender is not None and self._appender.segment is segment:
                self._appender.close()
                self._appender = None
            segment.path.unlink(missing_ok=True)
            self._space.used -= 0 if self._is_old else segment.size
            del self._segments[0]

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
                self._reader = Reader(self._segments[0], is_final=self._is_old and len(self._segments) == 1)
            if not self._reader.is_done:
                return True
            at = self._segments.index(self._reader.segment)
            if at + 1 == len(self._segments):
                return False
            self._stop_reading()
            is_final = self._is_old and at + 2 == len(self._segments)
            self._reader = Reader(self._segments[at + 1], is_final=is_final)

    def _stop_reading(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _sync_and_close(descriptors: Iterable[int]) -> None:
    for fd in descriptors:
        try:
            os.fsync(fd)
        except OSError as error:
            _log.error("the journal could not be written to the disk: %s", error)
        finally:
            os.close(fd)

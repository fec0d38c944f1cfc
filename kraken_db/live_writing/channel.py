"""A channel: one kind of record on its way from the caller to the database; here is the caller's side.

Records have numbers. They wait in memory up to a limit; what comes beyond it goes to the journal, and so does
everything after it until the journal has been read, so that the order is kept.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kraken_db.live_writing.buffers import Batch, Buffer
from kraken_db.live_writing.journal import Journal
from kraken_db.live_writing.telling import Rarely

R = TypeVar("R")
_KEPT_REJECTIONS = 20
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Counts:
    """What a channel has done. ``written``: rows that are new or better than the stored ones."""

    written: int = 0
    known: int = 0
    flushes: int = 0
    errors: int = 0
    overflowed: int = 0
    dropped: int = 0
    rejected: int = 0
    recovered: int = 0


@dataclass(frozen=True, slots=True)
class Channel(Generic[R]):
    """What a channel is made of; ``ChannelRunner`` moves records through it.

    ``store`` writes a batch in one transaction, together with the numbers of its records, and returns how
    many rows it wrote, or None if all of it was stored before. ``revive`` is called before another attempt,
    ``end`` when all of a stream is stored.
    """

    name: str
    limit: int
    flush_size: int
    flush_interval: float
    buffer: Buffer[R]
    encode: Callable[[R], bytes]
    decode: Callable[[bytes], R]
    store: Callable[[Journal, Batch[R]], Awaitable[int | None]]
    revive: Callable[[], Awaitable[None]]
    end: Callable[[Journal], Awaitable[None]]
    is_write_ahead: bool


class Intake(Generic[R]):
    """Takes records at any time: into memory, or into the journal."""

    def __init__(self, channel: Channel[R], journal: Journal, backlog: list[Journal]) -> None:
        self.counts = Counts()
        self.rejections: deque[str] = deque(maxlen=_KEPT_REJECTIONS)
        """Why the last few records were rejected."""
        self.journal = journal
        self._channel = channel
        self._backlog = backlog
        self._in_flight: Batch[R] | None = None
        self._number = 0
        self._unread = 0
        self._is_unprotected = False
        self._since: float | None = None
        self._wake = asyncio.Event()
        self._told = Rarely(_log)

    def put(self, record: R) -> None:
        """Take a record. Never waits for the database, never raises."""
        channel = self._channel
        buffer = channel.buffer
        if self._unread:
            if channel.is_write_ahead or not buffer.replace(record):
                self._overflow(record)
            return
        if self.in_memory >= channel.limit and not buffer.replace(record):
            self._overflow(record)
            return
        self._number += 1
        if channel.is_write_ahead and not self.journal.append(self._number, channel.encode(record)):
            self._is_unprotected = True
            self._told.say(logging.ERROR, self._journal_trouble(), "kept in memory alone")
        buffer.add(self._number, record)
        if self._since is None:
            self._since = time.monotonic()
            self._wake.set()
        elif len(buffer) == channel.flush_size:
            self._wake.set()

    def reject(self, reason: str) -> None:
        """Count and tell a record that cannot be stored."""
        self.counts.rejected += 1
        self.rejections.append(reason)
        self._told.say(logging.WARNING, f"a record of {self._channel.name} is rejected", reason)

    def _overflow(self, record: R) -> None:
        if not self._unread:
            self.journal.begin_reading()
        if not self.journal.append(self._number + 1, self._channel.encode(record)):
            self.counts.dropped += 1
            self._told.say(logging.ERROR, self._journal_trouble(), f"dropped for good: {record!r:.200}")
            return
        self._number += 1
        self._unread += 1
        self.counts.overflowed += 1
        if self.counts.overflowed == 1:
            _log.warning(
                "%s: %d wait in memory; what comes now goes to the journal in %s",
                self._channel.name,
                self._channel.limit,
                self.journal.folder,
            )

    def _journal_trouble(self) -> str:
        failure = self.journal.failure
        reason = f"cannot be written ({failure.strerror})" if failure else "has reached its limit"
        return f"{self._channel.name}: the journal in {self.journal.folder} {reason}"

    @property
    def in_flight(self) -> int:
        return len(self._in_flight.records) if self._in_flight else 0

    @property
    def in_memory(self) -> int:
        """How many records wait in memory, those that are being stored among them."""
        return len(self._channel.buffer) + self.in_flight

    @property
    def in_journal(self) -> int:
        """How many records wait in the journal of this process alone."""
        return self._unread

    @property
    def journal_size(self) -> int:
        """Bytes of this process's journal, and of those that others left behind."""
        return self.journal.size + sum(journal.size for journal in self._backlog)

    @property
    def is_empty(self) -> bool:
        return not (self.in_memory or self._unread or self._backlog)

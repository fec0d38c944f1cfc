"""A channel: one kind of record on its way from the caller to the database.

Records have numbers. They wait in memory up to a limit; what comes beyond it goes to the journal, and so
does everything after it until the journal has been read, so that the order is kept. ``Intake`` is the
caller's side. ``ChannelRunner`` stores: in order, each record once, however often the database goes away. A
flush commits the number of its last record with the rows: after any crash it is known what was committed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from kraken_db.database_writer.journal import Journal
from kraken_db.durations import Durations
from kraken_db.errors import DataRefusedError, NotConnectedError, TransactionConflictError, first_line
from kraken_db.log_throttle import A_MINUTE, LogThrottle
from kraken_db.retry import may_pass
from kraken_db.times import duration_text, utc_now
from kraken_db.types import CandleRecord

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Batch(Generic[R]):
    """What is stored in one transaction. After it everything from ``first`` to ``last`` is stored.

    ``numbers`` are those of ``records``; some between ``first`` and ``last`` may be no one's.
    """

    first: int
    last: int
    numbers: Sequence[int]
    records: Sequence[R]

    def after(self, position: int) -> Batch[R]:
        """What of it comes after a number."""
        if position < self.first:
            return self
        kept = [at for at, number in enumerate(self.numbers) if number > position]
        return Batch(
            position + 1,
            self.last,
            [self.numbers[at] for at in kept],
            [self.records[at] for at in kept],
        )

    def halves(self) -> tuple[Batch[R], Batch[R]]:
        """The first and the second half; it has two records or more."""
        middle = len(self.records) // 2
        border = self.numbers[middle]
        return (
            Batch(self.first, border - 1, self.numbers[:middle], self.records[:middle]),
            Batch(border, self.last, self.numbers[middle:], self.records[middle:]),
        )


class Buffer(Protocol[R]):
    """Records that wait in memory."""

    def __len__(self) -> int: ...

    def replace(self, record: R) -> bool:
        """Whether the record has taken the place of one that waits, and needs no room."""
        ...

    def add(self, number: int, record: R) -> None:
        """Append a record with the next number, or with that of the record that it has replaced."""
        ...

    def take(self, most: int) -> Batch[R]:
        """Take out the oldest, about so many; there must be some."""
        ...


class TradeBuffer(Generic[R]):
    """Every record is one."""

    def __init__(self) -> None:
        self._records: list[R] = []
        self._last = 0

    def __len__(self) -> int:
        return len(self._records)

    def replace(self, record: R) -> bool:
        return False

    def add(self, number: int, record: R) -> None:
        self._records.append(record)
        self._last = number

    def take(self, most: int) -> Batch[R]:
        taken = self._records[:most]
        first = self._last - len(self._records) + 1
        del self._records[:most]
        last = first + len(taken) - 1
        return Batch(first, last, range(first, last + 1), taken)


class CandleBuffer:
    """Of each candle the version with the most trades: one that grows takes one place."""

    def __init__(self) -> None:
        self._candles: dict[tuple[str, datetime, int], CandleRecord] = {}
        self._first = 1
        self._last = 0

    def __len__(self) -> int:
        return len(self._candles)

    def replace(self, record: CandleRecord) -> bool:
        key = (record.symbol, record.timestamp, record.interval_minutes)
        known = self._candles.get(key)
        if known is None:
            return False
        if record.trade_count >= known.trade_count:
            self._candles[key] = record
        return True

    def add(self, number: int, record: CandleRecord) -> None:
        self._last = number
        if not self.replace(record):
            if not self._candles:
                self._first = number
            self._candles[(record.symbol, record.timestamp, record.interval_minutes)] = record

    def take(self, most: int) -> Batch[CandleRecord]:
        # All of them, for a replaced one has lost its number.
        taken = list(self._candles.values())
        self._candles.clear()
        numbers = range(self._last - len(taken) + 1, self._last + 1)
        return Batch(min(self._first, numbers[0]), self._last, numbers, taken)


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
        self.flush_durations = Durations()
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
        self._throttle = LogThrottle(_log)

    def put(self, record: R) -> bool:
        """Take a record; False where there is no room for it, so that it is lost. Never waits for the
        database, never raises."""
        channel = self._channel
        buffer = channel.buffer
        if self._unread:
            return (not channel.is_write_ahead and buffer.replace(record)) or self._overflow(record)
        if self.in_memory >= channel.limit and not buffer.replace(record):
            return self._overflow(record)
        self._number += 1
        if channel.is_write_ahead and not self.journal.append(self._number, channel.encode(record)):
            self._is_unprotected = True
            self._throttle.say(logging.ERROR, self._journal_trouble(), "kept in memory alone")
        buffer.add(self._number, record)
        if self._since is None:
            self._since = time.monotonic()
            self._wake.set()
        elif len(buffer) == channel.flush_size:
            self._wake.set()
        return True

    def reject(self, reason: str) -> None:
        """Count and log a record that cannot be stored."""
        self.counts.rejected += 1
        self.rejections.append(reason)
        self._throttle.say(logging.WARNING, f"a record of {self._channel.name} is rejected", reason)

    def _overflow(self, record: R) -> bool:
        if not self._unread:
            self.journal.begin_reading()
        if not self.journal.append(self._number + 1, self._channel.encode(record)):
            self.counts.dropped += 1
            self._throttle.say(logging.ERROR, self._journal_trouble(), f"dropped for good: {record!r:.200}")
            return False
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
        return True

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


_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
MOST_AT_ONCE = 5000
"""Records in one transaction, at most."""
_END_SECONDS = 5.0


class _GivenUpError(Exception):
    """The database is away, and the writer is being stopped."""


class ChannelRunner(Intake[R]):
    """Takes records, and stores them in a task of its own."""

    def __init__(self, channel: Channel[R], journal: Journal, backlog: list[Journal]) -> None:
        super().__init__(channel, journal, backlog)
        self.last_error: str | None = None
        self.failing_since: datetime | None = None
        """Since when the database takes nothing, UTC; None while it does."""
        self._outages = LogThrottle(_log, seconds=A_MINUTE, lines=1, is_counted=False)
        self._stored = 0
        self._stopping = asyncio.Event()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"kraken-db {self._channel.name} writer")

    async def flush(self) -> None:
        """Wait until everything that has been put so far is stored, however long that takes."""
        if self._in_flight is None and self.is_empty:
            return
        done = asyncio.get_running_loop().create_future()
        self._waiting = [item for item in self._waiting if not item[1].done()]
        self._waiting.append((self._number, done))
        self._wake.set()
        await done

    async def stop(self, seconds: float) -> int:
        """Store everything, or leave it to the journal: returns how many records are left there.

        After so many seconds, or as soon as the database fails, the journal takes what is left.
        """
        self._stopping.set()
        self._wake.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=seconds)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(NotConnectedError("the writer was stopped before all was stored"))
        self._throttle.finish()
        left = self.in_memory + self._unread
        self._give_up_memory()
        for journal in self._backlog:
            journal.close()
        if left:
            self.journal.close()
        else:
            await self._end(self.journal)
        return left

    async def _end(self, journal: Journal) -> None:
        """All of it is stored: its position is needed no more, which the next process may have to say."""
        has_ended = False
        with suppress(Exception):
            async with asyncio.timeout(_END_SECONDS):
                await self._channel.end(journal)
                has_ended = True
        journal.close(leave_sign=not has_ended)

    def _give_up_memory(self) -> None:
        """What is in memory goes in front of what is in the journal."""
        left = [self._in_flight] if self._in_flight else []
        self._in_flight = None
        while len(self._channel.buffer):
            left.append(self._channel.buffer.take(MOST_AT_ONCE))
        if self._channel.is_write_ahead and not self._is_unprotected:
            return
        encode = self._channel.encode
        try:
            self.journal.spill(
                (number, encode(record))
                for batch in left
                for number, record in zip(batch.numbers, batch.records, strict=True)
            )
        except OSError as error:
            count = sum(len(batch.records) for batch in left)
            self.counts.dropped += count
            _log.error("%s: %d are lost: the journal cannot be written: %s", self._channel.name, count, error)

    async def _run(self) -> None:
        while await self._wait_for_work():
            try:
                await self._store_backlog()
                self._in_flight = self._in_flight or self._next_batch()
                if self._in_flight is not None:
                    await self._store(self.journal, self._in_flight)
                    self._finish(self._in_flight)
            except _GivenUpError:
                return
            except Exception as error:  # a journal that cannot be read
                self._throttle.say(logging.ERROR, f"{self._channel.name}: trying again", first_line(error))
                await asyncio.sleep(_FIRST_PAUSE)

    async def _wait_for_work(self) -> bool:
        """Until there is something to store, and it is time; False if there will never be."""
        channel = self._channel
        while True:
            self._wake.clear()
            is_urgent = self._backlog or self._unread or self._waiting or self._stopping.is_set()
            if len(channel.buffer) >= channel.flush_size or (is_urgent and not self.is_empty):
                return True
            if self._stopping.is_set():
                return False
            self._wake_waiting()
            remaining = None
            if self._since is not None:
                remaining = self._since + channel.flush_interval - time.monotonic()
                if remaining <= 0 and len(channel.buffer):
                    return True
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._wake.wait()

    def _next_batch(self) -> Batch[R] | None:
        """Memory first: what is in the journal came later."""
        if len(self._channel.buffer):
            batch = self._channel.buffer.take(MOST_AT_ONCE)
            self._since = time.monotonic() if len(self._channel.buffer) else None
            return batch
        if not self._unread:
            return None
        following = self._read(self.journal, after=self._stored)
        if following is None:  # it could not be read, and was put aside
            self.counts.dropped += self._unread
        self._unread = self._number - following.last if following else 0
        return following

    def _read(self, journal: Journal, after: int = 0) -> Batch[R] | None:
        """The next records of a journal, as far as they are legible; None at its end."""
        while found := journal.read(min(MOST_AT_ONCE, self._channel.limit)):
            numbers, records = [], []
            for number, payload in found:
                if number <= after:
                    continue
                try:
                    records.append(self._channel.decode(payload))
                    numbers.append(number)
                except ValueError as error:  # of another version
                    self.reject(f"it cannot be read from the journal: {error}")
            if records:
                return Batch(numbers[0], found[-1][0], numbers, records)
        return None

    async def _store_backlog(self) -> None:
        """What ended processes have left is older: it comes first."""
        while self._backlog:
            journal = self._backlog[0]
            while batch := self._read(journal):
                await self._store(journal, batch)
                self.counts.recovered += len(batch.records)
                journal.forget(batch.last)
            journal.forget(2**63)
            await self._end(journal)
            self._backlog.remove(journal)
            _log.info("%s: what an earlier process left in the journal is stored", self._channel.name)

    async def _store(self, journal: Journal, batch: Batch[R]) -> None:
        """Store a batch, however often it takes; records that the database refuses are taken out of it."""
        pause, failures = _FIRST_PAUSE, 0
        while True:
            try:
                with self.flush_durations.measured():
                    written = await self._channel.store(journal, batch)
                break
            except Exception as error:
                self.counts.errors += 1
                self.last_error = first_line(error)
                if isinstance(error, DataRefusedError):
                    await self._store_what_can_be(journal, batch, first_line(error))
                    return
                failures += 1
                self._say_failing(error)
                if self._stopping.is_set() and not isinstance(error, TransactionConflictError):
                    raise _GivenUpError from error
            await self._pause(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            with suppress(Exception):
                await self._channel.revive()
        if failures:
            self._say_working()
        self.counts.flushes += 1
        self.counts.written += len(batch.records) if written is None else written
        self.counts.known += 0 if written is None else len(batch.records) - written

    def _say_failing(self, error: Exception) -> None:
        """Once, and once a minute for as long as it lasts."""
        since = self.failing_since = self.failing_since or utc_now()
        level = logging.WARNING if may_pass(error) else logging.ERROR
        detail = f"since {since:%H:%M:%S} UTC, trying again ({self.in_memory + self.in_journal:,} wait): "
        self._outages.say(level, self._failing, detail + first_line(error))

    def _say_working(self) -> None:
        since, self.failing_since = self.failing_since, None
        self._outages.forget(self._failing)
        took = f", after {duration_text(utc_now() - since)}" if since is not None else ""
        _log.warning("%s: the database takes them again%s", self._channel.name, took)

    @property
    def _failing(self) -> str:
        return f"{self._channel.name}: the database does not take them"

    async def _pause(self, seconds: float) -> None:
        if self._stopping.is_set():
            await asyncio.sleep(_FIRST_PAUSE)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _store_what_can_be(self, journal: Journal, batch: Batch[R], reason: str) -> None:
        if len(batch.records) == 1:
            self.reject(f"{batch.records[0]!r:.200}: {reason}")
            return
        for half in batch.halves():
            await self._store(journal, half)

    def _finish(self, batch: Batch[R]) -> None:
        self._in_flight = None
        self._stored = batch.last
        self.journal.forget(batch.last)
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        is_empty = self.is_empty
        ready = [item for item in self._waiting if item[0] <= self._stored or is_empty]
        self._waiting = [item for item in self._waiting if item not in ready]
        for _, future in ready:
            if not future.done():
                future.set_result(None)

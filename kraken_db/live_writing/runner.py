"""Stores what a channel has taken: in order, each record once, however often the database goes away.

A flush commits the number of its last record with the rows: what was committed is known after any crash, and
is never written again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TypeVar

from kraken_db.errors import NotConnectedError, TransactionConflictError
from kraken_db.live_writing.buffers import Batch
from kraken_db.live_writing.channel import Channel, Intake
from kraken_db.live_writing.faults import Fault, describe, fault_of
from kraken_db.live_writing.journal import Journal

R = TypeVar("R")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
MOST_AT_ONCE = 5000
"""Records in one transaction, at most."""
_END_SECONDS = 5.0
_log = logging.getLogger(__name__)


class _GivenUpError(Exception):
    """The database is away, and the writer is being stopped."""


class ChannelRunner(Intake[R]):
    """Takes records, and stores them in a task of its own."""

    def __init__(self, channel: Channel[R], journal: Journal, backlog: list[Journal]) -> None:
        super().__init__(channel, journal, backlog)
        self.last_error: str | None = None
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
        self._told.finish()
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
                self._told.say(logging.ERROR, f"{self._channel.name}: trying again", describe(error))
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
            self._tell_those_who_wait()
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
                written = await self._channel.store(journal, batch)
                break
            except Exception as error:
                self.counts.errors += 1
                self.last_error = describe(error)
                if fault_of(error) is Fault.DATA:
                    await self._store_what_can_be(journal, batch, describe(error))
                    return
                failures += 1
                self._told.say(
                    logging.WARNING if fault_of(error) is Fault.PASSES else logging.ERROR,
                    f"{self._channel.name}: the database does not take them; trying again",
                    describe(error),
                )
                if self._stopping.is_set() and not isinstance(error, TransactionConflictError):
                    raise _GivenUpError from error
            await self._pause(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            with suppress(Exception):
                await self._channel.revive()
        if failures:
            _log.warning("%s: the database takes them again", self._channel.name)
        self.counts.flushes += 1
        self.counts.written += len(batch.records) if written is None else written
        self.counts.known += 0 if written is None else len(batch.records) - written

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
        self._tell_those_who_wait()

    def _tell_those_who_wait(self) -> None:
        is_empty = self.is_empty
        ready = [item for item in self._waiting if item[0] <= self._stored or is_empty]
        self._waiting = [item for item in self._waiting if item not in ready]
        for _, future in ready:
            if not future.done():
                future.set_result(None)

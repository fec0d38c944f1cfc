"""A long job says in the database that it lives, so that anybody can see who works on what."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self
from uuid import UUID, uuid4

from kraken_db.db import last_words
from kraken_db.db.last_words import LastWord
from kraken_db.errors import KrakenDBError
from kraken_db.repositories.running_jobs import JobKind, RunningJob, RunningJobRepository
from kraken_db.store import Store
from kraken_db.times import utc_now

EVERY = 10.0
"""Seconds between two words."""
_APART = 0.5
_LAST_WORD_WITHIN = 2.0
_LONGEST = 500
"""Letters of a state or an error."""
_log = logging.getLogger(__name__)


class Word(NamedTuple):
    """How a job stands. ``behind``: the symbols that are not up to date."""

    state: str
    behind: Sequence[str] = ()
    error: str | None = None


def pairs_done(symbols: Sequence[str], done: Collection[str]) -> Word:
    """Of a job that does one symbol after the other."""
    behind = [symbol for symbol in symbols if symbol not in done]
    return Word(f"{len(symbols) - len(behind):,} of {len(symbols):,} pairs done", behind)


async def at_work(store: Store, kind: JobKind, symbols: Collection[str]) -> RunningJob | None:
    """A living job of this kind that works on one of the symbols; None where none has said so.

    Raises DatabaseErrors.
    """
    jobs = await store.database.reading(lambda connection: RunningJobRepository(connection).all())
    wanted = set(symbols)
    fitting = (
        job for job in jobs if job.kind == kind and job.is_alive and not wanted.isdisjoint(job.symbols)
    )
    return next(fitting, None)


@dataclass(slots=True)
class Heartbeat:
    """An asynchronous context manager around the job. What fails in here never ends the job.

    ``describe`` is asked for every word; ``None`` where there is nothing to say but that it lives.
    ``symbols`` may grow meanwhile.
    """

    store: Store
    kind: JobKind
    symbols: list[str]
    describe: Callable[[], Word] | None = None
    every: float = EVERY
    id: UUID = field(default_factory=uuid4, init=False)
    _has_news: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _beating: asyncio.Task[None] | None = field(default=None, init=False)
    _has_failed: bool = field(default=False, init=False)
    _told: int = field(default=0, init=False)
    """How many of the symbols stand in the database."""

    async def __aenter__(self) -> Self:
        await self._try(self._begin)
        self._beating = asyncio.create_task(self._beat())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._beating is not None
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        word = self._word()
        is_failure = error is not None and not isinstance(error, asyncio.CancelledError)
        state = "failed" if is_failure else word.state if self.describe else "ended"
        last = Word(state, word.behind, _text(error) or word.error)
        is_said = False
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_WITHIN):
                is_said = await self._try(lambda: self._say(last, is_over=True))
        if not is_said:
            last_words.leave(LastWord(self.id, utc_now(), last.state[:_LONGEST], last.error))

    def tell(self) -> None:
        """There is news that others wait for: the next word comes at once, or nearly so."""
        self._has_news.set()

    async def _beat(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.every):
                    await self._has_news.wait()
            self._has_news.clear()
            await self._try(lambda: self._say(self._word()))
            await asyncio.sleep(min(_APART, self.every))

    async def _begin(self) -> None:
        behind = self._word().behind
        async with self.store.database.begin() as connection:
            repository = RunningJobRepository(connection)
            where = socket.gethostname(), os.getpid()
            await repository.begin(self.id, self.kind, self.symbols, behind, *where)
            known = [word.job for word in last_words.left().values() if await repository.end(word)]
        for job in known:
            last_words.forget(job)
        self._told = len(self.symbols)

    async def _say(self, word: Word, *, is_over: bool = False) -> None:
        state, behind, error = word.state[:_LONGEST], word.behind, word.error and word.error[:_LONGEST]
        symbols = self.symbols.copy() if len(self.symbols) != self._told else None
        async with self.store.database.begin() as connection:
            repository = RunningJobRepository(connection)
            is_known = await repository.beat(self.id, state, behind, error, symbols, is_over=is_over)
        if is_known:
            self._told = self._told if symbols is None else len(symbols)
            return
        if not is_over:
            await self._begin()  # the row is gone, or the server was away when it began

    def _word(self) -> Word:
        return self.describe() if self.describe is not None else Word("at work")

    async def _try(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Returns whether the database has it."""
        try:
            await work()
        except KrakenDBError as error:
            if not self._has_failed:
                _log.info("no word of this job in the database: %s", error.message)  # the job itself tells
            self._has_failed = True
        else:
            self._has_failed = False
        return not self._has_failed


def _text(error: BaseException | None) -> str | None:
    if error is None or isinstance(error, asyncio.CancelledError):
        return None
    return error.message if isinstance(error, KrakenDBError) else type(error).__name__

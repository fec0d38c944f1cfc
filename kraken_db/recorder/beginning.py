"""What a recording waits for before it begins: the database, and Kraken's list of pairs.

Either may be away when a machine starts. What waiting does not mend, a wrong password or missing tables, is
an error at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from kraken_db.errors import (
    DatabaseError,
    ExchangeError,
    ExchangeLockoutError,
    ExchangeThrottledError,
    KrakenDBError,
    UnknownPairError,
)
from kraken_db.retry import may_pass, unless_set
from kraken_db.times import Clock, Sleep, duration_text

LONGEST_PAUSE = 15.0
"""Seconds between two looks at a database, or at a list, that is away."""
LONGEST_PAUSE_REFUSED = 900.0
"""The same where Kraken refuses: an address that is locked out is so for 15 minutes."""

_AFTER_A_REFUSAL = 60.0

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class StoppedError(Exception):
    """The recording was told to stop while it waited."""


@dataclass(frozen=True, slots=True)
class Wait:
    """What is waited for, since when, and why."""

    since: datetime
    reason: str
    is_for_database: bool


@dataclass(slots=True)
class Beginning:
    """Of one recording. ``stop``: set where it is not to begin any more."""

    stop: asyncio.Event
    clock: Clock
    sleep: Sleep = asyncio.sleep
    wait: Wait | None = field(default=None, init=False)

    async def once_possible(
        self, work: Callable[[], Awaitable[_T]], between: Callable[[], Awaitable[None]] | None = None
    ) -> _T:
        """What ``work`` returns in the end: it is called again for as long as waiting may help.

        Raises its error where that does not, and StoppedError. ``between`` runs before another attempt.
        """
        done: list[_T] = []

        async def attempts() -> None:
            done.append(await self._repeat(work, between))

        await unless_set(self.stop, attempts())
        if not done:
            raise StoppedError
        self._end_wait()
        return done[0]

    async def _repeat(
        self, work: Callable[[], Awaitable[_T]], between: Callable[[], Awaitable[None]] | None
    ) -> _T:
        pause = 1.0
        while True:
            try:
                return await work()
            except KrakenDBError as error:
                if not _is_worth_waiting(error):
                    raise
                self._note(error)
                pause = max(pause, _asked_for(error))
            await self.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            if between is not None:
                await between()

    def _note(self, error: KrakenDBError) -> None:
        is_for_database = isinstance(error, DatabaseError)
        if self.wait is None or self.wait.is_for_database != is_for_database:
            since = self.clock() if self.wait is None else self.wait.since
            self.wait = Wait(since, error.message, is_for_database)
            what = "the database" if is_for_database else "Kraken's list of pairs"
            _log.warning("%s; the recording waits for %s and begins when it is there", error.message, what)
        else:
            self.wait = Wait(self.wait.since, error.message, is_for_database)

    def _end_wait(self) -> None:
        wait, self.wait = self.wait, None
        if wait is not None:
            what = "the database" if wait.is_for_database else "Kraken's list of pairs"
            _log.warning("%s is there, after %s", what, duration_text(self.clock() - wait.since))


def _is_worth_waiting(error: KrakenDBError) -> bool:
    """Whatever Kraken says of a request it may say something else later; but a pair that it does not list
    is none."""
    if isinstance(error, ExchangeError):
        return not isinstance(error, UnknownPairError)
    return may_pass(error)


def _asked_for(error: KrakenDBError) -> float:
    """The seconds to wait at least."""
    if isinstance(error, ExchangeLockoutError):
        return LONGEST_PAUSE_REFUSED
    if isinstance(error, ExchangeThrottledError):
        return min(error.retry_after or 0.0, LONGEST_PAUSE_REFUSED)
    return 0.0 if may_pass(error) else _AFTER_A_REFUSAL

"""What is tried again, how often, and how long is waited in between.

One mechanism, ``Retry``; a policy for each purpose: ``REQUEST`` (Kraken), ``DOWNLOAD``, ``FLAWED``,
``CONFLICT`` (transactions), ``NODE``, ``READ``, ``REFRESH``, ``STARTING`` and ``CROWDED`` (the database); one
classification of errors, ``may_pass``.

Being throttled is not a failure of the exchange but of our pace, and ends no run early: it has a count of
its own, ``MAX_THROTTLED``, and only a wait of more than ``MAX_WAIT`` seconds that Kraken asks for gives up at
once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.wait import wait_exponential, wait_random

from kraken_db.errors import (
    ExchangeError,
    ExchangeThrottledError,
    ImpossibleRowError,
    NodeUnavailableError,
    RefreshInProgressError,
    ServerStartingError,
    TooManyConnectionsError,
    TransactionConflictError,
    TransientError,
)
from kraken_db.times import Sleep

MAX_THROTTLED = 20
"""How often one request may be throttled before it fails; with the waits in between about ten minutes."""
MAX_WAIT = 900.0
"""Seconds: a longer wait that Kraken asks for is an error."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def may_pass(error: BaseException) -> bool:
    """Whether the same may work later, without anybody doing something about it."""
    return isinstance(error, TransientError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """A policy: when something that failed is tried again. All times are seconds.

    ``pause``: before the second attempt; doubled each time, up to ``longest``; plus ``jitter`` at most.
    ``attempts``: at most so many are made; ``seconds``: none after a failure so long after the first one.
    ``only``: the kinds of errors that are tried again. ``level``: of the log line for an
    attempt that failed.
    """

    pause: float
    longest: float
    jitter: float = 0.0
    attempts: float = math.inf
    seconds: float = math.inf
    only: type[Exception] | tuple[type[Exception], ...] = TransientError
    level: int = logging.INFO
    sleep: Sleep = asyncio.sleep

    async def run(
        self,
        attempt: Callable[[], Awaitable[_T]],
        *,
        is_worth_it: Callable[[], bool] = lambda: True,
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> _T:
        """What ``attempt`` returns in the end; it is called again for each attempt, and must do the same.

        Raises its last error; that of an exchange names the attempts, where their number is what ended it.
        ``is_worth_it`` is asked before another attempt, ``between`` runs before it.
        """
        counts = _Counts(self)

        async def one() -> _T:
            if between is not None and counts.made:
                await between()
            return await attempt()

        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, self.only) and is_worth_it()),
            stop=counts.are_enough,
            wait=wait_exponential(self.pause, self.longest) + wait_random(0, self.jitter),
            sleep=self._pause,
            before_sleep=self._report,
            reraise=True,
        )
        try:
            return await retrying(one)
        except ExchangeError as error:
            if self.attempts < math.inf:
                counts.name_in(error)
            raise

    async def _pause(self, seconds: float) -> None:
        await self.sleep(seconds)

    def _report(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        _log.log(self.level, "%s; trying again in %.3g s", getattr(error, "message", error), pause)


class _Counts:
    """The attempts of one run that failed, by kind."""

    def __init__(self, policy: Retry) -> None:
        self._policy = policy
        self._throttled = 0
        self._failed = 0
        self._first_failure = 0.0

    @property
    def made(self) -> int:
        return self._throttled + self._failed

    def are_enough(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if not self.made:
            self._first_failure = time.monotonic()
        wait = 0.0
        if isinstance(error, ExchangeThrottledError):
            self._throttled += 1
            wait = error.retry_after or 0.0
        else:
            self._failed += 1
        if wait > MAX_WAIT or time.monotonic() - self._first_failure >= self._policy.seconds:
            return True
        is_counted = self._policy.attempts < math.inf
        return is_counted and (self._failed >= self._policy.attempts or self._throttled > MAX_THROTTLED)

    def name_in(self, error: ExchangeError) -> None:
        """An error that is not tried again is an attempt too; ``are_enough`` has not counted it."""
        made = self.made + (0 if isinstance(error, self._policy.only) else 1)
        if made > 1:
            error.attempts = made
            error.message = f"{error.message}; tried {made} times"
            error.args = (error.message,)


REQUEST = Retry(attempts=4, pause=1.0, longest=30.0, jitter=1.0)
"""One request to Kraken."""
DOWNLOAD = Retry(seconds=600.0, pause=1.0, longest=60.0, level=logging.WARNING)
"""A page of a download, from the exchange or into the database: an outage of minutes ends no run of days.

What ``REQUEST`` has tried already was tried more often than that.
"""
FLAWED = Retry(attempts=5, pause=1.0, longest=30.0, only=ImpossibleRowError, level=logging.WARNING)
"""A page of a download with a row that cannot be: what spoils one answer in passing has spoilt no five."""
CONFLICT = Retry(attempts=8, pause=0.2, longest=10.0, jitter=0.4, only=TransactionConflictError)
"""A transaction that another session was in the way of: half a minute together at most."""
NODE = Retry(
    seconds=600.0, pause=1.0, longest=15.0, jitter=1.0, only=NodeUnavailableError, level=logging.WARNING
)
"""A whole unit of work on a cluster, one of whose nodes starts again, or is replaced."""
READ = Retry(attempts=3, pause=0.1, longest=1.0, jitter=0.1)
"""A whole read from the database, for somebody who waits for it."""
REFRESH = Retry(
    seconds=600.0,
    pause=1.0,
    longest=15.0,
    jitter=1.0,
    only=(RefreshInProgressError, TransactionConflictError),
)
"""A refresh of the higher intervals, which waits for that of another session."""
STARTING = Retry(seconds=60.0, pause=0.25, longest=2.0, only=ServerStartingError, level=logging.DEBUG)
"""A connection to a server that starts."""
CROWDED = Retry(
    seconds=600.0, pause=0.25, longest=5.0, jitter=0.5, only=TooManyConnectionsError, level=logging.DEBUG
)
"""A connection to a server, or a pooler, that has none free."""


async def until_undisturbed(attempt: Callable[[], Awaitable[_T]]) -> _T:
    """What a transaction returns; done again where another session, or a lost node, was in the way."""
    return await NODE.run(lambda: CONFLICT.run(attempt))


async def unless_set(stop: asyncio.Event, work: Coroutine[Any, Any, _T]) -> _T | None:
    """What ``work`` returns; None if ``stop`` was set before it was done, and it was cancelled."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)

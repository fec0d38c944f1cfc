"""What is tried again, how often, and how long is waited in between.

``max_retries`` counts further attempts: 3 means four requests at most. Only TransientErrors are tried again.
Being throttled is not a failure of the exchange but of our pace, and ends no run early: it has a count of
its own, ``MAX_THROTTLED``, and only a wait of more than ``MAX_WAIT`` seconds that Kraken asks for gives up at
once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, retry_if_exception_type
from tenacity.stop import stop_after_attempt, stop_after_delay
from tenacity.wait import wait_exponential, wait_random, wait_random_exponential

from kraken_db.errors import ExchangeError, ExchangeThrottledError, TransactionConflictError, TransientError
from kraken_db.times import Sleep

MAX_THROTTLED = 20
"""How often one request may be throttled before it fails; with the waits in between about ten minutes."""
MAX_WAIT = 900.0
"""Seconds: a longer wait that Kraken asks for is an error."""
MAX_BACKOFF = 30.0
"""Seconds between two attempts, at most, before jitter."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``backoff``: seconds before the second attempt; doubled each time, plus up to as much by chance."""

    max_retries: int = 3
    backoff: float = 1.0
    sleep: Sleep = asyncio.sleep

    async def run(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        """What ``attempt`` returns in the end. Raises its last error, which then names the attempts."""
        counts = _Counts(self)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientError),
            stop=counts.is_enough,
            wait=wait_exponential(self.backoff, MAX_BACKOFF) + wait_random(0, self.backoff),
            sleep=self._pause,
            before_sleep=_report,
            reraise=True,
        )
        try:
            return await retrying(attempt)
        except ExchangeError as error:
            made = counts.attempts(error)
            if made > 1:
                error.attempts = made
                error.message = f"{error.message}; that was attempt {made}, the last"
                error.args = (error.message,)
            raise

    async def _pause(self, seconds: float) -> None:
        await self.sleep(seconds)


class _Counts:
    """The failures of one request by kind."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._throttled = 0
        self._failed = 0

    def is_enough(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ExchangeThrottledError):
            self._throttled += 1
            return self._throttled > MAX_THROTTLED or (error.retry_after or 0.0) > MAX_WAIT
        self._failed += 1
        return self._failed > self._policy.max_retries

    def attempts(self, error: ExchangeError) -> int:
        """``is_enough`` is not asked about an error that is not transient: it is one attempt more."""
        return self._throttled + self._failed + (0 if isinstance(error, TransientError) else 1)


def _report(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    _log.info("attempt %d failed, the next in %.1f s: %s", state.attempt_number, pause, error)


@dataclass(frozen=True, slots=True)
class Patience:
    """Tries again what fails for a reason that may pass, with growing pauses.

    ``seconds``: for how long after the first failure; ``pause``: before the second attempt; ``longest``: the
    longest pause. What Kraken's client has tried already was tried more often than that.
    """

    sleep: Sleep
    seconds: float = 600.0
    pause: float = 1.0
    longest: float = 60.0

    async def run(
        self,
        attempt: Callable[[], Awaitable[_T]],
        *,
        is_worth_it: Callable[[], bool] = lambda: True,
        between: Callable[[], Awaitable[None]] | None = None,
    ) -> _T:
        """What ``attempt`` returns in the end; raises its last error.

        ``is_worth_it`` is asked before another attempt, ``between`` runs before it.
        """
        waits = AsyncRetrying(
            retry=retry_if_exception(lambda error: _may_pass(error) and is_worth_it()),
            stop=stop_after_delay(self.seconds),
            wait=wait_exponential(self.pause, self.longest),
            sleep=self._pause,
            before_sleep=_tell,
            reraise=True,
        )
        async for one in waits:
            with one:
                if between is not None and one.retry_state.attempt_number > 1:
                    await between()
                return await attempt()
        raise AssertionError("unreachable: the last error is raised")

    async def _pause(self, seconds: float) -> None:
        await self.sleep(seconds)


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


def _may_pass(error: BaseException) -> bool:
    """A wait of hours that Kraken asks for is the user's to decide on."""
    if isinstance(error, ExchangeThrottledError) and (error.retry_after or 0.0) > MAX_WAIT:
        return False
    return isinstance(error, TransientError)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    _log.warning("%s; trying again in %.0f s", getattr(error, "message", error), pause)


ATTEMPTS = 8
"""Half a minute together at most."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.4, 10.0


async def until_undisturbed(transaction: Callable[[], Awaitable[_T]]) -> _T:
    """What ``transaction`` returns once no other session gets in its way; raises its last error.

    It is called anew for each attempt, and must do the same each time.
    """
    attempts = AsyncRetrying(
        retry=retry_if_exception_type(TransactionConflictError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(_FIRST_PAUSE, _LONGEST_PAUSE),
        before_sleep=_tell_of_conflicts,
        reraise=True,
    )
    return await attempts(transaction)


def _tell_of_conflicts(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.info("%s; trying again", error)

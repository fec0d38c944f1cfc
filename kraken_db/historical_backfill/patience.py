"""How long a download puts up with an exchange or a database that is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception
from tenacity.stop import stop_after_delay
from tenacity.wait import wait_exponential

from kraken_db.errors import ExchangeThrottledError, TransientError
from kraken_db.kraken.limiter import Sleep
from kraken_db.kraken.retry import MAX_WAIT

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


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

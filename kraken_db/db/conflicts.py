"""Transactions that the database gives up in favour of another session's: they are run again.

A writer and a background job of TimescaleDB that compresses the same chunk wait for one another: PostgreSQL
then ends one of the two, and nothing of it is left.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.stop import stop_after_attempt
from tenacity.wait import wait_random_exponential

from kraken_db.errors import TransactionConflictError

ATTEMPTS = 8
"""Half a minute together at most."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.4, 10.0
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


async def until_undisturbed(transaction: Callable[[], Awaitable[_T]]) -> _T:
    """What ``transaction`` returns once no other session gets in its way; raises its last error.

    It is called anew for each attempt, and must do the same each time.
    """
    attempts = AsyncRetrying(
        retry=retry_if_exception_type(TransactionConflictError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random_exponential(_FIRST_PAUSE, _LONGEST_PAUSE),
        before_sleep=_tell,
        reraise=True,
    )
    return await attempts(transaction)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    _log.info("%s; trying again", error)

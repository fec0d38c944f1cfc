"""The named policies: what they try again, how often, and how long they wait."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from kraken_db.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    DataRefusedError,
    ExchangeThrottledError,
    ExchangeUnavailableError,
    NodeUnavailableError,
    RefreshInProgressError,
    ServerStartingError,
    TransactionConflictError,
)
from kraken_db.retry import (
    CONFLICT,
    DOWNLOAD,
    NODE,
    READ,
    REFRESH,
    REQUEST,
    STARTING,
    Retry,
    may_pass,
    unless_set,
)


class Work:
    """Fails as often as it is told, with the same error; ``pauses`` is what was slept in between."""

    def __init__(self, policy: Retry, error: Exception, failures: int) -> None:
        self.calls = 0
        self.pauses: list[float] = []
        self._policy = replace(policy, sleep=self._sleep)
        self._error = error
        self._failures = failures

    async def run(self) -> str:
        return await self._policy.run(self._once)

    async def _once(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return "done"

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        (REQUEST, ExchangeUnavailableError("busy")),
        (DOWNLOAD, ExchangeUnavailableError("busy")),
        (DOWNLOAD, DatabaseUnavailableError("gone")),
        (DOWNLOAD, TransactionConflictError("deadlock")),
        (CONFLICT, TransactionConflictError("deadlock")),
        (READ, TransactionConflictError("deadlock")),
        (READ, DatabaseUnavailableError("gone")),
        (REFRESH, RefreshInProgressError("another one")),
        (REFRESH, TransactionConflictError("deadlock")),
        (NODE, NodeUnavailableError("a node was lost")),
        (STARTING, ServerStartingError("starting up")),
    ],
)
async def test_what_is_tried_again(policy: Retry, error: Exception) -> None:
    work = Work(policy, error, 2)
    assert await work.run() == "done"
    assert (work.calls, len(work.pauses)) == (3, 2)


@pytest.mark.parametrize(
    ("policy", "error"),
    [
        (CONFLICT, DatabaseUnavailableError("gone")),
        (NODE, DatabaseUnavailableError("gone")),
        (REFRESH, DatabaseUnavailableError("gone")),
        (STARTING, DatabaseUnavailableError("shutting down")),
        *((policy, DataRefusedError("no")) for policy in (REQUEST, DOWNLOAD, CONFLICT, READ, REFRESH)),
        *((policy, OSError("a bug")) for policy in (REQUEST, DOWNLOAD, CONFLICT, READ, REFRESH)),
    ],
)
async def test_what_is_not(policy: Retry, error: Exception) -> None:
    work = Work(policy, error, 1)
    with pytest.raises(type(error)):
        await work.run()
    assert work.calls == 1


@pytest.mark.parametrize(("policy", "attempts"), [(REQUEST, 4), (CONFLICT, 8), (READ, 3)])
async def test_how_often(policy: Retry, attempts: int) -> None:
    error = TransactionConflictError("deadlock")
    work = Work(policy, error, 99)
    with pytest.raises(TransactionConflictError):
        await work.run()
    assert work.calls == attempts
    assert sum(work.pauses) < 30


async def test_a_refresh_waits_for_another_one_for_minutes() -> None:
    work = Work(REFRESH, RefreshInProgressError("another one"), 30)
    await work.run()
    assert 5 * 60 < sum(work.pauses) < 10 * 60
    assert max(work.pauses) <= 16


async def test_time_counts_from_the_first_failure() -> None:
    """A refresh of an hour that meets another one at its end waits for it as well."""
    calls = 0

    async def attempt() -> str:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.sleep(0.3)
            raise RefreshInProgressError("another one")
        return "done"

    assert await replace(REFRESH, seconds=0.25, pause=0.0, jitter=0.0).run(attempt) == "done"


def test_what_may_pass() -> None:
    assert may_pass(ExchangeThrottledError("slow down"))
    assert may_pass(RefreshInProgressError("another one"))
    assert not may_pass(ConfigurationError("no"))
    assert not may_pass(OSError("a bug"))


async def test_unless_it_is_stopped() -> None:
    stop = asyncio.Event()

    async def work() -> str:
        return "done"

    assert await unless_set(stop, work()) == "done"
    waiting = asyncio.ensure_future(unless_set(stop, asyncio.sleep(3600, "late")))
    await asyncio.sleep(0)
    stop.set()
    assert await waiting is None

"""Patience: what is waited for and how long, and what is not; and what a stop interrupts."""

from __future__ import annotations

import asyncio

import pytest

from kraken_db.errors import (
    DatabaseUnavailableError,
    ExchangeLockoutError,
    ExchangeThrottledError,
    ExchangeUnavailableError,
)
from kraken_db.retry import Patience, unless_set


class Pauses:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def attempts(error: Exception, times: int, pauses: Pauses, patience: Patience | None = None) -> int:
    made = 0

    async def attempt() -> int:
        nonlocal made
        made += 1
        if made <= times:
            raise error
        return made

    return await (patience or Patience(pauses)).run(attempt)


async def test_patience_with_growing_pauses() -> None:
    pauses = Pauses()
    assert await attempts(DatabaseUnavailableError("gone"), 8, pauses) == 9
    assert pauses.seconds == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize(
    "error",
    [
        ExchangeLockoutError("locked out"),
        ValueError("a bug"),
        ExchangeThrottledError("in an hour", retry_after=3600.0),
    ],
)
async def test_no_patience_with_what_does_not_pass(error: Exception) -> None:
    pauses = Pauses()
    with pytest.raises(type(error)):
        await attempts(error, 1, pauses)
    assert pauses.seconds == []


async def test_patience_ends() -> None:
    with pytest.raises(ExchangeUnavailableError):
        await attempts(ExchangeUnavailableError("down"), 1, Pauses(), Patience(Pauses(), seconds=0.0))


async def test_patience_asks_whether_it_is_worth_it_and_repairs_before() -> None:
    told: list[str] = []

    async def attempt() -> None:
        told.append("attempt")
        raise DatabaseUnavailableError("gone")

    async def between() -> None:
        told.append("between")

    with pytest.raises(DatabaseUnavailableError):
        await Patience(Pauses()).run(attempt, is_worth_it=lambda: told.count("attempt") < 3, between=between)
    assert told == ["attempt", "between", "attempt", "between", "attempt"]


async def test_unless_it_is_stopped() -> None:
    stop = asyncio.Event()

    async def work() -> str:
        return "done"

    assert await unless_set(stop, work()) == "done"
    waiting = asyncio.ensure_future(unless_set(stop, asyncio.sleep(3600, "late")))
    await asyncio.sleep(0)
    stop.set()
    assert await waiting is None

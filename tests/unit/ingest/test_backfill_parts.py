"""IdSequence, Origin.cursor, the retry of downloads, Remaining."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from kraken_db.errors import (
    DatabaseUnavailableError,
    ExchangeLockoutError,
    ExchangeThrottledError,
    ExchangeUnavailableError,
)
from kraken_db.historical_backfill.download import Remaining
from kraken_db.historical_backfill.storing import Origin
from kraken_db.id_runs import IdSequence
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import as_nanoseconds, cursor_time, to_cursor
from kraken_db.retry import DOWNLOAD, Retry, unless_set

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def trade(number: int | None, second: int = 0) -> KrakenTrade:
    return KrakenTrade(Decimal(1), Decimal(1), NOON + timedelta(seconds=second), "b", "l", "", number)


def holes(*numbers: tuple[int | None, int], start: IdSequence | None = None) -> list[tuple[int, int]]:
    _, found = (start or IdSequence()).follow([trade(number, second) for number, second in numbers])
    return [(hole.first, hole.last) for hole in found]


def test_ids_without_a_hole() -> None:
    assert holes((3, 0), (4, 0), (5, 1)) == []


def test_ids_that_are_missing() -> None:
    assert holes((1, 0), (4, 1), (5, 2), (7, 3)) == [(2, 3), (6, 6)]
    assert holes((8, 1), start=IdSequence(5, NOON)) == [(6, 7)]


def test_a_run_without_ids_may_have_used_up_numbers() -> None:
    assert holes((1, 0), (None, 1), (None, 2), (2, 3)) == []
    assert holes((1, 0), (None, 1), (None, 2), (4, 3)) == []
    assert holes((1, 0), (None, 1), (None, 2), (5, 3)) == [(2, 4)]
    assert holes((1, 0), (None, 1), (2, 2), (4, 3)) == [(3, 3)]


def test_of_trades_of_one_moment_nobody_knows_where_those_without_an_id_were() -> None:
    """They are sorted before the others: Kraken had 1, 2, two without an id, 5."""
    assert holes((1, 0), (None, 1), (None, 1), (2, 1), (5, 1)) == []
    assert holes((1, 0), (None, 1), (None, 1), (2, 1), (5, 2)) == []
    assert holes((1, 0), (None, 1), (None, 1), (2, 1), (6, 2)) == [(3, 5)]
    assert holes((1, 0), (None, 1), (None, 1), (2, 1), (3, 2), (6, 3)) == [(4, 5)]


def test_a_run_that_goes_on_in_the_next_page() -> None:
    sequence, _ = IdSequence().follow([trade(1, 0), trade(None, 1)])
    assert holes((None, 2), (4, 3), start=sequence) == []


def origin(
    since: datetime | None, stored: datetime | None, chain: datetime | None, *, exact: int | None = None
) -> Origin:
    begin = exact if exact is not None else to_cursor(since) if since else 0
    return Origin(begin, IdSequence(), since, True, to_cursor(stored) if stored else None, chain)


def hour(number: int) -> datetime:
    return NOON + timedelta(hours=number)


@pytest.mark.parametrize(
    ("since", "stored", "chain", "reached", "expected"),
    [
        (None, None, None, 2, 2),  # the first run of all
        (0, 1, 0, 3, 3),  # over what is there, and beyond
        (None, 3, 0, 1, 3),  # over what is there: nothing is forgotten
        (1, 3, 0, 2, 3),
        (4, 3, 0, 5, None),  # behind a gap
        (None, 3, 2, 1, 1),  # before it, not there yet: what lies between is missing
        (None, 3, 2, 2, 3),  # before it, and now joined
        (3, 3, 2, 4, 4),  # resumed
    ],
)
def test_the_cursor_is_the_end_of_one_stretch(
    since: int | None, stored: int | None, chain: int | None, reached: int, expected: int | None
) -> None:
    def moment(number: int | None) -> datetime | None:
        return None if number is None else hour(number)

    found = origin(moment(since), moment(stored), moment(chain)).cursor(to_cursor(hour(reached)))
    assert found == (None if expected is None else to_cursor(hour(expected)))


def test_cursors_and_moments() -> None:
    assert cursor_time(1_762_820_035_982_277_754) == datetime(2025, 11, 11, 0, 13, 55, 982277, UTC)
    assert to_cursor(NOON) == 1_704_110_400 * 10**9 - 250
    assert cursor_time(to_cursor(NOON)) == NOON - timedelta(microseconds=1)
    assert to_cursor(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    assert as_nanoseconds(1_704_110_400) == 1_704_110_400 * 10**9
    assert as_nanoseconds(1_704_110_400 * 10**9) == 1_704_110_400 * 10**9
    assert as_nanoseconds(0) == 0


class Pauses:
    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


async def attempts(error: Exception, times: int, pauses: Pauses, policy: Retry = DOWNLOAD) -> int:
    made = 0

    async def attempt() -> int:
        nonlocal made
        made += 1
        if made <= times:
            raise error
        return made

    return await replace(policy, sleep=pauses).run(attempt)


async def test_a_download_is_retried_with_growing_pauses() -> None:
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
async def test_no_retry_of_what_does_not_pass(error: Exception) -> None:
    pauses = Pauses()
    with pytest.raises(type(error)):
        await attempts(error, 1, pauses)
    assert pauses.seconds == []


async def test_a_download_is_retried_for_a_time() -> None:
    with pytest.raises(ExchangeUnavailableError):
        await attempts(ExchangeUnavailableError("down"), 1, Pauses(), replace(DOWNLOAD, seconds=0.0))


async def test_retry_asks_whether_it_is_worth_it_and_repairs_before() -> None:
    told: list[str] = []

    async def attempt() -> None:
        told.append("attempt")
        raise DatabaseUnavailableError("gone")

    async def between() -> None:
        told.append("between")

    with pytest.raises(DatabaseUnavailableError):
        policy = replace(DOWNLOAD, sleep=Pauses())
        await policy.run(attempt, is_worth_it=lambda: told.count("attempt") < 3, between=between)
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


class Told:
    """A task that remembers what it was told."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.note = ""
        self.count = 0

    def advance(self, amount: int = 1) -> None:
        self.count += amount

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        self.total = self.total if total is None else total
        self.note = self.note if note is None else note

    def done(self, outcome: str = "", *, failed: bool = False) -> None:
        pass


def test_the_total_comes_from_the_ids_and_the_place_from_the_time() -> None:
    task = Told()
    remaining = Remaining(task)
    remaining.goal = trade(100, 3600)
    remaining.advance([trade(11, 0), trade(12, 900)])
    assert (task.total, task.count) == (90, 2)
    assert task.note == "at 2024-01-01 12:15, 25% of the time range"
    remaining.advance([trade(13, 7200)])
    assert (task.count, task.note) == (3, "at 2024-01-01 14:00, 100% of the time range")


def test_without_ids_there_is_no_total() -> None:
    task = Told()
    remaining = Remaining(task)
    remaining.goal = trade(None, 10)
    remaining.advance([trade(None, 0)])
    assert (task.total, task.count) == (None, 1)
    remaining = Remaining(Told())
    remaining.advance([])
    assert remaining.began is None

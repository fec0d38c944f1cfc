"""The pace of requests, with a clock that only the limiter's own sleeping moves."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count, pairwise

import pytest

from kraken_db.kraken.limiter import MIN_SLOWED_DELAY, SLOWEST, RateLimiter, shared_limiter


class FakeTime:
    """A clock in seconds. Sleepers wake in the order of their times, once nothing else can run."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), future))
        await future

    async def run(self, *tasks: asyncio.Task[object]) -> None:
        while not all(task.done() for task in tasks):
            for _ in range(20):
                await asyncio.sleep(0)
            if self._sleepers:
                moment, _, future = heapq.heappop(self._sleepers)
                if not future.done():
                    self.now = max(self.now, moment)
                    future.set_result(None)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)


@pytest.fixture
def fake() -> FakeTime:
    return FakeTime()


@pytest.fixture
def limiter(fake: FakeTime) -> RateLimiter:
    return RateLimiter(clock=fake.clock, sleep=fake.sleep)


async def take(limiter: RateLimiter, fake: FakeTime, key: str, times: int, delay: float = 1.1) -> list[float]:
    """When so many requests, all wanted at once, were started."""
    starts: list[float] = []

    async def one() -> None:
        starts.append(await limiter.acquire(key, delay))

    await fake.run(*(asyncio.create_task(one()) for _ in range(times)))
    return starts


def gaps(starts: list[float]) -> list[float]:
    return [round(after - before, 6) for before, after in pairwise(starts)]


async def test_requests_of_a_pair_start_the_delay_apart(limiter: RateLimiter, fake: FakeTime) -> None:
    starts = await take(limiter, fake, "BTC/USD", 5)
    assert starts[0] == 1000.0
    assert gaps(starts) == [1.1] * 4


async def test_pairs_do_not_wait_for_each_other(limiter: RateLimiter, fake: FakeTime) -> None:
    async def all_of(key: str) -> None:
        for _ in range(3):
            await limiter.acquire(key, 1.0)

    await fake.run(*(asyncio.create_task(all_of(key)) for key in "abcd"))
    assert fake.now == 1002.0


async def test_a_delay_that_passed_already_is_not_waited_for(limiter: RateLimiter, fake: FakeTime) -> None:
    await limiter.acquire("a", 1.0)
    fake.now += 5
    assert await limiter.acquire("a", 1.0) == 1005.0


async def test_without_a_delay_nothing_waits(limiter: RateLimiter, fake: FakeTime) -> None:
    assert await take(limiter, fake, "a", 50, delay=0.0) == [1000.0] * 50


async def test_who_comes_first_goes_first(limiter: RateLimiter, fake: FakeTime) -> None:
    order: list[int] = []

    async def one(number: int) -> None:
        await limiter.acquire("a", 1.0)
        order.append(number)

    await fake.run(*(asyncio.create_task(one(number)) for number in range(10)))
    assert order == list(range(10))


async def test_each_throttled_request_slows_down_up_to_a_bound(limiter: RateLimiter, fake: FakeTime) -> None:
    seen: list[float] = []
    for _ in range(6):
        started = await limiter.acquire("a", 1.0) if not seen else fake.now
        limiter.throttled("a", started)
        fake.now += 100
        seen.append(limiter.interval("a", 1.0))
    assert seen == [1.5, 2.25, 3.375, SLOWEST, SLOWEST, SLOWEST]
    assert gaps(await take(limiter, fake, "a", 3, delay=1.0)) == [SLOWEST] * 2
    assert limiter.interval("b", 1.0) == 1.0


async def test_requests_under_way_together_slow_down_once(limiter: RateLimiter, fake: FakeTime) -> None:
    starts = await take(limiter, fake, "a", 3, delay=0.5)
    for started in starts:
        limiter.throttled("a", started)
    assert limiter.interval("a", 0.5) == 0.75


async def test_recovery_is_slow_and_complete(limiter: RateLimiter, fake: FakeTime) -> None:
    limiter.throttled("a", fake.now)
    needed = 0
    while limiter.interval("a", 1.0) > 1.0:
        limiter.answered("a")
        needed += 1
    assert 10 <= needed <= 50
    assert limiter.interval("a", 1.0) == 1.0


async def test_without_a_delay_throttling_makes_one(limiter: RateLimiter, fake: FakeTime) -> None:
    limiter.throttled("a", fake.now)
    assert limiter.interval("a", 0.0) == pytest.approx(MIN_SLOWED_DELAY * 1.5)


async def test_wait_until_holds_those_too_that_wait_already(limiter: RateLimiter, fake: FakeTime) -> None:
    started = await limiter.acquire("a", 1.0)
    waiting = asyncio.create_task(limiter.acquire("a", 1.0))
    await fake.settle()
    limiter.throttled("a", started, 30.0)
    await fake.run(waiting)
    assert waiting.result() == 1030.0


async def test_a_shorter_wait_does_not_end_a_longer_one(limiter: RateLimiter, fake: FakeTime) -> None:
    limiter.throttled("a", fake.now, 30.0)
    limiter.throttled("a", fake.now, 5.0)
    assert await take(limiter, fake, "a", 1) == [1030.0]


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_who_is_cancelled_has_taken_nothing(limiter: RateLimiter, fake: FakeTime, victim: int) -> None:
    await limiter.acquire("a", 1.0)
    waiting = [asyncio.create_task(limiter.acquire("a", 1.0)) for _ in range(3)]
    await fake.settle()
    waiting[victim].cancel()
    await fake.run(*waiting)
    left = [task.result() for task in waiting if not task.cancelled()]
    assert left == [1001.0, 1002.0]


async def test_cancelled_in_the_moment_of_its_turn(limiter: RateLimiter, fake: FakeTime) -> None:
    await limiter.acquire("a", 1.0)
    first, second, third = (asyncio.create_task(limiter.acquire("a", 1.0)) for _ in range(3))
    await fake.settle()
    first.cancel()
    await asyncio.sleep(0)  # the turn has been passed to the second, which does not run yet
    second.cancel()
    await fake.run(first, second, third)
    assert third.result() == 1001.0


def test_a_pace_is_kept_across_event_loops() -> None:
    limiter = RateLimiter()

    async def twice() -> list[float]:
        return list(await asyncio.gather(*(limiter.acquire("a", 0.05) for _ in range(2))))

    starts = [*asyncio.run(twice()), *asyncio.run(twice())]
    assert min(gaps(starts)) >= 0.05


def test_a_loop_that_ended_while_waiting_holds_nobody_up() -> None:
    limiter = RateLimiter()

    async def leave_one_waiting() -> None:
        await limiter.acquire("a", 0.05)
        task = asyncio.create_task(limiter.acquire("a", 0.05))
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(leave_one_waiting())
    asyncio.run(asyncio.wait_for(limiter.acquire("a", 0.05), 5))


def test_there_is_one_for_the_process() -> None:
    assert shared_limiter() is shared_limiter()

"""One pace for each (address, pair), kept by everything in the process that asks Kraken.

Kraken limits Trades and OHLC per IP and pair, all other calls per IP. One request a second and pair is what
its documentation allows; on long runs 1.5 s was refused and 3 s was not. So a bucket begins at the caller's
delay, gets slower when Kraken throttles, up to four times the delay, and comes back slowly.

All times are seconds of a monotonic clock.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from kraken_db.times import Sleep

SLOW_DOWN = 1.5
"""What a throttled request multiplies the delay by."""
SLOWEST = 4.0
"""The most that the delay is multiplied by."""
RECOVERY = 0.98
"""What each answered request multiplies the slow-down by."""
MIN_SLOWED_DELAY = 0.1
"""Seconds: what is multiplied where the caller's own delay is shorter, or none at all."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """Someone in the queue of a bucket; told by ``turn`` that nobody is before it any more."""

    loop: asyncio.AbstractEventLoop
    turn: asyncio.Future[None]

    def call(self) -> bool:
        """Tell it. False where its event loop has ended, and nobody waits there any more."""
        try:
            self.loop.call_soon_threadsafe(self._set)
        except RuntimeError:
            return False
        return True

    def _set(self) -> None:
        if not self.turn.done():
            self.turn.set_result(None)


@dataclass(slots=True)
class _Bucket:
    queue: deque[_Waiter] = field(default_factory=deque)
    last_start: float = float("-inf")
    held_until: float = float("-inf")
    slowed_at: float = float("-inf")
    factor: float = 1.0

    def interval(self, delay: float) -> float:
        return delay if self.factor == 1.0 else max(delay, MIN_SLOWED_DELAY) * self.factor


class RateLimiter:
    """Lets requests of one key start one after the other, in the order they came, a delay apart.

    Keys do not wait for each other. It may be used from several event loops and threads. Whoever is
    cancelled while waiting has taken nothing.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, sleep: Sleep = asyncio.sleep) -> None:
        self._clock = clock
        self._sleep = sleep
        self._buckets: dict[Hashable, _Bucket] = {}
        self._lock = threading.Lock()

    async def acquire(self, key: Hashable, delay: float) -> float:
        """Wait until a request of the key may start, ``delay`` seconds or more after the last one.

        Returns the moment it started, by which ``throttled`` knows the request.
        """
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop, loop.create_future())
        with self._lock:
            bucket = self._buckets.setdefault(key, _Bucket())
            bucket.queue.append(waiter)
            is_first = bucket.queue[0] is waiter
        try:
            if not is_first:
                await waiter.turn
            while (left := self._seconds_left(bucket, delay)) > 0:
                await self._sleep(left)
            bucket.last_start = self._clock()
            return bucket.last_start
        finally:
            self._leave(bucket, waiter)

    def throttled(self, key: Hashable, started: float, wait: float | None = None) -> None:
        """Kraken refused the request that began at ``started``: go slower, and not before ``wait`` seconds.

        Of requests that were under way together only the first slows the bucket down.
        """
        with self._lock:
            bucket, now = self._buckets.setdefault(key, _Bucket()), self._clock()
            if started > bucket.slowed_at:
                bucket.factor = min(SLOWEST, bucket.factor * SLOW_DOWN)
                bucket.slowed_at = now
            if wait is not None:
                bucket.held_until = max(bucket.held_until, now + wait)

    def answered(self, key: Hashable) -> None:
        """Kraken answered: come back to the delay, slowly."""
        with self._lock:
            bucket = self._buckets.setdefault(key, _Bucket())
            factor = bucket.factor * RECOVERY
            bucket.factor = factor if factor > 1.01 else 1.0

    def interval(self, key: Hashable, delay: float) -> float:
        """The seconds that lie between two requests of the key at present."""
        with self._lock:
            return self._buckets.get(key, _Bucket()).interval(delay)

    def _seconds_left(self, bucket: _Bucket, delay: float) -> float:
        with self._lock:
            return max(bucket.last_start + bucket.interval(delay), bucket.held_until) - self._clock()

    def _leave(self, bucket: _Bucket, waiter: _Waiter) -> None:
        """Out of the queue; whoever is first now gets its turn."""
        with self._lock:
            if waiter not in bucket.queue:  # its event loop had ended
                return
            was_first = bucket.queue[0] is waiter
            bucket.queue.remove(waiter)
            while was_first and bucket.queue and not bucket.queue[0].call():
                bucket.queue.popleft()


_SHARED = RateLimiter()


def shared_limiter() -> RateLimiter:
    """The limiter of the process, which every client uses unless it is given another."""
    return _SHARED

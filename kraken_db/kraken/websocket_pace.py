"""How often a client of Kraken's WebSocket connects, and how many frames it sends; no socket in here.

About 150 attempts to connect in ten minutes, and Kraken bans the address for ten more. Frames are limited
too, by a number that nobody publishes and that varies: so it is found out.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReconnectLimits:
    """Seconds, and numbers of attempts. The defaults stay inside of what Kraken allows."""

    at_once: int = 3
    """Attempts in a row without a pause; a connection that has lasted ``stable_after`` gives them back."""
    pause: float = 5.0
    """Between two attempts after that, at least."""
    jitter: float = 1.0
    """Up to so much more, by chance: not all clients come back at the same moment."""
    most: int = 140
    """In ``within`` seconds, whatever else is true."""
    within: float = 600.0
    stable_after: float = 60.0


class ReconnectPace:
    """Counts the attempts of one client; ``clock`` gives seconds and never runs backwards."""

    def __init__(
        self,
        limits: ReconnectLimits,
        clock: Callable[[], float],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._draw = draw
        self._attempts: deque[float] = deque()
        self._in_a_row = 0
        self._connected_at: float | None = None

    def attempted(self) -> None:
        """An attempt begins now."""
        self._attempts.append(self._clock())
        self._in_a_row += 1

    def connected(self) -> None:
        self._connected_at = self._clock()

    def wait(self, asked: float = 0.0) -> float:
        """The connection has ended: seconds until the next attempt; ``asked``: at least so many."""
        now, limits = self._clock(), self._limits
        if self._connected_at is not None and now - self._connected_at >= limits.stable_after:
            self._in_a_row = 0
        self._connected_at = None
        while self._attempts and now - self._attempts[0] >= limits.within:
            self._attempts.popleft()
        pause = asked
        if self._in_a_row > limits.at_once:
            pause = max(pause, limits.pause)
        if len(self._attempts) >= limits.most:
            pause = max(pause, self._attempts[-limits.most] + limits.within - now)
        return pause + self._draw() * limits.jitter if pause else 0.0


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Frames a second. Kraken says when they are too many."""

    per_second: float = 4.0
    at_once: int = 4
    """Frames that may follow each other at once where none was refused lately."""
    least: float = 0.2
    faster_after: float = 20.0
    """Seconds without a refusal after which the pace grows by a quarter, up to ``per_second``."""


_ONE_EXCESS = 1.0
"""Seconds in which all refusals count as one: they are those of frames that were under way together."""


class RequestPace:
    """When the next frame may be sent: slower when Kraken refuses some, faster again step by step."""

    def __init__(self, limits: RequestLimits) -> None:
        self.per_second = limits.per_second
        self._limits = limits
        self._room = float(limits.at_once)
        self._seen_at: float | None = None
        self._changed_at = 0.0
        self._slowed_at = -_ONE_EXCESS

    def take(self, now: float) -> bool:
        """Whether a frame may be sent now; it counts as sent then."""
        self._let_time_pass(now)
        if self._room < 1.0 - 1e-9:
            return False
        self._room -= 1.0
        return True

    def slow_down(self, now: float) -> None:
        """Kraken has refused a frame because there were too many."""
        self._let_time_pass(now)
        if now - self._slowed_at < _ONE_EXCESS:
            return
        self._slowed_at = self._changed_at = now
        self.per_second = max(self._limits.least, self.per_second / 2)
        self._room = -_ONE_EXCESS * self.per_second

    def _let_time_pass(self, now: float) -> None:
        if self._seen_at is None:
            self._changed_at = now
        else:
            self._room += (now - self._seen_at) * self.per_second
        self._seen_at = now
        if self.per_second < self._limits.per_second and now - self._changed_at >= self._limits.faster_after:
            self.per_second = min(self._limits.per_second, 1.25 * self.per_second)
            self._changed_at = now
        is_slowed = self.per_second < self._limits.per_second
        self._room = min(self._room, 1.0 if is_slowed else float(self._limits.at_once))

"""How often one may connect: about 150 attempts in ten minutes, and Kraken bans the address for ten more."""

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

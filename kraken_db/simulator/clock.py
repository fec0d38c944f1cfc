"""The exchange's time, in nanoseconds since 1970: any function that returns it will do."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from kraken_db.errors import ConfigurationError

Clock: TypeAlias = Callable[[], int]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ns(moment: datetime) -> int:
    """Nanoseconds since 1970, exact. Raises ConfigurationError for a moment without a zone."""
    if moment.utcoffset() is None:
        raise ConfigurationError(
            f"{moment.isoformat()} has no zone", hint="pass aware datetimes, e.g. tzinfo=UTC"
        )
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime | int) -> None:
        self.now_ns = now if isinstance(now, int) else to_ns(now)

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += round(seconds * 1_000_000_000)


class FastClock:
    """A clock that shows ``start`` at its beginning and then runs ``speed`` times as fast as real time.

    Several processes that give it the same ``began`` (real nanoseconds since 1970) see the same time.
    """

    def __init__(self, start: datetime | int, speed: float, began: int | None = None) -> None:
        self.start_ns = start if isinstance(start, int) else to_ns(start)
        self.speed = speed
        self.began_ns = time.time_ns() if began is None else began

    def __call__(self) -> int:
        return self.start_ns + int((time.time_ns() - self.began_ns) * self.speed)

    def now(self) -> datetime:
        """The same as a time in UTC, to the microsecond."""
        return _EPOCH + timedelta(microseconds=self() // 1000)

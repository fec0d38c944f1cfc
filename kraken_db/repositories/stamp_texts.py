"""Times as COPY reads them fastest: a day and a time of the day, both looked up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

DAY = 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1)
def times_of_day() -> tuple[bytes, ...]:
    """``b" 00:00:00"`` and all other seconds of a day."""
    hours = (f"{hour:02}:{minute:02}" for hour in range(24) for minute in range(60))
    return tuple(f" {hour}:{second:02}".encode() for hour in hours for second in range(60))


def day_of(seconds: int) -> tuple[int, bytes]:
    """The second at which the day of a moment begins, and ``b"2024-01-31"``. Raises OverflowError."""
    start = seconds - seconds % DAY
    return start, f"{EPOCH + timedelta(seconds=start):%Y-%m-%d}".encode()

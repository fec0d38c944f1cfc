"""Kraken's cursors: nanoseconds since 1970, of which a database keeps microseconds."""

from __future__ import annotations

from datetime import UTC, datetime

from kraken_db.ranges import TICK

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLOAT_STEP = 250  # ns
_TEN_DIGITS = 10


def to_cursor(moment: datetime) -> int:
    """A cursor for the trades from ``moment`` on, whether ``since`` includes its own moment or not.

    A little before: Kraken shows the float64 nearest to its stamp, and that can lie in the next microsecond.
    """
    return max(0, (moment - _EPOCH) // TICK * 1000 - _FLOAT_STEP)


def cursor_time(cursor: int) -> datetime:
    """The microsecond that a cursor lies in."""
    return _EPOCH + TICK * (cursor // 1000)


def as_nanoseconds(since: int) -> int:
    """``since`` as Kraken reads it: with up to ten digits it is in seconds."""
    return since * 1_000_000_000 if 0 < since < 10**_TEN_DIGITS else since

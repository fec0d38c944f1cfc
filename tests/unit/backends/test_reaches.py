"""Where the outermost rows are looked for, and which refreshes have anything to do. Times are by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kraken_db.backends.base import StaleRange
from kraken_db.backends.reaches import KnownSpan, reaches
from kraken_db.backends.timescale_refresh import is_due
from kraken_db.ranges import TICK

DAY = timedelta(days=1)


def day(number: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(2024, 1, number, hour, minute, tzinfo=UTC)


def test_a_symbol_that_begins_and_ends_with_the_store_has_open_ends() -> None:
    known = KnownSpan(day(5), day(20), day(4), day(21))
    assert known.older(2 * DAY, day(1)) == [(day(1), day(5) + TICK)]
    assert known.newer(2 * DAY, day(31)) == [(day(20), day(31))]


def test_what_only_others_have_rows_of_is_left_out() -> None:
    known = KnownSpan(day(9), day(20), day(4), day(28))
    assert known.older(2 * DAY, day(1)) == [(day(1), day(4)), (day(7), day(9) + TICK)]
    assert known.newer(2 * DAY, day(31)) == [(day(28), day(31)), (day(20), day(22))]


def test_reaches_grow_and_touch_in_both_directions() -> None:
    assert list(reaches(day(1), day(31), DAY)) == [
        (day(1), day(2)),
        (day(2), day(10)),
        (day(10), day(31)),
    ]
    assert list(reaches(day(12), day(1), DAY)) == [
        (day(11), day(12)),
        (day(3), day(11)),
        (day(1), day(3)),
    ]
    assert list(reaches(day(3), day(3), DAY)) == []


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        # Wednesday, 10:07 to 10:31, refreshed at 10:32: its candles of 1h, 4h, 12h and 1d are open.
        (day(3, 10, 32), False),
        (day(3, 10, 59), False),
        (day(3, 11), True),
    ],
)
def test_what_was_refreshed_is_due_when_another_of_its_candles_has_closed(
    now: datetime, expected: bool
) -> None:
    item = StaleRange("BTC/USD", day(3, 10, 7), day(3, 10, 31), day(3, 10, 32))
    # The candles of 5m, 15m and 30m that begin at 10:30 close at 10:35, 10:45 and 11:00.
    item_until_half_past = StaleRange("BTC/USD", day(3, 10, 7), day(3, 10, 30), day(3, 10, 32))
    assert is_due(item_until_half_past, now) == expected
    assert is_due(item, now) == (now >= day(3, 10, 35))
    assert is_due(StaleRange("BTC/USD", day(3, 10, 7), day(3, 10, 31)), now)

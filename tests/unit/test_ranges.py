"""Sets of time ranges, held against sets of minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kraken_db.ranges import TimeRange, difference, intersection, union, whole_candles, whole_minutes

START = datetime(2024, 1, 1, tzinfo=UTC)
HALF = timedelta(seconds=30)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


ranges = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda pair: (at(min(pair)), at(max(pair)))),
    max_size=6,
)


def held(items: list[TimeRange]) -> set[int]:
    """The minutes in them."""
    return {minute for minute in range(61) for start, end in items if start <= at(minute) < end}


def assert_apart(items: list[TimeRange]) -> None:
    assert all(start < end for start, end in items)
    assert all(one[1] < other[0] for one, other in pairwise(items))


@given(ranges, ranges)
def test_sets_of_ranges_are_sets(one: list[TimeRange], other: list[TimeRange]) -> None:
    for found, expected in (
        (union(one, other), held(one) | held(other)),
        (intersection(one, other), held(one) & held(other)),
        (difference(one, other), held(one) - held(other)),
    ):
        assert held(found) == expected
        assert_apart(found)


def test_whole_candles() -> None:
    assert whole_candles([(at(3), at(4)), (at(10), at(15)), (at(16), at(17))], 5) == [
        (at(0), at(5)),
        (at(10), at(20)),
    ]


def test_whole_minutes() -> None:
    cut = [(at(0) + HALF, at(2) + HALF), (at(2) + HALF, at(4) + HALF), (at(7), at(7) + HALF)]
    assert whole_minutes(cut) == [(at(1), at(4))]

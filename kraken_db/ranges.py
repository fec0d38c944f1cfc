"""Sets of half-open time ranges: start inclusive, end exclusive, aware UTC."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TypeAlias

from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval

TICK = timedelta(microseconds=1)
"""The smallest step of time that a database keeps."""

TimeRange: TypeAlias = tuple[datetime, datetime]
"""Start inclusive, end exclusive."""


def union(*sets: Iterable[TimeRange]) -> list[TimeRange]:
    """In order of time and apart from each other; ranges that touch become one, empty ones vanish."""
    merged: list[TimeRange] = []
    for start, end in sorted(item for ranges in sets for item in ranges):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def intersection(first: Iterable[TimeRange], second: Iterable[TimeRange]) -> list[TimeRange]:
    """What lies in both."""
    one, other = union(first), union(second)
    common: list[TimeRange] = []
    left = right = 0
    while left < len(one) and right < len(other):
        start, end = max(one[left][0], other[right][0]), min(one[left][1], other[right][1])
        if start < end:
            common.append((start, end))
        if one[left][1] < other[right][1]:
            left += 1
        else:
            right += 1
    return common


def difference(ranges: Iterable[TimeRange], without: Iterable[TimeRange]) -> list[TimeRange]:
    """What lies in the first and not in the second."""
    kept: list[TimeRange] = []
    holes = union(without)
    first = 0
    for start, end in union(ranges):
        while first < len(holes) and holes[first][1] <= start:
            first += 1
        at = first
        while at < len(holes) and holes[at][0] < end:
            if start < holes[at][0]:
                kept.append((start, holes[at][0]))
            start = max(start, holes[at][1])
            at += 1
        if start < end:
            kept.append((start, end))
    return kept


def whole_candles(ranges: Iterable[TimeRange], interval: int) -> list[TimeRange]:
    """The candles that the ranges touch, from the open time of the first to the close of the last."""
    return union(
        (floor_to_interval(start, interval), ceil_to_interval(end, interval)) for start, end in ranges
    )


def whole_minutes(ranges: Iterable[TimeRange]) -> list[TimeRange]:
    """The minutes that lie in the ranges as a whole."""
    return union(
        (ceil_to_interval(start, BASE_INTERVAL), floor_to_interval(end, BASE_INTERVAL))
        for start, end in union(ranges)
    )

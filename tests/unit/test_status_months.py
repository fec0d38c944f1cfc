"""Which months are whole: the first counts from its beginning, the running one to its end."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from kraken_db.ranges import TICK
from kraken_db.repositories.coverage import CoverageSummary, MonthCoverage
from kraken_db.status import month_states

DAY = timedelta(days=1)
NOW = datetime(2024, 5, 20, 12, tzinfo=UTC)
NOTHING = timedelta(0)


def day(month: int, number: int, year: int = 2024) -> datetime:
    return datetime(year, month, number, tzinfo=UTC)


def states(
    start: datetime,
    end: datetime,
    covered: dict[int, timedelta],
    *,
    dropped: dict[int, timedelta] | None = None,
    kept_from: datetime | None = None,
) -> list[str]:
    summary = CoverageSummary("BTC/USD", "trades", ("csv",), start, end, 1, 0, timedelta(0), ())
    months = [
        MonthCoverage("BTC/USD", "trades", date(2024, month, 1), length, (dropped or {}).get(month, NOTHING))
        for month, length in covered.items()
    ]
    return [month.state for month in month_states(summary, months, kept_from, NOW)]


@pytest.mark.parametrize(
    ("covered", "expected"),
    [
        # From 10 February until half a day ago; February has 29 days.
        ({2: 20 * DAY, 3: 31 * DAY, 4: 30 * DAY, 5: 19 * DAY}, ["full", "full", "full", "full"]),
        (
            {2: 20 * DAY, 3: 31 * DAY - TICK, 5: 19 * DAY},
            ["full", "part", "none", "full"],
        ),
        ({2: 19 * DAY, 3: 31 * DAY, 4: 30 * DAY, 5: 1 * DAY}, ["part", "full", "full", "part"]),
    ],
)
def test_gaps_make_a_month_a_part(covered: dict[int, timedelta], expected: list[str]) -> None:
    assert states(day(2, 10), day(5, 20), covered) == expected


def test_what_ended_long_ago_is_a_part_and_then_nothing_up_to_now() -> None:
    assert states(day(1, 1), day(2, 5), {1: 31 * DAY, 2: 4 * DAY}) == ["full", "part", "none", "none", "none"]


def test_what_ends_with_a_month_has_none_of_the_next() -> None:
    assert states(day(4, 1), day(5, 1), {4: 30 * DAY}) == ["full", "none"]


def test_dropped_are_months_of_which_no_row_is_left() -> None:
    covered = {3: 31 * DAY, 4: 30 * DAY, 5: 19 * DAY}
    assert states(day(3, 1), day(5, 20), covered, dropped={3: 31 * DAY, 4: 29 * DAY}) == [
        "dropped",
        "full",
        "full",
    ]
    assert states(day(3, 1), day(5, 20), covered, kept_from=day(4, 1)) == ["dropped", "full", "full"]
    nothing_kept = datetime.max.replace(tzinfo=UTC)
    assert states(day(3, 1), day(5, 20), covered, kept_from=nothing_kept) == ["dropped"] * 3

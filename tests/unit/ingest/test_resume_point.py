"""ResumePoint.cursor: where the next download goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kraken_db.id_runs import IdSequence
from kraken_db.ingest.pages import ResumePoint
from kraken_db.kraken.page_walk import to_cursor

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def resume_point(
    since: datetime | None, stored: datetime | None, chain: datetime | None, *, exact: int | None = None
) -> ResumePoint:
    begin = exact if exact is not None else to_cursor(since) if since else 0
    return ResumePoint(begin, IdSequence(), since, True, to_cursor(stored) if stored else None, chain)


def hour(number: int) -> datetime:
    return NOON + timedelta(hours=number)


@pytest.mark.parametrize(
    ("since", "stored", "chain", "reached", "expected"),
    [
        (None, None, None, 2, 2),  # the first run of all
        (0, 1, 0, 3, 3),  # over what is there, and beyond
        (None, 3, 0, 1, 3),  # over what is there: nothing is forgotten
        (1, 3, 0, 2, 3),
        (4, 3, 0, 5, None),  # behind a gap
        (None, 3, 2, 1, 1),  # before it, not there yet: what lies between is missing
        (None, 3, 2, 2, 3),  # before it, and now joined
        (3, 3, 2, 4, 4),  # resumed
    ],
)
def test_the_cursor_is_the_end_of_one_stretch(
    since: int | None, stored: int | None, chain: int | None, reached: int, expected: int | None
) -> None:
    def moment(number: int | None) -> datetime | None:
        return None if number is None else hour(number)

    found = resume_point(moment(since), moment(stored), moment(chain)).cursor(to_cursor(hour(reached)))
    assert found == (None if expected is None else to_cursor(hour(expected)))

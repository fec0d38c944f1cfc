"""Up to where a file answers, by the times of its candles and of the first minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kraken_db.repositories.candle_files import CandleFile

DAY = datetime(2024, 3, 5, tzinfo=UTC)  # a Tuesday


def at(hour: float) -> datetime:
    return DAY + timedelta(hours=hour)


@pytest.mark.parametrize(
    ("first_minute", "end"),
    [
        (9.5, 10),  # it may lack half of its hour, of which the file has all
        (9, 9),  # its hour is whole
        (9 + 59 / 60, 10),
        (12, 12),
        (12.5, 13),  # the hour of the last row
        (13, 13),
        (13.5, 13),  # of that hour the file has nothing
        (900, 13),
        (0.5, None),  # the first hour of both: the minutes know more
        (0, None),
        (-1, None),
        (1, 1),
    ],
)
def test_a_file_of_hours_beside_minutes(first_minute: float, end: float | None) -> None:
    file = CandleFile.beside(60, at(0), at(12), at(first_minute))
    assert file == (None if end is None else CandleFile(at(0), at(end), is_all=False))


def test_a_file_without_minutes_is_all_there_is() -> None:
    assert CandleFile.beside(60, at(0), at(12), None) == CandleFile(at(0), at(13), is_all=True)


def test_a_week_ends_on_monday() -> None:
    monday = datetime(2024, 3, 4, tzinfo=UTC)
    file = CandleFile.beside(10080, monday - timedelta(weeks=9), monday, at(1))
    assert file == CandleFile(monday - timedelta(weeks=9), monday + timedelta(weeks=1), is_all=False)

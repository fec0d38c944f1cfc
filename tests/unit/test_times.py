"""Times as users type them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.times import parse_time, to_moment

NOW = datetime(2024, 3, 1, 12, 30, 15, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2023-01-31", "2023-01-31T00:00:00+00:00"),
        (" 2023-01-31 ", "2023-01-31T00:00:00+00:00"),
        ("2023-01-31T15:30", "2023-01-31T15:30:00+00:00"),
        ("2023-01-31 15:30:01.25", "2023-01-31T15:30:01.250000+00:00"),
        ("2023-01-31T15:30Z", "2023-01-31T15:30:00+00:00"),
        ("2023-01-31T15:30+01:00", "2023-01-31T14:30:00+00:00"),
        ("now", "2024-03-01T12:30:15+00:00"),
        ("7 days ago", "2024-02-23T12:30:15+00:00"),
        ("1 day ago", "2024-02-29T12:30:15+00:00"),
        ("2h ago", "2024-03-01T10:30:15+00:00"),
        ("90 Minutes AGO", "2024-03-01T11:00:15+00:00"),
        ("5 mins ago", "2024-03-01T12:25:15+00:00"),
        ("2 weeks ago", "2024-02-16T12:30:15+00:00"),
        ("7d", "2024-02-23T12:30:15+00:00"),
        ("90s", "2024-03-01T12:28:45+00:00"),
        ("an hour ago", "2024-03-01T11:30:15+00:00"),
        ("today", "2024-03-01T00:00:00+00:00"),
        ("Yesterday", "2024-02-29T00:00:00+00:00"),
        ("yesterday 9:05", "2024-02-29T09:05:00+00:00"),
        ("tomorrow", "2024-03-02T00:00:00+00:00"),
        # By the calendar: 2024 is a leap year.
        ("1 month ago", "2024-02-01T12:30:15+00:00"),
        ("3 months ago", "2023-12-01T12:30:15+00:00"),
        ("3mo", "2023-12-01T12:30:15+00:00"),
        ("3M", "2023-12-01T12:30:15+00:00"),
        ("3m", "2024-03-01T12:27:15+00:00"),
        ("3 years ago", "2021-03-01T12:30:15+00:00"),
        ("1y", "2023-03-01T12:30:15+00:00"),
        ("2023", "2023-01-01T00:00:00+00:00"),
        ("2023-07", "2023-07-01T00:00:00+00:00"),
        ("2023/07/09", "2023-07-09T00:00:00+00:00"),
        ("2023Q3", "2023-07-01T00:00:00+00:00"),
        ("2023-q4", "2023-10-01T00:00:00+00:00"),
        ("2023-01-31 9:30", "2023-01-31T09:30:00+00:00"),
        ("2023-01-31 15:30 +01:00", "2023-01-31T14:30:00+00:00"),
        ("2023-01-31 15:30 UTC", "2023-01-31T15:30:00+00:00"),
        # Unix time: of the years of Kraken, 10, 13, 16 and 19 digits can only be s, ms, us and ns.
        ("1672531200", "2023-01-01T00:00:00+00:00"),
        ("1672531200.1234567", "2023-01-01T00:00:00.123456+00:00"),
        ("1672531200123", "2023-01-01T00:00:00.123000+00:00"),
        ("1672531200123456", "2023-01-01T00:00:00.123456+00:00"),
        ("1672531200123456789", "2023-01-01T00:00:00.123456+00:00"),
        # Berlin is at +01:00 in winter and at +02:00 in summer.
        ("2026-01-01 09:30 Europe/Berlin", "2026-01-01T08:30:00+00:00"),
        ("2026-07-01T09:30 Europe/Berlin", "2026-07-01T07:30:00+00:00"),
        ("2026-07 Europe/Berlin", "2026-06-30T22:00:00+00:00"),
        ("yesterday Asia/Tokyo", "2024-02-28T15:00:00+00:00"),
        ("2026-03-29 Europe/Berlin", "2026-03-28T23:00:00+00:00"),
        # This day began at one o'clock in Brazil; and this hour was there once only in New York.
        ("2018-11-04 America/Sao_Paulo", "2018-11-04T03:00:00+00:00"),
        ("2026-11-01 00:30 America/New_York", "2026-11-01T04:30:00+00:00"),
    ],
)
def test_a_time_is_read_as_utc(text: str, expected: str) -> None:
    assert parse_time(text, NOW).isoformat() == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "167253120",
        "16725312001",
        "2023Q5",
        "last month",
        "yesterday 25:00",
        "now-ish",
        "d7",
        "9999999 weeks ago",
        "9999999 months ago",
        "1.5h ago",
    ],
)
def test_anything_else_is_an_error_that_shows_how(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_time(text, NOW)
    assert repr(text) in caught.value.message
    assert caught.value.hint is not None
    assert "7 days ago" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("20230131", "write 2023-01-31"),
        ("31.01.2023", "write 2023-01-31"),
        ("31.01.2023 15:30", "write 2023-01-31 15:30"),
        ("01/02/2023", "write 2023-02-01 or 2023-01-02"),
        ("01/31/2023", "write 2023-01-31"),
        ("2023-1-5", "write 2023-01-05"),
        ("2023.1.5T9:30", "write 2023-01-05T9:30"),
        ("2023-13-01", "a year has 12 months, and a date is year, month, day: 2023-01-31"),
        ("2023-02-30", "February 2023 has 28 days"),
        ("2024-02-30", "February 2024 has 29 days"),
        ("2026-11-31", "November has 30 days"),
        ("2026-11-00", "the first day of a month is 01"),
        ("2026-11-20 25:00", "write the time of day like 2026-11-20T15:30, from 00:00 to 23:59"),
        ("yestarday", "did you mean yesterday?"),
        ("todya", "did you mean today?"),
        ("3 moths ago", "did you mean '3 months ago'?"),
        ("7", "put a time with a blank in quotes: '7 days ago'"),
        ("7 dyas", "did you mean '7 days ago'?"),
    ],
)
def test_a_time_that_is_nearly_right_is_told_alone(text: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_time(text, NOW)
    assert caught.value.message == f"{text!r} is not a time"
    assert caught.value.hint == hint


BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-20", "2026-11-19T23:00:00+00:00"),
        ("2026-01", "2025-12-31T23:00:00+00:00"),
        ("2026Q3", "2026-06-30T22:00:00+00:00"),
        ("2026-07-01 09:30", "2026-07-01T07:30:00+00:00"),
        ("today", "2024-02-29T23:00:00+00:00"),
        # What says it all is not moved.
        ("2026-07-01 09:30 UTC", "2026-07-01T09:30:00+00:00"),
        ("2026-07-01 09:30 America/New_York", "2026-07-01T13:30:00+00:00"),
        ("2026-07-01T09:30+00:00", "2026-07-01T09:30:00+00:00"),
        ("2026-07-01T09:30Z", "2026-07-01T09:30:00+00:00"),
        ("1672531200", "2023-01-01T00:00:00+00:00"),
        ("2h ago", "2024-03-01T10:30:15+00:00"),
    ],
)
def test_a_call_may_have_a_zone_of_its_own(text: str, expected: str) -> None:
    assert parse_time(text, NOW, BERLIN).isoformat() == expected
    assert to_moment(text, "start", NOW, BERLIN).isoformat() == expected


def test_a_date_is_of_the_zone_of_its_call() -> None:
    assert to_moment(date(2026, 11, 20), "start", NOW, BERLIN).isoformat() == "2026-11-19T23:00:00+00:00"
    assert to_moment(date(2026, 11, 20), "start", NOW).isoformat() == "2026-11-20T00:00:00+00:00"


def test_a_time_at_the_edge_of_the_calendar_does_not_crash() -> None:
    with pytest.raises(ConfigurationError):
        parse_time("0001-01-01T00:00+14:00", NOW)


@pytest.mark.parametrize("text", ["2023-01-31 09:30 Europe/Brelin", "yesterday PST", "2023-01-31 9:30 pm"])
def test_a_zone_that_nobody_has_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"which is no time zone.*Europe/Berlin"):
        parse_time(text, NOW)


def test_a_time_that_the_clocks_show_twice_is_told_with_both_offsets() -> None:
    with pytest.raises(ConfigurationError, match=r"happens twice.*\+02:00 or \+01:00"):
        parse_time("2026-10-25 02:30 Europe/Berlin", NOW)
    assert parse_time("2026-10-25 02:30+02:00", NOW).isoformat() == "2026-10-25T00:30:00+00:00"
    assert parse_time("2026-10-25 03:00 Europe/Berlin", NOW).isoformat() == "2026-10-25T02:00:00+00:00"


def test_a_time_that_the_clocks_leave_out_is_told() -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        parse_time("2026-03-29 02:30 Europe/Berlin", NOW)


def test_an_offset_and_a_zone_are_one_too_many() -> None:
    with pytest.raises(ConfigurationError, match="an offset and a zone"):
        parse_time("2026-03-29 02:30+01:00 Europe/Berlin", NOW)


def test_a_month_before_a_day_that_it_lacks_is_its_last_day() -> None:
    assert parse_time("1 month ago", datetime(2023, 3, 31, tzinfo=UTC)).date().isoformat() == "2023-02-28"
    assert parse_time("1 year ago", datetime(2024, 2, 29, tzinfo=UTC)).date().isoformat() == "2023-02-28"
    assert parse_time("1 month ago", datetime(2024, 1, 15, tzinfo=UTC)).date().isoformat() == "2023-12-15"

"""Intervals of any length, zone and session: how they are written, and when their candles open."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kraken_db.errors import ConfigurationError
from kraken_db.intervals import INTERVAL_NAMES, Interval, as_interval, floor_to_interval, parse_interval
from tests.support.calendars import ZONES, Wanted, opened_at, opens_of

BERLIN = "Europe/Berlin"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("2m", "2m"),
        ("3m", "3m"),
        ("10m", "10m"),
        ("2h", "2h"),
        ("3h", "3h"),
        ("6h", "6h"),
        ("8h", "8h"),
        ("2d", "2d"),
        ("3d", "3d"),
        ("2w", "2w"),
        ("1M", "1M"),
        ("3M", "3M"),
        ("1Y", "1Y"),
        ("12M", "1Y"),
        ("60", "1h"),
        (60, "1h"),
        ("120", "2h"),
        (120, "2h"),
        ("90m", "90m"),
        ("60m", "1h"),
        ("24h", "1d"),
        ("7d", "1w"),
        (20160, "2w"),
        (21600, "15d"),
        (timedelta(hours=2), "2h"),
        (timedelta(days=7), "1w"),
        (" 1H ", "1h"),
        ("1D", "1d"),
        ("1W", "1w"),
        ("5min", "5m"),
        ("2 hours", "2h"),
        ("1 month", "1M"),
        ("1y", "1Y"),
        ("24 months", "2Y"),
        ("1m", "1m"),
        (1, "1m"),
    ],
)
def test_an_interval_as_people_write_it(written: str | int | timedelta, name: str) -> None:
    interval = as_interval(written)
    assert interval.name == str(interval) == name
    assert as_interval(name) == as_interval(interval) == interval


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("1Mo", "write 1M for months, 1m for minutes"),
        ("1mo", "write 1M for months, 1m for minutes"),
        ("1MIN", "write 1m for minutes; M is a month"),
        ("60M", "write 1h for 60 minutes, 5Y for 60 months"),
        ("240M", "write 4h for 240 minutes, 20Y for 240 months"),
        ("5M", "write 5m for minutes; months are 1M, 2M, 3M, 4M, 6M, 1Y"),
        ("15M", "write 15m for minutes; months are 1M, 2M, 3M, 4M, 6M, 1Y"),
        ("30s", "1m is the shortest"),
        ("1q", "write 3M for a quarter"),
        ("1 Hour", "write 1h"),
        (timedelta(seconds=90), "it takes whole minutes"),
        (timedelta(0), "it takes whole minutes"),
        ("200Y", "100 years are the longest"),
        ("99999999m", "100 years are the longest"),
    ],
)
def test_what_is_no_interval_says_what_is_right(written: str | timedelta, hint: str) -> None:
    with pytest.raises(ConfigurationError, match="there is no interval") as refused:
        as_interval(written)
    assert refused.value.hint == hint


@pytest.mark.parametrize(
    "written",
    ["", "h", "0m", "-1", "021", "1.5h", "1T", "1h1h", "²h", "x" * 1000, 0, -5, True, 1.5, None, []],
)
def test_anything_else_is_refused(written: object) -> None:
    with pytest.raises(ConfigurationError, match=r"write 1m, 15m, 2h, 1d, 2w, 1M \(a month\), 1Y"):
        as_interval(written)  # type: ignore[arg-type]  # as callers without types do


def test_a_month_is_none_of_the_stored_intervals() -> None:
    with pytest.raises(ConfigurationError):
        parse_interval("1M")
    assert parse_interval("1m") == 1


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"tz": "Europe/Berln"}, "did you mean Europe/Berlin?"),
        ({"tz": ""}, "Write an IANA name"),
        ({"tz": "Mars"}, "Write an IANA name"),
        ({"session": "25:00"}, "write a time of the day such as 17:00"),
        ({"session": "5pm"}, "write a time of the day such as 17:00"),
        ({"session": timedelta(seconds=5)}, "write a time of the day such as 17:00"),
        ({"anchor": "monday"}, "write a date such as 2023-01-02"),
        ({"anchor": datetime(2023, 1, 2)}, "pass an aware datetime"),  # noqa: DTZ001
        ({"anchor": "2023-01-02T17:00:30"}, "write 2023-01-02T17:00"),
        ({"anchor": "2023-01-02T18:00", "session": "17:00"}, "give the anchor as a date"),
    ],
)
def test_a_calendar_that_cannot_be_says_what_is_right(said: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        as_interval("1d", **said)  # type: ignore[arg-type]  # as callers without types do
    assert line in (refused.value.hint or "")


def test_months_begin_on_a_day_that_all_of_them_have() -> None:
    with pytest.raises(ConfigurationError, match="months cannot begin on the 31th"):
        as_interval("1M", anchor="2023-01-31")
    assert as_interval("1M", anchor="2023-01-15").opened_at(utc("2023-03-14 23:59")) == utc("2023-02-15")


@pytest.mark.parametrize(
    ("written", "said", "moment", "opened", "closed"),
    [
        # By hand. Unix time began on a Thursday; 2023-03-11 is day 19427 of it, 2023-03-06 a Monday.
        ("2d", {}, "2023-03-11 12:00", "2023-03-10", "2023-03-12"),
        ("3d", {}, "2023-03-11 12:00", "2023-03-09", "2023-03-12"),
        ("2w", {}, "2023-03-11 12:00", "2023-03-06", "2023-03-20"),
        ("2w", {"anchor": "2023-02-27"}, "2023-03-11 12:00", "2023-02-27", "2023-03-13"),
        ("1w", {"anchor": "2023-03-05"}, "2023-03-11 12:00", "2023-03-05", "2023-03-12"),
        ("1M", {}, "2024-02-29 23:59", "2024-02-01", "2024-03-01"),
        ("3M", {}, "2023-05-11", "2023-04-01", "2023-07-01"),
        ("1Y", {"anchor": "2023-04-06"}, "2023-04-05", "2022-04-06", "2023-04-06"),
        ("8h", {}, "2023-03-11 07:59", "2023-03-11 00:00", "2023-03-11 08:00"),
        ("8h", {"anchor": "2023-03-11T01:00"}, "2023-03-11 07:59", "2023-03-11 01:00", "2023-03-11 09:00"),
        # The day in March has 23 hours, that in October 25.
        ("1d", {"tz": BERLIN}, "2023-03-26 12:00", "2023-03-25 23:00", "2023-03-26 22:00"),
        ("1d", {"tz": BERLIN}, "2023-10-29 12:00", "2023-10-28 22:00", "2023-10-29 23:00"),
        ("1w", {"tz": BERLIN}, "2023-03-26 12:00", "2023-03-19 23:00", "2023-03-26 22:00"),
        ("1M", {"tz": BERLIN}, "2023-03-31 22:00", "2023-03-31 22:00", "2023-04-30 22:00"),
        # Hours begin anew with the day: the last one of that in October is one hour long.
        ("4h", {"tz": BERLIN}, "2023-10-29 01:30", "2023-10-28 22:00", "2023-10-29 02:00"),
        ("4h", {"tz": BERLIN}, "2023-10-29 22:30", "2023-10-29 22:00", "2023-10-29 23:00"),
        ("1d", {"tz": "Asia/Kolkata"}, "2023-03-26 12:00", "2023-03-25 18:30", "2023-03-26 18:30"),
        ("1h", {"tz": "Asia/Kolkata"}, "2023-03-26 12:00", "2023-03-26 11:30", "2023-03-26 12:30"),
        # New York is on summer time from 2023-03-12 on.
        (
            "1d",
            {"tz": "America/New_York", "session": "17:00"},
            "2023-03-12",
            "2023-03-11 22:00",
            "2023-03-12 21:00",
        ),
        (
            "1w",
            {"tz": "America/New_York", "session": "-07:00"},
            "2023-03-14",
            "2023-03-12 21:00",
            "2023-03-19 21:00",
        ),
        (
            "1M",
            {"tz": "America/New_York", "session": "-07:00"},
            "2023-03-14",
            "2023-02-28 22:00",
            "2023-03-31 21:00",
        ),
    ],
)
def test_when_a_candle_opens(
    written: str, said: dict[str, str], moment: str, opened: str, closed: str
) -> None:
    interval = as_interval(written, **said)
    assert interval.opened_at(utc(moment)) == utc(opened)
    assert interval.closed_at(utc(opened)) == interval.next_open(utc(closed)) == utc(closed)
    assert interval.minutes_at(utc(opened)) == (utc(closed) - utc(opened)).total_seconds() / 60


def test_a_zone_may_be_an_object_and_an_anchor_a_moment() -> None:
    new_york = ZoneInfo("America/New_York")
    by_text = as_interval("1d", tz="america/new_york", session="17:00")
    assert (
        by_text
        == as_interval("1d", tz=new_york, session=time(17))
        == as_interval(timedelta(days=1), tz=new_york, session=timedelta(hours=17))
    )
    anchored = as_interval("2d", tz=new_york, anchor=datetime(2023, 3, 10, 22, tzinfo=UTC))
    assert anchored == as_interval("2d", tz=new_york, session="17:00", anchor=date(2023, 3, 10))
    assert as_interval("1d", tz=timezone(timedelta(hours=-5))).opened_at(utc("2023-07-01")) == utc(
        "2023-06-30 05:00"
    )


def test_what_equals_a_stored_interval_is_read_as_it_is() -> None:
    assert [as_interval(minutes).stored for minutes in INTERVAL_NAMES] == list(INTERVAL_NAMES)
    assert as_interval("1h", tz=BERLIN).stored == 60
    assert as_interval("30m", tz="Asia/Kolkata").stored == 30
    assert as_interval("1d", anchor="2020-02-02").stored == 1440
    assert as_interval("1w", anchor="2023-03-06").stored == 10080
    for written, said in (
        ("1h", {"tz": "Asia/Kolkata"}),
        ("1d", {"tz": BERLIN}),
        ("1w", {"anchor": "2023-03-07"}),
    ):
        assert as_interval(written, **said).stored is None


@pytest.mark.parametrize(
    ("written", "said", "level"),
    [
        ("2m", {}, 1),
        ("10m", {}, 5),
        ("90m", {}, 30),
        ("2h", {}, 60),
        ("8h", {}, 240),
        ("3d", {}, 1440),
        ("2w", {}, 10080),
        ("1M", {}, 1440),
        ("7m", {}, 1),
        ("1d", {"tz": BERLIN}, 60),
        ("1d", {"tz": "Asia/Kolkata"}, 30),
        ("1M", {"tz": "Asia/Kathmandu"}, 15),
        ("1w", {"anchor": "2023-03-07"}, 1440),
        ("1d", {"session": "12:00"}, 720),
        ("1d", {"session": "17:03"}, 1),
        ("1M", {"tz": "Australia/Lord_Howe"}, 30),
    ],
)
def test_the_longest_stored_interval_that_divides_it(written: str, said: dict[str, str], level: int) -> None:
    assert as_interval(written, **said).level == level


zones, sessions = st.sampled_from(ZONES), st.sampled_from([0, 0, 0, 17 * 60, -7 * 60, 9 * 60 + 30, 150])
anchors = st.none() | st.dates(date(2023, 1, 1), date(2023, 1, 28))
calendars = st.builds(
    lambda length, zone, session, anchor: Wanted(length[0], length[1], zone, session, anchor),
    st.sampled_from(
        [(1, "d"), (2, "d"), (3, "d"), (5, "d"), (1, "w"), (2, "w"), (1, "M"), (3, "M"), (1, "Y")]
    ),
    zones,
    sessions,
    anchors,
)
parts_of_days = st.builds(
    lambda count, zone, session: Wanted(count, "m", zone, session), st.integers(1, 1439), zones, sessions
)
anchored_parts = st.builds(
    lambda count, zone: Wanted(count, "m", zone, 0, date(2023, 1, 5)), st.integers(1, 1439), zones
)
short = st.integers(0, 360 * 1440 * 60).map(lambda seconds: utc("2023-01-10") + timedelta(seconds=seconds))
moments = st.datetimes(datetime(2015, 1, 1), datetime(2029, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def check(wanted: Wanted, moment: datetime) -> None:
    interval = as_interval(wanted.text, **wanted.arguments)
    opened = opened_at(wanted, moment)
    opens = opens_of(wanted)
    at = opens.index(opened)
    assert interval.opened_at(moment) == opened, (wanted, moment)
    assert interval.closed_at(opened) == opens[at + 1]
    assert interval.next_open(moment) == (opened if moment == opened else opens[at + 1])
    assert interval.later(opened, 5) == opens[at + 5]
    assert interval.opens(opened, opens[at + 5]) == list(opens[at : at + 5])
    assert interval.back(opens[at + 5], 4, opened) == opens[at + 1]
    assert opens[at + 1] - opened <= interval.longest
    for level in interval.levels:
        assert floor_to_interval(opened, level) == opened


@settings(max_examples=150)
@given(calendars, moments)
def test_days_weeks_and_months_open_as_a_calendar_says(wanted: Wanted, moment: datetime) -> None:
    check(wanted, moment)


@settings(max_examples=150)
@given(parts_of_days | anchored_parts, short)
def test_parts_of_days_open_as_clocks_say(wanted: Wanted, moment: datetime) -> None:
    check(wanted, moment)


@cache
def changes_of(zone: str) -> list[datetime]:
    """The hours of 2023 after which its clocks have been set."""
    hours = [utc("2023-01-01") + timedelta(hours=n) for n in range(365 * 24)]
    offsets = [hour.astimezone(ZoneInfo(zone)).utcoffset() for hour in hours]
    return [hours[at] for at in range(1, len(hours)) if offsets[at] != offsets[at - 1]]


@settings(max_examples=60)
@given(calendars)
def test_the_changes_of_clocks_of_a_year(wanted: Wanted) -> None:
    for change in changes_of(wanted.zone):
        for minutes in (-90, -30, 0, 30, 59, 61, 90):
            check(wanted, change + timedelta(minutes=minutes))


def test_no_moment_that_a_datetime_can_hold_is_too_far() -> None:
    for written in ("2h", "1M", "100Y", "1d"):
        for said in ({}, {"tz": BERLIN}):
            interval = as_interval(written, **said)
            for moment in (utc("0003-01-01"), utc("9999-01-01")):
                opened = interval.opened_at(moment)
                assert opened <= moment <= interval.closed_at(opened)
                assert interval.later(opened, 10**4) >= opened


def test_an_interval_is_a_value() -> None:
    assert {as_interval("2h"), as_interval(120), as_interval("120m")} == {Interval(120, "minute")}
    assert str(as_interval("2d", tz=BERLIN, anchor="2023-01-01")) == "2d Europe/Berlin from 2023-01-01"
    assert str(as_interval("1d", session="17:00")) == "1d UTC 17:00"
    assert [as_interval(one).key for one in ("1h", "2h", "1M")] == [60, 120, "1M"]
    assert as_interval("1d", tz="Asia/Kolkata").key == "1d Asia/Kolkata"

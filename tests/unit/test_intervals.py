"""Intervals: names, and the grid that candles open on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_db.errors import ConfigurationError
from kraken_db.intervals import (
    BASE_INTERVAL,
    GRID_ORIGIN_EPOCH,
    INTERVAL_NAMES,
    ceil_to_interval,
    floor_to_interval,
    interval_length,
    interval_name,
    parse_interval,
)
from kraken_db.times import require_aware

zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=zones)  # noqa: DTZ001
intervals = st.sampled_from(sorted(INTERVAL_NAMES))


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_intervals_are_those_of_the_views() -> None:
    assert sorted(INTERVAL_NAMES) == [1, 5, 15, 30, 60, 240, 720, 1440, 10080]
    assert BASE_INTERVAL == 1


@pytest.mark.parametrize("text", ["1h", "60", " 1H "])
def test_an_interval_is_read_by_name_or_minutes(text: str) -> None:
    assert parse_interval(text) == 60


@pytest.mark.parametrize("text", ["", "2", "h", "1M0", "60m", "1h1h", "-1", "021", "x" * 1000])
def test_an_interval_that_is_not_kept_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="known: 1m, 5m, 15m, 30m, 1h, 4h, 12h, 1d, 1w"):
        parse_interval(text)


@pytest.mark.parametrize("minutes", [0, -1, 2, 21600])
def test_minutes_that_are_no_interval_are_refused(minutes: int) -> None:
    for function in (interval_name, interval_length):
        with pytest.raises(ConfigurationError, match=f"no interval of {minutes} minutes"):
            function(minutes)
    with pytest.raises(ConfigurationError):
        floor_to_interval(utc("2024-01-01"), minutes)


@given(intervals)
def test_names_can_be_read_back(minutes: int) -> None:
    assert parse_interval(interval_name(minutes)) == minutes
    assert interval_length(minutes).total_seconds() == minutes * 60


@pytest.mark.parametrize(
    ("minutes", "moment", "floor", "ceil"),
    [
        (1, "2023-03-11 07:03:59.999999", "2023-03-11 07:03", "2023-03-11 07:04"),
        (15, "2023-03-11 07:03", "2023-03-11 07:00", "2023-03-11 07:15"),
        (240, "2023-03-11 07:03", "2023-03-11 04:00", "2023-03-11 08:00"),
        (720, "2023-03-11 12:00", "2023-03-11 12:00", "2023-03-11 12:00"),
        (1440, "1999-12-31 23:59", "1999-12-31", "2000-01-01"),
        # Weeks open on Mondays: 2023-03-06 and 2023-03-13 are two of them; so is 1999-12-27.
        (10080, "2023-03-12 23:59:59.999999", "2023-03-06", "2023-03-13"),
        (10080, "2023-03-13", "2023-03-13", "2023-03-13"),
        (10080, "2000-01-01", "1999-12-27", "2000-01-03"),
    ],
)
def test_the_candle_that_a_moment_lies_in(minutes: int, moment: str, floor: str, ceil: str) -> None:
    assert floor_to_interval(utc(moment), minutes) == utc(floor)
    assert ceil_to_interval(utc(moment), minutes) == utc(ceil)


def test_the_grid_is_that_of_utc_whatever_the_zone_of_the_moment() -> None:
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    moment = datetime(2023, 3, 11, 2, 0, tzinfo=kathmandu)  # 20:15 UTC on the 10th
    assert floor_to_interval(moment, 1440) == utc("2023-03-10")
    assert floor_to_interval(moment, 60) == utc("2023-03-10 20:00")


@given(moment=moments, minutes=intervals)
def test_floor_and_ceil_enclose_the_moment(moment: datetime, minutes: int) -> None:
    floor, ceil, length = (
        floor_to_interval(moment, minutes),
        ceil_to_interval(moment, minutes),
        interval_length(minutes),
    )
    assert floor <= moment <= ceil
    assert ceil - floor == (timedelta(0) if floor == moment else length)
    assert (floor.timestamp() - GRID_ORIGIN_EPOCH) % length.total_seconds() == 0
    if minutes <= 1440:
        assert floor.timestamp() % length.total_seconds() == 0
    else:
        assert floor.astimezone(UTC).weekday() == 0
    assert floor_to_interval(floor, minutes) == ceil_to_interval(floor, minutes) == floor


@given(moment=moments, small=intervals, large=intervals)
def test_coarser_candles_are_made_of_whole_finer_ones(moment: datetime, small: int, large: int) -> None:
    small, large = sorted((small, large))
    if large % small == 0:
        opening = floor_to_interval(moment, large)
        assert floor_to_interval(opening, small) == opening
        assert floor_to_interval(floor_to_interval(moment, small), large) == opening


def test_a_moment_without_a_zone_is_refused_by_name() -> None:
    moment = utc("2024-01-01 12:00")
    assert require_aware(moment, "start") is moment
    with pytest.raises(ConfigurationError, match=r"start has no time zone: 2024-01-01T12:00:00 .*tzinfo=UTC"):
        require_aware(moment.replace(tzinfo=None), "start")

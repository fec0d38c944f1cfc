"""Times and periods as people write them: one grammar for all commands; and the services' clock."""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import SupportsIndex, TypeAlias

from kraken_db.errors import ConfigurationError

Clock: TypeAlias = Callable[[], datetime]
"""Returns the time now, aware, in UTC."""
Sleep: TypeAlias = Callable[[float], Awaitable[object]]
"""Waits so many seconds."""
Moment: TypeAlias = str | date | datetime | float
"""A time as callers pass it: text (see ``parse_time``), a date (its midnight, UTC), an aware datetime, or a
number that is read as its text."""

FIRST_MOMENT = datetime(2013, 9, 1, tzinfo=UTC)
"""Nothing was traded at Kraken before."""

_MINUTE, _HOUR, _DAY, _WEEK, _YEAR = (timedelta(minutes=minutes) for minutes in (1, 60, 1440, 10080, 525600))
_UNITS = {
    "m": _MINUTE,
    "min": _MINUTE,
    "minute": _MINUTE,
    "h": _HOUR,
    "hour": _HOUR,
    "d": _DAY,
    "day": _DAY,
    "w": _WEEK,
    "week": _WEEK,
    "y": _YEAR,
    "year": _YEAR,
}
_PERIOD = re.compile(r"(?P<count>\d{1,30}) *(?P<unit>[a-z]+?)s?", re.IGNORECASE | re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NEVER = {"never", "none", "forever"}
_LONGEST = 100 * _YEAR
_PERIOD_FORMS = "15min, 36h, 90d, 12w or 1y (minutes, hours, days, weeks, years), or never"
_TIME_FORMS = "2023-01-31, 2023-01-31T15:30, 2023-01-31T15:30+01:00, '7 days ago' or now"


def utc_now() -> datetime:
    """The clock that services use unless they are given another."""
    return datetime.now(UTC)


_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


def _elapsed_ns() -> int:
    """Of a clock that nobody sets; where the system has one, it goes on while the machine is asleep."""
    return time.monotonic_ns() if _BOOT is None else time.clock_gettime_ns(_BOOT)


_BEGAN = utc_now(), _elapsed_ns()


def steady_now() -> datetime:
    """A clock that does not jump when the system's is set: what that said first, and the time since then.

    For what knows how far it is from Kraken's clock: after a jump, trades of this moment would lie in the
    future.
    """
    first, began = _BEGAN
    return first + timedelta(microseconds=(_elapsed_ns() - began) // 1000)


def to_moment(value: Moment, name: str, now: datetime) -> datetime:
    """The time that an argument means, aware. Numbers are read as their text is.

    Raises ConfigurationError, with the argument's name, for a naive datetime and for what is no time.
    """
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        value = str(operator.index(value))
    elif isinstance(value, float):
        value = f"{value:f}"
    if isinstance(value, str):
        return parse_time(value, now)
    if isinstance(value, datetime) and value == value:  # NaT of pandas is a datetime that equals nothing
        return require_aware(value, name)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ConfigurationError(
        f"{name}={value!r} is not a time",
        hint="pass text ('2023-01-31', '7 days ago'), a date, or a datetime with a time zone",
    )


def require_aware(moment: datetime, name: str) -> datetime:
    """``moment`` itself. Raises ConfigurationError, with this name, if it carries no time zone."""
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise ConfigurationError(
            f"{name} has no time zone: {moment.isoformat()}", hint="pass an aware datetime, e.g. tzinfo=UTC"
        )
    return moment


def parse_period(text: str) -> timedelta | None:
    """``15min``, ``36h``, ``90d``, ``2 weeks``, ``1y`` (365 days); None for ``never``.

    A small ``m`` is a minute. Raises ConfigurationError.
    """
    if text.strip().lower() in _NEVER:
        return None
    period = _period(text.strip())
    if period is None:
        raise ConfigurationError(f"{text!r} is not a period", hint=f"write {_PERIOD_FORMS}")
    return period


def parse_time(text: str, now: datetime) -> datetime:
    """A moment, in UTC: a date (its midnight), a date and time, ``now``, or a period and ``ago``.

    Without a zone it is UTC. Raises ConfigurationError.
    """
    wanted = text.strip()
    if wanted.lower() == "now":
        return now
    period, ago, _ = wanted.lower().rpartition(" ago")
    try:
        if ago and (length := _period(period.rstrip())) is not None:
            return now - length
        if not _DATE.match(wanted):
            raise ValueError(wanted)
        moment = datetime.fromisoformat(wanted)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{text!r} is not a time", hint=f"write {_TIME_FORMS}") from None


def period_text(period: timedelta | None) -> str:
    """``90 days``, ``36 hours``, ``never``."""
    if period is None:
        return "never"
    for unit, length in (("day", _DAY), ("hour", _HOUR), ("minute", _MINUTE)):
        if period and not period % length:
            count = period // length
            return f"{count:,} {unit}" + ("" if count == 1 else "s")
    return str(period)


def duration_text(span: timedelta) -> str:
    """``4.2 s``, ``3 min 5 s``, ``26 h 3 min``: how long something took. One below zero is ``0.0 s``."""
    seconds = max(0.0, span.total_seconds())
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"


def _period(text: str) -> timedelta | None:
    """A count and a unit; None for anything else. Raises ConfigurationError beyond a hundred years."""
    match = _PERIOD.fullmatch(text)
    unit = _UNITS.get(match["unit"].lower()) if match else None
    if match is None or unit is None:
        return None
    count = int(match["count"])
    if count > _LONGEST // unit:
        raise ConfigurationError(f"{text!r} is longer than 100 years", hint="write never")
    return count * unit

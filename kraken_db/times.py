"""Times and periods as people write them: one grammar for all commands; and the services' clock."""

from __future__ import annotations

import operator
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import SupportsIndex, TypeAlias

from kraken_db.errors import ConfigurationError, WrongValueError

Clock: TypeAlias = Callable[[], datetime]
"""Returns the time now, aware, in UTC."""
Sleep: TypeAlias = Callable[[float], Awaitable[object]]
"""Waits so many seconds."""
Moment: TypeAlias = str | date | datetime | float
"""A time as callers pass it: text (see ``parse_time``), a date (its midnight), an aware datetime, or a number
that is read as its text. What names no zone is UTC, unless the call has a zone of its own."""

FIRST_MOMENT = datetime(2013, 9, 1, tzinfo=UTC)
"""Nothing was traded at Kraken before."""

_SECOND = timedelta(seconds=1)
_MINUTE, _HOUR, _DAY, _WEEK, _YEAR = (timedelta(minutes=minutes) for minutes in (1, 60, 1440, 10080, 525600))
_UNITS = {
    name: length
    for names, length in {
        "s sec secs second seconds": _SECOND,
        "m min mins minute minutes": _MINUTE,
        "h hr hrs hour hours": _HOUR,
        "d day days": _DAY,
        "w week weeks": _WEEK,
        "y year years": _YEAR,
    }.items()
    for name in names.split()
}
_MONTHS = {"mo", "month", "months"}
_PERIOD = re.compile(r"(?P<count>\d{1,30}) *(?P<unit>[a-z]+)", re.IGNORECASE | re.ASCII)
_NEVER = {"never", "none", "forever"}
_LONGEST = 100 * _YEAR
_PERIOD_FORMS = "15min, 36h, 90d, 12w or 1y (minutes, hours, days, weeks, years), or never"

# What a time may be, each of them a line of this grammar.
_AGO = re.compile(r"(?P<count>\d{1,30}|an?) *(?P<unit>[a-z]+)(?: +ago)?", re.IGNORECASE | re.ASCII)
_STAMP = re.compile(r"(?P<whole>\d{10}|\d{13}|\d{16}|\d{19})(?:\.(?P<fraction>\d{1,18}))?", re.ASCII)
_MONTH = re.compile(r"(?P<year>\d{4})(?:[-/](?P<month>\d\d))?", re.ASCII)
_QUARTER = re.compile(r"(?P<year>\d{4})-?Q(?P<quarter>[1-4])", re.IGNORECASE | re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_CLOCK = re.compile(r"(?P<before>.*?)[ T](?P<hour>\d):(?P<after>\d\d.*)", re.ASCII)
_BEFORE_OFFSET = re.compile(r" +(?=[+-]\d\d)", re.ASCII)
_DAYS = {"today": 0, "yesterday": -1, "tomorrow": 1}
_ZONE = re.compile(
    r"(?P<local>(?:\d{4}|today|yesterday|tomorrow)(?:.*\S)?) +(?P<zone>[A-Z][A-Z0-9_+/-]*)",
    re.IGNORECASE | re.ASCII,
)
_TIME_FORMS = (
    "2023-01-31, 2023-01, 2023, 2023-01-31T15:30, 2023-01-31T15:30+01:00, '2023-01-31 15:30 Europe/Berlin',"
    " yesterday, 7d, '7 days ago', '3 months ago', unix seconds or now"
)


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


def to_moment(value: Moment, name: str, now: datetime, zone: tzinfo = UTC) -> datetime:
    """The time that an argument means, aware. Numbers are read as their text is.

    ``zone``: of dates, and of text that names none.

    Raises ConfigurationError, with the argument's name, for a naive datetime and for what is no time.
    """
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        value = str(operator.index(value))
    elif isinstance(value, float):
        value = f"{value:f}"
    if isinstance(value, str):
        return parse_time(value, now, zone)
    if isinstance(value, datetime) and value == value:  # NaT of pandas is a datetime that equals nothing
        return require_aware(value, name)
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=zone).astimezone(UTC)
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

    ``m`` is a minute. Months are refused: they differ in length. Raises ConfigurationError.
    """
    if text.strip().lower() in _NEVER:
        return None
    period = _period(text.strip())
    if period is None:
        raise WrongValueError(f"{text!r} is not a period", hint=f"write {_PERIOD_FORMS}")
    return period


def parse_time(text: str, now: datetime, zone: tzinfo = UTC) -> datetime:
    """A moment, in UTC.

    ====================================  ==================================================================
    ``2023-01-31``                        its midnight; ``2023-01`` and ``2023``, ``2023Q1``: the first one
    ``2023-01-31T15:30``, with a space    that moment
    ``today``, ``yesterday 15:30``        the same of a day near ``now``
    ``7d``, ``7 days ago``                that long before ``now``; months and years by the calendar
    ``1675179000``                        unix time in seconds; 13, 16 and 19 digits are ms, us and ns
    ``now``
    ====================================  ==================================================================

    What is not a length or unix time may end in an offset (``+01:00``) or, after a space, in the name of a
    zone (``Europe/Berlin``). Without one it is of ``zone``. A capital ``M`` alone is a month, a small one a
    minute.
    Raises ConfigurationError, also for a local time that a change of the clocks leaves out or repeats.
    """
    wanted = text.strip()
    try:
        for reading in (_relative, _stamp):
            if (moment := reading(wanted, now)) is not None:
                return moment
        return _local(wanted, now, zone)
    except (ValueError, OverflowError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise WrongValueError(f"{text!r} is not a time", hint=_time_hint(wanted)) from None


_YEAR_FIRST = re.compile(r"(?P<y>\d{4})(?P<sign>[-/.])(?P<m>\d{1,2})(?P=sign)(?P<d>\d{1,2})", re.ASCII)
_WITHOUT_SIGNS = re.compile(r"(?P<y>\d{4})(?P<m>\d\d)(?P<d>\d\d)", re.ASCII)
_YEAR_LAST = re.compile(r"(?P<a>\d{1,2})(?P<sign>[-/.])(?P<b>\d{1,2})(?P=sign)(?P<y>\d{4})", re.ASCII)
_LENGTHS = 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31


def _time_hint(wanted: str) -> str:
    """What is right instead, where that can be known; else all that can be written."""
    day, sign, rest = re.split(r"([ T]|$)", wanted, maxsplit=1)
    if match := _YEAR_FIRST.fullmatch(day) or _WITHOUT_SIGNS.fullmatch(day):
        found = [(int(match["y"]), int(match["m"]), int(match["d"]))]
    elif match := _YEAR_LAST.fullmatch(day):
        year, first, second = int(match["y"]), int(match["a"]), int(match["b"])
        found = [(year, second, first)]
        if match["sign"] != "." and first != second:
            found.append((year, first, second))  # the month first, as in America
    else:
        return _word_hint(wanted)
    meant = [f"{y:04}-{m:02}-{d:02}" for y, m, d in found if y and _is_day(y, m, d)]
    if not meant:
        return _day_hint(*found[0])
    if meant == [day]:
        return f"write the time of day like {day}T15:30, from 00:00 to 23:59"
    return "write " + " or ".join(f"{one}{sign}{rest}" for one in meant)


def _is_day(year: int, month: int, day: int) -> bool:
    return 1 <= month <= 12 and 1 <= day <= _days_of(year, month)


def _days_of(year: int, month: int) -> int:
    return 28 if month == 2 and (year % 4 or (not year % 100 and year % 400)) else _LENGTHS[month - 1]


def _day_hint(year: int, month: int, day: int) -> str:
    if not 1 <= month <= 12:
        return "a year has 12 months, and a date is year, month, day: 2023-01-31"
    name = date(2000, month, 1).strftime("%B") + (f" {year}" if month == 2 else "")
    return f"{name} has {_days_of(year, month)} days" if day else "the first day of a month is 01"


def _word_hint(wanted: str) -> str:
    import difflib  # seldom needed

    units = [*_UNITS, *_MONTHS]
    match = _AGO.fullmatch(wanted)
    if match is not None and match["unit"].lower() not in units:
        if near := difflib.get_close_matches(match["unit"].lower(), units, n=1):
            return f"did you mean '{match['count']} {near[0]} ago'?"
    elif match is None and (near := difflib.get_close_matches(wanted.lower(), [*_DAYS, "now"], 1, 0.8)):
        return f"did you mean {near[0]}?"
    if re.fullmatch(r"\d{1,3}|an?", wanted, re.ASCII):
        return f"put a time with a blank in quotes: '{wanted} days ago'"
    return f"write {_TIME_FORMS}"


def _relative(wanted: str, now: datetime) -> datetime | None:
    """``now``, and so long before it; None for anything else."""
    if wanted.lower() == "now":
        return now
    match = _AGO.fullmatch(wanted)
    if match is None:
        return None
    count = 1 if match["count"].lower() in ("a", "an") else int(match["count"])
    unit = match["unit"].lower()
    if match["unit"] == "M" or unit in _MONTHS:
        return _months_before(now, count)
    if _UNITS.get(unit) == _YEAR:
        return _months_before(now, 12 * count)
    length = _UNITS.get(unit)
    return None if length is None else now - count * length


def _months_before(now: datetime, count: int) -> datetime:
    """The same day so many months earlier, or that month's last: a month before 31 March is 28 February."""
    year, month = divmod(now.year * 12 + now.month - 1 - count, 12)
    last = (datetime(year + (month == 11), (month + 1) % 12 + 1, 1, tzinfo=UTC) - _DAY).day
    return now.replace(year=year, month=month + 1, day=min(now.day, last))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_SECOND = {10: 1, 13: 10**3, 16: 10**6, 19: 10**9}


def _stamp(wanted: str, _now: datetime) -> datetime | None:
    """Unix time. Of the years in which Kraken exists the number of digits tells the unit."""
    match = _STAMP.fullmatch(wanted)
    if match is None:
        return None
    per_second = _PER_SECOND[len(match["whole"])]
    fraction = match["fraction"] or ""
    micros = int(match["whole"] + fraction) * 10**6 // (per_second * 10 ** len(fraction))
    return _EPOCH + timedelta(microseconds=micros)


def _local(wanted: str, now: datetime, default: tzinfo) -> datetime:
    """A day, month, quarter or year, maybe with a time of day, an offset or a zone. Raises ValueError."""
    named, local = _split_zone(wanted)
    zone = named or default
    if match := _CLOCK.fullmatch(local):
        local = f"{match['before']} 0{match['hour']}:{match['after']}"
    word, _, clock = local.partition(" ")
    if (days := _DAYS.get(word.lower())) is not None:
        local = f"{(now.astimezone(zone) + timedelta(days=days)).date()} {clock}".strip()
    elif match := _MONTH.fullmatch(local):
        local = f"{match['year']}-{match['month'] or '01'}-01"
    elif match := _QUARTER.fullmatch(local):
        local = f"{match['year']}-{3 * int(match['quarter']) - 2:02}-01"
    local = _BEFORE_OFFSET.sub("", local.replace("/", "-"))
    if not _DATE.match(local):
        raise ValueError(wanted)
    moment = datetime.fromisoformat(local)
    if moment.tzinfo is not None:
        if named not in (None, UTC):
            raise WrongValueError(f"{wanted!r} has an offset and a zone", hint="leave one of them out")
        return moment.astimezone(UTC)
    return _in_zone(moment, zone, wanted, is_day=_DATE.fullmatch(local) is not None)


def _split_zone(wanted: str) -> tuple[tzinfo | None, str]:
    """The zone at the end, if there is one, and what is before it."""
    match = _ZONE.fullmatch(wanted)
    if match is None:
        return None, wanted
    name = match["zone"]
    if name.upper() in ("UTC", "GMT", "Z"):
        return UTC, match["local"]
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name), match["local"]
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise WrongValueError(
            f"{wanted!r} ends in {name}, which is no time zone",
            hint="write it like Europe/Berlin, America/New_York or UTC, or write an offset: +01:00",
        ) from None


def _in_zone(local: datetime, zone: tzinfo, wanted: str, *, is_day: bool) -> datetime:
    """A time on the wall of a zone, in UTC. A day begins where its first moment is.

    Raises ConfigurationError where the clocks show this time twice or never.
    """
    first, second = (local.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first == second or is_day:
        # Of a midnight that is left out, fold=0 is the moment of the change itself.
        return first
    if first < second:
        offsets = [local.replace(tzinfo=zone, fold=fold).isoformat(sep=" ")[-6:] for fold in (0, 1)]
        raise WrongValueError(
            f"{wanted!r} happens twice: the clocks go back",
            hint=f"write the offset that you mean instead of the zone: {' or '.join(offsets)}",
        )
    raise WrongValueError(
        f"{wanted!r} does not exist: the clocks go forward", hint="write another time, or an offset"
    )


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
    # A capital M is a month, elsewhere: nobody is to get minutes for it.
    unit = None if match is None or match["unit"] == "M" else _UNITS.get(match["unit"].lower())
    if match is None or unit is None:
        return None
    count = int(match["count"])
    if count > _LONGEST // unit:
        raise WrongValueError(f"{text!r} is longer than 100 years", hint="write never")
    return count * unit

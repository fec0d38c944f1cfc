"""The candle intervals: lengths, names and the grid that their open times lie on.

Nine of them are stored, and are known by their minutes. Times of their grid are UTC. All of them up to a day
start at multiples of their length since 1970-01-01; weeks start on Monday 00:00 UTC, as TimescaleDB's
``time_bucket`` has it.

Any other one is an ``Interval``, computed from the longest stored one that divides it. It may be one of a
calendar: days of a time zone, months, a session.
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cached_property, lru_cache
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from kraken_db.errors import ConfigurationError
from kraken_db.times import FIRST_MOMENT, require_aware

INTERVAL_NAMES: dict[int, str] = {
    1: "1m",
    5: "5m",
    15: "15m",
    30: "30m",
    60: "1h",
    240: "4h",
    720: "12h",
    1440: "1d",
    10080: "1w",
}
"""Minutes to the short name that views, options and reports use."""

BASE_INTERVAL = 1
"""The interval that is stored; every other one is computed from it."""
DAY = 1440
"""The interval of a day, in minutes."""

INTERVAL_VIEWS: dict[int, str] = {
    minutes: "candles" if minutes == BASE_INTERVAL else f"candles_{name}"
    for minutes, name in INTERVAL_NAMES.items()
}
"""Minutes to the relation that holds these candles: the table of minutes, or a view."""

INTERVAL_SOURCES: dict[int, int] = {
    5: 1,
    15: 1,
    30: 1,
    60: 1,
    240: 60,
    720: 60,
    1440: 60,
    10080: 1440,
}
"""What each higher interval is computed from, every source before those that need it."""

FINEST_AGGREGATE = min(INTERVAL_SOURCES)
"""The shortest of the higher intervals: it knows best when there were minutes."""

# Monday. Every shorter interval divides a day, so this origin serves all of them.
_GRID_ORIGIN = datetime(2000, 1, 3, tzinfo=UTC)
GRID_ORIGIN_EPOCH = int(_GRID_ORIGIN.timestamp())
"""Unix seconds of a moment at which candles of every interval open."""


def interval_name(minutes: int) -> str:
    """``60`` -> ``'1h'``. Raises ConfigurationError for an interval that is not kept."""
    try:
        return INTERVAL_NAMES[minutes]
    except KeyError:
        raise ConfigurationError(
            f"there is no interval of {minutes} minutes", hint=f"known: {', '.join(INTERVAL_NAMES.values())}"
        ) from None


def parse_interval(text: str | int | timedelta) -> int:
    """``'1h'``, ``'60'``, 60 or an hour -> ``60``. Raises ConfigurationError for anything else."""
    if isinstance(text, timedelta):
        text = str(text / timedelta(minutes=1)).removesuffix(".0")
    if isinstance(text, int) and not isinstance(text, bool):
        interval_name(text)
        return text
    if not isinstance(text, str):
        raise ConfigurationError(f"{text!r} is no interval", hint="write it as '1h', 60 or a timedelta")
    wanted = text.strip()
    for minutes, name in INTERVAL_NAMES.items():
        # A capital M is a month.
        if name in (wanted, wanted.replace("M", "?").lower()) or wanted == str(minutes):
            return minutes
    raise ConfigurationError(
        f"there is no interval {text!r}", hint=f"known: {', '.join(INTERVAL_NAMES.values())}"
    )


def interval_length(minutes: int) -> timedelta:
    """The length of a candle of a known interval."""
    interval_name(minutes)
    return timedelta(minutes=minutes)


def floor_to_interval(moment: datetime, minutes: int) -> datetime:
    """The open time (UTC) of the candle that ``moment`` lies in; a boundary belongs to what it opens."""
    # In any other zone a difference of two local times may be an hour off.
    moment = moment.astimezone(UTC)
    return moment - (moment - _GRID_ORIGIN) % interval_length(minutes)


def ceil_to_interval(moment: datetime, minutes: int) -> datetime:
    """The first open time (UTC) at or after ``moment``."""
    moment = moment.astimezone(UTC)
    return moment + (_GRID_ORIGIN - moment) % interval_length(minutes)


IntervalLike: TypeAlias = "int | str | timedelta | Interval"
"""``60``, ``"1h"``, ``timedelta(hours=1)``: what ``as_interval`` takes. A number is minutes."""

Unit: TypeAlias = Literal["minute", "day", "week", "month"]

_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_DAY, _FIRST_MONDAY = date(1970, 1, 1), date(1970, 1, 5)
_MINUTE, _DAY = timedelta(minutes=1), timedelta(days=1)
_MINUTES_OF: dict[Unit, int] = {"minute": 1, "day": DAY, "week": 10080}
_SHORTEST_MONTH, _LONGEST_MONTH = 28, 31
# A moment at which a day of a calendar can still begin: what lies outside of that is no market data.
_EARLIEST, _LATEST = date(2, 1, 1), date(9999, 12, 30)
_FAR = datetime(9999, 12, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Interval:
    """How long candles are, and when they open. Made by ``as_interval``.

    All that has to do with the calendar is decided here; databases are given the times when candles open.

    - Minutes and hours count from 1970-01-01 00:00 UTC, so that those that divide a day begin with it. With a
      zone or a session they begin again with each of its days; the last one of a day may be shorter. With an
      anchor they count from there.
    - Days begin at midnight of ``zone``, or ``begins`` later: those of 23 and 25 hours are one candle each.
      Two and more count from 1970-01-01, or from ``anchor``.
    - Weeks begin on Monday, with the day. Two and more count from Monday 1970-01-05, or from ``anchor``.
    - Months begin on the first, with the day; several of them with January.
    """

    count: int
    unit: Unit
    zone: tzinfo = UTC
    begins: timedelta = timedelta(0)
    """By how much later than midnight a day begins, by the clocks of ``zone``; earlier, if it is negative."""
    anchor: date | None = None
    """A day, of ``zone``, on which a candle opens. Of minutes: the moment (a datetime)."""

    def __str__(self) -> str:
        """``2h``; ``1d Europe/Berlin``; ``1d America/New_York 17:00``."""
        if self.stored is not None:
            return self.name
        day = f" {_clock_text(self.begins)}" if self.begins else ""
        zone = f" {self.zone_name}" if self.zone is not UTC or day else ""
        anchor = f" from {self.anchor.isoformat()}" if self.anchor else ""
        return self.name + zone + day + anchor

    @cached_property
    def name(self) -> str:
        """``2h``, ``3d``, ``2w``, ``1M``, ``1Y``: the length alone."""
        if self.unit == "month":
            return f"{self.count // 12}Y" if self.count % 12 == 0 else f"{self.count}M"
        if self.unit == "minute":
            return f"{self.count // 60}h" if self.count % 60 == 0 else f"{self.count}m"
        return f"{self.count}{self.unit[0]}"

    @property
    def zone_name(self) -> str:
        return "UTC" if self.zone is UTC else str(self.zone)

    @property
    def key(self) -> int | str:
        """Minutes, where they say it all; else the text."""
        is_plain = self.grid is not None and str(self) == self.name
        return self.grid[0] // _MINUTE if self.grid is not None and is_plain else str(self)

    @cached_property
    def stored(self) -> int | None:
        """Minutes, where these are the candles of one of the stored intervals; else None."""
        if self.grid is None:
            return None
        minutes = self.grid[0] // _MINUTE
        return minutes if self.levels[:1] == (minutes,) else None

    @cached_property
    def levels(self) -> tuple[int, ...]:
        """The stored intervals that candles can be computed from, in minutes, the longest first."""
        if self.grid is not None:
            length, origin = self.grid
            parts = {length, abs(origin - _GRID_ORIGIN)}
        else:
            parts = {_DAY, abs(self.begins), *map(abs, _offsets(self.zone))}
            if self.unit == "minute":
                parts.add(self.length)
        return tuple(
            minutes
            for minutes in sorted(INTERVAL_NAMES, reverse=True)
            if not any(part % timedelta(minutes=minutes) for part in parts)
        )

    @property
    def level(self) -> int:
        """The longest of them, as a rule the one that is read."""
        return self.levels[0]

    @cached_property
    def grid(self) -> tuple[timedelta, datetime] | None:
        """The length of all candles and when one of them opens; None where they differ in length."""
        if self.unit == "month":
            return None
        length, offsets = self.length, _offsets(self.zone)
        if self.unit != "minute":
            begin = datetime.combine(self._first, time(), UTC) + self.begins
            return (length, begin - min(offsets)) if len(offsets) == 1 else None
        if isinstance(self.anchor, datetime):
            return length, self.anchor
        if self.zone is UTC and not self.begins:
            return length, _UNIX
        if _DAY % length:
            return None
        if len({(self.begins - offset) % length for offset in offsets}) == 1:
            return length, _UNIX + self.begins - min(offsets)
        return None

    @cached_property
    def day(self) -> Interval:
        """A day of the same zone, that begins as the days of this one do."""
        return Interval(1, "day", self.zone, self.begins)

    @property
    def length(self) -> timedelta:
        """Of a candle, as far as no clock is changed; of months, the longest ones."""
        if self.unit == "month":
            return self.count * _LONGEST_MONTH * _DAY
        return self.count * _MINUTES_OF[self.unit] * _MINUTE

    @cached_property
    def longest(self) -> timedelta:
        """No candle is longer."""
        if self.grid is not None:
            return self.grid[0]
        return self.length if self.unit == "minute" else self.length + _DAY

    def opened_at(self, moment: datetime) -> datetime:
        """When the candle opens, in UTC, that ``moment`` lies in; a boundary belongs to what it opens."""
        moment = moment.astimezone(UTC)
        if self.grid is not None:
            length, origin = self.grid
            return moment - (moment - origin) % length
        if self.unit == "minute":
            return moment - (moment - self.day.opened_at(moment)) % self.length
        return self._calendar_open(self._calendar_number(moment))

    def next_open(self, moment: datetime) -> datetime:
        """The first open time (UTC) at or after ``moment``."""
        opened = self.opened_at(moment)
        return opened if opened == moment else self.closed_at(opened)

    def closed_at(self, opened: datetime) -> datetime:
        """When the candle ends that opens at ``opened``: when the next one opens, in UTC."""
        if self.grid is not None:
            return opened + self.grid[0]
        if self.unit == "minute":
            return min(opened + self.length, self.day.closed_at(self.day.opened_at(opened)))
        return self._calendar_open(self._calendar_number(opened) + 1)

    def later(self, opened: datetime, count: int) -> datetime:
        """When the ``count``-th candle after the one that opens at ``opened`` opens."""
        if self.grid is not None:
            return opened + self.grid[0] * min(count, (_FAR - opened) // self.grid[0])
        if self.unit != "minute":
            return self._calendar_open(self._calendar_number(opened) + count)
        length = self.length
        while True:
            end = self.day.closed_at(self.day.opened_at(opened))
            left = -((opened - end) // length)
            if count < left or left <= 0:  # none where time ends
                return opened + min(count, left) * length
            opened, count = end, count - left

    def back(self, end: datetime, count: int, oldest: datetime) -> datetime:
        """When the last ``count`` candles begin before the open time ``end``, or those from ``oldest`` on."""
        if self.grid is not None:
            return end - self.grid[0] * min(count, (end - oldest) // self.grid[0])
        return [*self.opens(oldest, end), end][-count - 1 :][0]

    def opens(self, start: datetime, end: datetime) -> list[datetime]:
        """All open times in ``[start, end)``."""
        found = []
        opened, end = self.next_open(start), min(end, _FAR)
        is_part = self.unit == "minute" and self.grid is None
        while opened < end:
            if is_part:
                stop = min(end, self.day.closed_at(self.day.opened_at(opened)))
                found += [opened + n * self.length for n in range(-((opened - stop) // self.length))]
                opened = stop
            else:
                found.append(opened)
                opened = self.closed_at(opened)
        return found

    def minutes_at(self, opened: datetime) -> int:
        """The length of the candle that opens at ``opened``."""
        return (self.closed_at(opened) - opened) // _MINUTE

    @cached_property
    def _first(self) -> date:
        return self.anchor or (_FIRST_MONDAY if self.unit == "week" else _FIRST_DAY)

    @property
    def _days(self) -> int:
        return self.count * (7 if self.unit == "week" else 1)

    def _calendar_number(self, moment: datetime) -> int:
        """Which candle a moment lies in, counted from the anchor."""
        local = moment.astimezone(self.zone).replace(tzinfo=None) - self.begins
        if self.unit == "month":
            months = _months(local) - _months(self._first) - (local.day < self._first.day)
            number = months // self.count
        else:
            number = (local.date() - self._first).days // self._days
        # Where clocks are set at the moment at which a day begins, it may be the next one or the last.
        if self._calendar_open(number) > moment:
            return number - 1
        return number + 1 if self._calendar_open(number + 1) <= moment else number

    def _calendar_open(self, number: int) -> datetime:
        """When the candle of a number opens: where clocks show that time twice, the first time."""
        try:
            if self.unit == "month":
                years, month = divmod(_months(self._first) + number * self.count, 12)
                opened = date(years, month + 1, self._first.day)
            else:
                opened = self._first + timedelta(days=number * self._days)
        except (OverflowError, ValueError):
            opened = _LATEST if number > 0 else _EARLIEST
        opened = min(max(opened, _EARLIEST), _LATEST)
        local = datetime.combine(opened, time()) + self.begins
        return local.replace(tzinfo=self.zone).astimezone(UTC)


def _months(day: date) -> int:
    return day.year * 12 + day.month - 1


@lru_cache(maxsize=256)
def _offsets(zone: tzinfo) -> frozenset[timedelta]:
    """All that a zone is from UTC, or will be by what is known, since there is market data."""
    moments = (FIRST_MOMENT + week * timedelta(weeks=1) for week in range(52 * 25))
    return frozenset(moment.astimezone(zone).utcoffset() or timedelta(0) for moment in moments)


def _clock_text(begins: timedelta) -> str:
    minutes = abs(begins) // _MINUTE
    return f"{'-' if begins < timedelta(0) else ''}{minutes // 60:02}:{minutes % 60:02}"


_TEXT = re.compile(r"(?P<count>[1-9]\d{0,8}) *(?P<unit>[A-Za-z]*)", re.ASCII)
_UNITS: dict[str, tuple[int, Unit]] = {
    **dict.fromkeys(("", "m", "min", "minute", "minutes"), (1, "minute")),
    **dict.fromkeys(("h", "H", "hour", "hours"), (60, "minute")),
    **dict.fromkeys(("d", "D", "day", "days"), (1, "day")),
    **dict.fromkeys(("w", "W", "week", "weeks"), (1, "week")),
    **dict.fromkeys(("M", "month", "months"), (1, "month")),
    **dict.fromkeys(("y", "Y", "year", "years"), (12, "month")),
}
_FORMS = "write 1m, 15m, 2h, 1d, 2w, 1M (a month), 1Y, or a number of minutes"
_LONGEST_DAYS = 36500


def as_interval(
    value: IntervalLike,
    *,
    tz: str | tzinfo | None = None,
    anchor: str | date | None = None,
    session: str | time | timedelta | None = None,
) -> Interval:
    """The interval that somebody means, whichever way it is written.

    Seven days are a week, 24 hours a day, twelve months a year: there is one name for each length.

    Args:
        value: ``"2h"``, ``"15m"``, ``"1d"``, ``"2w"``, ``"1M"`` (a month), ``"1Y"``; minutes as a number, or
            as a text (``"60"``); a timedelta of whole minutes; or an Interval, which keeps what is not said
            again.
        tz: The zone whose days, weeks and months are meant: an IANA name or a tzinfo. UTC by default.
        anchor: A day on which a candle opens, for several days, weeks or months, or for weeks that begin on
            another day than Monday: a date, or a text such as ``"2023-01-02"``. An aware datetime says the
            time of day, too; in a text, a time without a zone is one of ``tz``.
        session: When a day begins, by the clocks of ``tz``: ``"17:00"``, a time, or a timedelta from
            midnight. With a negative one (``"-07:00"``) days begin on the evening before, and so do weeks and
            months.

    Returns:
        An Interval. Those of equal candles are equal, if they were written with the same zone.

    Raises:
        ConfigurationError: for anything else; its hint says what is right.
    """
    plain = value if isinstance(value, Interval) else _interval_of(value)
    if tz is anchor is session is None:
        return plain
    zone = plain.zone if tz is None else parse_zone(tz)
    begins = plain.begins if session is None else _parse_session(session)
    if anchor is None:
        return replace(plain, zone=zone, begins=begins)
    return _anchored(plain, zone, None if session is None else begins, _parse_anchor(anchor, zone))


def _interval_of(value: int | str | timedelta) -> Interval:
    # One object for each: it remembers what it has worked out.
    return _made_once(value) if type(value) in (int, str, timedelta) else _made(value)


def _made(value: int | str | timedelta) -> Interval:
    if isinstance(value, str):
        return _parse(value)
    if isinstance(value, timedelta):
        if value % _MINUTE or value <= timedelta(0):
            raise ConfigurationError(f"there is no interval of {value}", hint="it takes whole minutes")
        return _of_minutes(value // _MINUTE, str(value))
    try:
        minutes = operator.index(value)
    except TypeError:
        raise ConfigurationError(f"{value!r} is no interval", hint=_FORMS) from None
    if isinstance(value, bool) or minutes < 1:
        raise ConfigurationError(f"there is no interval of {value} minutes", hint=_FORMS)
    return _of_minutes(minutes, str(value))


_made_once = lru_cache(maxsize=256)(_made)


def _parse(text: str) -> Interval:
    match = _TEXT.fullmatch(text.strip())
    found = _UNITS.get(match["unit"]) if match else None
    if match is None or found is None:
        raise _refused(text)
    count, unit = int(match["count"]) * found[0], found[1]
    if unit != "month":
        return _of_minutes(count * _MINUTES_OF[unit], text)
    if count % 12 if count > 12 else 12 % count:
        raise ConfigurationError(
            f"there is no interval {text!r}: {count} months do not divide a year",
            hint=f"write {match['count']}m for minutes; months are 1M, 2M, 3M, 4M, 6M, 1Y",
        )
    if count > 12 and match["unit"] == "M":
        raise ConfigurationError(
            f"there is no interval {text!r}: M is a month",
            hint=f"write {_of_minutes(int(match['count']), text).name} for {match['count']} minutes,"
            f" {count // 12}Y for {count} months",
        )
    if count > 1200:
        raise _too_long(text)
    return Interval(count, "month")


def _refused(text: str) -> ConfigurationError:
    """What is right instead, where that can be known."""
    near = re.fullmatch(r"(\d+) *([A-Za-z]+)", text.strip(), re.ASCII)
    unit = near[2].lower() if near else ""
    count = near[1] if near else ""
    if unit.startswith("mo"):
        hint = f"write {count}M for months, {count}m for minutes"
    elif unit.startswith("mi"):
        hint = f"write {count}m for minutes; M is a month"
    elif unit.startswith("q"):
        hint = "write 3M for a quarter"
    elif unit in ("s", "sec", "secs", "second", "seconds"):
        hint = "1m is the shortest"
    elif count != "0" and unit and unit in _UNITS and _UNITS[unit][1] != "month":
        hint = f"write {count}{unit[0]}"
    else:
        hint = _FORMS
    return ConfigurationError(f"there is no interval {text!r}", hint=hint)


def _of_minutes(minutes: int, text: str) -> Interval:
    if minutes > _LONGEST_DAYS * 1440:
        raise _too_long(text)
    for unit in ("week", "day"):
        if minutes % _MINUTES_OF[unit] == 0:
            return Interval(minutes // _MINUTES_OF[unit], unit)
    return Interval(minutes, "minute")


def _too_long(text: str) -> ConfigurationError:
    return ConfigurationError(f"there is no interval {text!r}", hint="100 years are the longest")


def parse_zone(value: str | tzinfo) -> tzinfo:
    """The zone of an IANA name, ``UTC`` among them; a tzinfo as it is. Raises ConfigurationError."""
    if isinstance(value, tzinfo):
        return UTC if str(value) == "UTC" else value
    name = value.strip()
    if name.upper() in ("UTC", "Z", "ETC/UTC"):
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    import difflib  # seldom needed

    known = {one.lower(): one for one in available_timezones()}
    name = name.replace(" ", "_")
    near = difflib.get_close_matches(name.lower(), known, n=1)
    if near and near[0] == name.lower():
        return ZoneInfo(known[near[0]])
    cities = [zone for zone in known.values() if zone.rpartition("/")[2].lower() == name.lower()]
    found = sorted(cities, key=len)[:1] or [known[one] for one in near]
    meant = f"did you mean {found[0]}? " if found else ""
    where = "" if known else "; this machine has no list of zones: pip install tzdata"
    raise ConfigurationError(
        f"there is no time zone {value!r}", hint=f"{meant}Write an IANA name such as Europe/Berlin{where}"
    )


_SESSION = re.compile(r"(?P<sign>[+-]?)(?P<hours>\d\d?):(?P<minutes>[0-5]\d)", re.ASCII)


def _parse_session(value: str | time | timedelta) -> timedelta:
    if isinstance(value, str):
        match = _SESSION.fullmatch(value.strip())
        length = timedelta(hours=int(match["hours"]), minutes=int(match["minutes"])) if match else _DAY
        begins = -length if match and match["sign"] == "-" else length
    elif isinstance(value, time):
        begins = datetime.combine(_FIRST_DAY, value.replace(tzinfo=None)) - _UNIX.replace(tzinfo=None)
    else:
        begins = value
    if begins % _MINUTE or not -_DAY < begins < _DAY:
        raise ConfigurationError(
            f"a day cannot begin at {value if isinstance(value, str) else str(value)!r}",
            hint="write a time of the day such as 17:00, or -07:00 for the evening before",
        )
    return begins


def _parse_anchor(value: str | date, zone: tzinfo) -> date:
    """A date, or a datetime as the clocks of the zone show it."""
    if isinstance(value, str):
        try:
            anchor: date = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ConfigurationError(
                f"{value!r} is no anchor", hint="write a date such as 2023-01-02, or 2023-01-02T17:00"
            ) from None
        if isinstance(anchor, datetime) and len(value.strip()) <= len("2023-01-02"):
            return anchor.date()
    else:
        anchor = require_aware(value, "anchor") if isinstance(value, datetime) else value
    if not isinstance(anchor, datetime):
        return anchor
    if anchor.second or anchor.microsecond:
        raise ConfigurationError(f"the anchor {value} is no whole minute", hint="write 2023-01-02T17:00")
    return (
        anchor.replace(tzinfo=None) if anchor.tzinfo is None else anchor.astimezone(zone).replace(tzinfo=None)
    )


def _anchored(plain: Interval, zone: tzinfo, session: timedelta | None, anchor: date) -> Interval:
    """``anchor``: by the clocks of the zone."""
    day = anchor.date() if isinstance(anchor, datetime) else anchor
    begins = plain.begins if session is None else session
    if isinstance(anchor, datetime):
        at = anchor - datetime.combine(day, time())
        if session is not None and plain.unit != "minute" and at not in (session, session + _DAY):
            raise ConfigurationError(
                f"the anchor {anchor.isoformat()} is not when a day begins ({_clock_text(session)})",
                hint="give the anchor as a date, or leave out the session",
            )
        if session is None or plain.unit == "minute":
            begins = at
        elif session < timedelta(0):
            day += _DAY
    if plain.unit == "minute":
        opened = (datetime.combine(day, time()) + begins).replace(tzinfo=zone).astimezone(UTC)
        return replace(plain, zone=zone, begins=timedelta(0), anchor=opened)
    if plain.unit == "month" and day.day > _SHORTEST_MONTH:
        raise ConfigurationError(
            f"months cannot begin on the {day.day}th: not all have that day", hint="take one up to the 28th"
        )
    return replace(plain, zone=zone, begins=begins, anchor=day)

"""Candles of any interval by plain Python: nothing of it is taken from the package.

When candles open is found by walking through a calendar, and what a minute belongs to by looking it up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import groupby, pairwise
from zoneinfo import ZoneInfo

FIRST_YEAR, LAST_YEAR = 2013, 2037
PARTS = date(2023, 1, 1), date(2024, 7, 1)
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",  # clocks change by half an hour
    "America/Santiago",  # they change at midnight
    "America/Havana",  # midnight is there twice
    "Africa/Casablanca",  # an hour back for Ramadan
    "Pacific/Chatham",  # 12:45
)


@dataclass(frozen=True)
class Wanted:
    """An interval as it is written, and what that means, in other words than the package's."""

    count: int
    unit: str
    zone: str = "UTC"
    session: int = 0
    """Minutes after midnight."""
    anchor: date | None = None

    @property
    def text(self) -> str:
        return f"{self.count}{self.unit}"

    @property
    def arguments(self) -> dict[str, str]:
        said = {}
        if self.zone != "UTC":
            said["tz"] = self.zone
        if self.session:
            hours, minutes = divmod(abs(self.session), 60)
            said["session"] = f"{'-' if self.session < 0 else ''}{hours:02}:{minutes:02}"
        if self.anchor:
            said["anchor"] = self.anchor.isoformat()
        return said


@dataclass(frozen=True)
class Row:
    """A minute, or what is computed from some."""

    opens_at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    trades: int
    vwap: Decimal | Fraction | None = None


@lru_cache(maxsize=512)
def opens_of(wanted: Wanted) -> Sequence[datetime]:
    """All open times from FIRST_YEAR to LAST_YEAR, in order; of parts of a day, those of PARTS."""
    if wanted.unit in ("d", "w", "M", "Y"):
        return sorted({_begin(day, wanted) for day in _days(wanted)})
    length = timedelta(minutes=wanted.count * {"m": 1, "h": 60}[wanted.unit])
    begin, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in PARTS)
    if wanted.anchor:
        return _steps(_begin(wanted.anchor, wanted), end, length)
    if wanted.zone == "UTC" and not wanted.session:
        # From 1970 on, whatever days do.
        return _steps(
            begin - timedelta(seconds=int(begin.timestamp()) % int(length.total_seconds())), end, length
        )
    days = [PARTS[0] + timedelta(days=n) for n in range((PARTS[1] - PARTS[0]).days)]
    whole = sorted({_begin(day, wanted) for day in days})
    return [at for first, last in pairwise(whole) for at in _steps(first, last, length)]


def _steps(start: datetime, end: datetime, length: timedelta) -> list[datetime]:
    found = []
    while start < end:
        found.append(start)
        start += length
    return found


def _begin(day: date, wanted: Wanted) -> datetime:
    local = datetime.combine(day, time()) + timedelta(minutes=wanted.session)
    return local.replace(tzinfo=ZoneInfo(wanted.zone)).astimezone(UTC)


def _days(wanted: Wanted) -> list[date]:
    """The days that candles open on."""
    everyone = [date(FIRST_YEAR, 1, 1) + timedelta(days=n) for n in range(365 * (LAST_YEAR - FIRST_YEAR))]
    match wanted.unit:
        case "d":
            first = wanted.anchor or date(1970, 1, 1)
            return [day for day in everyone if (day - first).days % wanted.count == 0]
        case "w":
            first = wanted.anchor or date(1970, 1, 5)
            return [day for day in everyone if (day - first).days % (7 * wanted.count) == 0]
        case "M" | "Y":
            months = wanted.count * (12 if wanted.unit == "Y" else 1)
            first = wanted.anchor or date(1970, 1, 1)
            return [
                day
                for day in everyone
                if day.day == first.day
                and (day.year * 12 + day.month - first.year * 12 - first.month) % months == 0
            ]
    raise AssertionError(wanted)


def opened_at(wanted: Wanted, moment: datetime) -> datetime:
    opens = opens_of(wanted)
    return opens[bisect_right(opens, moment) - 1]


def candles_of(minutes: Iterable[Row], wanted: Wanted) -> list[Row]:
    """What the minutes are together, exactly."""
    groups = groupby(minutes, key=lambda row: opened_at(wanted, row.opens_at))
    return [_together(opens_at, list(rows)) for opens_at, rows in groups]


def _together(opens_at: datetime, rows: Sequence[Row]) -> Row:
    volume = sum((row.volume for row in rows), Decimal(0))
    vwap = None
    if volume and all(row.vwap is not None for row in rows if row.volume):
        paid = sum(Fraction(row.vwap or 0) * Fraction(row.volume) for row in rows)
        vwap = paid / Fraction(volume)
    return Row(
        opens_at,
        rows[0].open,
        max(row.high for row in rows),
        min(row.low for row in rows),
        rows[-1].close,
        volume,
        sum(row.trades for row in rows),
        vwap,
    )

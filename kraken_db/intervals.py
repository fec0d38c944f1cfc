"""The candle intervals: lengths, names and the grid that their open times lie on.

Times of the grid are UTC. All intervals up to a day start at multiples of their length since
1970-01-01; weeks start on Monday 00:00 UTC, as TimescaleDB's ``time_bucket`` has it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kraken_db.errors import ConfigurationError

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
        if wanted.lower() == name or wanted == str(minutes):
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

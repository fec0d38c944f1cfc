"""What readers of the store may be asked for: checks that every method shares."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypeAlias

from kraken_db.errors import ConfigurationError
from kraken_db.intervals import interval_length, require_aware
from kraken_db.pairs import parse_symbol

Fill: TypeAlias = Literal["previous"]
_MOST = 2**60


def check_range(interval: int, start: datetime, end: datetime) -> None:
    require_aware(start, "start")
    require_aware(end, "end")
    interval_length(interval)


def check_count(count: int, name: str) -> int:
    """A number of rows that the database can be asked for."""
    try:
        number = operator.index(count)
    except TypeError:
        raise ConfigurationError(f"{name} is not a whole number: {count!r}") from None
    if number < 0:
        raise ConfigurationError(f"{name} is negative: {count}")
    return min(number, _MOST)


def check_limit(limit: int | None) -> int | None:
    return None if limit is None else check_count(limit, "limit")


def check_fill(fill: str | None) -> None:
    if fill not in (None, "previous"):
        raise ConfigurationError(f"fill={fill!r} is not known", hint="use fill='previous' or leave it out")


def check_speed(speed: float) -> None:
    if not speed >= 0:  # NaN is not
        raise ConfigurationError(f"speed is negative: {speed}" if speed < 0 else f"speed is {speed}")


def check_symbols(symbols: Sequence[str]) -> list[str]:
    """Each once, in our spelling."""
    if isinstance(symbols, str):
        raise ConfigurationError(f"symbols is one text: {symbols!r}", hint="pass a list: [symbol]")
    found = list(dict.fromkeys(parse_symbol(symbol) for symbol in symbols))
    if not found:
        raise ConfigurationError("no symbols were named")
    return found

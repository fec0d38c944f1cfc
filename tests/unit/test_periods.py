"""Periods of minutes and more, as ``--max-lag`` takes them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kraken_db.cli.moments import PeriodType
from kraken_db.errors import ConfigurationError

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("15min", HOUR / 4),
        ("15m", HOUR / 4),
        ("90 minutes", 1.5 * HOUR),
        ("2h", 2 * HOUR),
        ("1 Day", 24 * HOUR),
        ("0min", 0 * HOUR),
        ("2 weeks", 336 * HOUR),
        (" never ", None),
    ],
)
def test_ages(text: str, age: timedelta | None) -> None:
    assert PeriodType().parse(text) == (age,)


@pytest.mark.parametrize("text", ["", "15", "min", "-1h", "1.5h", "1 month", "1h ago", "٣h"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a period.*write 15min"):
        PeriodType().parse(text)


@pytest.mark.parametrize("text", ["6000w", "999999999999d"])
def test_longer_than_there_is_time(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"longer than 100 years"):
        PeriodType().parse(text)

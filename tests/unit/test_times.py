"""Times as users type them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.times import parse_time

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
    ],
)
def test_a_time_is_read_as_utc(text: str, expected: str) -> None:
    assert parse_time(text, NOW).isoformat() == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2023",
        "20230131",
        "1672531200",
        "2023-13-01",
        "2023-02-30",
        "3 months ago",
        "9999999 weeks ago",
    ],
)
def test_anything_else_is_an_error_that_shows_how(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_time(text, NOW)
    assert repr(text) in caught.value.message
    assert caught.value.hint is not None
    assert "7 days ago" in caught.value.hint


def test_a_time_at_the_edge_of_the_calendar_does_not_crash() -> None:
    with pytest.raises(ConfigurationError):
        parse_time("0001-01-01T00:00+14:00", NOW)

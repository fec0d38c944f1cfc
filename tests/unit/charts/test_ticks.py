"""Round labels. Expected values are by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from kraken_db.charts.series import price_ticks, short_text, time_step, time_text, time_ticks

D = Decimal


@pytest.mark.parametrize(
    ("low", "high", "most", "decimals", "expected"),
    [
        ("10", "19", 2, 0, ["10", "15"]),
        ("10.3", "19.9", 5, 1, ["12", "14", "16", "18"]),
        ("14347.48", "14835.49", 5, 2, ["14400", "14500", "14600", "14700", "14800"]),
        ("0.00001234", "0.00001239", 9, 8, [f"0.0000123{n}" for n in (4, 5, 6, 7, 8, 9)]),
        # No finer than a price can be.
        ("1.1", "1.3", 9, 1, ["1.1", "1.2", "1.3"]),
        # Nothing to choose from.
        ("5", "5", 3, 0, ["5"]),
        ("5.41", "5.44", 1, 2, ["5.42"]),
        ("0", "0", 3, 0, ["0"]),
        ("999999", "1000001", 2, 0, ["999999", "1000000"]),
    ],
)
def test_prices(low: str, high: str, most: int, decimals: int, expected: list[str]) -> None:
    assert price_ticks(D(low), D(high), most, decimals) == [D(price) for price in expected]


@pytest.mark.parametrize(
    ("minutes", "step"),
    [(1, 1), (3, 5), (61, 120), (721, 1440), (2881, 10080), (10081, 20160), (25000, 30240)],
)
def test_round_times(minutes: int, step: int) -> None:
    assert time_step(minutes) == step


def moments(first: str, minutes: int, count: int) -> list[datetime]:
    begin = datetime.fromisoformat(first).replace(tzinfo=UTC)
    return [begin + n * timedelta(minutes=minutes) for n in range(count)]


@pytest.mark.parametrize(
    ("first", "minutes", "count", "step", "expected"),
    [
        ("2023-01-01T22:00", 60, 6, 240, [2]),  # midnight
        ("2023-01-02T00:00", 60, 6, 240, [0, 4]),
        ("2023-01-01T00:10", 7, 9, 30, [3, 8]),  # 00:31 and 01:06 are the first after the half hours
        ("2023-01-01T00:00", 1440, 9, 10080, [1, 8]),  # Mondays
        ("2023-01-01T00:01", 1, 3, 60, [0]),  # no round one: the first
    ],
)
def test_where_the_times_stand(first: str, minutes: int, count: int, step: int, expected: list[int]) -> None:
    assert time_ticks(moments(first, minutes, count), step) == expected


def test_how_times_are_written() -> None:
    moment = datetime(2023, 1, 31, 15, 30, tzinfo=UTC)
    assert (time_text(moment, 720), time_text(moment, 1440)) == ("01-31 15:30", "2023-01-31")


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0E-10", "0"),
        ("0.00001234", "0.0000123"),
        ("1.5", "1.5"),
        ("12.345", "12.3"),
        ("123.45", "123"),
        ("999", "999"),
        ("1000", "1k"),
        ("12345", "12.3k"),
        ("4560000", "4.56M"),
        ("7890000000", "7.89G"),
        ("1234567890123", "1235G"),
    ],
)
def test_amounts_in_short(amount: str, text: str) -> None:
    assert short_text(D(amount)) == text

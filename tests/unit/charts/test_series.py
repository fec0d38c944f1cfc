"""Traded, quiet and unknown intervals, and several of them as one. Expected values are by hand."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from kraken_db.charts.series import Series, decimals_of
from tests.support.drawn import DOWN, FIVE_HOURS, FLAT, QUIET, START, UP, candle, quiet

HOUR = timedelta(hours=1)


def test_every_interval_has_its_slot() -> None:
    series = Series.of(FIVE_HOURS)
    assert (series.symbol, series.interval) == ("BTC/USD", 60)
    assert [slot.opens_at for slot in series.slots] == [START + n * HOUR for n in range(5)]
    assert [slot.kind for slot in series.slots] == ["traded", "traded", "quiet", "unknown", "traded"]
    assert series.traded == [UP, DOWN, FLAT]
    assert series.unknown_ranges() == [(START + 3 * HOUR, START + 4 * HOUR)]
    assert series.change == (Decimal(15) - 11) / 11 * 100


def test_unknown_intervals_that_touch_are_one_range() -> None:
    series = Series.of([UP, candle(4, "1", "1", "1", "1"), candle(6, "1", "1", "1", "1")])
    assert series.unknown_ranges() == [
        (START + 1 * HOUR, START + 4 * HOUR),
        (START + 5 * HOUR, START + 6 * HOUR),
    ]


def test_merged_candles_are_what_happened_in_them() -> None:
    first, second, third = Series.of(FIVE_HOURS).merged(2).slots
    assert first.candle is not None
    assert (first.opens_at, first.has_unknown) == (START, False)
    assert (first.candle.open, first.candle.high) == (Decimal(11), Decimal(19))
    assert (first.candle.low, first.candle.close) == (Decimal(10), Decimal(14))
    assert (first.candle.volume, first.candle.trade_count) == (Decimal(9), 14)
    # A quiet hour and one that is not known.
    assert (second.kind, second.has_unknown, second.opens_at) == ("quiet", True, START + 2 * HOUR)
    assert (third.candle, third.has_unknown) == (FLAT, False)


def test_a_quiet_price_is_no_price_of_a_merged_candle() -> None:
    (slot,) = Series.of([quiet(0, "99"), candle(1, "11", "14", "10", "13")]).merged(2).slots
    assert slot.candle is not None
    assert (slot.candle.open, slot.candle.high) == (Decimal(11), Decimal(14))
    (nothing,) = Series.of([quiet(0, "99"), quiet(1, "99")]).merged(2).slots
    assert nothing.kind == "quiet"


def test_decimals_are_those_that_the_prices_need() -> None:
    assert Series.of([candle(0, "1.50", "2.0000", "1.25", "1.5000000000"), QUIET]).price_decimals == 2


@pytest.mark.parametrize(
    ("value", "decimals"),
    [
        ("16541.7700000000", 2),
        ("100", 0),
        ("1E+2", 0),
        ("0E-10", 0),
        ("1E-10", 10),
        ("-0.50", 1),
        ("200.0", 0),
    ],
)
def test_digits_that_count(value: str, decimals: int) -> None:
    assert decimals_of(Decimal(value)) == decimals

"""What ``gaps`` says of a pair."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from kraken_db.cli.gaps import show_filled, show_gaps
from kraken_db.gap_filler import FillReport, FoundGap, SymbolGaps
from kraken_db.types import DataGap
from tests.support.screens import Screen

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("length", "shown"),
    [
        (timedelta(seconds=45), "45 s"),
        (timedelta(minutes=1), "1 min"),
        (timedelta(minutes=119), "119 min"),
        (timedelta(hours=2), "2.0 h"),
        (timedelta(hours=5, minutes=18), "5.3 h"),
        (timedelta(days=2), "2.0 days"),
        (timedelta(days=1_234, hours=12), "1,234.5 days"),
    ],
)
def test_a_length_has_a_unit_that_fits(screen: Screen, length: timedelta, shown: str) -> None:
    screen.resize(120, 24)
    gap = DataGap("BTC/USD", "candles_1m", NOW - length, NOW, length)
    show_gaps([SymbolGaps("BTC/USD", (FoundGap(gap, "inside"),), None, {})], as_json=False)
    out, _ = screen.read()
    assert f"  {shown}  within" in out[-1]


def test_what_stays_of_few_pairs_is_told_by_pair(screen: Screen) -> None:
    screen.resize(120, 24)
    reports = [
        FillReport(SymbolGaps("BTC/USD", (), None, {}), is_elsewhere=True),
        FillReport(SymbolGaps("ETH/USD", (), None, {}), was_stopped=True),
    ]
    show_filled(reports, as_json=False)
    _, err = screen.read()
    assert err == [
        "BTC/USD: left to another process, which is at work on it (kraken-db jobs)",
        "ETH/USD: stopped; the same command goes on from there",
    ]

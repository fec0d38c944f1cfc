"""Kraken's cursors in ns, and the moments that they stand for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kraken_db.kraken.page_walk import as_nanoseconds, cursor_time, to_cursor

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def test_cursors_and_moments() -> None:
    assert cursor_time(1_762_820_035_982_277_754) == datetime(2025, 11, 11, 0, 13, 55, 982277, UTC)
    assert to_cursor(NOON) == 1_704_110_400 * 10**9 - 250
    assert cursor_time(to_cursor(NOON)) == NOON - timedelta(microseconds=1)
    assert to_cursor(datetime(1970, 1, 1, tzinfo=UTC)) == 0
    assert as_nanoseconds(1_704_110_400) == 1_704_110_400 * 10**9
    assert as_nanoseconds(1_704_110_400 * 10**9) == 1_704_110_400 * 10**9
    assert as_nanoseconds(0) == 0

"""The open minutes of a pair: trades that come through REST while its minutes are built are not forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kraken_db.recorder.candle_closer import OpenMinutes

START = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_what_is_closed_is_due_again_only_when_something_has_come() -> None:
    minutes = OpenMinutes("BTC/USD")
    minutes.reopen(START + MINUTE / 2)
    assert minutes.is_due(START + MINUTE, 7, START + MINUTE / 2)
    minutes.closed(START + MINUTE, 7, [(START - MINUTE, START)])
    assert not minutes.is_due(START + MINUTE, 7, START + MINUTE / 2)
    assert minutes.is_due(START + MINUTE, 8, START + MINUTE), "the next trade proves it"
    minutes.closed(START + MINUTE, 8, [(START - MINUTE, START + MINUTE)])
    assert minutes.since == START + MINUTE


def test_a_minute_that_was_reopened_is_due() -> None:
    minutes = OpenMinutes("BTC/USD")
    minutes.reopen(START)
    minutes.closed(START + MINUTE, 7, [])
    before = minutes.reopened
    minutes.reopen(START - 5 * MINUTE)
    assert minutes.reopened != before
    assert minutes.is_due(START + MINUTE, 7, START)
    assert minutes.since == START - 5 * MINUTE

"""What is said of the feed: one line for a short loss, a line a minute for a long one, and its end."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from kraken_db.recorder.feed_log import FeedLog

BEGIN = datetime(2026, 11, 28, 2, 10, tzinfo=UTC)


class Said:
    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def lines(self) -> list[str]:
        found = [record.getMessage() for record in self._caplog.records]
        self._caplog.clear()
        return found


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    caplog.set_level(logging.WARNING, "kraken_db")
    return Said(caplog)


def after(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def test_a_loss_that_the_next_connection_makes_good_is_one_line(said: Said) -> None:
    log = FeedLog()
    log.alive(after(-60))
    log.lost(BEGIN, "nothing came for 8.0 s", 0.0)
    assert said.lines == []
    log.alive(after(1.24))
    assert said.lines == [
        "the live feed was lost at 02:10:00 UTC (nothing came for 8.0 s) and is back after 1.2 s"
    ]


def test_a_long_outage_is_told_once_a_minute_and_so_is_its_end(said: Said) -> None:
    log = FeedLog()
    log.lost(BEGIN, "the connection broke", 0.0)
    for seconds in range(6, 600, 6):
        log.lost(after(seconds), "ws.kraken.com cannot be reached", 5.0)
    lines = said.lines
    assert len(lines) == 10
    assert (
        lines[0]
        == "no live feed since 02:10:00 UTC: the connection broke; then: ws.kraken.com cannot be reached"
    )
    assert set(lines[1:]) == {"still no live feed since 02:10:00 UTC: ws.kraken.com cannot be reached"}
    log.alive(after(601))
    assert said.lines == ["the live feed is back, after 10 min 1 s without (since 02:10:00 UTC)"]
    log.alive(after(602))
    assert said.lines == []


def test_a_pause_that_kraken_asks_for_is_told_at_once(said: Said) -> None:
    FeedLog().lost(BEGIN, "HTTP 429", 60.0)
    assert said.lines == ["no live feed since 02:10:00 UTC: HTTP 429"]


def test_a_feed_that_comes_and_goes_is_told_once_a_minute(said: Said) -> None:
    log = FeedLog()
    for seconds in range(0, 120, 6):
        log.lost(after(seconds), "the connection broke", 5.0)
        log.alive(after(seconds + 1))
    lines = said.lines
    assert len(lines) == 2
    assert lines[1].endswith("10 times within the last minutes")

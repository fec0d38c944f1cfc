"""Remaining: how far a download is, and how much is left."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from kraken_db.historical_backfill.download import Remaining
from kraken_db.kraken.messages import KrakenTrade

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def trade(number: int | None, second: int = 0) -> KrakenTrade:
    return KrakenTrade(Decimal(1), Decimal(1), NOON + timedelta(seconds=second), "b", "l", "", number)


class RecordingTask:
    """A task that remembers what it was told."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.note = ""
        self.count = 0

    def advance(self, amount: int = 1) -> None:
        self.count += amount

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        self.total = self.total if total is None else total
        self.note = self.note if note is None else note

    def done(self, outcome: str = "", *, failed: bool = False) -> None:
        pass


def test_the_total_comes_from_the_ids_and_the_place_from_the_time() -> None:
    task = RecordingTask()
    remaining = Remaining(task)
    remaining.goal = trade(100, 3600)
    remaining.advance([trade(11, 0), trade(12, 900)])
    assert (task.total, task.count) == (90, 2)
    assert task.note == "at 2024-01-01 12:15, 25% of the time range"
    remaining.advance([trade(13, 7200)])
    assert (task.count, task.note) == (3, "at 2024-01-01 14:00, 100% of the time range")


def test_without_ids_there_is_no_total() -> None:
    task = RecordingTask()
    remaining = Remaining(task)
    remaining.goal = trade(None, 10)
    remaining.advance([trade(None, 0)])
    assert (task.total, task.count) == (None, 1)
    remaining = Remaining(RecordingTask())
    remaining.advance([])
    assert remaining.began is None

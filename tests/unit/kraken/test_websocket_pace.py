"""How often a client connects: at once a few times, then at a distance, and never beyond Kraken's limit."""

from __future__ import annotations

from random import Random

from kraken_db.kraken.websocket import ReconnectLimits, ReconnectPace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_at_once_a_few_times_then_every_five_seconds() -> None:
    clock = Clock()
    pace = ReconnectPace(ReconnectLimits(), clock, lambda: 0.5)
    waits = []
    for _ in range(6):
        pace.attempted()
        waits.append(pace.wait())
    assert waits == [0.0, 0.0, 0.0, 5.5, 5.5, 5.5]


def test_a_connection_that_has_lasted_begins_anew() -> None:
    clock = Clock()
    pace = ReconnectPace(ReconnectLimits(), clock, lambda: 0.0)
    for _ in range(5):
        pace.attempted()
        pace.connected()
        clock.now += 1
        last = pace.wait()
    assert last == 5.0
    pace.attempted()
    pace.connected()
    clock.now += 60
    assert pace.wait() == 0.0


def test_what_kraken_asks_for_is_kept() -> None:
    pace = ReconnectPace(ReconnectLimits(), Clock(), lambda: 1.0)
    pace.attempted()
    assert pace.wait(30.0) == 31.0


def test_never_more_than_150_in_ten_minutes() -> None:
    """Connections of any length, most of them short: no ten minutes have more attempts than allowed."""
    random, clock = Random(5), Clock()
    pace = ReconnectPace(ReconnectLimits(), clock, random.random)
    attempts: list[float] = []
    while len(attempts) < 2_000:
        attempts.append(clock.now)
        pace.attempted()
        if random.random() < 0.7:
            pace.connected()
            clock.now += random.choice([0.1, 1.0, 61.0])
        clock.now += pace.wait()
    most = max(sum(at <= other < at + 600 for other in attempts) for at in attempts)
    assert most <= 150


def test_the_limit_alone() -> None:
    clock = Clock()
    pace = ReconnectPace(ReconnectLimits(at_once=10_000, jitter=0.0), clock)
    attempts: list[float] = []
    for _ in range(500):
        attempts.append(clock.now)
        pace.attempted()
        clock.now += pace.wait() + 0.01
    assert max(sum(at <= other < at + 600 for other in attempts) for at in attempts) == 140

"""How often a client connects: at once a few times, then at a distance, and never beyond Kraken's limit; and
how many frames it sends."""

from __future__ import annotations

from random import Random

from kraken_db.kraken.websocket_pace import ReconnectLimits, ReconnectPace, RequestLimits, RequestPace


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


def sent_in(pace: RequestPace, begin: float, seconds: float) -> int:
    """How many frames it lets through when it is asked every 50 ms."""
    return sum(pace.take(begin + tick / 20) for tick in range(int(20 * seconds)))


def test_a_few_frames_at_once_and_then_four_a_second() -> None:
    pace = RequestPace(RequestLimits())
    assert [pace.take(100.0) for _ in range(5)] == [True, True, True, True, False]
    assert sent_in(pace, 100.05, 10) == 40


def test_slower_when_told_and_faster_again_step_by_step() -> None:
    pace = RequestPace(RequestLimits())
    pace.take(0.0)
    for _ in range(30):  # the refusals of frames that were under way together
        pace.slow_down(0.1)
    assert pace.per_second == 2.0
    assert sent_in(pace, 0.1, 1.4) == 0, "a pause of a second, and then the distance of two frames"
    assert sent_in(pace, 1.5, 10) in (20, 21)
    pace.slow_down(12.0)
    assert pace.per_second == 1.0
    rates = []
    for after in range(12, 200, 20):
        pace.take(after + 0.5)
        rates.append(round(pace.per_second, 2))
    assert rates[:5] == [1.0, 1.25, 1.56, 1.95, 2.44]
    assert rates[-1] == 4.0
    for moment in range(200, 260, 2):
        pace.slow_down(float(moment))
    assert pace.per_second == 0.2, "never slower than that"


def test_it_finds_what_kraken_allows() -> None:
    """Where one frame a second is allowed and no more at once, it comes to that and refusals get rare."""
    pace = RequestPace(RequestLimits())
    room, last, refused, sent = 1.0, 0.0, [0, 0], [0, 0]
    for tick in range(20 * 600):
        now = tick / 20
        if not pace.take(now):
            continue
        room = min(1.0, room + (now - last))
        last, half = now, int(now >= 300)
        sent[half] += 1
        if room < 1.0:
            refused[half] += 1
            pace.slow_down(now)
        else:
            room -= 1.0
    assert refused[1] <= 15
    assert sent[1] - refused[1] > 200

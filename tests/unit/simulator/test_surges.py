"""A market that trades more for a while: its trades are in order, and found where they are."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from random import Random

from kraken_db.simulator import Market, Scenario, Surge

START = datetime(2026, 3, 1, 10, tzinfo=UTC)
SECOND = 1_000_000_000
BEGIN = int(START.timestamp()) * SECOND
SURGES = [
    Surge(BEGIN + 60 * SECOND, BEGIN + 120 * SECOND, 5),
    Surge(BEGIN + 180 * SECOND, BEGIN + 200 * SECOND, 7),
]


def market(*surges: Surge) -> Market:
    return Market("BTC/USD", start=START, scenario=Scenario.SAME_STAMPS, trades_per_minute=600, surges=surges)


def test_so_many_times_as_much() -> None:
    """Ten minutes of the plain market lie within four minutes and the 240 + 120 s that the surges gain."""
    plain, surging = market(), market(*SURGES)
    for seconds, gained in ((30, 0), (60, 0), (90, 4 * 30), (150, 240), (190, 240 + 60), (300, 240 + 120)):
        there = surging.count_at(BEGIN + seconds * SECOND)
        assert there == plain.count_at(BEGIN + (seconds + gained) * SECOND + (6 if gained % 60 else 0)), (
            seconds
        )


def test_every_trade_is_found_where_it_is() -> None:
    random, wanted = Random(3), market(*SURGES)
    stamps = [wanted.stamp(number) for number in range(wanted.count_at(BEGIN + 400 * SECOND))]
    assert stamps == sorted(stamps)
    edges = [BEGIN + minute * 60 * SECOND for minute in range(6)]
    for _ in range(3_000):
        near = random.choice([*random.sample(stamps, 3), random.choice(edges)])
        stamp = near + random.choice([-501, -500, -499, -400, -1, 0, 1])
        assert wanted.position(stamp, after=True) == bisect_right(stamps, stamp)
        assert wanted.position(stamp, after=False) == bisect_left(stamps, stamp)

"""Faults of the feed as one types them, and how often they happen."""

from __future__ import annotations

import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.simulator import FeedFaults
from kraken_db.simulator.faults import USUAL, FeedPlan


def test_by_name() -> None:
    faults = FeedFaults.parse({"cut": "300", "lost": "0.2", "mute": ""}, seed="x")
    assert (faults.cut, faults.lost, faults.mute) == (300, 0.2, USUAL["mute"])
    assert faults.seed == "x"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("nonsense", "", "one of cut, lost"),
        ("cut", "0.5", "number of trades"),
        ("lost", "often", "share from 0 to 1"),
        ("lost", "2", "share, from 0 to 1"),
        ("cut", "-1", "from 0 on"),
        ("answers_only", "2", "share, from 0 to 1"),
        ("msg_rate", "-1", "from 0 on"),
        ("msg_rate", "many", "a number"),
    ],
)
def test_what_cannot_be(name: str, value: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        FeedFaults.parse({name: value})


def test_cuts_come_after_about_so_many_trades() -> None:
    lengths = []
    for connection in range(200):
        plan = FeedPlan(FeedFaults(cut=100), connection)
        sent = 1
        while not plan.is_cut_by(1):
            sent += 1
        lengths.append(sent)
    assert 50 <= min(lengths) < 60
    assert 140 < max(lengths) <= 150


def test_shares() -> None:
    plan = FeedPlan(FeedFaults(), 1)
    assert sum(plan.happens(0.1) for _ in range(10_000)) == pytest.approx(1_000, rel=0.1)
    assert not any(plan.happens(0.0) for _ in range(1_000))
    assert not any(plan.is_cut_by(1_000) for _ in range(1_000))


def test_a_connection_only_answers_or_has_no_heartbeats_from_its_beginning_on() -> None:
    plans = [FeedPlan(FeedFaults(answers_only=0.2, no_heartbeats=0.4), number) for number in range(2_000)]
    assert sum(plan.answers_only for plan in plans) == pytest.approx(400, rel=0.2)
    assert sum(not plan.has_heartbeats for plan in plans) == pytest.approx(800, rel=0.2)
    assert FeedPlan(FeedFaults(), 1).has_heartbeats


def test_so_many_frames_a_second_and_as_many_at_once() -> None:
    plan = FeedPlan(FeedFaults(msg_rate=4), 1)
    assert [plan.is_too_fast(100.0) for _ in range(6)] == [False] * 4 + [True] * 2
    assert not plan.is_too_fast(100.25)
    assert plan.is_too_fast(100.3)
    slow = FeedPlan(FeedFaults(msg_rate=0.5), 1)
    assert [slow.is_too_fast(at) for at in (10.0, 11.0, 12.0, 13.0)] == [False, True, False, True]
    assert not any(FeedPlan(FeedFaults(), 1).is_too_fast(1.0) for _ in range(100))

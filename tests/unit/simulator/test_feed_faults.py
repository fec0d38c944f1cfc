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

"""Faults come at their rate, the same ones for the same seed; and the rate limit."""

from __future__ import annotations

from collections import Counter

import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.simulator import ODD_PAGES, PERMANENT, TRANSIENT, Fault, Faults, RateLimit
from kraken_db.simulator.exchange import Limiter
from kraken_db.simulator.faults import MESSAGES, FaultPlan


def drawn(
    faults: Faults, pair: str = "BTC/USD", call: str = "Trades", times: int = 5_000
) -> list[Fault | None]:
    plan = FaultPlan(faults)
    return [plan.next(call, pair) for _ in range(times)]


def test_every_fault_is_of_one_kind() -> None:
    assert set(Fault) == TRANSIENT | PERMANENT | ODD_PAGES
    assert len(TRANSIENT) + len(PERMANENT) + len(ODD_PAGES) == len(Fault)
    assert set(MESSAGES) >= PERMANENT


def test_rates() -> None:
    found = Counter(drawn(Faults({Fault.RESET: 0.2, Fault.MISSING_LAST: 0.05})))
    assert found[Fault.RESET] == pytest.approx(1_000, rel=0.1)
    assert found[Fault.MISSING_LAST] == pytest.approx(250, rel=0.2)
    transient = Counter(drawn(Faults.transient(0.2)))
    assert transient[None] == pytest.approx(4_000, rel=0.05)
    assert set(transient) == TRANSIENT | {None}


def test_the_seed_decides() -> None:
    assert drawn(Faults.transient(0.2, 7)) == drawn(Faults.transient(0.2, 7))
    assert drawn(Faults.transient(0.2, 7)) != drawn(Faults.transient(0.2, 8))


def test_pairs_do_not_change_each_other_s_faults() -> None:
    plan = FaultPlan(Faults.transient(0.2))
    mixed = []
    for _ in range(500):
        mixed.append(plan.next("Trades", "BTC/USD"))
        plan.next("Trades", "ETH/USD")
        plan.next("OHLC", "BTC/USD")
    assert mixed == drawn(Faults.transient(0.2), times=500)


def test_odd_pages_are_for_trades_only() -> None:
    faults = Faults({Fault.OUT_OF_ORDER: 1.0})
    assert set(drawn(faults)) == {Fault.OUT_OF_ORDER}
    assert set(drawn(faults, call="OHLC")) == {None}


def test_after_and_in_a_row() -> None:
    assert drawn(Faults({Fault.RESET: 1.0}, after=3), times=5) == [None] * 3 + [Fault.RESET] * 2
    assert drawn(Faults({Fault.RESET: 1.0}, in_a_row=2), times=6) == [Fault.RESET, Fault.RESET, None] * 2


@pytest.mark.parametrize(
    "rates", [{Fault.RESET: -0.1}, {Fault.RESET: 0.6, Fault.HANG: 0.6}, {Fault.HANG: float("nan")}]
)
def test_rates_that_cannot_be(rates: dict[Fault, float]) -> None:
    with pytest.raises(ConfigurationError):
        Faults(rates)


def test_the_limit_is_kept_by_client_and_pair() -> None:
    now = [0.0]
    limiter = Limiter(RateLimit(per_second=2, burst=2), lambda: now[0])
    assert [limiter.refuse("a", "x") for _ in range(3)] == [None, None, Fault.TOO_MANY_REQUESTS]
    assert limiter.refuse("b", "x") is None
    assert limiter.refuse("a", "y") is None
    now[0] = 0.5  # one more is free; the refused one did not count
    assert [limiter.refuse("a", "x") for _ in range(2)] == [None, Fault.TOO_MANY_REQUESTS]


def test_lockout() -> None:
    now = [0.0]
    limiter = Limiter(RateLimit(per_second=1, lockout_after=2, lockout_seconds=10), lambda: now[0])
    answers = [limiter.refuse("a", "x") for _ in range(4)]
    assert answers == [None, Fault.TOO_MANY_REQUESTS, Fault.LOCKOUT, Fault.LOCKOUT]
    now[0] = 9.9
    assert limiter.refuse("a", "x") is Fault.LOCKOUT
    now[0] = 10.1
    assert limiter.refuse("a", "x") is None

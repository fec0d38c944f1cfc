"""Any tape, cut by any server that keeps the rules, is handed out exactly once and in order."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kraken_db.kraken import page_walk as paging
from kraken_db.kraken import prefetch
from tests.support.scripted_server import BEGIN, SECOND, Oddity, ScriptedServer, TapeTrade, told, walk

_CLOSE = (0, 0, 300)
"""Nanoseconds between trades of a group: mostly the same stamp, always about the same microsecond."""
_APART = (5_000, 1_000_000, 2 * SECOND, 61 * SECOND, 7_200 * SECOND)
_ODD = st.lists(
    st.sampled_from(["none", "none", "none", "missing last", "repeated", "disorder"]), max_size=60
).map(
    lambda found: [o if found[max(0, n - 5) : n] != ["repeated"] * 5 else "none" for n, o in enumerate(found)]
)


@st.composite
def tapes(draw: st.DrawFn, size: int, anonymous: str = "none") -> list[TapeTrade]:
    """Groups of trades of about one moment, none larger than a page; ``anonymous``: what has no id."""
    stamp, number, tape = BEGIN, draw(st.sampled_from([1, 1, 3])), []
    for gap, group in draw(st.lists(st.tuples(st.sampled_from(_APART), st.integers(1, size)), max_size=15)):
        stamp += gap
        for _ in range(group):
            # Equal trades without ids, of one microsecond but not of one stamp, are told apart by nothing.
            stamp += draw(st.sampled_from(_CLOSE)) if anonymous == "none" else 0
            has_id = anonymous == "none" or draw(st.integers(0, 3)) > 0
            tape.append(TapeTrade(stamp, number if has_id else 0, draw(st.integers(1, 2))))
            if has_id or anonymous == "counted":
                number += 1
    return tape


@pytest.fixture(autouse=True)
def _(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MAX_COUNT", 7)
    monkeypatch.setattr(prefetch, "START", 0.0)


def _walk(
    tape: list[TapeTrade], size: int, exclusive: bool, oddities: list[Oddity], seed: int
) -> list[tuple[int, int, int]]:
    vars(paging)["MAX_COUNT"] = size
    server = ScriptedServer(tape, size, exclusive, oddities, Random(seed).shuffle)
    steps = asyncio.run(walk(server))
    assert steps[-1].caught_up
    assert not [hole for step in steps for hole in step.holes]
    return told(steps)


_SETTINGS = settings(
    max_examples=250,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@_SETTINGS
@given(st.data(), st.integers(1, 7), st.booleans(), _ODD, st.integers(0, 99))
def test_trades_with_ids(
    data: st.DataObject, size: int, exclusive: bool, oddities: list[Oddity], seed: int
) -> None:
    tape = data.draw(tapes(size))
    assert _walk(tape, size, exclusive, oddities, seed) == [trade.told() for trade in tape]


@_SETTINGS
@given(st.data(), st.integers(4, 7), st.booleans(), _ODD, st.integers(0, 99))
def test_ids_that_were_used_up_by_trades_without_one(
    data: st.DataObject, size: int, exclusive: bool, oddities: list[Oddity], seed: int
) -> None:
    tape = data.draw(tapes(size, "counted"))
    found = _walk(tape, size, exclusive, oddities, seed)
    assert sorted(found) == sorted(trade.told() for trade in tape)
    assert [one[1] for one in found if one[1]] == [trade.number for trade in tape if trade.number]


@_SETTINGS
@given(st.data(), st.integers(4, 7), st.booleans(), _ODD, st.integers(0, 99))
def test_trades_without_an_id_between_ids_without_a_hole(
    data: st.DataObject, size: int, exclusive: bool, oddities: list[Oddity], seed: int
) -> None:
    tape = data.draw(tapes(size, "uncounted"))
    found = _walk(tape, size, exclusive, oddities, seed)
    assert sorted(found) == sorted(trade.told() for trade in tape)
    assert [one[1] for one in found if one[1]] == [trade.number for trade in tape if trade.number]

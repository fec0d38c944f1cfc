"""Any frames, losses, repeats, answers of REST and a writer without room: every id is stored once, in order.

The model is one number: the last id up to which everything is stored. Whatever is handed out follows upon it.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kraken_db.recorder import symbol_feed as book
from kraken_db.recorder.symbol_feed import SymbolFeed
from tests.support.live_trades import START, ids, trade

FEW = 12
"""Trades that wait at most: more are thrown away, for REST to bring."""


class FeedMachine(RuleBasedStateMachine):
    """A recording of one pair, as ``Recorder`` and ``Rejoin`` drive it."""

    @initialize(stored=st.one_of(st.none(), st.integers(1, 30)))
    def begin(self, stored: int | None) -> None:
        self.happened = max(stored or 0, 10)
        self.stored = stored
        self.is_unsure = False
        """Whether REST has to say first where it goes on."""
        self.feed = SymbolFeed("BTC/USD")
        if stored is not None:
            self.feed.reach(stored, START)

    @rule(count=st.integers(1, 5))
    def trade_at_kraken(self, count: int) -> None:
        self.happened += count

    @rule(data=st.data(), is_snapshot=st.booleans())
    def frame(self, data: st.DataObject, is_snapshot: bool) -> None:
        """Any of the newest trades, in any order, some of them twice; others are lost."""
        newest = st.integers(max(1, self.happened - 15), self.happened)
        numbers = data.draw(st.lists(newest, max_size=8))
        self._hand_out(self.feed.take(map(trade, numbers), is_snapshot=is_snapshot), data)

    @rule(count=st.integers(1, 8))
    def frame_in_order(self, count: int) -> None:
        """As nearly always."""
        first, self.happened = self.happened + 1, self.happened + count
        taken = self.feed.take(map(trade, range(first, self.happened + 1)), is_snapshot=False)
        self._hand_out(taken, None)

    @rule()
    def connection_is_lost(self) -> None:
        self.feed.is_subscribed = False

    @rule()
    def doubt(self) -> None:
        self.feed.lose_track()

    @precondition(lambda self: self.feed.stage == "catching up" and self.stored is not None)
    @rule(data=st.data())
    def rest_answers(self, data: st.DataObject) -> None:
        assert self.stored is not None
        self.stored = data.draw(st.integers(self.stored, max(self.stored, self.happened)))
        self.feed.reach(self.stored, START)
        self.is_unsure = False

    @precondition(
        lambda self: self.feed.stage == "catching up" and self.feed.follows_on and not self.is_unsure
    )
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        self._hand_out(self.feed.join(), data)

    def _hand_out(self, trades: list[Any], data: st.DataObject | None) -> None:
        numbers = ids(trades)
        if numbers:
            first = numbers[0] if self.stored is None else self.stored + 1
            assert numbers == list(range(first, first + len(numbers)))
            room = len(numbers) if data is None else data.draw(st.integers(0, 3 * len(numbers)))
            if room < len(numbers) and (room or self.stored is not None):
                self.stored = numbers[room - 1] if room else self.stored
                self.is_unsure = True
                self.feed.lose_track()
                return
            self.stored = numbers[-1]
        if self.feed.has_hole:
            self.feed.lose_track()

    def teardown(self) -> None:
        """In the end REST has everything, and nothing is left over."""
        if not hasattr(self, "feed") or self.stored is None:
            return
        assert self.feed.waiting <= FEW + 8
        self.feed.lose_track()
        self.stored = self.happened
        self.feed.reach(self.happened, START)
        assert self.feed.join() == []
        assert self.feed.waiting == 0
        self.frame_in_order(3)
        assert self.stored == self.happened


def test_any_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "MOST_WAITING", FEW)
    run_state_machine_as_test(
        FeedMachine,
        settings=settings(max_examples=150, stateful_step_count=40, derandomize=True, deadline=None),
    )

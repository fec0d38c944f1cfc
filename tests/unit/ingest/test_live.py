"""What ids prove, against a world in which it is known which trades there are."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from kraken_db.id_runs import IdHole
from kraken_db.ingest.live import QueuedTrade, StoredTrades, follow, proven, runs_of
from kraken_db.ranges import TICK, TimeRange, intersection, union
from kraken_db.repositories.trade_neighbours import Beside
from tests.support.factories import EPOCH


def at(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def trade(number: int, moment: datetime) -> QueuedTrade:
    return QueuedTrade("BTC/USD", moment, Decimal(1), Decimal(1), "buy", number, None, None, False)


class World:
    """A market whose trades are all known, and a store that gets some of them in batches."""

    def __init__(self, steps: list[int]) -> None:
        moments = [sum(steps[: count + 1]) for count in range(len(steps))]
        self.times = {number: at(moment) for number, moment in enumerate(moments, 1)}
        self.stored: set[int] = set()
        self.claimed: list[TimeRange] = []
        self.known: StoredTrades | None = None
        self.told: list[IdHole] = []

    def flush(self, ids: set[int]) -> None:
        self.stored |= ids
        runs = runs_of(trade(number, self.times[number]) for number in ids)
        beside = {run.first: self._beside(run.first, run.last) for run in runs}
        self.claimed = union(self.claimed, (proven(run, beside[run.first], None) for run in runs))
        self.known, fresh = follow(self.known, runs, beside)
        self.told += fresh

    def _beside(self, first: int, last: int) -> Beside:
        before = max((number for number in self.stored if number < first), default=None)
        after = min((number for number in self.stored if number > last), default=None)
        return Beside(
            None if before is None else (before, self.times[before]),
            None if after is None else (after, self.times[after]),
            before is not None and self._goes_on_to_another_moment(before, -1),
            after is not None and self._goes_on_to_another_moment(after, 1),
        )

    def _goes_on_to_another_moment(self, number: int, step: int) -> bool:
        moment = self.times[number]
        while number in self.stored and self.times[number] == moment:
            number += step
        return number in self.stored

    def is_claimed(self, moment: datetime) -> bool:
        return bool(intersection(self.claimed, [(moment, moment + TICK)]))


worlds = st.lists(st.integers(0, 3), min_size=2, max_size=14)


@given(worlds, st.data())
def test_nothing_is_claimed_that_is_not_stored(steps: list[int], data: st.DataObject) -> None:
    """Whatever arrives, in whatever order: a moment that is claimed has all its trades, at every time."""
    world = World(steps)
    for _ in range(data.draw(st.integers(1, 5))):
        world.flush(set(data.draw(st.sets(st.sampled_from(sorted(world.times)), min_size=1))))
        missing = [moment for number, moment in world.times.items() if number not in world.stored]
        assert not [moment for moment in missing if world.is_claimed(moment)]


def test_two_trades_of_a_moment_with_a_missing_one_between_them() -> None:
    world = World([0, 0, 1, 0, 0, 2])  # 3, 4 and 5 are of one moment
    for ids in ({3}, {5, 6}, {1, 2}):
        world.flush(ids)
        assert not world.is_claimed(world.times[4])
    world.flush({4})
    assert world.claimed == [(world.times[1] + TICK, world.times[6])]


@given(worlds, st.data())
def test_when_all_is_stored_all_is_claimed(steps: list[int], data: st.DataObject) -> None:
    """But for the moments of the first and the last trade: nobody knows whether they were the only ones."""
    world = World([step + 2 for step in steps])
    for number in data.draw(st.permutations(sorted(world.times))):
        world.flush({number})
    for number in sorted(world.times)[1:-1]:
        world.flush({number})  # again, as after a reconnection
    first, *_, last = sorted(world.times.values())
    assert world.claimed == union([(first + TICK, last)])
    assert world.known is not None and world.known.holes == ()


@given(worlds, st.data())
def test_holes_are_the_ids_that_are_missing(steps: list[int], data: st.DataObject) -> None:
    world = World(steps)
    for _ in range(data.draw(st.integers(1, 5))):
        world.flush(set(data.draw(st.sets(st.sampled_from(sorted(world.times)), min_size=1))))
        assert world.known is not None
        missing = {number for hole in world.known.holes for number in range(hole.first, hole.last + 1)}
        lowest, highest = min(world.stored), max(world.stored)
        assert missing == set(range(lowest, highest)) - world.stored
        assert world.known.newest_id == highest
        first_missing = min(missing, default=highest + 1)
        assert world.known.contiguous_until == first_missing - 1
        assert missing <= {number for hole in world.told for number in range(hole.first, hole.last + 1)}


def test_a_corrected_stamp_leaves_no_gap_behind_the_last_claim() -> None:
    """REST moves the stamp of trade 2 by a microsecond; what was claimed up to it goes on from there."""
    (run,) = runs_of([trade(3, at(50))])
    beside = Beside((2, at(21)), None, False, False)
    assert proven(run, beside, None) == (at(22), at(50))
    assert proven(run, beside, at(20)) == (at(20), at(50))

"""From runs of ids, slice of time by slice, to what is missing in their sequence and what does not belong."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

from kraken_db.historical_backfill.sequence import IdHole
from kraken_db.repositories.trade_audit import IdRun

JITTER = timedelta(seconds=1)
"""Two sources may stamp a trade that far apart, so ids are in order of time only so far."""
MOST_RUNS = 20_000
"""Runs that are kept apart; then the older ones are decided on."""


@dataclass(frozen=True, slots=True)
class Doubled:
    """Ids of which some are stored in two rows. All of these are inclusive."""

    ids: tuple[int, int]
    oldest: datetime
    newest: datetime


@dataclass(slots=True)
class IdSequenceAudit:
    """Takes the runs of one slice after the other, and says in the end what is wrong.

    Memory depends on how much is wrong, up to a bound, and not on how much is stored: whoever reads the
    three lists after each slice empties them.
    """

    holes: list[IdHole] = field(default_factory=list)
    strays: list[IdRun] = field(default_factory=list)
    """Runs whose ids do not fit their time: most likely copies of trades under other ids."""
    doubled: list[Doubled] = field(default_factory=list)
    _runs: list[IdRun] = field(default_factory=list)

    def add(self, runs: Iterable[IdRun]) -> None:
        """The runs of the next slice of time."""
        for run in runs:
            if run.doubled:
                self.doubled.append(Doubled((run.first, run.last), run.oldest, run.newest))
            self._insert(replace(run, count=run.last - run.first + 1, backwards=0))
        if len(self._runs) > MOST_RUNS:
            self._settle()

    def finish(self) -> None:
        """There is nothing more: ``holes``, ``strays`` and ``doubled`` are what is wrong."""
        self._settle()

    @property
    def first_id(self) -> int | None:
        return self._runs[0].first if self._runs else None

    @property
    def last_id(self) -> int | None:
        return self._runs[-1].last if self._runs else None

    def _insert(self, run: IdRun) -> None:
        at = bisect_right(self._runs, run.first, key=lambda known: known.first)
        before = self._runs[at - 1] if at else None
        if before is not None and _follows(before, run) and not self._is_astray(at - 1):
            at, run = at - 1, _joined(self._runs.pop(at - 1), run)
        elif before is not None and run.first <= before.last:
            self._overlap(at - 1, run)
            return
        while at < len(self._runs) and self._runs[at].first <= run.last:
            other = self._runs.pop(at)
            self._note_doubled(run, other)
            run = _joined(run, other) if other.last > run.last else run
        if at < len(self._runs) and _follows(run, self._runs[at]):
            run = _joined(run, self._runs.pop(at))
        self._runs.insert(at, run)

    def _is_astray(self, at: int) -> bool:
        """Whether a run is older than the one with smaller ids: it may be a trade that was moved there."""
        return at > 0 and self._runs[at - 1].newest > self._runs[at].oldest + JITTER

    def _overlap(self, at: int, run: IdRun) -> None:
        known = self._runs.pop(at)
        self._note_doubled(known, run)
        # The rest of it may go on where the known one ends.
        self._insert(_joined(known, run) if run.last > known.last else known)

    def _note_doubled(self, one: IdRun, other: IdRun) -> None:
        both = max(one.first, other.first), min(one.last, other.last)
        self.doubled.append(Doubled(both, min(one.oldest, other.oldest), max(one.newest, other.newest)))

    def _settle(self) -> None:
        """Decide what of the runs is the sequence, and what lies astray; the sequence becomes one run."""
        kept: list[IdRun] = []
        for run in self._runs:
            while kept and kept[-1].newest > run.oldest + JITTER and kept[-1].count < run.count:
                self.strays.append(kept.pop())
            if kept and kept[-1].newest > run.oldest + JITTER:
                self.strays.append(run)
            else:
                kept.append(run)
        for one, other in pairwise(kept):
            hole = IdHole(one.last + 1, other.first - 1, one.newest, other.oldest)
            if hole.first <= hole.last:
                self.holes.append(hole)
        if kept:
            self._runs = [
                IdRun(
                    kept[0].first, kept[-1].last, sum(r.count for r in kept), kept[0].oldest, kept[-1].newest
                )
            ]


def _follows(one: IdRun, other: IdRun) -> bool:
    """Whether the ids go on without a hole, and the times with them."""
    return other.first == one.last + 1 and one.newest <= other.oldest + JITTER


def _joined(one: IdRun, other: IdRun) -> IdRun:
    first, last = min(one.first, other.first), max(one.last, other.last)
    return IdRun(first, last, last - first + 1, min(one.oldest, other.oldest), max(one.newest, other.newest))

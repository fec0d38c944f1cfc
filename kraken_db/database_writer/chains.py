"""What the ids of live trades prove: what is complete, and where trades are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from kraken_db.database_writer.records import QueuedTrade
from kraken_db.id_runs import IdHole
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.live_trades import Beside, Run


@dataclass(frozen=True, slots=True)
class StoredTrades:
    """The trades with ids of one symbol that this writer knows to be committed."""

    newest_id: int
    newest_time: datetime
    holes: tuple[IdHole, ...] = ()
    """Ids that are missing between stored ones, in order."""

    @property
    def contiguous_until(self) -> int:
        """The last id up to which none is missing."""
        return self.holes[0].first - 1 if self.holes else self.newest_id


def runs_of(trades: Iterable[QueuedTrade]) -> list[Run]:
    """Trades with ids, each id once, as runs of ids that follow each other, in their order."""
    runs: list[Run] = []
    for trade in sorted(trades, key=lambda trade: trade.trade_id or 0):
        number = trade.trade_id
        assert number is not None
        if runs and runs[-1].last + 1 == number:
            runs[-1] = Run(runs[-1].first, runs[-1].first_time, number, trade.timestamp)
        else:
            runs.append(Run(number, trade.timestamp, number, trade.timestamp))
    return runs


def proven(run: Run, beside: Beside, claimed_until: datetime | None) -> TimeRange:
    """The times of which a stored run shows that no trade is missing; none if it ends before it starts.

    Between two trades whose ids follow each other there is no other. Of the moment (microsecond) of a trade
    that is only so where its neighbours are known too. ``claimed_until``: how far the trade before the run
    has been claimed by this writer; its stamp may have been corrected since.
    """
    start, end = run.first_time + TICK, run.last_time
    if beside.before is not None and beside.before[0] == run.first - 1:
        moment = beside.before[1]
        start = min(moment if beside.is_known_before else moment + TICK, start)
        if claimed_until is not None:
            start = min(start, claimed_until)
    if beside.after is not None and beside.after[0] == run.last + 1:
        moment = beside.after[1]
        end = max(moment + TICK if beside.is_known_after else moment, end)
    return start, end


def all_proven(
    runs: Sequence[Run], beside: Mapping[int, Beside], claimed: tuple[int, datetime] | None = None
) -> list[TimeRange]:
    """What each of several runs shows.

    ``claimed``: the id of the trade that this writer's last claim reached up to, and where the claim ended.
    """
    return [
        proven(run, beside[run.first], claimed[1] if claimed and claimed[0] == run.first - 1 else None)
        for run in runs
    ]


def holes_beside(run: Run, beside: Beside) -> list[IdHole]:
    """The ids that are missing right before and right behind a stored run."""
    holes = []
    if beside.before is not None and beside.before[0] < run.first - 1:
        number, moment = beside.before
        holes.append(IdHole(number + 1, run.first - 1, moment, run.first_time))
    if beside.after is not None and beside.after[0] > run.last + 1:
        number, moment = beside.after
        holes.append(IdHole(run.last + 1, number - 1, run.last_time, moment))
    return holes


def follow(
    known: StoredTrades | None, runs: Sequence[Run], beside: Mapping[int, Beside]
) -> tuple[StoredTrades, list[IdHole]]:
    """What is stored after these runs, and the holes that are new with them."""
    holes = {hole.first: hole for hole in known.holes} if known else {}
    newest = (known.newest_id, known.newest_time) if known else (0, runs[0].first_time)
    fresh: list[IdHole] = []
    for run in runs:
        around = beside[run.first]
        low = around.before[0] if around.before else run.first - 1
        high = around.after[0] if around.after else run.last + 1
        inside = [hole for hole in holes.values() if hole.last > low and hole.first < high]
        for hole in inside:
            del holes[hole.first]
        for hole in holes_beside(run, around):
            holes[hole.first] = hole
            if not any(old.first <= hole.first and hole.last <= old.last for old in inside):
                fresh.append(hole)
        newest = max(newest, (run.last, run.last_time))
    return StoredTrades(*newest, tuple(sorted(holes.values(), key=lambda hole: hole.first))), fresh

"""The ids of the stored trades: none missing, none twice, none that does not belong.

``IdSequenceAudit`` takes the runs of ids slice by slice; ``TradesCheck`` feeds it and words what it finds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.id_runs import IdHole, IdRun
from kraken_db.progress import Progress
from kraken_db.ranges import TICK, TimeRange, intersection
from kraken_db.repositories.audit import TradeAudit
from kraken_db.store import Store
from kraken_db.verification.certificate import MOST_FINDINGS, Finding, TradesPart, moment, span
from kraken_db.verification.counters import compare_with_counters
from kraken_db.verification.scope import Scope, Slices, seconds_of

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
            self._insert(replace(run, doubled=0, backwards=0))
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
            while kept and kept[-1].newest > run.oldest + JITTER and kept[-1].rows < run.rows:
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
            whole = IdRun(kept[0].first, kept[-1].last, kept[0].oldest, kept[-1].newest)
            self._runs = [replace(whole, doubled=sum(run.rows for run in kept) - whole.size)]


def _follows(one: IdRun, other: IdRun) -> bool:
    """Whether the ids go on without a hole, and the times with them."""
    return other.first == one.last + 1 and one.newest <= other.oldest + JITTER


def _joined(one: IdRun, other: IdRun) -> IdRun:
    return IdRun(
        min(one.first, other.first),
        max(one.last, other.last),
        min(one.oldest, other.oldest),
        max(one.newest, other.newest),
    )


_AT_ONCE = 500
"""Holes that are judged in one statement."""


class TradesCheck:
    """Walks over all trades of a symbol, a slice at a time; the rows stay on the server."""

    def __init__(self, store: Store, scope: Scope, progress: Progress) -> None:
        self._store = store
        self._scope = scope
        self._progress = progress
        self._part = TradesPart("trades", "trades")
        self._ids = IdSequenceAudit()

    async def run(self) -> TradesPart:
        part, scope = self._part, self._scope
        part.sources = {name: ranges for name, ranges in scope.trades.by_source.items() if ranges}
        async with self._store.database.read() as connection:
            extent = await TradeAudit(connection, scope.symbol).extent(*scope.bounds)
        if extent is not None:
            part.oldest, part.newest = extent
            await self._walk((extent[0], extent[1] + TICK))
        elif not scope.trades.complete:
            part.not_checked = "no trades are stored"
        if not scope.is_bounded:
            dropped = bool(scope.trades.dropped)
            await compare_with_counters(
                self._store,
                part,
                DataType.TRADES,
                scope.trades.status,
                part.compared,
                extent,
                is_dropped=dropped,
            )
        for start, end in scope.trades.gaps:
            part.add(Finding("gap", f"nothing is known of {span(start, end)}", start, end))
        return part

    async def _walk(self, stored: TimeRange) -> None:
        task = self._progress.task(f"{self._scope.symbol} trade ids", seconds_of([stored]), unit="seconds")
        slices = Slices([stored], task)
        try:
            for ((start, end),) in slices:
                async with self._store.database.read() as connection:
                    audit = TradeAudit(connection, self._scope.symbol)
                    found = await audit.runs(start, end)
                    if any(run.backwards for run in found.runs):
                        await self._add_backwards(audit, start, end, sum(r.backwards for r in found.runs))
                    self._ids.add(found.runs)
                    self._count(found.runs, found.anonymous)
                    await self._judge(connection)
                slices.had(found.count)
            self._ids.finish()
            async with self._store.database.read() as connection:
                await self._judge(connection)
        finally:
            task.done()
        self._part.first_id, self._part.last_id = self._ids.first_id, self._ids.last_id

    def _count(self, runs: Sequence[IdRun], anonymous: int) -> None:
        self._part.with_ids += sum(run.rows for run in runs)
        self._part.without_ids += anonymous
        self._part.compared = self._part.with_ids + self._part.without_ids

    async def _judge(self, connection: AsyncConnection) -> None:
        """What the sequence has decided on so far."""
        audit = TradeAudit(connection, self._scope.symbol)
        holes, strays, doubled = self._ids.holes, self._ids.strays, self._ids.doubled
        for at in range(0, len(holes), _AT_ONCE):
            await self._judge_holes(audit, holes[at : at + _AT_ONCE])
        for run in strays:
            self._add_stray(run)
        for item in doubled:
            await self._add_doubled(audit, item)
        for done in (holes, strays, doubled):
            done.clear()

    async def _judge_holes(self, audit: TradeAudit, holes: Sequence[IdHole]) -> None:
        """In Kraken's past, runs of trades had no id but used up numbers: such a hole is none."""
        anonymous = await audit.anonymous_within([_span(hole) for hole in holes])
        for hole, without_id in zip(holes, anonymous, strict=True):
            size = hole.size
            if size <= without_id:
                continue
            where = [_span(hole)]
            if intersection(where, self._scope.trades.dropped):
                self._part.dropped_ids += size
                continue
            self._add_hole(hole, size, is_known=bool(intersection(where, self._scope.trades.gaps)))

    def _add_hole(self, hole: IdHole, size: int, *, is_known: bool) -> None:
        part, (start, end) = self._part, _span(hole)
        part.missing_ids += size
        if len(part.missing_ranges) < MOST_FINDINGS:
            part.missing_ranges.append(hole)
        ids = f"id {hole.first} is" if size == 1 else f"ids {hole.first} to {hole.last} are"
        where = f"between {moment(hole.after)} and {moment(hole.before)}"
        why = ", where nothing was downloaded" if is_known else ""
        text = f"{ids} missing {where}{why}"
        details = {"first": hole.first, "last": hole.last, "after": hole.after, "before": hole.before}
        part.add(Finding("missing ids", text, start, end, {**details, "in_a_gap": is_known}), size)

    def _add_stray(self, run: IdRun) -> None:
        size = run.size
        ids = f"id {run.first}" if size == 1 else f"ids {run.first} to {run.last}"
        text = f"{ids} at {moment(run.oldest)} does not fit the ids around it"
        details = {"first": run.first, "last": run.last}
        self._part.add(Finding("id out of sequence", text, run.oldest, run.newest + TICK, details), size)

    async def _add_doubled(self, audit: TradeAudit, item: Doubled) -> None:
        end = item.newest + TICK
        for number, first, last in await audit.stored_twice(item.oldest, end, item.ids, MOST_FINDINGS):
            text = f"id {number} is stored twice, at {moment(first)} and at {moment(last)}"
            self._part.add(
                Finding("id stored twice", text, first, last + TICK, {"id": number}, (first, last))
            )

    async def _add_backwards(self, audit: TradeAudit, start: datetime, end: datetime, count: int) -> None:
        found = await audit.backwards(start, end, MOST_FINDINGS)
        for number, at, earlier in found:
            text = f"id {number} at {moment(at)} is older than the id before it, at {moment(earlier)}"
            self._part.add(
                Finding(
                    "id out of sequence",
                    text,
                    at,
                    earlier + TICK,
                    {"first": number, "last": number},
                    (at, earlier),
                )
            )
        self._part.problems["id out of sequence"] += count - len(found)


def _span(hole: IdHole) -> TimeRange:
    """The time of a hole; two trades of the same moment can have one between them."""
    return min(hole.after, hole.before), max(hole.after, hole.before) + TICK

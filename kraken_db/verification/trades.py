"""The ids of the stored trades: none missing, none twice, none that does not belong."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.historical_backfill.building import TRADES
from kraken_db.historical_backfill.sequence import IdHole
from kraken_db.progress import Progress
from kraken_db.ranges import TICK, TimeRange, intersection
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.trade_audit import IdRun, TradeAudit
from kraken_db.store import Store
from kraken_db.verification.certificate import MOST_FINDINGS, Finding, TradesPart
from kraken_db.verification.id_sequence import Doubled, IdSequenceAudit
from kraken_db.verification.scope import Scope
from kraken_db.verification.slices import Slices, seconds_of
from kraken_db.verification.words import moment, plural, span

_AT_ONCE = 500
"""Holes that are judged in one statement."""
_STAMPS_DIFFER = timedelta(milliseconds=1)
"""More than by what two sources of one trade differ in its time."""


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
        await self._compare_with_counters(extent)
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
                        await self._tell_backwards(audit, start, end, sum(r.backwards for r in found.runs))
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
        self._part.with_ids += sum(run.count for run in runs)
        self._part.without_ids += anonymous
        self._part.compared = self._part.with_ids + self._part.without_ids

    async def _judge(self, connection: AsyncConnection) -> None:
        """What the sequence has decided on so far."""
        audit = TradeAudit(connection, self._scope.symbol)
        holes, strays, doubled = self._ids.holes, self._ids.strays, self._ids.doubled
        for at in range(0, len(holes), _AT_ONCE):
            await self._judge_holes(audit, holes[at : at + _AT_ONCE])
        for run in strays:
            self._tell_stray(run)
        for item in doubled:
            await self._tell_doubled(audit, item)
        for done in (holes, strays, doubled):
            done.clear()

    async def _judge_holes(self, audit: TradeAudit, holes: Sequence[IdHole]) -> None:
        """In Kraken's past, runs of trades had no id but used up numbers: such a hole is none."""
        anonymous = await audit.anonymous_within([_span(hole) for hole in holes])
        for hole, without_id in zip(holes, anonymous, strict=True):
            size = hole.last - hole.first + 1
            if size <= without_id:
                continue
            where = [_span(hole)]
            if intersection(where, self._scope.trades.dropped):
                self._part.dropped_ids += size
                continue
            self._tell_missing(hole, size, is_known=bool(intersection(where, self._scope.trades.gaps)))

    def _tell_missing(self, hole: IdHole, size: int, *, is_known: bool) -> None:
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

    def _tell_stray(self, run: IdRun) -> None:
        size = run.last - run.first + 1
        ids = f"id {run.first}" if size == 1 else f"ids {run.first} to {run.last}"
        text = f"{ids} at {moment(run.oldest)} does not fit the ids around it"
        details = {"first": run.first, "last": run.last}
        self._part.add(Finding("id out of sequence", text, run.oldest, run.newest + TICK, details), size)

    async def _tell_doubled(self, audit: TradeAudit, item: Doubled) -> None:
        end = item.newest + TICK
        for number, first, last in await audit.stored_twice(item.oldest, end, item.ids, MOST_FINDINGS):
            text = f"id {number} is stored twice, at {moment(first)} and at {moment(last)}"
            self._part.add(
                Finding("id stored twice", text, first, last + TICK, {"id": number}, (first, last))
            )

    async def _tell_backwards(self, audit: TradeAudit, start: datetime, end: datetime, count: int) -> None:
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

    async def _compare_with_counters(self, extent: TimeRange | None) -> None:
        """``data_sync_status`` counts what was ever stored: without drops, what is stored."""
        status, part = self._scope.trades.status, self._part
        if self._scope.is_bounded or status is None:
            return
        async with self._store.database.read() as connection:
            now = await SyncStatusRepository(connection).get(self._scope.symbol, TRADES)
        if now is None or now.total_records != status.total_records:
            part.notes.append("trades were written meanwhile: their counter was not compared")
            return
        total, stored = status.total_records, part.compared
        if self._scope.trades.dropped and stored <= total:
            return
        if total != stored:
            text = f"{plural(total, 'trade')} were counted when they were stored, {stored:,} are there"
            at = status.oldest or status.last_sync
            end = (status.newest or at) + TICK
            part.add(Finding("count differs", text, at, end, {"counted": total, "stored": stored}))
        if not self._scope.trades.dropped:
            self._tell_edges((status.oldest, status.newest), extent)

    def _tell_edges(self, known: tuple[datetime | None, datetime | None], extent: TimeRange | None) -> None:
        for which, should, found in zip(("oldest", "newest"), known, extent or (None, None), strict=True):
            if should is not None and (found is None or abs(should - found) > _STAMPS_DIFFER):
                there = "none is stored" if found is None else f"the stored one is of {moment(found)}"
                text = f"the {which} trade should be of {moment(should)}; {there}"
                first, last = min(should, found or should), max(should, found or should)
                self._part.add(Finding("edge differs", text, first, last + TICK, {}, (first, last)))


def _span(hole: IdHole) -> TimeRange:
    """The time of a hole; two trades of the same moment can have one between them."""
    return min(hole.after, hole.before), max(hole.after, hole.before) + TICK

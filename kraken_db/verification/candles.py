"""The stored minutes beside the candles that the stored trades make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.historical_backfill.building import CANDLES
from kraken_db.intervals import BASE_INTERVAL, interval_length, interval_name
from kraken_db.progress import Progress
from kraken_db.ranges import TimeRange, difference, intersection
from kraken_db.repositories.candle_audit import CandleAudit, CandleDifference, Comparison
from kraken_db.repositories.candles import CandleRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.store import Store
from kraken_db.verification.certificate import MOST_FINDINGS, CandlesPart, Finding, Part
from kraken_db.verification.scope import Scope
from kraken_db.verification.slices import Slices, seconds_of
from kraken_db.verification.words import minute, number, plural, span

_MINUTE = interval_length(BASE_INTERVAL)


class CandlesCheck:
    """Walks over all minutes of a symbol, a slice at a time; only what differs leaves the server."""

    def __init__(self, store: Store, scope: Scope, progress: Progress) -> None:
        self._store = store
        self._scope = scope
        self._progress = progress
        self._part = CandlesPart("candles", "minutes")
        self._unbuilt = 0

    async def run(self) -> CandlesPart:
        part, minutes = self._part, self._scope.minutes
        part.sources = {name: ranges for name, ranges in minutes.by_source.items() if ranges}
        comparable = self._scope.comparable
        await self._compare(intersection(comparable, minutes.complete), self._tell)
        await self._compare(difference(comparable, minutes.complete), self._tell_unclaimed)
        await self._count_others(comparable)
        if not part.compared:
            part.not_checked = (
                "no minute is stored" if not part.stored else "no trades are known to be complete there"
            )
        if self._unbuilt:
            part.notes.append(f"{plural(self._unbuilt, 'minute')} have trades and no candle yet")
        await self._compare_with_counters()
        for start, end in minutes.gaps:
            part.add(Finding("gap", f"nothing is known of {span(start, end)}", start, end))
        return part

    async def _compare(self, ranges: Sequence[TimeRange], tell: Callable[[Comparison], None]) -> None:
        task = self._progress.task(f"{self._scope.symbol} candles", seconds_of(ranges), unit="seconds")
        slices = Slices(ranges, task)
        try:
            for inside in slices:
                async with self._store.database.read() as connection:
                    found = await self._audit(connection).with_trades(inside, MOST_FINDINGS)
                self._part.compared += found.compared
                self._part.stored += found.compared - found.missing
                if found.compared:
                    self._part.see(inside[0][0], inside[-1][1] - _MINUTE)
                tell(found)
                slices.had(found.compared)
        finally:
            task.done()

    def _tell(self, found: Comparison) -> None:
        tell_candles(self._part, BASE_INTERVAL, found, "the trades")

    def _tell_unclaimed(self, found: Comparison) -> None:
        """Nobody has said that there are candles: only those that are there are looked at."""
        self._unbuilt += found.missing
        there = [item for item in found.examples if item.stored_trades is not None]
        wrong = replace(found, differing=found.differing - found.missing, missing=0, examples=there)
        tell_candles(self._part, BASE_INTERVAL, wrong, "the trades")

    async def _count_others(self, comparable: Sequence[TimeRange]) -> None:
        """The minutes whose trades are not known: what is stored is all there is."""
        async with self._store.database.read() as connection:
            bounds = await CandleRepository(connection, self._store.timeseries).bounds(self._scope.symbol)
        if bounds is None:
            return
        stored = intersection([(bounds[0], bounds[1] + _MINUTE)], [self._scope.bounds])
        task = self._progress.task(f"{self._scope.symbol} other candles", seconds_of(stored), unit="seconds")
        slices = Slices(difference(stored, comparable), task)
        try:
            for inside in slices:
                async with self._store.database.read() as connection:
                    found = await self._audit(connection).count(inside)
                self._part.unproven += found
                self._part.stored += found
                slices.had(found)
        finally:
            task.done()

    async def _compare_with_counters(self) -> None:
        status, part = self._scope.minutes.status, self._part
        if self._scope.is_bounded or status is None or self._scope.minutes.dropped:
            return
        async with self._store.database.read() as connection:
            now = await SyncStatusRepository(connection).get(self._scope.symbol, CANDLES)
        if now is None or now.total_records != status.total_records:
            part.notes.append("candles were written meanwhile: their counter was not compared")
        elif status.total_records != part.stored:
            total = status.total_records
            text = f"{plural(total, 'candle')} were counted when they were stored, {part.stored:,} are there"
            at = status.oldest or status.last_sync
            end = (status.newest or at) + _MINUTE
            part.add(Finding("count differs", text, at, end, {"counted": total, "stored": part.stored}))

    def _audit(self, connection: AsyncConnection) -> CandleAudit:
        return CandleAudit(connection, self._store.timeseries, self._scope.symbol)


def tell_candles(part: Part, interval: int, found: Comparison, whose: str) -> None:
    """Add what a comparison found to a part; ``whose``: of what the expected values are."""
    for item in found.examples:
        part.add(_finding(interval, item, whose))
    if more := found.differing - len(found.examples):
        part.problems["candle differs"] += more


def _finding(interval: int, item: CandleDifference, whose: str) -> Finding:
    at, end = item.timestamp, item.timestamp + interval_length(interval)
    name = "candle" if interval == BASE_INTERVAL else f"{interval_name(interval)} candle"
    details = {
        "interval": interval_name(interval),
        "stored_trades": item.stored_trades,
        "expected_trades": item.expected_trades,
        "numbers": {key: {"stored": old, "expected": new} for key, (old, new) in item.numbers.items()},
    }
    if item.stored_trades is None:
        size = plural(item.expected_trades or 0, "trade")
        text = f"{name} {minute(at)} is missing: {whose} have one of {size}"
        return Finding("candle missing", text, at, end, details)
    if item.expected_trades is None:
        text = f"{name} {minute(at)} has {plural(item.stored_trades or 0, 'trade')}: {whose} have none"
        return Finding("candle without trades", text, at, end, details)
    pairs = ", ".join(f"{key} {number(old)}, not {number(new)}" for key, (old, new) in item.numbers.items())
    return Finding("candle differs", f"{name} {minute(at)} has {pairs}", at, end, details)

"""The higher intervals, as readers get them, beside a recomputation of what they come from."""

from __future__ import annotations

from kraken_db.intervals import (
    BASE_INTERVAL,
    INTERVAL_SOURCES,
    ceil_to_interval,
    floor_to_interval,
    interval_length,
    interval_name,
)
from kraken_db.progress import Progress
from kraken_db.ranges import TimeRange, difference, whole_candles
from kraken_db.repositories.candle_audit import CandleAudit
from kraken_db.repositories.candles import CandleRepository
from kraken_db.repositories.pending_refresh import PendingRefreshRepository
from kraken_db.store import Store
from kraken_db.verification.candles import tell_candles
from kraken_db.verification.certificate import MOST_FINDINGS, Part
from kraken_db.verification.scope import Scope
from kraken_db.verification.slices import Slices, seconds_of
from kraken_db.verification.words import plural

AGGREGATES = "higher intervals"
_DAY = 1440


class AggregatesCheck:
    """Every interval against the one that it is computed from, so that it shows which level is wrong.

    A candle that outlives its minutes cannot be computed again: it is left out, and counted.
    """

    def __init__(self, store: Store, scope: Scope, progress: Progress) -> None:
        self._store = store
        self._scope = scope
        self._progress = progress
        self._part = Part(AGGREGATES, "candles")

    async def run(self) -> Part:
        part = self._part
        for interval in INTERVAL_SOURCES:
            await self._check(interval)
        if not part.compared:
            part.not_checked = "no minute is stored"
        if self._scope.minutes.dropped:
            part.notes.append("candles that outlived their minutes cannot be computed again")
        async with self._store.database.read() as connection:
            _, waiting = await PendingRefreshRepository(connection).all()
        waits = sum(item.symbol == self._scope.symbol and item.refreshed_at is None for item in waiting)
        if waits:
            part.notes.append(
                f"{plural(waits, 'range')} of minutes wait for a refresh, or for a run that goes on"
            )
        return part

    async def _check(self, interval: int) -> None:
        part = self._part
        ranges = await self._ranges(interval)
        task = self._progress.task(
            f"{self._scope.symbol} {interval_name(interval)}", seconds_of(ranges), unit="seconds"
        )
        slices = Slices(ranges, task, grid=max(interval, _DAY))
        whose = f"the {interval_name(INTERVAL_SOURCES[interval])} candles"
        try:
            for inside in slices:
                async with self._store.database.read() as connection:
                    audit = CandleAudit(connection, self._store.timeseries, self._scope.symbol)
                    found = await audit.with_source(interval, inside, MOST_FINDINGS)
                part.compared += found.compared
                if found.compared:
                    part.see(inside[0][0], inside[-1][1] - interval_length(interval))
                tell_candles(part, interval, found, whose)
                slices.had(found.compared * interval)
        finally:
            task.done()

    async def _ranges(self, interval: int) -> list[TimeRange]:
        """Whole candles within the bounds, as far as what they come from is there."""
        start, end = self._scope.bounds
        async with self._store.database.read() as connection:
            candles = CandleRepository(connection, self._store.timeseries)
            edges = [
                await candles.bounds(self._scope.symbol, one)
                for one in (INTERVAL_SOURCES[interval], interval)
            ]
        known = [edge for edge in edges if edge is not None]
        if not known:
            return []
        first = floor_to_interval(min(oldest for oldest, _ in known), interval)
        last = floor_to_interval(max(newest for _, newest in known), interval)
        first = max(first, ceil_to_interval(start, interval))
        stop = min(last + interval_length(interval), floor_to_interval(end, interval))
        if first >= stop:
            return []
        if INTERVAL_SOURCES[interval] != BASE_INTERVAL:
            return [(first, stop)]
        return difference([(first, stop)], whole_candles(self._scope.minutes.dropped, interval))

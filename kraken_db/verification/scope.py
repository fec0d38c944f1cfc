"""What there is to verify of a symbol: what counts as complete, what was dropped, what is not known.

And how it is walked over: in slices of time that the server looks at one by one, so that memory does not
grow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.intervals import (
    DAY,
    FINEST_AGGREGATE,
    floor_to_interval,
    interval_length,
)
from kraken_db.progress import Task
from kraken_db.ranges import TimeRange, difference, intersection, union, whole_minutes
from kraken_db.repositories.audit import CandleAudit
from kraken_db.repositories.coverage import (
    CoverageRepository,
    DroppedRangeRepository,
    UnprovenRangeRepository,
)
from kraken_db.repositories.sync_status import SyncStatus, SyncStatusRepository
from kraken_db.store import Store

EVER: TimeRange = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class DataScope:
    """Of one data type, within the bounds that were asked for. All ranges are in order and apart."""

    data_type: DataType
    complete: Sequence[TimeRange]
    """Where every record is known to be stored: none is missing, or it is wrong."""
    gaps: Sequence[TimeRange]
    """Between the first and the last of what is known: time that no source has covered."""
    dropped: Sequence[TimeRange]
    """Stored once, and gone."""
    by_source: Mapping[str, Sequence[TimeRange]]
    """What each source covers, and is still stored."""
    status: SyncStatus | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Of one symbol. ``bounds`` is what was asked for: half-open, all time unless something was said."""

    symbol: str
    bounds: TimeRange
    trades: DataScope
    minutes: DataScope
    now: datetime
    """By Kraken's clock where that is known."""

    @property
    def is_bounded(self) -> bool:
        return self.bounds != EVER

    @property
    def comparable(self) -> list[TimeRange]:
        """The whole minutes whose trades are all known and stored, and whose candles were not dropped."""
        known = whole_minutes(intersection(self.trades.complete, [self.bounds]))
        return difference(known, self.minutes.dropped)


async def find_scope(
    store: Store, connection: AsyncConnection, symbol: str, bounds: TimeRange, now: datetime
) -> Scope:
    """Read what the store says of a symbol; looks at no trade and no minute."""
    trades, minutes = [
        await _find(store, connection, symbol, name, bounds)
        for name in (DataType.TRADES, DataType.CANDLES_1M)
    ]
    return Scope(symbol, bounds, trades, minutes, now)


async def _find(
    store: Store, connection: AsyncConnection, symbol: str, data_type: DataType, bounds: TimeRange
) -> DataScope:
    sources = {
        item.source: item.ranges
        for item in await CoverageRepository(connection).all(symbol)
        if item.data_type == data_type
    }
    covered = union(*sources.values())
    unproven = await UnprovenRangeRepository(connection).of(symbol, data_type)
    dropped = await _dropped(store, connection, symbol, data_type, union(covered, unproven))
    known = [(covered[0][0], covered[-1][1])] if covered else []
    return DataScope(
        data_type,
        complete=intersection(difference(covered, dropped), [bounds]),
        gaps=intersection(difference(known, covered), [bounds]),
        dropped=intersection(dropped, [bounds]),
        by_source={
            name: intersection(difference(ranges, dropped), [bounds]) for name, ranges in sources.items()
        },
        status=await SyncStatusRepository(connection).get(symbol, data_type),
    )


async def _dropped(
    store: Store, connection: AsyncConnection, symbol: str, data_type: DataType, ever: Sequence[TimeRange]
) -> list[TimeRange]:
    """What was noted, and what the database has no place for any more.

    That there is no place for it may also be because nothing was ever traded then. So it counts only where
    retention is due, or where higher candles know of trades.
    """
    noted = list(await DroppedRangeRepository(connection).of(symbol, data_type))
    if not ever:
        return noted
    table = data_type.table
    if store.backend.chunks is None:
        return noted
    there = await store.backend.chunks.existing(connection, table, ever[0][0], ever[-1][1])
    absent = difference(ever, union(there, noted))
    if not absent:
        return noted
    jobs = store.backend.jobs
    job = await jobs.retention(connection, table) if jobs is not None else None
    due = EVER[0] if job is None else job.may_drop_before(store.clock())
    candles = CandleAudit(connection, store.backend, symbol)
    gone = [
        (start, end)
        for start, end in absent
        if end <= due or await candles.any_between(FINEST_AGGREGATE, start, end)
    ]
    return union(noted, gone)


ROWS = 200_000
"""Rows of a slice that are about right."""
_SHORTEST, _LONGEST = timedelta(days=1), timedelta(days=56)


@dataclass(slots=True)
class Slices:
    """Cuts ranges into slices of whole days: longer ones where there is little. Say what each one ``had``.

    A slice is given as those of the ranges that lie in it; ``task`` advances by the time that is done.
    """

    ranges: Sequence[TimeRange]
    task: Task
    grid: int = DAY
    """Slices begin on the grid of this interval, in minutes."""
    _length: timedelta = field(default=_SHORTEST, init=False)

    def __post_init__(self) -> None:
        self._length = max(self._length, interval_length(self.grid))

    def __iter__(self) -> Iterator[list[TimeRange]]:
        if not self.ranges:
            return
        done, end = self.ranges[0][0], self.ranges[-1][1]
        while done < end:
            until = min(floor_to_interval(done, self.grid) + self._length, end)
            inside = intersection(self.ranges, [(done, until)])
            if inside:
                yield inside
            self.task.advance(round((until - done).total_seconds()))
            done = until if inside else self._next(until)

    def had(self, rows: int) -> None:
        """How many rows the last slice had: the next one is made longer or shorter."""
        shortest = max(_SHORTEST, interval_length(self.grid))
        if rows < ROWS // 4:
            self._length = max(shortest, min(self._length * 2, _LONGEST))
        elif rows > ROWS:
            self._length = max(shortest, self._length // shortest // 2 * shortest)

    def _next(self, moment: datetime) -> datetime:
        """Where the ranges go on: time without any of them takes no time."""
        return next((max(start, moment) for start, end in self.ranges if end > moment), moment)


def seconds_of(ranges: Sequence[TimeRange]) -> int:
    """For a progress: from the first to the last."""
    return round((ranges[-1][1] - ranges[0][0]).total_seconds()) if ranges else 0

"""What a gap is, worked out from the ranges that are known, and how the gaps of a symbol are found.

Coverage says what is missing. Two things it cannot say, and ids can:

- whether a hole in the known trades is one of ids, so that candles alone would not close it: the two trades
  at its ends are looked up;
- whether ids are missing where the range of one source ends inside of what another one knows, because one of
  them claimed too much: the nearest trades on both sides of each such joint are looked up.

Each is two look-ups in an index; history is never scanned. What is missing in the middle of one source's
range shows neither: ``kraken-db verify`` looks at every id.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Literal, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import Backend
from kraken_db.data_types import DataType
from kraken_db.id_runs import IdHole
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval
from kraken_db.ranges import TICK, TimeRange, difference, intersection, union, whole_candles, whole_minutes
from kraken_db.repositories.coverage import Coverage, CoverageRepository, DroppedRangeRepository
from kraken_db.repositories.sync_status import SyncStatusRepository, end_of
from kraken_db.repositories.trade_neighbours import TradeNeighbours
from kraken_db.types import DataGap

GapKind: TypeAlias = Literal["no data", "end", "inside", "ids", "not built"]
"""``no data``: nothing at all is known of the symbol. ``end``: from the newest known minute to now.
``inside``: between known minutes. ``ids``: trades that are missing by their ids. ``not built``: the trades
are stored, and their minutes have no candles yet."""
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FoundGap:
    """A gap, and why it is one."""

    gap: DataGap
    kind: GapKind

    def __str__(self) -> str:
        gap = self.gap
        return f"{gap.start_time:%Y-%m-%d %H:%M} to {gap.end_time:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class SymbolGaps:
    """What is known of a symbol, and what is not."""

    symbol: str
    found: tuple[FoundGap, ...]
    """In order of time."""
    known: TimeRange | None
    """From the oldest moment that is known to the newest; None if nothing is."""
    kept_from: Mapping[str, datetime | None]
    """By table, ``trades`` and ``candles``: what is older than this is dropped; None: nothing is."""
    ended_at: datetime | None = None
    """From when on nothing is expected: Kraken has delisted the pair. None: it goes on."""

    @property
    def has_data(self) -> bool:
        return self.known is not None


@dataclass(frozen=True)
class Known:
    """The ranges of one symbol that are known to be complete, and those that were and are dropped."""

    trades: tuple[TimeRange, ...] = ()
    minutes: tuple[TimeRange, ...] = ()
    dropped_trades: tuple[TimeRange, ...] = ()
    dropped_minutes: tuple[TimeRange, ...] = ()
    live: tuple[TimeRange, ...] = ()
    """What the live feed has shown of the trades."""
    joints: tuple[datetime, ...] = ()
    """Where, within what is known of the trades, the ranges of one source begin and end."""
    oldest_row: datetime | None = None
    """Of rows that no source has shown to be complete."""
    ended_at: datetime | None = None
    """From when on there is nothing to be known: the pair was delisted."""

    @property
    def span(self) -> TimeRange | None:
        """From the oldest moment that is known to the newest."""
        known = union(self.trades, self.minutes)
        if known:
            return known[0][0], known[-1][1]
        return None if self.oldest_row is None else (self.oldest_row, self.oldest_row)

    def closed(self, data_type: str) -> list[TimeRange]:
        """Where ``trades`` or ``candles_1m`` have no gap: it was seen, or was there and is dropped, or it is
        after the end of the pair."""
        after = [] if self.ended_at is None else [(self.ended_at, _FAR)]
        if data_type == DataType.TRADES:
            return union(self.trades, self.dropped_trades, after)
        return union(self.minutes, self.dropped_minutes, after)

    def holes_in_trades(self) -> list[TimeRange]:
        """Between known trades, where the minutes are not known either.

        Where they are, from OHLC or an archive, candles were all that was wanted. Not so in a recording,
        which wants every trade: what it has lost stays a gap until it is filled.
        """
        if not self.trades:
            return []
        span = (self.trades[0][0], self.trades[-1][1])
        holes = difference([span], self.closed(DataType.TRADES))
        unknown = difference(whole_candles(holes, BASE_INTERVAL), self.minutes)
        return [
            hole
            for hole in holes
            if self.is_of_a_recording(hole) or _overlaps(unknown, *whole_candles([hole], BASE_INTERVAL)[0])
        ]

    def is_of_a_recording(self, hole: TimeRange) -> bool:
        """Whether the live feed has shown the trades right before a hole, and right behind it."""
        return hole[0] in self._live_ends and hole[1] in self._live_ends

    @cached_property
    def _live_ends(self) -> set[datetime]:
        return {moment for one in self.live for moment in one}

    def missing_minutes(self, now: datetime) -> list[TimeRange]:
        """From the oldest known moment to the last minute that has ended."""
        if self.span is None:
            return []
        begin = ceil_to_interval(self.span[0], BASE_INTERVAL)
        wanted = [(begin, floor_to_interval(now, BASE_INTERVAL))]
        return difference(wanted, self.closed(DataType.CANDLES_1M))


def joints(ranges_by_source: Iterable[Sequence[TimeRange]]) -> tuple[datetime, ...]:
    """The ends of ranges that lie inside of what all sources know together."""
    sources = list(ranges_by_source)
    ends = {moment for ranges in sources for one in ranges for moment in one}
    return tuple(sorted(ends.difference(*union(*sources))))


def find_gaps(
    symbol: str,
    known: Known,
    missing_ids: Sequence[TimeRange],
    now: datetime,
    *,
    min_gap: timedelta,
    window: timedelta,
) -> list[FoundGap]:
    """All gaps, in order of time. ``missing_ids``: where trades are missing by their ids.

    ``min_gap``: a shorter stretch at the end is none yet. ``window``: what is wanted of a symbol that nothing
    is known of.
    """
    end = floor_to_interval(now, BASE_INTERVAL)
    if known.span is None:
        begin = floor_to_interval(now - window, BASE_INTERVAL)
        return [_gap(symbol, DataType.CANDLES_1M, (begin, end), "no data")] if begin < end else []
    by_ids = union(missing_ids)
    minutes = difference(known.missing_minutes(now), whole_candles(by_ids, BASE_INTERVAL))
    there = difference(known.trades, known.dropped_trades)
    not_built = intersection(minutes, whole_minutes(there))
    found = [_gap(symbol, DataType.TRADES, one, "ids") for one in by_ids]
    found += [_gap(symbol, DataType.CANDLES_1M, one, "not built") for one in not_built]
    for one in difference(minutes, not_built):
        if one[1] < end:
            found.append(_gap(symbol, DataType.CANDLES_1M, one, "inside"))
        elif one[1] - one[0] >= min_gap:
            found.append(_gap(symbol, DataType.CANDLES_1M, one, "end"))
    return sorted(found, key=lambda item: item.gap.start_time)


def is_live(item: Coverage) -> bool:
    return item.data_type == DataType.TRADES and item.source == "live"


def is_hole_of_ids(hole: TimeRange, after: datetime, before: datetime, off: timedelta = timedelta()) -> bool:
    """Whether a hole in the known trades lies between these two, of which it is known to be the hole.

    ``off``: by how much its ends may lie in these trades' own moments.
    """
    starts, ends = hole[0] - TICK, hole[1]
    return starts <= after <= starts + off and ends - off <= before <= ends


def _overlaps(ranges: Sequence[TimeRange], start: datetime, end: datetime) -> bool:
    """Whether one of the ranges, in order of time and apart, has a part of ``[start, end)``."""
    at = bisect_left(ranges, (end, end))
    return at > 0 and ranges[at - 1][1] > start


def _gap(symbol: str, data_type: str, span: TimeRange, kind: GapKind) -> FoundGap:
    return FoundGap(DataGap(symbol, data_type, *span, span[1] - span[0]), kind)


MOST_LOOKS = 500
"""How many joints and holes of a symbol are looked at, the newest first: a live feed that was often cut has
thousands."""


class GapDetector:
    """Reads on the caller's connection; asks nobody outside of the database."""

    def __init__(self, connection: AsyncConnection, backend: Backend, now: datetime) -> None:
        self._connection = connection
        self._backend = backend
        self._now = now

    async def find(self, symbol: str, *, min_gap: timedelta, window: timedelta) -> SymbolGaps:
        known = await self.known(symbol)
        at_joints = await self.missing_at(symbol, known, known.joints[-MOST_LOOKS:])
        missing = [*await self._holes(symbol, known), *(ids.gap for ids in at_joints)]
        found = find_gaps(symbol, known, missing, self._now, min_gap=min_gap, window=window)
        return SymbolGaps(symbol, tuple(found), known.span, await self._kept_from(), known.ended_at)

    async def known(self, symbol: str) -> Known:
        """What is known of a symbol, as ranges."""
        coverage = await CoverageRepository(self._connection).all(symbol)
        by_source = [item.ranges for item in coverage if item.data_type == DataType.TRADES]
        minutes = union(*(item.ranges for item in coverage if item.data_type == DataType.CANDLES_1M))
        dropped = DroppedRangeRepository(self._connection)
        status = SyncStatusRepository(self._connection)
        found = [await status.get(symbol, data_type) for data_type in (DataType.TRADES, DataType.CANDLES_1M)]
        rows = [row for row in found if row is not None]
        oldest_row = min((row.oldest for row in rows if row.oldest), default=None)
        return Known(
            tuple(union(*by_source)),
            tuple(minutes),
            await dropped.of(symbol, DataType.TRADES),
            await dropped.of(symbol, DataType.CANDLES_1M),
            tuple(union(*(item.ranges for item in coverage if is_live(item)))),
            joints(by_source),
            None if by_source or minutes else oldest_row,
            end_of(rows),
        )

    async def _holes(self, symbol: str, known: Known) -> list[TimeRange]:
        neighbours = TradeNeighbours(self._connection, symbol)
        found = []
        for hole in known.holes_in_trades()[-MOST_LOOKS:]:
            # Of one moment, so that nothing lies beside it: it is one of ids by its length alone.
            if hole[1] - hole[0] <= TICK:
                found.append(hole)
                continue
            # Of the moments of the two trades beside it a feed may have shown nothing yet.
            off = TICK if known.is_of_a_recording(hole) else timedelta()
            start, end = hole[0] + off, hole[1] - off
            missing = await neighbours.missing_between(start, end, reach=timedelta(seconds=1))
            if missing is not None and is_hole_of_ids(hole, missing.after, missing.before, off):
                found.append(hole)
        return found

    async def missing_at(self, symbol: str, known: Known, moments: Iterable[datetime]) -> list[IdHole]:
        """The ids that are missing around these moments, though the trades are said to be known there."""
        neighbours = TradeNeighbours(self._connection, symbol)
        found = [await neighbours.missing_between(moment, moment) for moment in moments]
        return [
            ids
            for ids in found
            if ids and any(start <= ids.after and ids.before < end for start, end in known.trades)
        ]

    async def _kept_from(self) -> dict[str, datetime | None]:
        policies = await self._backend.policies(self._connection)
        kept = {policy.table: policy.retention for policy in policies}
        return {table: None if period is None else self._now - period for table, period in kept.items()}


@dataclass(slots=True)
class Filled:
    """Rows that were really written: new ones, and stored ones that took what they lacked."""

    trades_new: int = 0
    trades_changed: int = 0
    candles_new: int = 0
    candles_changed: int = 0

    @property
    def trades(self) -> int:
        return self.trades_new + self.trades_changed

    @property
    def candles(self) -> int:
        return self.candles_new + self.candles_changed

    def add(self, other: Filled) -> None:
        self.trades_new += other.trades_new
        self.trades_changed += other.trades_changed
        self.candles_new += other.candles_new
        self.candles_changed += other.candles_changed


@dataclass(slots=True)
class FillReport:
    """One symbol."""

    gaps: SymbolGaps
    filled: int = 0
    """How many of its gaps are none any more."""
    written: Filled = field(default_factory=Filled)
    errors: list[str] = field(default_factory=list)
    """One line for each gap that stays, beginning with the symbol."""
    known_to: datetime | None = None
    """The newest moment that is known after it; None if nothing is."""
    was_stopped: bool = False
    has_begun: bool = False
    """Whether it was its turn before the run was stopped."""
    is_elsewhere: bool = False
    """Whether the pair was left to another process, which is at work on it."""

    @property
    def symbol(self) -> str:
        return self.gaps.symbol

"""What a gap is: worked out from the ranges that are known, and from nothing else."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval
from kraken_db.ranges import TICK, TimeRange, difference, intersection, union, whole_candles
from kraken_db.types import DataGap

TRADES, CANDLES = "trades", "candles_1m"

GapKind: TypeAlias = Literal["no data", "end", "inside", "ids", "not built"]
"""``no data``: nothing at all is known of the symbol. ``end``: from the newest known minute to now.
``inside``: between known minutes. ``ids``: trades that are missing by their ids. ``not built``: the trades
are stored, and their minutes have no candles yet."""


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

    @property
    def has_data(self) -> bool:
        return self.known is not None


@dataclass(frozen=True, slots=True)
class Known:
    """The ranges of one symbol that are known to be complete, and those that were and are dropped."""

    trades: tuple[TimeRange, ...] = ()
    minutes: tuple[TimeRange, ...] = ()
    dropped_trades: tuple[TimeRange, ...] = ()
    dropped_minutes: tuple[TimeRange, ...] = ()
    joints: tuple[datetime, ...] = ()
    """Where, within what is known of the trades, the ranges of one source begin and end."""
    oldest_row: datetime | None = None
    """Of rows that no source has shown to be complete."""

    @property
    def span(self) -> TimeRange | None:
        """From the oldest moment that is known to the newest."""
        known = union(self.trades, self.minutes)
        if known:
            return known[0][0], known[-1][1]
        return None if self.oldest_row is None else (self.oldest_row, self.oldest_row)

    def closed(self, data_type: str) -> list[TimeRange]:
        """Where ``trades`` or ``candles_1m`` have no gap: it was seen, or was there and is dropped."""
        if data_type == TRADES:
            return union(self.trades, self.dropped_trades)
        return union(self.minutes, self.dropped_minutes)

    def holes_in_trades(self) -> list[TimeRange]:
        """Between known trades, where the minutes are not known either.

        Where they are, from OHLC or an archive, candles were all that was wanted.
        """
        if not self.trades:
            return []
        span = (self.trades[0][0], self.trades[-1][1])
        holes = difference([span], self.closed(TRADES))
        unknown = difference(whole_candles(holes, BASE_INTERVAL), self.minutes)
        return [hole for hole in holes if _overlaps(unknown, *whole_candles([hole], BASE_INTERVAL)[0])]

    def missing_minutes(self, now: datetime) -> list[TimeRange]:
        """From the oldest known moment to the last minute that has ended."""
        if self.span is None:
            return []
        begin = ceil_to_interval(self.span[0], BASE_INTERVAL)
        wanted = [(begin, floor_to_interval(now, BASE_INTERVAL))]
        return difference(wanted, self.closed(CANDLES))


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
        return [_gap(symbol, CANDLES, (begin, end), "no data")] if begin < end else []
    by_ids = union(missing_ids)
    minutes = difference(known.missing_minutes(now), whole_candles(by_ids, BASE_INTERVAL))
    there = difference(known.trades, known.dropped_trades)
    not_built = intersection(minutes, whole_minutes(there))
    found = [_gap(symbol, TRADES, one, "ids") for one in by_ids]
    found += [_gap(symbol, CANDLES, one, "not built") for one in not_built]
    for one in difference(minutes, not_built):
        if one[1] < end:
            found.append(_gap(symbol, CANDLES, one, "inside"))
        elif one[1] - one[0] >= min_gap:
            found.append(_gap(symbol, CANDLES, one, "end"))
    return sorted(found, key=lambda item: item.gap.start_time)


def is_hole_of_ids(hole: TimeRange, after: datetime, before: datetime) -> bool:
    """Whether a hole in the known trades lies between these two, of which it is known to be the hole."""
    return after == hole[0] - TICK and before == hole[1]


def _overlaps(ranges: Sequence[TimeRange], start: datetime, end: datetime) -> bool:
    """Whether one of the ranges, in order of time and apart, has a part of ``[start, end)``."""
    at = bisect_left(ranges, (end, end))
    return at > 0 and ranges[at - 1][1] > start


def whole_minutes(ranges: Iterable[TimeRange]) -> list[TimeRange]:
    """The minutes that lie in the ranges as a whole."""
    return union(
        (ceil_to_interval(start, BASE_INTERVAL), floor_to_interval(end, BASE_INTERVAL))
        for start, end in union(ranges)
    )


def _gap(symbol: str, data_type: str, span: TimeRange, kind: GapKind) -> FoundGap:
    return FoundGap(DataGap(symbol, data_type, *span, span[1] - span[0]), kind)

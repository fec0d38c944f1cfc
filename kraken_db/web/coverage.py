"""What is known of a pair: stretches of a range, days of a calendar, and what is missing."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.documents import GAP_REASONS
from kraken_db.gap_filler.gaps import FoundGap, GapDetector
from kraken_db.ranges import TimeRange, difference, intersection, union
from kraken_db.repositories.coverage import Coverage, CoverageRepository
from kraken_db.status import DEFAULT_MAX_LAG, in_order, pair_rows
from kraken_db.web.site import Site

MOST_STRETCHES = 2_000
MOST_GAPS = 5_000
MOST_PAIRS = 200
"""Pairs with gaps that are looked at where none is named."""
MIN_GAP, WINDOW = timedelta(minutes=2), timedelta(days=30)
"""As ``kraken-db gaps`` has them."""
Kind: TypeAlias = Literal["covered", "unknown", "gap"]
_DAY = timedelta(days=1)
_MOST_KEPT, _KEPT_FOR = 64, timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Stretch:
    kind: Kind
    start: datetime
    end: datetime
    source: str | None = None
    """What has shown that it is complete; several, separated by commas."""

    def document(self) -> dict[str, Any]:
        return {"kind": self.kind, "start": self.start, "end": self.end, "source": self.source}


def stretches(
    coverage: Sequence[Coverage], gaps: Iterable[TimeRange], wanted: TimeRange, most: int = MOST_STRETCHES
) -> list[Stretch]:
    """``wanted`` in parts that touch, in order of time.

    Where there would be more than ``most``, all sources are named together; then gaps that lie close together
    are one, and what is covered for less than a point on the screen counts as unknown. No gap is left out.
    """
    missing = intersection(gaps, [wanted])
    known = _by_sources([(item.source, intersection(item.ranges, [wanted])) for item in coverage])
    found = _stretches(known, missing, wanted)
    step = (wanted[1] - wanted[0]) / most
    if len(found) > most:  # of so many it is not shown which source has shown which
        names = ", ".join(sorted({item.source for item in coverage}))
        known = {names: union(*known.values())}
        found = _stretches(known, missing, wanted)
    while len(found) > most:
        missing = _closed(missing, step)
        known = {
            source: [one for one in ranges if one[1] - one[0] >= step] for source, ranges in known.items()
        }
        found = _stretches(known, missing, wanted)
        step *= 2
    return found


def _closed(ranges: Sequence[TimeRange], step: timedelta) -> list[TimeRange]:
    """Ranges that are nearer to each other than a step become one."""
    closed: list[TimeRange] = []
    for start, end in ranges:
        if closed and start - closed[-1][1] < step:
            closed[-1] = closed[-1][0], end
        else:
            closed.append((start, end))
    return closed


def _by_sources(coverage: Iterable[tuple[str, Sequence[TimeRange]]]) -> dict[str, list[TimeRange]]:
    """What just these sources have shown, by all their names."""
    steps: dict[datetime, list[tuple[str, int]]] = {}
    for source, ranges in coverage:
        for start, end in ranges:
            steps.setdefault(start, []).append((source, 1))
            steps.setdefault(end, []).append((source, -1))
    open_now: dict[str, int] = {}
    found: dict[str, list[TimeRange]] = {}
    for moment, following in pairwise(sorted(steps)):
        for source, change in steps[moment]:
            open_now[source] = open_now.get(source, 0) + change
        if name := ", ".join(sorted(source for source, count in open_now.items() if count)):
            found.setdefault(name, []).append((moment, following))
    return {name: union(ranges) for name, ranges in found.items()}


def _stretches(
    known: Mapping[str, Sequence[TimeRange]], missing: Sequence[TimeRange], wanted: TimeRange
) -> list[Stretch]:
    parts = [Stretch("gap", *span) for span in missing]
    for source, ranges in known.items():
        parts += [Stretch("covered", *part, source) for part in difference(ranges, missing)]
    there = union((part.start, part.end) for part in parts)
    parts += [Stretch("unknown", *span) for span in difference([wanted], there)]
    return sorted(parts, key=lambda part: part.start)


def days_of(coverage: Sequence[Coverage], gaps: Iterable[TimeRange], until: datetime) -> list[dict[str, Any]]:
    """Each day (UTC) from the first that is covered to that of ``until``.

    ``covered`` is from 0 to 1, of the part of the day that has passed.
    """
    known = union(*(item.ranges for item in coverage))
    if not known:
        return []
    first, last = known[0][0].astimezone(UTC).date(), max(until, known[-1][1]).astimezone(UTC).date()
    covered = _per_day(known)
    sources = {item.source: set(_per_day(union(item.ranges))) for item in coverage}
    gapped = set(_per_day(union(gaps)))
    days = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        length = min(max(until, known[-1][1]) - begin, _DAY)
        if length <= timedelta(0):
            break
        share = covered.get(day, timedelta(0)) / length
        days.append(
            {
                "day": day.isoformat(),
                "covered": min(round(share, 6), 1.0),
                "sources": sorted(name for name, of_days in sources.items() if day in of_days),
                "gap": day in gapped,
            }
        )
    return days


def _per_day(ranges: Iterable[TimeRange]) -> dict[date, timedelta]:
    """How much of each day lies in the ranges, which are apart."""
    found: dict[date, timedelta] = {}
    for start, end in ranges:
        while start < end:
            day = start.astimezone(UTC).date()
            stop = min(datetime(day.year, day.month, day.day, tzinfo=UTC) + _DAY, end)
            found[day] = found.get(day, timedelta(0)) + (stop - start)
            start = stop
    return found


class KnownPairs:
    """What is known of a pair, and its gaps.

    To find these takes look-ups at every hole, and whoever moves along a chart asks again and again: they are
    kept for as long as the coverage stays the same.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._found: OrderedDict[str, tuple[list[Coverage], datetime, list[FoundGap]]] = OrderedDict()

    async def of(self, symbol: str, data_type: DataType) -> tuple[list[Coverage], list[FoundGap]]:
        """What every source covers of a pair's trades or minutes, and all gaps of the pair."""
        coverage, gaps = await self._site.read(lambda connection: self._read(connection, symbol))
        return [item for item in coverage if item.data_type == data_type], gaps

    async def _read(self, connection: AsyncConnection, symbol: str) -> tuple[list[Coverage], list[FoundGap]]:
        coverage, now = list(await CoverageRepository(connection).all(symbol)), self._site.clock()
        kept = self._found.get(symbol)
        if kept is None or kept[0] != coverage or now - kept[1] > _KEPT_FOR:
            kept = coverage, now, await _detect(self._site, connection, symbol)
            self._found[symbol] = kept
        self._found.move_to_end(symbol)
        while len(self._found) > _MOST_KEPT:
            self._found.popitem(last=False)
        return coverage, kept[2]


async def _detect(site: Site, connection: AsyncConnection, symbol: str) -> list[FoundGap]:
    detector = GapDetector(connection, site.store.backend, site.clock())
    gaps = await detector.find(symbol, min_gap=MIN_GAP, window=WINDOW)
    return list(gaps.found) if gaps.has_data else []


def spans(gaps: Iterable[FoundGap]) -> list[TimeRange]:
    return union((found.gap.start_time, found.gap.end_time) for found in gaps)


async def find_gaps(site: Site, symbol: str | None) -> dict[str, Any]:
    """The gaps of a pair, or of all that have trouble; ``is_all``: whether none is left out."""
    symbols = [symbol] if symbol is not None else await _gapped(site)

    found: list[FoundGap] = []
    for name in symbols[:MOST_PAIRS]:

        async def read(connection: AsyncConnection, name: str = name) -> list[FoundGap]:
            return await _detect(site, connection, name)

        found += await site.read(read)
        if len(found) > MOST_GAPS:
            break
    is_all = len(symbols) <= MOST_PAIRS and len(found) <= MOST_GAPS
    return {"gaps": [_gap(one) for one in found[:MOST_GAPS]], "is_all": is_all}


async def _gapped(site: Site) -> list[str]:
    status = await site.overview.status()
    pairs = in_order(pair_rows(status.data, {}), "trouble", DEFAULT_MAX_LAG)
    return [pair.symbol for pair in pairs if pair.trouble(DEFAULT_MAX_LAG) in ("gaps", "behind")]


def _gap(found: FoundGap) -> dict[str, Any]:
    gap = found.gap
    return {
        "symbol": gap.symbol,
        "data_type": gap.data_type,
        "start": gap.start_time,
        "end": gap.end_time,
        "kind": found.kind,
        "why": GAP_REASONS[found.kind],
        "fill": f"kraken-db gaps fill {gap.symbol}",
    }

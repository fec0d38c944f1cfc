"""The stored candles beside what they should be.

Minutes beside the candles that the stored trades make, higher intervals beside a recomputation from what they
come from, and candles of every interval beside given OHLCVT files of Kraken's archive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import PendingRefresh
from kraken_db.bulk_csv_importer.discovery import Discovery
from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import ArchiveFile
from kraken_db.data_types import DataType
from kraken_db.errors import ConfigurationError, DatabaseError, KrakenDBError
from kraken_db.ingest.candles import stage_file
from kraken_db.ingest.rules import RowRefusedError, stored_minute_rules
from kraken_db.intervals import (
    BASE_INTERVAL,
    DAY,
    INTERVAL_SOURCES,
    ceil_to_interval,
    floor_to_interval,
    interval_length,
    interval_name,
)
from kraken_db.progress import Progress, Task
from kraken_db.ranges import TimeRange, difference, intersection, union, whole_candles
from kraken_db.repositories.audit import CandleAudit, CandleDifference, Comparison
from kraken_db.repositories.candle_merge import Minutes, StagedCandles
from kraken_db.repositories.candles import CandleRepository
from kraken_db.store import Store
from kraken_db.times import FIRST_MOMENT
from kraken_db.tolerances import CLOCK_SKEW
from kraken_db.verification.certificate import (
    MOST_FINDINGS,
    CandlesPart,
    Finding,
    Part,
    minute,
    moment,
    number,
    plural,
    span,
)
from kraken_db.verification.counters import compare_with_counters
from kraken_db.verification.scope import EVER, Scope, Slices, seconds_of

IMPOSSIBLE = "candle cannot be"
"""What no source may bring: numbers that contradict each other, no minute of the grid, the future."""
OUTGROWN = "candle lacks trades"
_MINUTE = interval_length(BASE_INTERVAL)
_DAY_LONG = timedelta(days=1)


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
        await self._compare(intersection(comparable, minutes.complete), self._add_findings)
        await self._compare(difference(comparable, minutes.complete), self._add_unclaimed)
        async with self._store.database.read() as connection:
            bounds = await CandleRepository(connection, self._store.backend).bounds(self._scope.symbol)
        if bounds is not None:
            await self._look_at_shapes(comparable, bounds)
        if not part.compared:
            part.not_checked = (
                "no minute is stored" if not part.stored else "no trades are known to be complete there"
            )
        if self._unbuilt:
            verb = "has" if self._unbuilt == 1 else "have"
            part.notes.append(f"{plural(self._unbuilt, 'minute')} {verb} trades and no candle yet")
        if not self._scope.is_bounded:
            await compare_with_counters(
                self._store,
                part,
                DataType.CANDLES_1M,
                minutes.status,
                part.stored,
                bounds,
                is_dropped=bool(minutes.dropped),
            )
        for start, end in minutes.gaps:
            part.add(Finding("gap", f"nothing is known of {span(start, end)}", start, end))
        return part

    async def _compare(self, ranges: Sequence[TimeRange], add: Callable[[Comparison], None]) -> None:
        task = self._progress.task(f"{self._scope.symbol} candles", seconds_of(ranges), unit="seconds")
        slices = Slices(ranges, task)
        archived = self._scope.minutes.by_source.get("csv", ())
        try:
            for inside in slices:
                async with self._store.database.read() as connection:
                    found = await self._audit(connection).with_trades(inside, archived, MOST_FINDINGS)
                self._part.compared += found.compared
                self._part.stored += found.compared - found.missing
                if found.compared:
                    self._part.see(inside[0][0], inside[-1][1] - _MINUTE)
                add(found)
                slices.had(found.compared)
        finally:
            task.done()

    def _add_findings(self, found: Comparison) -> None:
        add_findings(self._part, BASE_INTERVAL, found, "the trades")

    def _add_unclaimed(self, found: Comparison) -> None:
        """Nobody has said that there are candles: only those that are there are looked at."""
        self._unbuilt += found.missing
        there = [item for item in found.examples if item.stored_trades is not None]
        wrong = replace(found, differing=found.differing - found.missing, missing=0, examples=there)
        add_findings(self._part, BASE_INTERVAL, wrong, "the trades")

    async def _look_at_shapes(self, comparable: Sequence[TimeRange], bounds: TimeRange) -> None:
        """Every stored minute by itself; of those whose trades are not known that is all there is."""
        stored = intersection([(bounds[0], min(bounds[1], EVER[1]) + _MINUTE)], [self._scope.bounds])
        # One row of the year 9998 makes no walk of it.
        possible = intersection(stored, [(FIRST_MOMENT, self._scope.now + _DAY_LONG)])
        known = {item.start for item in self._part.findings}
        others = difference(possible, comparable)
        task = self._progress.task(f"{self._scope.symbol} shapes", seconds_of(stored), unit="seconds")
        try:
            for far in difference(stored, possible):
                await self._look_at([far], known, is_other=True)
            for ranges in (others, intersection(possible, comparable)):
                slices = Slices(ranges, task)
                for inside in slices:
                    slices.had(await self._look_at(inside, known, is_other=ranges is others))
        finally:
            task.done()

    async def _look_at(self, inside: Sequence[TimeRange], known: Set[datetime], *, is_other: bool) -> int:
        """How many minutes are there. ``known``: those of which something is said already."""
        values = {"earliest": FIRST_MOMENT, "latest": self._scope.now + CLOCK_SKEW}
        async with self._store.database.read() as connection:
            found = await self._audit(connection).shapes(inside, stored_minute_rules(), values, MOST_FINDINGS)
            outgrown: Sequence[datetime] = ()
            if is_other and found.made_of_trades:
                minutes = Minutes(connection, self._scope.symbol)
                outgrown = await minutes.outgrown(inside[0][0], inside[-1][1])
        for at, reason in found.examples:
            if at not in known:
                self._part.add(Finding(IMPOSSIBLE, f"candle {moment(at)}: {reason}", at, at + _MINUTE))
        self._part.problems[IMPOSSIBLE] += found.broken - len(found.examples)
        for at in outgrown:
            if any(start <= at < end for start, end in inside):
                text = f"candle {minute(at)} was made of fewer trades than are stored"
                self._part.add(Finding(OUTGROWN, text, at, at + _MINUTE))
        self._part.stored += found.rows * is_other
        self._part.unproven += found.rows * is_other
        return found.rows

    def _audit(self, connection: AsyncConnection) -> CandleAudit:
        return CandleAudit(connection, self._store.backend, self._scope.symbol)


def add_findings(part: Part, interval: int, found: Comparison, whose: str) -> None:
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


AGGREGATES = "higher intervals"


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
            waiting = await PendingRefresh(connection).unrefreshed()
        waits = sum(item.symbol == self._scope.symbol for item in waiting)
        if waits:
            verb = "waits" if waits == 1 else "wait"
            what = f"{plural(waits, 'range')} of minutes {verb} for a refresh"
            part.notes.append(f"{what}, or for a run that is still working")
        return part

    async def _check(self, interval: int) -> None:
        part = self._part
        ranges = await self._ranges(interval)
        task = self._progress.task(
            f"{self._scope.symbol} {interval_name(interval)}", seconds_of(ranges), unit="seconds"
        )
        slices = Slices(ranges, task, grid=max(interval, DAY))
        whose = f"the {interval_name(INTERVAL_SOURCES[interval])} candles"
        try:
            for inside in slices:
                async with self._store.database.read() as connection:
                    audit = CandleAudit(connection, self._store.backend, self._scope.symbol)
                    found = await audit.with_source(interval, inside, MOST_FINDINGS)
                part.compared += found.compared
                if found.compared:
                    part.see(inside[0][0], inside[-1][1] - interval_length(interval))
                add_findings(part, interval, found, whose)
                slices.had(found.compared * interval)
        finally:
            task.done()

    async def _ranges(self, interval: int) -> list[TimeRange]:
        """Whole candles within the bounds, as far as what they come from is there."""
        start, end = self._scope.bounds
        async with self._store.database.read() as connection:
            # Not what is read from imported files: that is computed from nothing.
            edges = [
                await self._store.backend.edges(connection, self._scope.symbol, one)
                for one in (INTERVAL_SOURCES[interval], interval)
            ]
        known = [edge for edge in edges if edge is not None]
        if not known:
            return []
        first = floor_to_interval(min(oldest for oldest, _ in known), interval)
        last = floor_to_interval(max(newest for _, newest in known), interval)
        first = max(first, ceil_to_interval(start, interval))
        last = min(last, floor_to_interval(self._scope.now, interval))  # the future is told of elsewhere
        stop = min(last + interval_length(interval), floor_to_interval(end, interval))
        if first >= stop:
            return []
        if INTERVAL_SOURCES[interval] != BASE_INTERVAL:
            return [(first, stop)]
        return difference([(first, stop)], whole_candles(self._scope.minutes.dropped, interval))


_BLOCK = 2**20  # bytes


async def find_files(directory: Path, symbols: Sequence[str]) -> dict[str, list[ArchiveFile]]:
    """The OHLCVT files in a folder (or zip) that are of these symbols, by symbol.

    Raises ConfigurationError where there is none.
    """
    plan = await Discovery(only_1m=False, symbols=None, skip_empty=True).plan([directory])
    found: dict[str, list[ArchiveFile]] = {}
    for file in plan.files:
        if file.interval is not None and file.symbol in symbols:
            found.setdefault(file.symbol, []).append(file)
    if not found:
        reason = (
            str(plan.refused[0].error) if plan.refused else "it has none of the symbols that are verified"
        )
        raise ConfigurationError(
            f"{directory}: there is no OHLCVT file to compare with: {reason}",
            hint="files are named like XBTUSD_1440.csv: Kraken's name of the pair, and minutes",
        )
    return found


class ArchiveCheck:
    """Stages a file in a temporary table and compares it there; nothing of it is stored."""

    def __init__(self, store: Store, scope: Scope, file: ArchiveFile, progress: Progress) -> None:
        assert file.interval is not None
        self._store = store
        self._scope = scope
        self._file = file
        self._interval = file.interval
        self._part = Part(f"archive {file.name}", "candles")
        self._task = progress.task(Path(file.name).name, file.size, unit="bytes")

    async def run(self) -> Part:
        """A file that cannot be read is reported as a problem of the file, not as one of the store."""
        try:
            await self._compare()
        except DatabaseError:
            raise
        except KrakenDBError as error:
            self._part.not_checked = f"the file is not accepted: {error}"
            start, end = self._scope.bounds
            self._part.add(Finding("file refused", f"{self._file.name}: {error}", start, end))
        finally:
            self._task.done()
        return self._part

    async def _compare(self) -> None:
        async with (
            ArchiveReader(self._file, _BLOCK, _Reading(self._task), clock=self._store.clock) as reader,
            self._store.database.read() as connection,
        ):
            staging = StagedCandles(connection)
            try:
                staged = await stage_file(
                    staging, self._interval, reader.blocks(), self._store.clock(), [*reader.columns]
                )
            except RowRefusedError as error:
                raise reader.error(error.reason, error.line) from error
            length = interval_length(self._interval)
            inside = self._known((staged.first, staged.last + length))
            if not inside:
                self._part.not_checked = (
                    f"nothing that is stored is complete between {moment(staged.first)} and"
                    f" {moment(staged.last + length)}"
                )
                return
            audit = CandleAudit(connection, self._store.backend, self._scope.symbol)
            found = await audit.with_archive(
                self._interval, staging.table, inside, MOST_FINDINGS, may_lack=self._interval != BASE_INTERVAL
            )
        self._part.compared = found.compared
        self._part.see(inside[0][0], inside[-1][1] - length)
        self._add_findings(found)

    def _known(self, shown: TimeRange) -> list[TimeRange]:
        """The whole candles of the file's time of which all minutes are known.

        Higher candles outlive their minutes; minutes that were dropped are not compared.
        """
        minutes = self._scope.minutes
        known: Sequence[TimeRange] = minutes.complete
        if self._interval != BASE_INTERVAL:
            known = union(known, minutes.dropped)
        inside = intersection(known, [shown])
        return union(
            (ceil_to_interval(start, self._interval), floor_to_interval(end, self._interval))
            for start, end in inside
        )

    def _add_findings(self, found: Comparison) -> None:
        """A coarse file of Kraken's can lack rows although there were trades: the file's fault, not ours."""
        if found.unexpected and self._interval != BASE_INTERVAL:
            lacking = plural(found.unexpected, f"{interval_name(self._interval)} candle")
            self._part.notes.append(
                f"the file lacks {lacking} in which there were trades: a known fault of Kraken's coarse files"
            )
        add_findings(self._part, self._interval, found, "the file")


@dataclass(frozen=True, slots=True)
class _Reading:
    """A progress that is one of reading alone."""

    task: Task

    def advance(self, size: int) -> None:
        self.task.advance(size)

    def all_read(self) -> None:
        pass

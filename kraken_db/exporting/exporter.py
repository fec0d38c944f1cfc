"""Exporter: what is stored, as files that are written again only where something has changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.errors import ConfigurationError, KrakenDBError, first_line, foreseen
from kraken_db.exporting.manifest import Entry, Format, Part, Series, What, parts
from kraken_db.exporting.places import Place, PlaceFailedError, open_place, writing
from kraken_db.exporting.sources import Source, State
from kraken_db.exporting.writers import FileWriter, check_packages, database_layout, file_writer
from kraken_db.intervals import Interval, IntervalLike, as_interval
from kraken_db.pairs import parse_symbol
from kraken_db.progress import NullProgress, PairsProgress, Progress, Task
from kraken_db.ranges import TimeRange
from kraken_db.repositories.text_layouts import Checksum
from kraken_db.retry import READ, unless_set
from kraken_db.store import StoreService
from kraken_db.times import Clock, require_aware, utc_now

Outcome: TypeAlias = Literal["written", "unchanged", "kept"]
"""``kept``: the store has dropped all rows of the file, which therefore stays as it is."""


@dataclass(frozen=True, slots=True)
class FileReport:
    path: Path | str
    """A URL where it is in an object store."""
    symbol: str
    interval: int | str | None
    """Minutes; of candles of a calendar, their name (``1M``, ``1d Europe/Berlin``); None for trades."""
    outcome: Outcome
    rows: int
    """In the file."""
    kept_rows: int
    """Of these, the ones that the store has dropped since they were exported."""
    size: int
    """Bytes."""
    taken_until: datetime | None = None
    """Candles that open before it are taken from an imported file; None: all are computed from minutes."""


@dataclass(slots=True)
class ExportReport:
    files: list[FileReport] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    """Symbols of which nothing is stored in the range."""
    was_stopped: bool = False
    """Whether it was ended before all was done: the next export goes on."""
    failed: dict[str, KrakenDBError] = field(default_factory=dict)
    """Why a series was not exported, or not as a whole, by its label such as ``BTC/USD 1h``."""


_Asked: TypeAlias = tuple[datetime | None, datetime | None]
BLOCK_SIZE = 8 * 2**20

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """One export: where it goes, and what is known of earlier ones."""

    place: Place
    recheck: bool
    report: ExportReport


class Exporter(StoreService):
    """Writes candles and trades into files below a folder, or in an object store.

    A file is written beside its place and then put there: it is whole, or the old one, whenever the run ends.
    The next run goes on where this one ended, and leaves what has not changed since. Readers of an object
    store, and of Delta tables, see all of a run at once: ``scan``. An embedded database is never made here.
    """

    def __init__(self, db_url: str, *, progress: Progress | None = None, clock: Clock = utc_now) -> None:
        super().__init__(db_url, pool_min_size=1, pool_max_size=1, clock=clock, creates=False)
        self._progress = progress or NullProgress()
        self._stop = asyncio.Event()

    def request_stop(self) -> None:
        """End with the files that are written; the one that is under way is not put into its place."""
        self._stop.set()

    async def export(
        self,
        symbols: Sequence[str],
        folder: Path | str,
        *,
        what: What = "candles",
        intervals: Sequence[IntervalLike] = (1,),
        style: Format = "parquet",
        since: datetime | None = None,
        until: datetime | None = None,
        recheck: bool = False,
    ) -> ExportReport:
        """Export ``[since, until)`` of each symbol: trades, or closed candles of each of the intervals.

        Intervals are what ``as_interval`` takes: minutes, ``"2h"``, ``"1M"``. ``folder`` may be a URL: ``s3://``,
        ``gs://`` or ``az://`` (extra ``lake``), with credentials from the usual environment.

        ``recheck`` compares the contents of the store even where no write was noted since the last export.
        Of several series one may fail: the others go on, and the report says why. The only one's error is
        raised. Raises ConfigurationError for a folder that cannot be written, is in use, or holds something
        else, and where a package is missing (extras ``frames``, ``lake``, ``delta``);
        PlaceFailedError, which is one, where an object store refuses: nothing of the run is made known then.
        """
        for moment, name in ((since, "since"), (until, "until")):
            if moment is not None:
                require_aware(moment, name)
        lengths = list(dict.fromkeys(map(as_interval, intervals)))
        check_packages(style)
        wanted = list(dict.fromkeys(map(parse_symbol, symbols)))
        kinds: Sequence[Interval | None] = [None] if what == "trades" else lengths
        opened = open_place(folder, style, what)
        place = await asyncio.to_thread(opened.__enter__)
        try:
            run = _Run(place, recheck, ExportReport())
            series = {symbol: [Series(symbol, kind) for kind in kinds] for symbol in wanted}
            await self._all(run, series, since, until)
            if not run.report.was_stopped:
                await asyncio.to_thread(place.commit)
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)
        return run.report

    async def _all(
        self,
        run: _Run,
        wanted: Mapping[str, Sequence[Series]],
        since: datetime | None,
        until: datetime | None,
    ) -> None:
        """One pair after the other, until ``request_stop``."""
        progress = PairsProgress(self._progress, "export", wanted)

        async def pair(symbol: str) -> bool:
            for series in wanted[symbol]:
                try:
                    await self._series(run, series, since, until)
                    run.place.settle()
                except Exception as error:
                    run.place.drop()
                    if isinstance(error, PlaceFailedError) or sum(map(len, wanted.values())) == 1:
                        raise
                    _log.debug("%s", series.label, exc_info=error)
                    run.report.failed[series.label] = foreseen(error, hint="run it again with --debug")
            return True

        for symbol in wanted:
            if not await unless_set(self._stop, pair(symbol)):
                break
            has_failed = any(series.label in run.report.failed for series in wanted[symbol])
            progress.is_over(symbol, None, "", failed=has_failed)
        run.report.was_stopped = self._stop.is_set()
        progress.done("stopped" if run.report.was_stopped else "")
        self._stop.clear()

    async def _series(
        self, run: _Run, series: Series, since: datetime | None, until: datetime | None
    ) -> None:
        state = await READ.run(partial(self._state, series))
        stored = state.extent
        found = [] if stored is None else parts(series, run.place.style, since, until, stored)
        if stored is None or not any(_is_time(part.clip(stored)) for part in found):
            run.report.empty.append(series.label)
            return
        clipped = [part.clip(stored) for part in found]
        task = self._progress.task(series.label, _seconds(clipped[-1][1] - clipped[0][0]), unit="seconds")
        try:
            for part, time_range in zip(found, clipped, strict=True):
                entry = await asyncio.to_thread(_entry, run, part)
                done = await self._unchanged(run, series, part, entry, time_range[1], state)
                if done is None:
                    done = await READ.run(partial(self._part, run, series, part, entry, task))
                if done is None or done.outcome != "written":
                    task.advance(_seconds(time_range[1] - time_range[0]))
                if done is not None:
                    run.report.files.append(done)
        except BaseException:
            task.done(failed=True)
            raise
        task.done()

    async def _state(self, series: Series) -> State:
        async with self._snapshot() as connection:
            return await self._source(connection, series).state()

    async def _unchanged(
        self, run: _Run, series: Series, part: Part, entry: Entry | None, end: datetime, state: State
    ) -> FileReport | None:
        """The report of a file that needs no look at the rows: no write of its time was noted since."""
        if entry is None or run.recheck:
            return None
        if (entry.start, entry.end, entry.read_until) != (part.start, part.end, end):
            return None
        version = state.version(series, part.start, end)
        if version is None or entry.version is None:
            is_same = state.synced_at is not None and entry.synced_at == state.synced_at
        else:
            is_same = entry.version == version
        if not is_same:
            return None
        return await self._kept(run, series, part, entry, "unchanged")

    async def _kept(
        self, run: _Run, series: Series, part: Part, entry: Entry, outcome: Outcome
    ) -> FileReport:
        await asyncio.to_thread(run.place.keep, part.path, entry)
        return await asyncio.to_thread(_report, run, series, part, entry, outcome)

    async def _part(
        self, run: _Run, series: Series, part: Part, entry: Entry | None, task: Task
    ) -> FileReport | None:
        """Compare with the store, and write if there is a difference, all in one snapshot.

        None where there is nothing to be written: a year in a hole of the history.
        """
        async with self._snapshot() as connection:
            source = self._source(connection, series)
            state = await source.state()
            stored = state.extent
            time_range = part.clip(stored) if stored is not None else None
            if stored is None or time_range is None or not _is_time(time_range):
                found = Checksum(0, None, None, 0)
            else:
                found = await source.checksum(*time_range)
            if entry is None and found.rows == 0:
                return None
            taken_until = await source.taken_until(part.start)
            version = None if time_range is None else state.version(series, part.start, time_range[1])
            if entry is not None and (found.rows == 0 or _same(entry, part, found, taken_until)):
                outcome: Outcome = "kept" if found.rows == 0 else "unchanged"
                if time_range is not None and outcome == "unchanged":
                    entry = replace(
                        entry, read_until=time_range[1], synced_at=state.synced_at, version=version
                    )
                return await self._kept(run, series, part, entry, outcome)
            assert stored is not None and time_range is not None
            assert found.first is not None
            fresh = Entry(
                part.start,
                part.end,
                time_range[1],
                state.synced_at,
                found.first,
                found.rows,
                str(found.digest),
                0,
                taken_until,
                version,
            )
            # Retention drops from the old end: what the file has of that time is not to be lost with it.
            dropped_until = stored[0] if entry is not None and entry.first < stored[0] else None
            if entry is not None and dropped_until is not None:
                fresh = replace(fresh, first=entry.first)
            entry = await self._write(run, source, part, time_range, dropped_until, fresh, task)
        return await asyncio.to_thread(_report, run, series, part, entry, "written")

    async def _write(
        self,
        run: _Run,
        source: Source,
        part: Part,
        time_range: TimeRange,
        dropped_until: datetime | None,
        entry: Entry,
        task: Task,
    ) -> Entry:
        """Write a file whole, with the rows of the old one from before a moment; returns its entry."""
        place, name = run.place, run.place.where(part.path)
        reached = time_range[0]
        writer: FileWriter | None = None
        opened = place.new(part.path)
        file = await asyncio.to_thread(opened.__enter__)
        try:
            with writing(name):
                writer = await asyncio.to_thread(file_writer, file, place.style, source.series)
            if dropped_until is not None:
                with place.old(part.path) as old, writing(name), _reading(name):
                    await asyncio.to_thread(writer.keep, old, dropped_until)
                entry = replace(entry, kept_rows=writer.rows)
            blocks = source.blocks(*time_range, database_layout(place.style, source.series), BLOCK_SIZE)
            async with aclosing(blocks):
                async for block in blocks:
                    with writing(name):
                        moment = await asyncio.to_thread(writer.add, block)
                    task.advance(_seconds(moment - reached))
                    reached = moment
            assert writer.rows == entry.rows, (writer.rows, entry)
            with writing(name):
                await asyncio.to_thread(writer.finish, entry.to_json())
            await asyncio.to_thread(place.put, part.path, file, entry)
        except BaseException:
            task.advance(-_seconds(reached - time_range[0]))
            with contextlib.suppress(Exception):
                if writer is not None:
                    writer.finish("")
            raise
        finally:
            opened.__exit__(None, None, None)
        task.advance(_seconds(time_range[1] - reached))
        return entry

    def _source(self, connection: AsyncConnection, series: Series) -> Source:
        store = self._connected()
        return Source(connection, store.backend, series, store.clock())

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that sees one state of the store from its first statement to its last."""
        async with self._connected().database.read() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            async with connection.begin():
                yield connection


def _entry(run: _Run, part: Part) -> Entry | None:
    """What is known of a file that is still there as it was written.

    Raises ConfigurationError for a file of somebody else, and where less was asked for than it holds.
    """
    entry = run.place.entry(part.path)
    if entry is not None and not _contains((part.start, part.end), (entry.start, entry.end)):
        raise ConfigurationError(
            f"{run.place.where(part.path)} holds {_range(entry.start, entry.end)}: less was asked for now",
            hint="take another folder for --out, or leave out --since and --until",
        )
    return entry


@contextmanager
def _reading(path: Path | str) -> Iterator[None]:
    """What an older version of a file is refused for, which somebody has changed."""
    try:
        yield
    except (ValueError, ArithmeticError, LookupError) as error:
        raise ConfigurationError(
            f"{path} is not as it was exported: {first_line(error)}",
            hint="move it away: the next export writes what is stored",
        ) from error


def _same(entry: Entry, part: Part, found: Checksum, taken_until: datetime | None) -> bool:
    written = (entry.start, entry.end, entry.stored_rows, entry.digest, entry.taken_until)
    return written == (part.start, part.end, found.rows, str(found.digest), taken_until)


def _contains(wider: _Asked, narrower: _Asked) -> bool:
    starts = wider[0] is None or (narrower[0] is not None and wider[0] <= narrower[0])
    return starts and (wider[1] is None or (narrower[1] is not None and wider[1] >= narrower[1]))


def _report(run: _Run, series: Series, part: Part, entry: Entry, outcome: Outcome) -> FileReport:
    return FileReport(
        run.place.where(part.path),
        series.symbol,
        series.key,
        outcome,
        entry.rows,
        entry.kept_rows,
        run.place.size(part.path),
        entry.taken_until,
    )


def _range(start: datetime | None, end: datetime | None) -> str:
    begin = "all that there was" if start is None else f"from {start:%Y-%m-%d %H:%M}"
    return begin if end is None else f"{begin} until {end:%Y-%m-%d %H:%M} UTC"


def _is_time(time_range: TimeRange) -> bool:
    return time_range[0] < time_range[1]


def _seconds(length: timedelta) -> int:
    return int(length.total_seconds())

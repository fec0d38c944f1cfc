"""What Kraken's archives have of a pair's history comes from them: REST gives a thousand trades a second.

Archives are read where they are: of one on a server only its directory travels, and the wanted files. What is
stored already is passed over.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Literal, TypeAlias, TypeVar

from kraken_db.archives.catalog import find_archives
from kraken_db.bulk_csv_importer.discovery import Discovery
from kraken_db.bulk_csv_importer.files import ImportOptions, TradeFileImport
from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import ArchiveFile, FileReport, ImportPlan
from kraken_db.data_types import DataType
from kraken_db.db.locks import JobLock
from kraken_db.errors import ConflictingTradesError, ImportFileError
from kraken_db.historical_backfill.download import BackfillReport
from kraken_db.ingest.file_batches import NOT_A_ROW, FileBatch, row_of
from kraken_db.ingest.write_unit import Ingest
from kraken_db.kraken.page_walk import as_nanoseconds, cursor_time, to_cursor
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.progress import Task
from kraken_db.ranges import TICK, TimeRange, union
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.trade_neighbours import TradeNeighbours
from kraken_db.retry import Retry
from kraken_db.store import Store
from kraken_db.times import FIRST_MOMENT, Clock
from kraken_db.tolerances import SAME_TRADE

BackfillSource: TypeAlias = Literal["auto", "archive", "rest"]
"""Where trades come from: what Kraken's archives have from there and the rest by REST, or one of the two."""

_T = TypeVar("_T")
_BLOCK = 2**18
"""Bytes that are read at a time."""
_COMPARED = 100
"""Trades of a file that REST's of the same ids are compared with."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to download of each pair. ``since``: in ns; ``end``: exclusive."""

    since: int = 0
    end: datetime | None = None
    resume: bool = False
    build_candles: bool = True
    auto_stop: bool = True
    source: BackfillSource = "auto"

    @property
    def start(self) -> datetime | None:
        """The first moment after the cursor ``since``; None: from the first trade on."""
        return cursor_time(as_nanoseconds(self.since)) + TICK if self.since else None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of a pair's history, with candles, and then over: what several may share."""
        is_bounded = bool(self.since) or self.end is not None or self.source == "archive"
        return self.build_candles and self.auto_stop and not is_bounded

    def has_part_of(self, file: ArchiveFile) -> bool:
        """Whether the archive's file may have something that is wanted."""
        start, end = file.covers
        ends_before = end is not None and self.start is not None and end <= self.start
        begins_behind = start is not None and self.end is not None and start >= self.end
        return not (ends_before or begins_behind)

    def is_reached(self, cursor: int) -> bool:
        """Whether all of it is stored, where a download would go on from ``cursor``, in ns."""
        if self.end is None or cursor <= as_nanoseconds(self.since):
            return False
        return self.end <= cursor_time(cursor)

    def first_cursor(self, resume_point: int, files: Sequence[ArchiveFile]) -> int:
        """Where REST begins, in ns: ``resume_point`` is where the stored history ends, 0 without one."""
        if files:  # what the archives brought, it does not bring again
            return as_nanoseconds(max(resume_point, self.since))
        return as_nanoseconds((self.resume and resume_point) or self.since)


@dataclass(slots=True)
class ArchivedHistory:
    """The trade files of the archives at one place, by symbol: the full one first, then by quarter."""

    files: Mapping[str, Sequence[ArchiveFile]]
    plan: ImportPlan = field(repr=False)

    @classmethod
    async def find(cls, place: str, clock: Clock) -> ArchivedHistory:
        """``place``: an http(s) address, or a folder. Raises ImportFileError where nothing is there."""
        archives = await find_archives(place, clock=clock, product="trades")
        plan = await Discovery(only_1m=True, symbols=None, skip_empty=True).plan(archives)
        files: dict[str, list[ArchiveFile]] = {}
        for file in plan.files:
            if file.interval is None:
                files.setdefault(file.symbol, []).append(file)
        if not files:
            await plan.close()
            raise (
                plan.refused[0].error if plan.refused else ImportFileError(place, "there are no trades in it")
            )
        return cls(files, plan)

    def covered(self, symbol: str) -> list[TimeRange]:
        """The time that the archives say everything of: without a file in one, a pair did not trade then.

        Nothing for a pair of which a file was refused.
        """
        names = {_basename(file.member or file.path.name) for file in self.files.get(symbol, ())}
        if any(_basename(refused.name) in names for refused in self.plan.refused):
            return []
        spans = {file.covers for files in self.files.values() for file in files}
        return union((start or FIRST_MOMENT, end) for start, end in spans if end is not None)

    async def close(self) -> None:
        await self.plan.close()


def _basename(name: str) -> str:
    """Of a file, or of one in a zip as it is shown to people."""
    return re.split("[:/]", name)[-1].upper()


@dataclass(slots=True)
class ArchiveDownload:
    """Stores what the archives have of one symbol and the store lacks."""

    ingest: Ingest
    report: BackfillReport
    task: Task
    stop: asyncio.Event
    retry: Retry
    lock: JobLock
    wanted: Wanted
    _read: dict[str, int] = field(default_factory=dict, init=False)
    _shown: dict[str, int] = field(default_factory=dict, init=False)
    """Rows of each file that the task was told of."""

    async def run(self, files: Sequence[ArchiveFile]) -> None:
        """Raises ImportFileError; what was stored until then stays, and is passed over the next time."""
        for file in files:
            if not self.stop.is_set() and self.wanted.has_part_of(file):
                await self._again(partial(self._store, file))

    async def _store(self, file: ArchiveFile) -> None:
        """May be called again: what is stored is passed over."""
        if await is_stored(self.ingest.store, file):
            return
        wanted = self.wanted
        options = ImportOptions(
            build_candles=wanted.build_candles, skips_known=True, since=wanted.start, until=wanted.end
        )
        done = FileReport(file)
        reading = _Reading(self.task, file, self._shown)
        async with ArchiveReader(file, _BLOCK, reading, clock=self.ingest.store.clock) as reader:
            reading.reader = reader
            if not reader.has_ids:
                return  # REST has ids, and so has every newer archive
            try:
                await TradeFileImport(self.ingest, reader, done, options, self.stop, self._again).run()
            finally:
                reading.show_rows()
                self._add(done)

    async def _again(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """What ``work`` returns; again where that may help, with a database that was started anew."""
        return await self.lock.outlasting(work, self.retry, lambda: not self.stop.is_set())

    def _add(self, done: FileReport) -> None:
        report = self.report
        # Of a file that was read again, the rows count once.
        again = self._read.get(done.file.name, 0)
        self._read[done.file.name] = max(again, done.read)
        report.archived += max(0, done.read - again)
        report.received += max(0, done.read - again)
        report.new += done.new
        report.changed += done.changed
        report.candles_new += done.candles
        # A file has trades before and behind what is wanted, which are read and not stored.
        oldest = max((t for t in (done.oldest, self.wanted.start) if t), default=None)
        newest = min((t for t in (done.newest, self.wanted.end) if t), default=None)
        if done.oldest and oldest and newest and oldest <= newest:
            report.oldest = min(report.oldest or oldest, oldest)
            report.newest = max(report.newest or newest, newest)
        report.notes += done.notes


async def is_stored(store: Store, file: ArchiveFile) -> bool:
    """Whether archives have brought all that the file has: then it need not be read."""
    start, end = file.covers
    if end is None:
        return False
    async with store.database.read() as connection:
        covered = CoverageRepository(connection).covered
        for first, last in await covered(file.symbol, DataType.TRADES, [FileBatch.source]):
            if last >= end and start is None:
                return await TradeNeighbours(connection, file.symbol).is_first(first)
            if start is not None and first <= start and last >= end:
                return True
    return False


async def check_market(file: ArchiveFile, client: KrakenRestClient, pair: str, clock: Clock) -> None:
    """Raises ConflictingTradesError where REST has other trades than the first ones of the file."""
    async with ArchiveReader(file, _BLOCK, clock=clock) as reader:
        block = await anext(reader.blocks(), b"")
        columns = reader.columns
    if "trade_id" not in columns:
        return
    archived: dict[int | None, dict[str, str]] = {}
    moments = []
    for line in block.splitlines()[:_COMPARED]:
        try:
            row = row_of(line, columns)
        except NOT_A_ROW:
            return  # the import says what is wrong with it
        moments.append(row.timestamp)
        archived[row.trade_id] = dict(zip(columns, line.decode("ascii").split(","), strict=False))
    first, last = min(moments) + SAME_TRADE, max(moments) - SAME_TRADE
    for trade in (await client.trades(pair, to_cursor(min(moments) - TICK))).trades:
        mine = archived.get(trade.trade_id)
        is_between = first <= trade.timestamp <= last
        is_same = mine and _same(trade.price, mine["price"]) and _same(trade.volume, mine["volume"])
        if trade.trade_id and (mine or is_between) and not is_same:
            raise ConflictingTradesError(
                f"{file.name}: trade {trade.trade_id} is another one than Kraken's REST has",
                hint="the archive is of another exchange or simulator: see KRAKEN_ARCHIVE_URL",
            )


def _same(number: Decimal, text: str) -> bool:
    try:
        return Decimal(text) == number
    except InvalidOperation:
        return False


class _Reading:
    """Bytes and rows of a file that are read, as progress. ``shown``: rows of each file that were told."""

    def __init__(self, task: Task, file: ArchiveFile, shown: dict[str, int]) -> None:
        self._task = task
        self._file = file
        self._shown = shown
        self._read = 0
        self.reader: ArchiveReader | None = None

    def advance(self, size: int) -> None:
        self._read += size
        share = self._read / max(self._file.size, 1)
        self._task.update(note=f"archive: {share:.0%} of {self._file.size / 2**20:,.0f} MiB")
        self.show_rows()

    def show_rows(self) -> None:
        """Of a file that is read again, rows count once."""
        rows, before = self.reader.rows if self.reader is not None else 0, self._shown.get(self._file.name, 0)
        if rows > before:
            self._shown[self._file.name] = rows
            self._task.advance(rows - before)

    def all_read(self) -> None:
        pass

"""One file of an archive into a write transaction: its rows, what they show to be complete, and what to say
of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from kraken_db.archives.layouts import CANDLE_COLUMNS
from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import FileReport
from kraken_db.bulk_csv_importer.trade_batches import trade_batches
from kraken_db.data_types import DataType
from kraken_db.errors import CopyRowError, DamagedFileError, DataRefusedError
from kraken_db.id_runs import IdHole, IdRun
from kraken_db.ingest import candles, trades
from kraken_db.ingest.file_batches import FileBatch, find_file_resume_point, put_aside
from kraken_db.ingest.pages import PageStore, PagesWritten
from kraken_db.ingest.rules import RowRefusedError
from kraken_db.ingest.trades import ARCHIVE, TradesWritten
from kraken_db.ingest.write_unit import Ingest, WriteTransaction, keys_with_trades, withdraw
from kraken_db.intervals import BASE_INTERVAL, floor_to_interval, interval_length
from kraken_db.ranges import TICK, TimeRange, union, whole_minutes
from kraken_db.repositories.candle_merge import prefer_more_trades, take_new
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.trade_load import ASIDE_MINUTES
from kraken_db.repositories.trade_neighbours import beside
from kraken_db.repositories.trades import TradeRepository
from kraken_db.retry import until_undisturbed
from kraken_db.tolerances import SAME_TRADE

_SHOWN = 5
_UNFINISHED = "the last line has no line end: its {} does not count as complete"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """``replace``: the file's rows count, whatever is stored. ``build_candles``: of its trades.
    ``keeps_trades``: else only the candles of them are stored. ``skips_known``: where the trades with ids are
    known to be complete, they are not compared once more. ``since`` and ``until``: only trades with ids of
    these times, half-open."""

    replace: bool = False
    build_candles: bool = True
    keeps_trades: bool = True
    skips_known: bool = False
    since: datetime | None = None
    until: datetime | None = None


@dataclass(slots=True)
class FileImport:
    """Imports what ``reader`` reads in a transaction that locks late, and fills ``report``.

    ``is_straight``: rows go straight into the table if they can.

    Raises ImportFileError, CopyRowError, and where rows went straight DataRefusedError: they need a second
    look. The transaction is over then.
    """

    transaction: WriteTransaction
    reader: ArchiveReader
    report: FileReport
    options: ImportOptions
    is_straight: bool = False

    async def run(self) -> None:
        try:
            await (self._trades() if self.report.file.interval is None else self._candles())
        except RowRefusedError as error:
            self.report.rejected = error.count
            raise self.reader.error(error.reason, error.line, hint=error.hint) from error

    async def _candles(self) -> None:
        report, interval = self.report, self.report.file.interval
        assert interval is not None
        start = self.reader.first_moment
        is_usual = self.reader.columns == CANDLE_COLUMNS
        if (
            is_usual
            and self.is_straight
            and await candles.is_beyond_stored(self.transaction, report.file.symbol, interval, start)
        ):
            await self._load_candles(interval, start)
        else:
            await self._merge_candles(interval)
        if interval == BASE_INTERVAL:
            assert report.oldest is not None and report.newest is not None
            rows = report.oldest, report.newest + interval_length(interval)
            covers = _extended(rows, report.file.covers)
            # No minute that has not ended yet, whatever the archive says.
            span = covers[0], min(covers[1], floor_to_interval(self.transaction.now, BASE_INTERVAL))
            unit = self.transaction.unit(report.file.symbol, DataType.CANDLES_1M)
            unit.mark_complete("csv", whole_minutes([self._whole(span, "interval")]))

    async def _load_candles(self, interval: int, start: datetime) -> None:
        report = self.report
        await self.transaction.begin()
        written = await candles.load_rows(
            self.transaction, report.file.symbol, interval, start, self.reader.blocks()
        )
        report.read = report.new = written.new
        report.oldest, report.newest = written.oldest, written.newest

    async def _merge_candles(self, interval: int) -> None:
        report = self.report
        staged = await candles.stage_rows(
            self.transaction, interval, self.reader.blocks(), [*self.reader.columns]
        )
        await self.transaction.begin()
        report.read, report.oldest, report.newest = staged.rows, staged.first, staged.last
        span = (staged.first, staged.last + interval_length(interval))
        rule = take_new if self.options.replace else prefer_more_trades
        written = await candles.store_staged(
            self.transaction, report.file.symbol, interval, span, rows=staged.rows, rule=rule
        )
        report.new, report.changed, report.rejected = written.new, written.changed, staged.quiet
        report.unchanged = staged.rows - written.new - written.changed - staged.quiet
        report.differing = written.differing
        if written.differing:
            report.notes.append(
                f"{written.differing} stored candles have as many trades but other numbers, and were kept;"
                f" the first, {written.difference}; --replace takes the file's"
            )

    async def _trades(self) -> None:
        """Of a file without ids: one range, from its first stamp to its last, or what its archive covers."""
        reader, report, symbol = self.reader, self.report, self.report.file.symbol
        batch, report.read = await trades.stage_rows(
            self.transaction, symbol, ARCHIVE, [*reader.columns], reader.blocks()
        )
        if batch is None:
            raise reader.error("there is no trade in it")
        await self.transaction.begin()
        first, last = report.oldest, report.newest = batch.facts.first, batch.facts.last
        covers = _extended((first, last), report.file.covers)
        if not self.options.keeps_trades:
            await self._build_minutes(self._whole(covers, "minute"))
            return
        written = await batch.store(force=self.options.replace)
        count_trades(report, written, report.read)
        note_trades(report, written.known, written.disputed, written.removed)
        ranges = [covers]
        if written.disputed:
            ranges = await self.transaction.trades.without_disputed(ranges)
        if not reader.ends_with_newline and ranges:
            ranges = [*ranges[:-1], self._whole(ranges[-1], "moment")]
        self.transaction.unit(symbol, DataType.TRADES).mark_complete("csv", ranges)
        await trades.rebuild_touched(self.transaction, symbol, written, "csv", entered=[(first, last + TICK)])

    async def _build_minutes(self, covers: TimeRange) -> None:
        """The candles of the staged trades, which are not stored themselves."""
        symbol = self.report.file.symbol
        await put_aside(self.transaction, symbol)
        minutes = whole_minutes([covers])
        if minutes:
            built = await candles.build_minutes(
                self.transaction, symbol, *minutes[0], {ARCHIVE.source: minutes}, ASIDE_MINUTES
            )
            self.report.candles = built.new + built.changed

    def _whole(self, span: TimeRange, unit: str) -> TimeRange:
        """It may have been cut; with fewer trades than there were, a later import puts it right."""
        if self.reader.ends_with_newline:
            return span
        self.report.notes.append(_UNFINISHED.format(unit))
        assert self.report.newest is not None
        return span[0], min(span[1], self.report.newest)


@dataclass(slots=True)
class TradeFileImport:
    """Imports what ``reader`` reads of a trade file with ids, a transaction for each batch of rows.

    What is committed stays, whatever happens: a repeated import goes on where the ids end.
    """

    ingest: Ingest
    reader: ArchiveReader
    report: FileReport
    options: ImportOptions
    stop: asyncio.Event | None = None
    """Once it is set, the batch that is under way is the last."""
    again: Callable[[Callable[[], Awaitable[PagesWritten]]], Awaitable[PagesWritten]] = until_undisturbed
    """Runs the transaction of a batch, again where that may help."""
    _holes: dict[int, IdHole] = field(default_factory=dict, init=False)
    _stored: list[TimeRange] = field(default_factory=list, init=False)
    _known: int = field(default=0, init=False)
    _disputed: int = field(default=0, init=False)
    _removed: int = field(default=0, init=False)

    async def run(self) -> None:
        """Raises ImportFileError; what was stored before the row at fault is in the report.

        A file in a zip that turns out at its end not to be what was packed leaves nothing that counts as
        complete.
        """
        try:
            await self._run()
        except DamagedFileError:
            if self._stored:
                keys = keys_of(self.report, self.options)
                await withdraw(self.ingest.store, keys, FileBatch.source, union(self._stored))
            raise

    async def _run(self) -> None:
        reader, report = self.reader, self.report
        pages: PageStore | None = None
        known_until: datetime | None = None
        async for whole in trade_batches(reader, reader.columns):
            if report.oldest is None:
                report.oldest = whole.span[0]
                known_until = await self._known_until(whole)
            if self.options.until is not None and whole.span[0] >= self.options.until:
                break
            report.read += whole.size
            report.newest = whole.span[1]
            is_known = known_until is not None and whole.span[1] < known_until
            if is_known and await self._has_ids(whole):
                batch = None
            else:
                batch = whole.between(self.options.since, self.options.until)
            if batch is None:
                report.unchanged += whole.size
                continue
            pages = pages or await self._begin(batch)
            await self._store(pages, batch)
            if self.stop is not None and self.stop.is_set():
                return
        if report.oldest is None:
            raise reader.error("there is no trade in it")
        note_trades(report, self._known, self._disputed, self._removed)
        report.notes += [f"the file lacks {hole}" for hole in list(self._holes.values())[:_SHOWN]]
        if len(self._holes) > _SHOWN:
            report.notes.append(f"and {len(self._holes) - _SHOWN} more holes in the ids")

    async def _known_until(self, first: FileBatch) -> datetime | None:
        """Up to where the trades from the file's first one on are stored and complete."""
        if not self.options.skips_known:
            return None
        async with self.ingest.store.database.read() as connection:
            kind = DataType.TRADES if self.options.keeps_trades else DataType.CANDLES_1M
            covered = await CoverageRepository(connection).covered(self.report.file.symbol, kind)
        moment = first.span[0]
        return next((end for start, end in covered if start <= moment < end), None)

    async def _has_ids(self, batch: FileBatch) -> bool:
        """Whether all stored trades of its time have ids: those without take theirs from the file."""
        async with self.ingest.store.database.read() as connection:
            trades = TradeRepository(connection)
            return not await trades.any_without_id(
                self.report.file.symbol, batch.span[0] - SAME_TRADE, batch.span[1] + SAME_TRADE
            )

    async def _begin(self, batch: FileBatch) -> PageStore:
        file = self.report.file
        is_first = file.is_whole_history and batch.before is None
        async with self.ingest.store.database.read() as connection:
            resume_point = await find_file_resume_point(
                connection, file.symbol, batch.first, self.options.since or file.covers[0], is_first=is_first
            )
        return PageStore(self.ingest, file.symbol, resume_point, self.options.build_candles)

    async def _store(self, pages: PageStore, batch: FileBatch) -> None:
        reader, report = self.reader, self.report
        batch.force, batch.keeps_trades = self.options.replace, self.options.keeps_trades
        if batch.behind is None and batch.end is None:
            batch.end = await self._end(batch)
        try:
            written = await self._save(pages, batch)
        except RowRefusedError as error:
            report.rejected = error.count
            raise reader.error(error.reason, error.line, hint=error.hint) from error
        except CopyRowError as error:
            raise reader.error(error.reason, error.line + batch.line - 1) from error
        first = pages.resume_point.known_from or floor_to_interval(batch.span[0], BASE_INTERVAL)
        self._stored.append((self._stored[-1][1] if self._stored else first, batch.known_until))
        if self.options.keeps_trades:
            count_trades(report, written.trades, batch.size)
            self._known += written.trades.known
            self._disputed += written.trades.disputed
            self._removed += written.trades.removed
        report.candles += written.candles_new + written.candles_changed
        self._holes |= {hole.first: hole for hole in batch.holes}

    async def _save(self, pages: PageStore, batch: FileBatch) -> PagesWritten:
        try:
            return await self.again(lambda: pages.save(batch))
        except DataRefusedError:
            # Staging says what is wrong, or finds that nothing is.
            batch.is_straight = False
            return await self.again(lambda: pages.save(batch))

    async def _end(self, batch: FileBatch) -> datetime | None:
        """Up to where the file has every trade, if that is known beyond its last one."""
        last = batch.last
        if not self.reader.ends_with_newline:
            self.report.notes.append(_UNFINISHED.format("moment"))
            return last.timestamp
        covered_until = self.report.file.covers[1]
        if covered_until is not None:
            return max(covered_until, last.timestamp + TICK)
        if last.trade_id is None:
            return None
        run = IdRun(last.trade_id, last.trade_id, last.timestamp, last.timestamp)
        async with self.ingest.store.database.read() as connection:
            status = await SyncStatusRepository(connection).get(self.report.file.symbol, DataType.TRADES)
            newest = (status.newest if status else None) or last.timestamp
            oldest = (status.oldest if status else None) or last.timestamp
            around = await beside(connection, self.report.file.symbol, run, oldest, newest)
        follows = around.after is not None and around.after[0] == last.trade_id + 1
        return around.after[1] if around.after and follows else None


def _extended(rows: TimeRange, covers: tuple[datetime | None, datetime | None]) -> TimeRange:
    """The range of a file's rows, out to what its archive says that it has in full.

    Before the first row of a whole history there is nothing: that needs no saying.
    """
    (first, last), (start, end) = rows, covers
    return min(start or first, first), max(end or last, last)


def count_trades(report: FileReport, written: TradesWritten, rows: int) -> None:
    """Add what was done with some rows of a file."""
    report.new += written.new
    report.changed += written.changed
    report.rejected += written.disputed
    report.unchanged += rows - written.new - written.changed - written.disputed


def note_trades(report: FileReport, known: int, disputed: int, removed: int) -> None:
    """Say what became of trades without an id; see ``TradesWritten``."""
    if known:
        report.notes.append(f"{known} trades without an id are stored with their ids already")
    if disputed:
        report.notes.append(
            f"{disputed} trades without an id were left out: other trades are stored with ids for"
            " the same seconds, which do not count as complete"
        )
    if removed:
        report.notes.append(f"{removed} stored trades without an id were replaced")


def keys_of(report: FileReport, options: ImportOptions) -> list[tuple[str, DataType]]:
    """What the transaction of a file has to lock."""
    file = report.file
    if file.interval is not None:
        return [(file.symbol, file.data_type)]
    return keys_with_trades(file.symbol) if options.keeps_trades else [(file.symbol, DataType.CANDLES_1M)]

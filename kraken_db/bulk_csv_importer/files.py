"""One file of an archive into a write transaction: its rows, what they show to be complete, and what to say
of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import FileReport
from kraken_db.bulk_csv_importer.trade_batches import trade_batches
from kraken_db.data_types import DataType
from kraken_db.errors import CopyRowError, DataRefusedError
from kraken_db.id_runs import IdHole, IdRun
from kraken_db.ingest import candles, trades
from kraken_db.ingest.file_batches import FileBatch, find_file_resume_point
from kraken_db.ingest.pages import PageStore, PagesWritten
from kraken_db.ingest.rules import RowRefusedError
from kraken_db.ingest.trades import ARCHIVE, TradesWritten
from kraken_db.ingest.write_unit import Ingest, WriteTransaction, keys_with_trades
from kraken_db.intervals import BASE_INTERVAL, interval_length
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.candle_merge import prefer_more_trades, take_new
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.trade_neighbours import beside
from kraken_db.retry import CONFLICT

# The number of fields of a row to its columns; the shapes that Kraken's archives have had.
_SHAPES: dict[int, list[str]] = {
    3: ["time", "price", "volume"],
    6: ["price", "volume", "time", "side", "order_type", "misc"],
    7: ["price", "volume", "time", "side", "order_type", "misc", "trade_id"],
}
_SHOWN = 5
_UNFINISHED = "the last line has no line end: its {} does not count as complete"


@dataclass(slots=True)
class FileImport:
    """Imports what ``reader`` reads in a transaction that locks late, and fills ``report``. ``replace``:
    the file's rows count in any case. ``is_straight``: rows go straight into the table if they can.

    Raises ImportFileError, CopyRowError, and where rows went straight DataRefusedError: they need a second
    look. The transaction is over then.
    """

    transaction: WriteTransaction
    reader: ArchiveReader
    report: FileReport
    replace: bool
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
        if self.is_straight and await candles.is_beyond_stored(
            self.transaction, report.file.symbol, interval, start
        ):
            await self._load_candles(interval, start)
        else:
            await self._merge_candles(interval)
        if interval == BASE_INTERVAL:
            assert report.oldest is not None and report.newest is not None
            span = (report.oldest, report.newest + interval_length(interval))
            unit = self.transaction.unit(report.file.symbol, DataType.CANDLES_1M)
            unit.mark_complete("csv", [self._whole(span, "interval")])

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
        staged = await candles.stage_rows(self.transaction, interval, self.reader.blocks())
        await self.transaction.begin()
        report.read, report.oldest, report.newest = staged.rows, staged.first, staged.last
        span = (staged.first, staged.last + interval_length(interval))
        rule = take_new if self.replace else prefer_more_trades
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
        reader, report, symbol = self.reader, self.report, self.report.file.symbol
        columns = columns_of(reader)
        batch, report.read = await trades.stage_rows(
            self.transaction, symbol, ARCHIVE, columns, reader.blocks()
        )
        if batch is None:
            raise reader.error("there is no trade in it")
        await self.transaction.begin()
        report.oldest, report.newest = batch.facts.first, batch.facts.last
        written = await batch.store(force=self.replace)
        report_trades(report, written, report.read)
        ranges = await trades.complete_ranges(batch, written)
        if not reader.ends_with_newline and ranges:
            ranges = [*ranges[:-1], self._whole(ranges[-1], "moment")]
        self.transaction.unit(symbol, DataType.TRADES).mark_complete("csv", ranges)
        span = (batch.facts.first, batch.facts.last)
        await trades.rebuild_touched(self.transaction, symbol, written, "csv", entered=span)

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

    What is committed stays, whatever happens: a repeated import goes on where the ids end. ``start`` and
    ``end``: between these the file is known to have every trade.
    """

    ingest: Ingest
    reader: ArchiveReader
    report: FileReport
    replace: bool = False
    build_candles: bool = True
    keeps_trades: bool = True
    start: datetime | None = None
    end: datetime | None = None
    _holes: dict[int, IdHole] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Raises ImportFileError; what was stored before the row at fault is in the report."""
        reader, report, symbol = self.reader, self.report, self.report.file.symbol
        pages: PageStore | None = None
        async for batch in trade_batches(reader, columns_of(reader)):
            if pages is None:
                async with self.ingest.store.database.read() as connection:
                    resume_point = await find_file_resume_point(connection, symbol, batch.first, self.start)
                pages = PageStore(self.ingest, symbol, resume_point, self.build_candles)
            batch.force, batch.keeps_trades = self.replace, self.keeps_trades
            if batch.behind is None:
                batch.end = await self._end(batch)
            try:
                written = await self._save(pages, batch)
            except RowRefusedError as error:
                report.rejected = error.count
                raise reader.error(error.reason, error.line, hint=error.hint) from error
            except CopyRowError as error:
                raise reader.error(error.reason, error.line + batch.line - 1) from error
            report.read += batch.size
            report.oldest, report.newest = report.oldest or batch.span[0], batch.span[1]
            report_trades(report, written.trades, batch.size)
            report.candles += written.candles_new + written.candles_changed
            self._holes |= {hole.first: hole for hole in batch.holes}
        if pages is None:
            raise reader.error("there is no trade in it")
        report.notes += [f"Kraken's file lacks {hole}" for hole in list(self._holes.values())[:_SHOWN]]
        if len(self._holes) > _SHOWN:
            report.notes.append(f"and {len(self._holes) - _SHOWN} more holes in the ids")

    async def _save(self, pages: PageStore, batch: FileBatch) -> PagesWritten:
        try:
            return await CONFLICT.run(lambda: pages.save(batch))
        except DataRefusedError:
            # Staging says what is wrong, or finds that nothing is.
            batch.is_straight = False
            return await CONFLICT.run(lambda: pages.save(batch))

    async def _end(self, batch: FileBatch) -> datetime | None:
        """Up to where the file has every trade, if that is known beyond its last one."""
        last = batch.last
        if not self.reader.ends_with_newline:
            self.report.notes.append(_UNFINISHED.format("moment"))
            return last.timestamp
        if self.end is not None:
            return max(self.end, last.timestamp + TICK)
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


def has_ids(reader: ArchiveReader) -> bool:
    """Whether the rows of a trade file carry ids, so that it can be stored in steps."""
    return "trade_id" in _SHAPES.get(reader.fields, ())


def columns_of(reader: ArchiveReader) -> list[str]:
    """The columns of a trade file. Raises ImportFileError."""
    if reader.fields not in _SHAPES:
        raise reader.error(f"{reader.fields} fields, but trades have 3 (timestamp,price,volume), 6 or 7", 1)
    return _SHAPES[reader.fields]


def report_trades(report: FileReport, written: TradesWritten, rows: int) -> None:
    """Add what was done with some rows of a file."""
    report.new += written.new
    report.changed += written.changed
    report.rejected += written.disputed
    report.unchanged += rows - written.new - written.changed - written.disputed
    if written.known:
        report.notes.append(f"{written.known} trades without an id are stored with their ids already")
    if written.disputed:
        report.notes.append(
            f"{written.disputed} trades without an id were left out: other trades are stored with ids for"
            " the same seconds, which do not count as complete"
        )
    if written.removed:
        report.notes.append(f"{written.removed} stored trades without an id were replaced")


def keys_of(report: FileReport) -> list[tuple[str, DataType]]:
    """What the transaction of a file has to lock."""
    file = report.file
    return keys_with_trades(file.symbol) if file.interval is None else [(file.symbol, file.data_type)]

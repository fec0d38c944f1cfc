"""One file of an archive into a write transaction: its rows, what they show to be complete, and what to say
of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import FileReport
from kraken_db.data_types import DataType
from kraken_db.ingest import candles, trades
from kraken_db.ingest.rules import RowRefusedError
from kraken_db.ingest.trades import ARCHIVE, TradesWritten
from kraken_db.ingest.write_unit import WriteTransaction, keys_with_trades
from kraken_db.intervals import BASE_INTERVAL, interval_length
from kraken_db.ranges import TimeRange
from kraken_db.repositories.candle_merge import prefer_more_trades, take_new

# The number of fields of a row to its columns; the shapes that Kraken's archives have had.
_SHAPES: dict[int, list[str]] = {
    3: ["time", "price", "volume"],
    6: ["price", "volume", "time", "side", "order_type", "misc"],
    7: ["price", "volume", "time", "side", "order_type", "misc", "trade_id"],
}
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
        if reader.fields not in _SHAPES:
            raise reader.error(
                f"{reader.fields} fields, but trades have 3 (timestamp,price,volume), 6 or 7", 1
            )
        batch, report.read = await trades.stage_rows(
            self.transaction, symbol, ARCHIVE, _SHAPES[reader.fields], reader.blocks()
        )
        if batch is None:
            raise reader.error("there is no trade in it")
        await self.transaction.begin()
        report.oldest, report.newest = batch.facts.first, batch.facts.last
        written = await batch.store(force=self.replace)
        self._report_trades(written)
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

    def _report_trades(self, written: TradesWritten) -> None:
        report = self.report
        report.new, report.changed, report.rejected = written.new, written.changed, written.disputed
        report.unchanged = report.read - written.new - written.changed - written.disputed
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

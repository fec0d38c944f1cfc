"""One OHLCVT file: rows, coverage, sync status and the order for a refresh, in one transaction."""

from __future__ import annotations

from contextlib import nullcontext

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import MinutesWritten
from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import FileReport
from kraken_db.data_types import DataType
from kraken_db.db.locks import lock_job
from kraken_db.intervals import BASE_INTERVAL, interval_length
from kraken_db.repositories.candle_staging import CandleStaging
from kraken_db.repositories.staging import RowProblem
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.store import Store

UNFINISHED = "the last line has no line end: its interval does not count as complete"


async def import_candles(
    store: Store, connection: AsyncConnection, reader: ArchiveReader, report: FileReport, replace: bool
) -> None:
    """Fill ``report``. Raises ImportFileError and CopyRowError; the caller rolls back."""
    symbol, interval = report.file.symbol, report.file.interval
    assert interval is not None
    data_type = DataType.candles(interval)
    staging = CandleStaging(connection, symbol, interval)
    report.read = await staging.copy(reader.blocks())
    staged = await staging.inspect(store.clock())
    if isinstance(staged, RowProblem):
        report.rejected = staged.count
        raise reader.error(staged.reason, staged.line)
    report.oldest, report.newest = first, last = staged.first, staged.last
    await lock_job(connection, data_type, of=symbol)
    end = last + interval_length(interval)
    is_empty = await staging.is_range_empty(staged)
    stale = (
        store.backend.writing_minutes(connection, symbol, first, end, are_new=is_empty)
        if interval == BASE_INTERVAL
        else nullcontext(MinutesWritten(first, end))
    )
    async with store.writing(connection, symbol, data_type, first, end) as write, stale as minutes:
        counts = await staging.merge(staged, report.read, is_empty=is_empty, force=replace)
        minutes.wrote(counts.oldest, counts.newest and counts.newest + interval_length(interval))
    report.new, report.changed = counts.new, counts.changed
    report.unchanged, report.rejected = counts.unchanged, counts.dropped
    report.differing = counts.differing
    if counts.differing:
        report.notes.append(
            f"{counts.differing} stored candles have as many trades but other numbers, and were kept;"
            f" the first, {counts.difference}; --replace takes the file's"
        )
    if counts.read > counts.dropped:
        await SyncStatusRepository(connection).record(
            symbol, data_type, oldest=first, newest=last, added=counts.new - write.returned
        )
    complete = [(first, end)] if interval == BASE_INTERVAL else []
    if interval == BASE_INTERVAL and not reader.ends_with_newline:
        # It may have been cut; with fewer trades than there were, a later import puts it right.
        report.notes.append(UNFINISHED)
        complete = [(first, last)]
    await write.shows("csv", complete)

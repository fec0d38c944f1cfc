"""One OHLCVT file: rows, coverage, sync status and the order for a refresh, in one transaction."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import FileReport
from kraken_db.db.locks import lock_job
from kraken_db.intervals import BASE_INTERVAL, interval_length, interval_name
from kraken_db.repositories.candle_staging import CandleStaging
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.dropped_ranges import DroppedRangeRepository
from kraken_db.repositories.pending_refresh import PendingRefreshRepository
from kraken_db.repositories.staging import MergeCounts, RowProblem
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.store import Store
from kraken_db.timeseries import StaleRange

UNFINISHED = "the last line has no line end: its interval does not count as complete"


async def import_candles(
    store: Store, connection: AsyncConnection, reader: ArchiveReader, report: FileReport, replace: bool
) -> None:
    """Fill ``report``. Raises ImportFileError and CopyRowError; the caller rolls back."""
    symbol, interval = report.file.symbol, report.file.interval
    assert interval is not None
    data_type = f"candles_{interval_name(interval)}"
    staging = CandleStaging(connection, symbol, interval)
    report.read = await staging.copy(reader.blocks())
    staged = await staging.inspect(store.clock())
    if isinstance(staged, RowProblem):
        report.rejected = staged.count
        raise reader.error(staged.reason, staged.line)
    report.oldest, report.newest = first, last = staged.first, staged.last
    await lock_job(connection, data_type, symbol=symbol)
    counts = await staging.merge(staged, report.read, force=replace)
    report.new, report.changed = counts.new, counts.changed
    report.unchanged, report.rejected = counts.unchanged, counts.dropped
    if counts.read > counts.dropped:
        await SyncStatusRepository(connection).record(
            symbol, data_type, oldest=first, newest=last, added=counts.new
        )
    if interval == BASE_INTERVAL:
        await _tell_of_minutes(connection, reader, report, (first, last), counts, replace)


async def _tell_of_minutes(
    connection: AsyncConnection,
    reader: ArchiveReader,
    report: FileReport,
    span: tuple[datetime, datetime],
    counts: MergeCounts,
    replace: bool,
) -> None:
    symbol, length = report.file.symbol, interval_length(BASE_INTERVAL)
    end = span[1] + length
    if not reader.ends_with_newline:
        # It may have been cut; with fewer trades than there were, a later import puts it right.
        report.notes.append(UNFINISHED)
        end = span[1]
    await CoverageRepository(connection).add(symbol, "candles_1m", "csv", [(span[0], end)])
    await DroppedRangeRepository(connection).remove(symbol, "candles_1m", [(span[0], end)])
    if counts.oldest is not None and counts.newest is not None:
        stale = StaleRange(symbol, counts.oldest, counts.newest + length, replace)
        await PendingRefreshRepository(connection).add(stale)

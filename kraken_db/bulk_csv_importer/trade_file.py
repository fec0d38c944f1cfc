"""One Time & Sales file: trades, coverage and sync status, in one transaction."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import FileReport
from kraken_db.data_types import DataType
from kraken_db.db.locks import lock_job
from kraken_db.ranges import TICK
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.trade_staging import SHAPES, TradeConflictError, TradeCounts, TradeStaging
from kraken_db.store import Store


async def import_trades(
    store: Store, connection: AsyncConnection, reader: ArchiveReader, report: FileReport, replace: bool
) -> None:
    """Fill ``report``. Raises ImportFileError and CopyRowError; the caller rolls back."""
    if reader.fields not in SHAPES:
        raise reader.error(f"{reader.fields} fields, but trades have 3 (timestamp,price,volume), 6 or 7", 1)
    symbol = report.file.symbol
    staging = TradeStaging(connection, symbol)
    report.read = await staging.copy(reader.fields, reader.blocks())
    if report.read == 0:
        raise reader.error("there is no trade in it")
    problem = await staging.find_problem(store.clock())
    if problem is not None:
        report.rejected = problem.count
        raise reader.error(problem.reason, problem.line)
    report.oldest, report.newest = await staging.span()
    await lock_job(connection, DataType.TRADES, of=symbol)
    first, end = report.oldest, report.newest + TICK
    try:
        async with store.writing(connection, symbol, DataType.TRADES, first, end) as write:
            counts = await staging.merge(report.read, force=replace)
    except TradeConflictError as error:
        report.rejected = 1
        raise reader.error(error.reason, error.line, hint="--replace takes the file's") from error
    _tell(report, counts)
    added = counts.new - counts.removed - write.returned
    await SyncStatusRepository(connection).record(
        symbol, DataType.TRADES, oldest=report.oldest, newest=report.newest, added=added
    )
    ranges = await staging.complete_ranges()
    if not reader.ends_with_newline and ranges:
        report.notes.append("the last line has no line end: its moment does not count as complete")
        ranges = [*ranges[:-1], (ranges[-1][0], min(ranges[-1][1], report.newest))]
    await write.shows("csv", ranges)


def _tell(report: FileReport, counts: TradeCounts) -> None:
    known = counts.dropped - counts.disputed
    report.new, report.changed, report.unchanged = counts.new, counts.changed, counts.unchanged + known
    report.rejected = counts.disputed
    if known:
        report.notes.append(f"{known} trades without an id are stored with their ids already")
    if counts.disputed:
        report.notes.append(
            f"{counts.disputed} trades without an id were left out: other trades are stored with ids for"
            " the same seconds, which do not count as complete"
        )
    if counts.removed:
        report.notes.append(f"{counts.removed} stored trades without an id were replaced")

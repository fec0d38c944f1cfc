"""BulkCSVImporter: files with trade ids in steps, every other one in one transaction, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from sqlalchemy import text

from kraken_db.archives.catalog import Product, PublishedArchive
from kraken_db.bulk_csv_importer.addresses import is_address
from kraken_db.bulk_csv_importer.discovery import INTERVAL_MAP, Discovery
from kraken_db.bulk_csv_importer.files import FileImport, ImportOptions, TradeFileImport, keys_of
from kraken_db.bulk_csv_importer.reading import ArchiveReader
from kraken_db.bulk_csv_importer.report import (
    ArchiveFile,
    FileReport,
    ImportFailedError,
    ImportPlan,
    ImportReport,
    as_failure,
)
from kraken_db.bulk_csv_importer.run_progress import ROW_SIZE, FileProgress, RunProgress
from kraken_db.data_types import DataType
from kraken_db.errors import (
    ConfigurationError,
    CopyRowError,
    DatabaseError,
    DatabaseUnavailableError,
    DataRefusedError,
    ImportFileError,
    KrakenDBError,
    NodeUnavailableError,
    foreseen,
)
from kraken_db.heartbeat import Heartbeat
from kraken_db.ingest.missing import build_missing
from kraken_db.ingest.write_unit import Ingest
from kraken_db.intervals import interval_name
from kraken_db.pairs import parse_symbol
from kraken_db.progress import NullProgress, Progress
from kraken_db.retry import unless_set, until_undisturbed
from kraken_db.store import Store, StoreService
from kraken_db.times import Clock, period_text, utc_now

_LARGEST_BLOCK = 4 * 2**20
LARGE_FILE = 2**16
"""Bytes from which on it pays to see whether a file can go straight into its table."""


class BulkCSVImporter(StoreService):
    """Imports Kraken's OHLCVT and Time & Sales archives.

    ``batch_size`` is how many rows, about, go to the database at a time; memory depends on it and not on
    the size of the files. ``workers`` files are imported side by side, each on a connection of its own:
    by default as many as there are cores, four at most. Files of the same symbol and interval follow one
    another.
    """

    CSV_COLUMNS: ClassVar[list[str]] = ["timestamp", "open", "high", "low", "close", "volume", "trades"]
    INTERVAL_MAP: ClassVar[dict[str, int]] = INTERVAL_MAP

    def __init__(
        self,
        db_url: str,
        batch_size: int = 10000,
        *,
        workers: int | None = None,
        progress: Progress | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._workers = max(1, workers or min(os.cpu_count() or 1, 4))
        super().__init__(db_url, pool_min_size=1, pool_max_size=self._workers + 1, clock=clock)
        self._block_size = min(max(batch_size, 1) * ROW_SIZE, _LARGEST_BLOCK)
        self._progress = progress or NullProgress()
        self._stop = asyncio.Event()

    def request_stop(self) -> None:
        """End with what has been stored: of a file with ids whole steps, of any other all or nothing."""
        self._stop.set()

    def plan(
        self,
        paths: Sequence[Path],
        *,
        only_1m: bool = True,
        symbols: Collection[str] | None = None,
        skip_empty: bool = False,
    ) -> ImportPlan:
        """What there is to import in these files, folders and zip archives; needs no database.

        ``only_1m`` skips candle files of other intervals, ``symbols`` everything else, ``skip_empty``
        files without a byte (Kraken's archive has them for pairs that never traded).
        """
        discovering = self.discover(paths, only_1m=only_1m, symbols=symbols, skip_empty=skip_empty)
        # Also where a loop runs already, as in a notebook: in a thread of its own.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, discovering).result()

    async def discover(
        self,
        places: Sequence[Path | str | PublishedArchive],
        *,
        only_1m: bool = True,
        symbols: Collection[str] | None = None,
        exclude: Collection[str] = (),
        skip_empty: bool = False,
        check_sums: bool = False,
        product: Product | None = None,
    ) -> ImportPlan:
        """``plan``, also of archives on a server: close the plan in the end, in the same event loop.

        ``places``: also http(s) addresses: of a zip, of one of its parts, or of what has Kraken's archives,
        of which ``product`` is wanted. ``symbols`` may have patterns such as ``'XRP/*'``; ``exclude``: what
        is not wanted of them. ``check_sums``: the parts of an archive are compared with the list of sums
        beside them.
        """
        discovery = Discovery(only_1m, symbols, skip_empty, check_sums, exclude, product, self._clock)
        return await discovery.plan(
            [
                place if isinstance(place, PublishedArchive) or is_address(place) else Path(place)
                for place in places
            ]
        )

    async def count_rows(self, file: ArchiveFile) -> int:
        """How many rows a file of a plan has; needs no database. Raises ImportFileError as an import does,
        for what shows without a database.
        """
        async with ArchiveReader(file, self._block_size, clock=self._clock) as reader:
            return sum([block.count(b"\n") async for block in reader.blocks()])

    async def import_csv_file(
        self, filepath: Path, symbol: str, interval_minutes: int, *, replace: bool = False
    ) -> int:
        """Import one OHLCVT file; returns the number of candles written, new or changed.

        Raises ImportFileError, and then nothing of the file was stored; DatabaseError if the candles were
        stored and the higher intervals could not be brought up to date.
        """
        interval_name(interval_minutes)
        path = Path(filepath)
        try:
            size = (await asyncio.to_thread(path.stat)).st_size
        except OSError as error:
            raise ImportFileError(path, error.strerror or "it cannot be read") from error
        file = ArchiveFile(path, None, size, parse_symbol(symbol), interval_minutes)
        report = await self.run(ImportPlan([file]), replace=replace)
        for failure in report.errors:
            raise failure
        return sum(done.new + done.changed for done in report.files)

    async def import_directory(self, directory: Path, only_1m: bool = True) -> dict[str, dict[int, int]]:
        """Import everything in a folder; returns ``{symbol: {interval: candles written}}``.

        A file that is not accepted does not stop the others; ImportFailedError reports it at the end,
        with the whole report.
        """
        report = await self.run(self.plan([Path(directory)], only_1m=only_1m))
        if report.errors:
            raise ImportFailedError(report)
        return report.written

    async def run(
        self,
        plan: ImportPlan,
        *,
        replace: bool = False,
        build_candles: bool = True,
        keeps_trades: bool = True,
    ) -> ImportReport:
        """Import all files of a plan, then bring the higher intervals up to date.

        A file that is not accepted is reported and the others go on; they do not when the database answers
        no more (see ``ImportReport.stopped``). ``replace`` takes the rows of the
        files even where what is stored has more trades or another content. ``build_candles``: of trades.
        ``keeps_trades``: else only the candles of them are stored, exact, in a tenth of the space.
        """
        if not (build_candles or keeps_trades):
            raise ConfigurationError("without trades and without candles there is nothing to import")
        options = ImportOptions(replace, build_candles, keeps_trades)
        store = self._connected()
        report = ImportReport(plan)
        began = time.monotonic()
        progress = RunProgress(self._progress, plan)
        chains = [
            list(chain) for _, chain in groupby(plan.files, key=lambda file: (file.symbol, file.interval))
        ]
        # The longest first: the last worker should not be left alone with it.
        chains.sort(key=lambda chain: -sum(file.size for file in chain))
        waiting = iter(chains)

        async def work(ingest: Ingest) -> None:
            for chain in waiting:
                for file in chain:
                    if report.stopped is not None:
                        return
                    importing = self._import(ingest, file, options, progress.file(file))
                    done = await unless_set(self._stop, importing)
                    if done is None:
                        return
                    report.files.append(done)
                    progress.is_over(done)
                    if await _is_gone(store, done.error):
                        report.stopped = done.error

        try:
            symbols = sorted({file.symbol for file in plan.files})
            async with Heartbeat(store, "import", symbols), Ingest(store) as ingest:
                async with asyncio.TaskGroup() as workers:
                    for _ in range(min(self._workers, len(chains))):
                        workers.create_task(work(ingest))
                report.interrupted = self._stop.is_set()
                if report.stopped is None and not report.interrupted:
                    progress.task.update(note="refreshing the higher intervals")
                    await self._refresh(store, report)
                    await self._warn_of_retention(store, report.files, options)
        except Exception as error:  # what is stored is stored, and is to be told
            report.refresh_error = report.refresh_error or as_failure("the end of the import", error)
        finally:
            progress.task.done("stopped" if report.not_tried else "", failed=bool(report.errors))
        self._stop.clear()
        order = {file: position for position, file in enumerate(plan.files)}
        report.files.sort(key=lambda done: order[done.file])
        report.contradictions = plan.contradictions(
            (done.file, done.read) for done in report.files if done.error is None
        )
        report.seconds = time.monotonic() - began
        return report

    async def _import(
        self, ingest: Ingest, file: ArchiveFile, options: ImportOptions, share: FileProgress
    ) -> FileReport:
        report = FileReport(file)

        async def attempt(is_straight: bool) -> None:
            nonlocal report
            report = FileReport(file)
            share.restart()
            async with ArchiveReader(file, self._block_size, share, clock=self._clock) as reader:
                share.reader = reader
                if file.interval is None and reader.has_ids:
                    share.reading_share = 1  # each batch is written before the next is read
                    await TradeFileImport(ingest, reader, report, options).run()
                else:
                    await self._import_whole(ingest, reader, report, options, is_straight)

        is_straight = file.interval is not None and file.size > LARGE_FILE
        try:
            try:
                await until_undisturbed(lambda: attempt(is_straight))
            except DataRefusedError:
                if not is_straight:
                    raise
                await until_undisturbed(lambda: attempt(False))
            if file.interval is None and options.build_candles and options.keeps_trades:
                built = await until_undisturbed(lambda: build_missing(ingest, file.symbol))
                report.candles += sum(written.new + written.changed for written in built)
        except Exception as error:
            report.error = as_failure(file.name, error)
            report.rejected = max(report.rejected, 1)
        share.finish(report)
        return report

    async def _import_whole(
        self,
        ingest: Ingest,
        reader: ArchiveReader,
        report: FileReport,
        options: ImportOptions,
        is_straight: bool,
    ) -> None:
        """A file without ids in one transaction."""
        transaction = ingest.transaction(keys_of(report, options), reader.first_moment, locks_late=True)
        try:
            async with transaction as writing:
                await FileImport(writing, reader, report, options, is_straight).run()
        except Exception as error:
            report.new = report.changed = report.unchanged = report.differing = 0
            if isinstance(error, CopyRowError) and not is_straight:
                raise reader.error(error.reason, error.line) from error
            raise

    async def _refresh(self, store: Store, report: ImportReport) -> None:
        """What is stored is stored: a refresh that fails is reported, and done by the next run."""
        try:
            await store.refresh_pending()
        except Exception as error:
            report.refresh_error = DatabaseError(
                f"the higher intervals are not up to date: {foreseen(error).message}",
                hint="the rows are stored; the next import refreshes them",
            )

    async def _warn_of_retention(
        self, store: Store, files: Sequence[FileReport], options: ImportOptions
    ) -> None:
        async with store.database.read() as connection:
            policies = await store.backend.policies(connection)
        kept = {policy.table: policy.retention for policy in policies if policy.retention is not None}
        for report in files:
            table = (report.file.data_type if options.keeps_trades else DataType.CANDLES_1M).table
            if report.error is not None or report.oldest is None or table not in kept:
                continue
            if report.oldest < store.clock() - kept[table]:
                report.notes.append(
                    f"{table} older than {period_text(kept[table])} will be dropped by the retention policy"
                )


async def _is_gone(store: Store, error: KrakenDBError | None) -> bool:
    """Whether what has failed in this way fails for every other file, too."""
    if isinstance(error, NodeUnavailableError):
        return True  # it was waited for
    if not isinstance(error, DatabaseUnavailableError):
        return False
    try:
        async with store.database.read() as connection:
            await connection.execute(text("SELECT 1"))
    except KrakenDBError:
        return True
    return False

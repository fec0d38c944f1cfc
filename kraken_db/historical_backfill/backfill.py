"""KrakenTradesBackfill: every trade of a pair since its first one, and the candles of them."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, TypeVar

from kraken_db.backends import kept_for
from kraken_db.bulk_csv_importer.report import ArchiveFile
from kraken_db.data_types import DataType
from kraken_db.db.engine import MOST_CONNECTIONS
from kraken_db.db.locks import JobLock
from kraken_db.errors import (
    ConfigurationError,
    ExchangeError,
    ImportFileError,
    ImpossibleRowError,
    JobRunningError,
    KrakenDBError,
    UnknownPairError,
    foreseen,
)
from kraken_db.heartbeat import Heartbeat, pairs_done
from kraken_db.historical_backfill.archive import (
    ArchivedHistory,
    ArchiveDownload,
    BackfillSource,
    Wanted,
    check_market,
)
from kraken_db.historical_backfill.delisted import Delisted, with_advice
from kraken_db.historical_backfill.download import (
    DOWNLOAD_JOB,
    BackfillReport,
    Download,
    Remaining,
)
from kraken_db.historical_backfill.estimate import LINE_BYTES, BackfillEstimate, Estimator
from kraken_db.historical_backfill.sharing import SharedHistory, Stretches
from kraken_db.ingest.missing import build_missing, build_ranges
from kraken_db.ingest.pages import PageStore, store_rows
from kraken_db.ingest.write_unit import Ingest, note_synced
from kraken_db.kraken.directory import LISTED
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import as_nanoseconds, cursor_time
from kraken_db.kraken.request_counts import RequestCounts
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.pairs import PAIR_MAP, parse_symbol
from kraken_db.patterns import select
from kraken_db.progress import NullProgress, Overview, PairsProgress, Progress, Task
from kraken_db.ranges import difference
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.running_jobs import JobKind
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.retry import DOWNLOAD, FLAWED, unless_set
from kraken_db.settings import KRAKEN_BASE_URL, archive_place
from kraken_db.store import Store, StoreService
from kraken_db.times import Clock, Sleep, period_text, require_aware, steady_now

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
MAX_PAIRS = 10
"""Pairs that are downloaded side by side, unless more are asked for: each has a limit of its own."""

HELP_AFTER = 15.0
"""Seconds that another process has a pair until it is helped: a small one is through by then."""
ELSEWHERE_EVERY = 2.0
"""Seconds between two looks at a pair that another process is at the end of."""
_MINUTE = timedelta(minutes=1)
AT_MOST_WHEN_STOPPED = 1.0
"""Seconds that a run which was asked to end takes for the higher intervals: the next one does the rest."""
REFRESH_EVERY = 600.0
"""Seconds between two refreshes of the higher intervals while a download runs."""


@dataclass(frozen=True, slots=True)
class _Run:
    """What the pairs of one run have in common. ``done``: those that are there."""

    wanted: Wanted
    ingest: Ingest
    history: ArchivedHistory | None
    check: Callable[[int], None]
    heartbeat: Heartbeat
    done: set[str]
    progress: PairsProgress
    refused: Mapping[str, KrakenDBError]
    """Pairs that Kraken does not have, and why it is known before anything is downloaded."""


class KrakenTradesBackfill(StoreService):
    """Downloads trades from Kraken's archives and its REST into a store.

    ``rate_limit_delay``: seconds between two requests for one pair; Kraken's limit is kept per pair, and the
    delay grows by itself where Kraken throttles. ``max_retries``: further attempts for one request; a
    download goes on for ten minutes more before it gives up. ``BASE_URL`` may be set to another address, as
    ``KRAKEN_BASE_URL`` in the environment. ``pairs_at_once``: how many pairs ``backfill`` works on.
    ``creates``: whether an embedded database is made where there is none.

    Use it as an asynchronous context manager, or call ``connect()`` and ``close()``; what needs the database
    raises NotConnectedError (a RuntimeError) before that. All times are aware datetimes in UTC.
    """

    BASE_URL: ClassVar[str] = KRAKEN_BASE_URL
    RATE_LIMIT_DELAY: ClassVar[float] = 1.1

    def __init__(
        self,
        db_url: str,
        rate_limit_delay: float = 1.1,
        max_retries: int = 3,
        *,
        pairs_at_once: int = MAX_PAIRS,
        creates: bool = True,
        progress: Progress | None = None,
        clock: Clock = steady_now,
        client: KrakenRestClient | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        if pairs_at_once < 1:
            raise ConfigurationError(f"pairs_at_once is {pairs_at_once}: it is 1 or more")
        most = min(2 * pairs_at_once + 1, MOST_CONNECTIONS)
        super().__init__(db_url, pool_max_size=most, clock=clock, creates=creates)
        base_url = self.BASE_URL if self.BASE_URL != KRAKEN_BASE_URL else None
        self._client = client or KrakenRestClient(
            base_url, rate_limit_delay=rate_limit_delay, max_retries=max_retries
        )
        self.overview: Overview | None = None
        """How far the running ``backfill`` is, or the last one was; None before the first."""
        self._most_pairs = pairs_at_once
        self._pairs_at_once = asyncio.Semaphore(pairs_at_once)
        # The database is what takes the time: more than it has cores would only wait.
        self._archives_at_once = asyncio.Semaphore(min(os.cpu_count() or 1, 4))
        self._progress = progress or NullProgress()
        self._retry = replace(DOWNLOAD, sleep=sleep)
        self._flawed = replace(FLAWED, sleep=sleep)
        self._exchange = Exchange(self._client, self._retry, clock)
        self._clock = self._exchange.clock
        self._stop = asyncio.Event()

    @property
    def requests(self) -> RequestCounts:
        """What was asked of Kraken's REST."""
        return self._client.requests

    async def close(self) -> None:
        """Close all connections, to the database and to Kraken; may be called twice."""
        await self._client.close()
        await super().close()

    def request_stop(self) -> None:
        """Let every download finish the pages that it has, and end."""
        self._stop.set()

    async def fetch_trades_page(self, pair: str, since: int = 0) -> tuple[list[list[Any]], int]:
        """One page as Kraken has it, and the cursor of the next one, in ns.

        ``pair`` is a REST name (``'XRPUSDT'``) or a symbol. Where Kraken leaves the cursor out it is
        ``since``. Raises an ExchangeError.
        """
        name = await self._exchange.rest_name(parse_symbol(pair)) if "/" in pair else pair
        page = await self._client.trades(name, since)
        return page.raw, since if page.last is None else page.last

    async def fetch_all_trades(
        self,
        symbol: str,
        start_since: int = 0,
        end_timestamp: datetime | None = None,
        auto_stop_realtime: bool = True,
    ) -> AsyncIterator[list[list[Any]]]:
        """Page after page of Kraken's own rows, oldest first: no trade twice, none skipped.

        ``start_since`` is in ns, 0 the first trade of all; ``end_timestamp`` is exclusive. Without
        ``auto_stop_realtime`` it goes on waiting for new trades. Nothing is stored.
        """
        name = await self._exchange.rest_name(parse_symbol(symbol))
        pager = await self._exchange.pager(name, start_since, end_timestamp)
        async with aclosing(pager.steps(auto_stop=auto_stop_realtime)) as steps:
            async for step in steps:
                if step.positions:
                    yield step.raw

    async def store_trades(self, symbol: str, trades: list[list[Any]]) -> None:
        """Store Kraken's rows, as often as you like: ``[price, volume, time, 'b'|'s', 'm'|'l', misc, id]``.

        Rows of six fields, from before there were ids, are taken too. Coverage grows as far as the ids, or
        the order of rows without ids, prove it. Raises ExchangeFormatError for what is no trade.
        """
        rows = [KrakenTrade.from_raw(row) for row in trades]
        if rows:
            await store_rows(self._connected(), parse_symbol(symbol), rows)

    async def build_candles_from_trades(self, symbol: str, start_time: datetime, end_time: datetime) -> None:
        """Build the minutes that lie in ``[start_time, end_time)`` as a whole from the stored trades.

        A stored candle with more trades stays. A minute that has not ended yet gets no candle.
        """
        require_aware(start_time, "start_time")
        require_aware(end_time, "end_time")
        store = self._connected()
        async with Ingest(store) as ingest:
            await build_ranges(ingest, parse_symbol(symbol), [(start_time, end_time)])
            await store.refresh_pending()

    async def build_missing_candles(
        self, symbols: Sequence[str] = (), *, exclude: Sequence[str] = ()
    ) -> dict[str, int]:
        """Build the minutes of stored trades that have none yet; how many of each symbol were written.

        ``symbols`` and ``exclude`` may have patterns; without ``symbols``, those of all that have trades.
        Kraken is not asked. Minutes whose trades are not known to be complete stay as they are.
        """
        store = self._connected()
        async with store.database.read() as connection:
            stored = await SyncStatusRepository(connection).all()
        traded = [status.symbol for status in stored if status.data_type == DataType.TRADES]
        names = select(symbols or None, traded, exclude=exclude)
        written: dict[str, int] = {}
        async with Ingest(store) as ingest:
            for name in names:
                built = await build_missing(ingest, name)
                written[name] = sum(one.new + one.changed for one in built)
            await store.refresh_pending()
        return written

    async def backfill_symbol(
        self,
        symbol: str,
        since: int = 0,
        end_timestamp: datetime | None = None,
        build_candles: bool = True,
        auto_stop_realtime: bool = True,
    ) -> int:
        """Download from ``since`` (ns, 0 for the first trade) on; returns how many trades were new.

        ``end_timestamp`` is exclusive. Without ``auto_stop_realtime`` it goes on waiting for new trades
        until ``request_stop``. May be killed and repeated at any moment: no trade is stored twice.

        Another process that downloads the whole of the same pair shares the work: 0 may mean that it brought
        all. Raises JobRunningError where other work on the pair is under way, and the error that ended it.
        """
        (report,) = await self.backfill(
            [parse_symbol(symbol)],
            since=since,
            end_timestamp=end_timestamp,
            build_candles=build_candles,
            auto_stop_realtime=auto_stop_realtime,
        )
        if error := report.error or report.refresh_error:
            raise error
        return report.new

    async def backfill(
        self,
        symbols: Sequence[str],
        *,
        exclude: Sequence[str] = (),
        since: int = 0,
        end_timestamp: datetime | None = None,
        resume: bool = False,
        build_candles: bool = True,
        auto_stop_realtime: bool = True,
        source: BackfillSource = "auto",
        archive: str | None = None,
    ) -> list[BackfillReport]:
        """Download several pairs side by side; what happens to one does nothing to the others.

        ``symbols`` may have patterns such as ``'XRP/*'``, and so may ``exclude``: what is not wanted of them.
        With ``resume`` each pair goes on where its last download ended, else all begin at ``since``.

        ``source``: ``"auto"`` takes what Kraken's archives have and is not stored from there, and goes on by
        REST where they end; ``archive``: the folder or the address of them, else ``KRAKEN_ARCHIVE_URL``.
        Without archives REST does all of it; for ``"archive"`` that is an ImportFileError.
        """

        store = self._connected()
        wanted = Wanted(since, end_timestamp, resume, build_candles, auto_stop_realtime, source)
        history = await unless_set(self._stop, self._find_archives(source, archive))
        try:
            names = await unless_set(self._stop, self._expand(symbols, exclude, history)) or []
            await self._warn_of_retention(store, 0 if resume else since)
            refused = await unless_set(self._stop, self._refused(names, history, source)) or {}
            estimator = self._estimator(wanted)
            if history is not None:
                await estimator.check_room(names, history.files)
            done: set[str] = set()
            kind: JobKind = "backfill" if wanted.is_whole else "partial backfill"
            heartbeat = Heartbeat(store, kind, names, lambda: pairs_done(names, done))
            async with heartbeat, Ingest(store) as ingest:
                progress = PairsProgress(self._progress, "backfill", names, unit="trades", what="trades")
                self.overview = progress.overview
                run = _Run(wanted, ingest, history, estimator.check_rest, heartbeat, done, progress, refused)
                async with (
                    store.refreshing(REFRESH_EVERY),
                    self._looking_ahead(estimator, names, run),
                    asyncio.TaskGroup() as group,
                ):
                    tasks = [group.create_task(self._run(name, run)) for name in names]
                refresh_error = await self._refresh(store)
                progress.done("stopped" if self._stop.is_set() else "")
        finally:
            if history is not None:
                await history.close()
        self._stop.clear()
        reports = [task.result() for task in tasks]
        for report in reports:
            report.refresh_error = refresh_error
        return reports

    async def estimate(
        self,
        symbols: Sequence[str],
        *,
        exclude: Sequence[str] = (),
        since: int = 0,
        end_timestamp: datetime | None = None,
        resume: bool = False,
        build_candles: bool = True,
        source: BackfillSource = "auto",
        archive: str | None = None,
    ) -> BackfillEstimate:
        """What ``backfill`` of the same arguments would take; a few questions a pair, and nothing is stored.

        Raises UnknownPairError for a pattern without a pair, and ImportFileError as ``backfill`` does.
        """
        wanted = Wanted(since, end_timestamp, resume, build_candles, source=source)
        self._connected()
        history = await self._find_archives(source, archive)
        try:
            names = await self._expand(symbols, exclude, history)
            return await self._estimator(wanted).run(names, {} if history is None else history.files)
        finally:
            if history is not None:
                await history.close()

    def _estimator(self, wanted: Wanted) -> Estimator:
        return Estimator(
            self._connected(), self._client, self._exchange, wanted, self._most_pairs, self._progress
        )

    async def get_resume_point(self, symbol: str) -> int:
        """Where the last download of a symbol ended, in ns as Kraken gave it; 0 if there was none."""
        async with self._connected().database.read() as connection:
            status = await SyncStatusRepository(connection).get(parse_symbol(symbol), "trades")
        return (status.last_kraken_since if status else None) or 0

    async def _warn_of_retention(self, store: Store, since: int) -> None:
        """Say so before history is downloaded that will be dropped."""
        async with store.database.read() as connection:
            for table in ("trades", "candles"):
                kept = await kept_for(store.backend, connection, table)
                if kept is not None and cursor_time(as_nanoseconds(since)) < self._clock() - kept:
                    self._progress.note(
                        f"Note: {table} older than {period_text(kept)} will be dropped again by the retention"
                        f" policy. To keep them: kraken-db policies set --{table}-retention never"
                    )

    async def _find_archives(self, source: BackfillSource, place: str | None) -> ArchivedHistory | None:
        """None where there are none, or none are wanted."""
        if source == "rest":
            return None
        place = place or archive_place(self._client.base_url)
        try:
            if place is None:
                raise ImportFileError(
                    "KRAKEN_ARCHIVE_URL",
                    "no archives are known of this exchange",
                    hint="name a folder or an address: --archive PLACE",
                )
            return await ArchivedHistory.find(place, self._clock)
        except ImportFileError as error:
            if source == "archive":
                raise
            if place is not None:
                self._progress.note(f"Note: {error}. All trades come by REST.")
            return None

    async def _expand(
        self, symbols: Sequence[str], exclude: Sequence[str], history: ArchivedHistory | None
    ) -> list[str]:
        """Patterns as the pairs that Kraken lists, or had once."""
        listed = await self._exchange.list_for(symbols)
        archived = () if history is None else sorted(history.files)
        return select(symbols, [*listed, *archived], exclude=exclude, place=LISTED, error=UnknownPairError)

    async def _refused(
        self, symbols: Sequence[str], history: ArchivedHistory | None, source: BackfillSource
    ) -> dict[str, KrakenDBError]:
        """The pairs that neither Kraken nor an archive has. Where Kraken is silent, the download tells."""
        known = {*PAIR_MAP, *(history.files if history is not None else ())}
        refused: dict[str, KrakenDBError] = {}
        for symbol in symbols:
            if symbol in known:
                continue
            try:
                await self._rest_name(symbol, (), source)
            except UnknownPairError as error:
                refused[symbol] = error
            except KrakenDBError:
                break
        return refused

    @asynccontextmanager
    async def _looking_ahead(
        self, estimator: Estimator, symbols: Sequence[str], run: _Run
    ) -> AsyncIterator[None]:
        """Find out meanwhile how much the pairs have whose turn has not come: then the time left is known."""
        files = {} if run.history is None else run.history.files
        for symbol in symbols:
            if size := sum(file.size for file in files.get(symbol, ()) if run.wanted.has_part_of(file)):
                run.progress.expect(symbol, size // LINE_BYTES)
        waiting = [symbol for symbol in symbols[self._most_pairs :] if symbol not in run.refused]
        looking = asyncio.create_task(estimator.look_ahead(waiting, files, run.progress))
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _run(self, symbol: str, run: _Run) -> BackfillReport:
        report = BackfillReport(symbol)
        task = run.progress.task(symbol)
        try:
            if symbol in run.refused:
                raise run.refused[symbol]
            await self._run_shared(report, run, Remaining(task, run.check))
            if run.wanted.start is not None:
                report.notes += await self._hole_before(symbol, run.wanted.start)
                report.notes += await self._nothing_since(report, run.wanted.start)
        except Exception as error:  # of the others each has its own task
            _log.debug("%s", symbol, exc_info=error)
            report.error = foreseen(error, symbol, hint="run it again with --debug")
            report.outcome = "failed"
        finally:
            task.done(report.outcome, failed=report.error is not None, reason=str(report.error or ""))
        if report.outcome not in ("stopped", "failed"):
            run.done.add(symbol)
        run.heartbeat.tell()
        return report

    async def _hole_before(self, symbol: str, start: datetime) -> list[str]:
        """What a run that began late has left between the history before it and its own."""
        async with self._connected().database.read() as connection:
            coverage = CoverageRepository(connection)
            known = await coverage.covered(symbol, DataType.TRADES)
            minutes = await coverage.covered(symbol, DataType.CANDLES_1M)
        behind = next((first for first, last in known if last > start), None)
        ends = [last for _, last in known if last <= start]
        if behind is None or not ends:
            return []
        # Where the minutes are known, trades are no gap.
        hole = [one for one in difference([(ends[-1], behind)], minutes) if one[1] - one[0] >= _MINUTE]
        if not hole:
            return []
        span = f"{hole[0][0]:%Y-%m-%d %H:%M} to {hole[-1][1]:%Y-%m-%d %H:%M} UTC"
        return [f"there is a gap before this: {span}; kraken-db gaps fill {symbol} fills it"]

    async def _nothing_since(self, report: BackfillReport, start: datetime) -> list[str]:
        """When Kraken's last trade was, for a run that begins behind it."""
        if report.received or report.outcome != "caught up":
            return []
        try:
            name = await self._exchange.rest_name(report.symbol)
            newest = (await self._client.newest_trades(name, count=1)).trades
        except ExchangeError:
            return []
        if not newest or newest[-1].timestamp >= start:
            return []
        last = f"{newest[-1].timestamp:%Y-%m-%d %H:%M} UTC"
        return [f"Kraken has no trade since {start:%Y-%m-%d %H:%M} UTC; the last one is of {last}"]

    async def _run_shared(self, report: BackfillReport, run: _Run, remaining: Remaining) -> None:
        """Download a pair, or help whoever does; until it is there, or others are sure to go on."""
        files = run.history.files.get(report.symbol, ()) if run.history is not None else ()
        ours = Stretches(run.ingest, self._client, self._exchange, self._retry, self._stop, run.wanted)
        stretches = ours.behind(files)
        waits_since: float | None = None
        while not self._stop.is_set():
            async with self._pairs_at_once:
                if self._stop.is_set():  # while it waited for its turn
                    return
                shared = await self._shared(report.symbol, run)
                if not shared.is_finished:
                    try:
                        return await self._download(report, run, remaining, files, shared)
                    except JobRunningError:
                        shared = await self._shared(report.symbol, run)  # it may have begun a moment ago
                        if not shared.is_shared and waits_since is None:
                            raise
                    waits_since = waits_since or time.monotonic()
                    if time.monotonic() - waits_since >= HELP_AFTER:
                        await stretches.take_all(shared, report, remaining.task)
            if shared.is_finished or not shared.is_shared:
                report.outcome = "elsewhere"
                return
            remaining.task.update(note="another process downloads it, too")
            await unless_set(self._stop, asyncio.sleep(ELSEWHERE_EVERY))

    async def _shared(self, symbol: str, run: _Run) -> SharedHistory:
        return await SharedHistory.find(self._connected(), symbol, run.heartbeat.id, run.wanted)

    async def _download(
        self,
        report: BackfillReport,
        run: _Run,
        remaining: Remaining,
        files: Sequence[ArchiveFile],
        shared: SharedHistory,
    ) -> None:
        store, symbol, wanted, history = self._connected(), report.symbol, run.wanted, run.history
        delisted = Delisted(store, self._exchange, symbol)
        async with JobLock(store.database, DOWNLOAD_JOB, symbol) as lock:
            name = await unless_set(self._stop, self._rest_name(symbol, files, wanted.source))
            if name:
                await unless_set(self._stop, self._again(lock, delisted.take_back))
            if files:
                await self._from_archive(report, run, remaining.task, lock, files, name)
                remaining.before = report.archived
            stored = await self._again(lock, lambda: self.get_resume_point(symbol))
            report.cursor = wanted.first_cursor(stored, files)
            if wanted.build_candles:
                await self._build_missing(run.ingest, report, lock)
            if report.outcome == "delisted" and history is not None and wanted.end is None:
                await self._again(lock, lambda: delisted.settle(history, report))
            if not name or self._stop.is_set() or wanted.source == "archive":
                return
            has_met = False
            walk = partial(self._walk_once, name, report, run, remaining, shared, lock)
            while await self._walk(report, walk):
                has_met = True
                if wanted.build_candles:
                    await self._build_missing(run.ingest, report, lock)  # the minute in which they met
            if has_met and (
                cursor := report.cursor
            ):  # there may have been nothing new behind what others had
                moment = cursor_time(cursor)
                await self._again(
                    lock, lambda: note_synced(store, symbol, DataType.TRADES, moment, cursor=cursor)
                )

    async def _walk(self, report: BackfillReport, once: Callable[[], Awaitable[bool]]) -> bool:
        """What ``once`` returns, which goes on from ``report.cursor``.

        Where a row of an answer cannot be it is called again: as often as it gets further, else a few times.
        """
        while True:
            reached = report.cursor

            def is_stuck(reached: int | None = reached) -> bool:
                return report.cursor == reached and not self._stop.is_set()

            try:
                return await self._flawed.run(once, is_worth_it=is_stuck)
            except ImpossibleRowError:
                if report.cursor == reached or self._stop.is_set():
                    raise

    async def _walk_once(
        self,
        name: str,
        report: BackfillReport,
        run: _Run,
        remaining: Remaining,
        shared: SharedHistory,
        lock: JobLock,
    ) -> bool:
        """Download from ``report.cursor`` on; returns whether there is more behind what others have."""
        since, wanted = report.cursor or 0, run.wanted
        resume_point = await self._again(lock, lambda: shared.resume_point(since))
        report.cursor = max(since, resume_point.since)
        if wanted.is_reached(resume_point.since):
            report.outcome = "reached the end"
            return False
        walk = self._exchange.pager(name, resume_point.since, wanted.end, resume_point.sequence)
        pager = await unless_set(self._stop, walk)
        if pager is None:
            return False
        pages = PageStore(run.ingest, report.symbol, resume_point, wanted.build_candles)
        download = Download(
            pager,
            pages,
            lock,
            report,
            remaining,
            self._retry,
            self._stop,
            wanted.auto_stop,
            known_until=shared.known_until,
        )
        await download.run_with_estimate(self._client, name, wanted.end)
        if wanted.build_candles and not resume_point.is_joined:
            await self._build_missing(run.ingest, report, lock)  # the minute that it began in
        return download.met and not self._stop.is_set()

    async def _again(self, lock: JobLock, work: Callable[[], Awaitable[_T]]) -> _T:
        return await lock.outlasting(work, self._retry, lambda: not self._stop.is_set())

    async def _rest_name(self, symbol: str, files: Sequence[ArchiveFile], source: BackfillSource) -> str:
        """What REST calls the pair; empty if it serves it no more, and archives have its trades."""
        try:
            return await self._exchange.rest_name(symbol, is_checked=bool(files))
        except UnknownPairError as error:
            if files:
                return ""
            if source != "rest":
                raise  # the archives were looked at
            raise await with_advice(
                error, symbol, self._client.base_url, self._clock, is_stored=False
            ) from error

    async def _from_archive(
        self,
        report: BackfillReport,
        run: _Run,
        task: Task,
        lock: JobLock,
        files: Sequence[ArchiveFile],
        name: str | None,
    ) -> None:
        if name:
            await check_market(files[0], self._client, name, self._clock)
        async with self._archives_at_once:
            download = ArchiveDownload(run.ingest, report, task, self._stop, self._retry, lock, run.wanted)
            await download.run(files)
        if not self._stop.is_set():
            report.outcome = "archive read" if name else "delisted"

    async def _refresh(self, store: Store) -> KrakenDBError | None:
        """At the end of a run, whose report is printed whatever happens here."""
        try:
            return await store.refresh_or_warn(AT_MOST_WHEN_STOPPED if self._stop.is_set() else None)
        except Exception as error:
            _log.debug("the refresh", exc_info=error)
            return foreseen(error, hint="the rows are stored; run it again with --debug")

    async def _build_missing(self, ingest: Ingest, report: BackfillReport, lock: JobLock) -> None:
        """The candles of trades that came from archives, or were downloaded without candles."""
        building = self._again(lock, lambda: build_missing(ingest, report.symbol))
        for built in await unless_set(self._stop, building) or ():
            report.candles_new += built.new
            report.candles_changed += built.changed

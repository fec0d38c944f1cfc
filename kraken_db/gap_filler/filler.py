"""GapFiller: what is missing between the oldest stored moment and now, found and filled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.db.locks import JobLock
from kraken_db.errors import (
    ConfigurationError,
    JobRunningError,
    KrakenDBError,
    NotConnectedError,
    UnknownPairError,
    foreseen,
)
from kraken_db.gap_filler.by_candles import CandleFiller
from kraken_db.gap_filler.by_trades import TradeFiller
from kraken_db.gap_filler.filling import SymbolFiller
from kraken_db.gap_filler.gaps import Filled, FillReport, GapDetector, SymbolGaps
from kraken_db.heartbeat import Heartbeat, pairs_done
from kraken_db.historical_backfill.backfill import AT_MOST_WHEN_STOPPED, REFRESH_EVERY
from kraken_db.historical_backfill.download import DOWNLOAD_JOB
from kraken_db.ingest.delisting import note_listed
from kraken_db.ingest.write_unit import Ingest, note_synced
from kraken_db.intervals import BASE_INTERVAL
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.pairs import DEFAULT_SYMBOLS, PAIR_MAP, parse_symbol
from kraken_db.progress import MANY, NullProgress, NullTask, PairsProgress, Progress
from kraken_db.ranges import TICK
from kraken_db.repositories.candles import CandleRepository
from kraken_db.retry import DOWNLOAD, unless_set
from kraken_db.store import Store, StoreService
from kraken_db.times import Clock, Sleep, require_aware, steady_now
from kraken_db.tolerances import CLOCK_SKEW
from kraken_db.types import DataGap

MIN_GAP_MINUTES = 2
"""How long the stretch from the newest known minute to now must be to count as a gap."""
WINDOW = timedelta(days=30)
"""What is wanted of a symbol of which nothing is stored."""

# Opened when they are needed at once: as many symbols may be worked on side by side as the caller likes.
_CONNECTIONS = 24
_log = logging.getLogger(__name__)


class GapFiller(StoreService):
    """Finds what is missing in a store and fills it from Kraken's REST.

    ``symbols``: those to look after, DEFAULT_SYMBOLS unless others are named. ``rate_limit_delay``: seconds
    between two requests for one pair; the delay grows by itself where Kraken throttles. ``max_retries``:
    further attempts for one request. ``window``: how far back a symbol is filled of which nothing is stored.
    ``creates``: whether an embedded database is made where there is none.
    ``KRAKEN_BASE_URL`` in the environment names another address than Kraken's.

    Use it as an asynchronous context manager, or call ``start()`` and ``stop()``; every method raises
    NotConnectedError (a RuntimeError) before that. All times are aware datetimes in UTC.
    """

    def __init__(
        self,
        db_url: str,
        symbols: list[str] | None = None,
        rate_limit_delay: float = 1.1,
        max_retries: int = 3,
        *,
        window: timedelta = WINDOW,
        progress: Progress | None = None,
        clock: Clock = steady_now,
        client: KrakenRestClient | None = None,
        sleep: Sleep = asyncio.sleep,
        creates: bool = True,
    ) -> None:
        if window <= timedelta():
            raise ConfigurationError(f"window is {window}: it is more than nothing")
        super().__init__(db_url, pool_max_size=_CONNECTIONS, clock=clock, creates=creates)
        wanted = DEFAULT_SYMBOLS if symbols is None else symbols
        self.symbols = list(dict.fromkeys(parse_symbol(symbol) for symbol in wanted))
        self._client = client or KrakenRestClient(rate_limit_delay=rate_limit_delay, max_retries=max_retries)
        self._window = window
        self._progress = progress or NullProgress()
        self._retry = replace(DOWNLOAD, sleep=sleep)
        self._exchange = Exchange(self._client, self._retry, clock)
        self._clock = self._exchange.clock
        self._stop = asyncio.Event()

    async def start(self) -> None:
        """Open the store; may be called twice. Raises an error of ``kraken_db.errors``."""
        await self.connect()

    async def stop(self) -> None:
        """Close all connections, to the database and to Kraken; may be called twice."""
        await self.close()

    async def close(self) -> None:
        """The same as ``stop``."""
        await self._client.close()
        await super().close()

    def request_stop(self) -> None:
        """Let every download finish the pages that it has, and end."""
        self._stop.set()

    async def select_listed(self, wanted: Sequence[str], exclude: Sequence[str] = ()) -> list[str]:
        """The pairs of names and patterns, by Kraken's list: see ``kraken_db.patterns.select``."""
        return await self._exchange.expand(wanted, exclude)

    async def survey(self, min_gap_minutes: int = MIN_GAP_MINUTES) -> list[SymbolGaps]:
        """What ``detect_gaps`` finds, by symbol, with what is known of each."""
        if min_gap_minutes < 0:
            raise ConfigurationError(f"min_gap_minutes is {min_gap_minutes}: it is 0 or more")
        store = self._connected()
        min_gap = timedelta(minutes=min_gap_minutes)

        async def find(connection: AsyncConnection) -> list[SymbolGaps]:
            detector = GapDetector(connection, store.backend, store.clock())
            found = []
            for symbol in self.symbols:
                found.append(await detector.find(symbol, min_gap=min_gap, window=self._window))
                task.advance()
            return found

        task = self._progress.task("looking for gaps", len(self.symbols), unit="pairs")
        try:
            return await store.database.reading(find)
        finally:
            task.done()

    async def detect_gaps(self, min_gap_minutes: int = MIN_GAP_MINUTES) -> list[DataGap]:
        """The gaps of all symbols, in order of time for each; asks nobody but the database.

        Wanted is everything from a symbol's oldest known moment to the last minute that has ended. What has
        been seen is no gap, traded or not, dropped since or not. The stretch up to now counts from
        ``min_gap_minutes`` on; a hole before it counts however short it is. Of a symbol without data the
        whole ``window`` is a gap. A gap of ``trades`` is one of ids that are missing; all others are of
        ``candles_1m``.
        """
        return [found.gap for symbol in await self.survey(min_gap_minutes) for found in symbol.found]

    async def fill_gap_ohlc(self, gap: DataGap) -> int:
        """Fill a gap with the minutes that Kraken's OHLC has, the newest 720 at most.

        Returns how many candles were written. What the answer does not reach stays a gap. Raises
        ExchangeError, and JobRunningError where another run works on the symbol.
        """
        symbol = parse_symbol(gap.symbol)
        async with self._working(symbol) as (ingest, _):
            name = await self._exchange.rest_name(symbol)
            filler = CandleFiller(ingest, self._client)
            written, _ = await filler.fill(symbol, name, gap.start_time, gap.end_time)
        return written.candles

    async def fill_gap_trades(self, gap: DataGap) -> int:
        """Download the trades of any range of a symbol, whatever is stored of it, and build their candles.

        Whole minutes around the range are asked for. Returns how many trades were written. Raises as
        ``fill_gap_ohlc`` does.
        """
        symbol = parse_symbol(gap.symbol)
        async with self._working(symbol) as (ingest, lock):
            filler = self._trade_filler(ingest)
            written = Filled()
            problems = await filler.fill(symbol, gap.start_time, gap.end_time, lock, NullTask(), written)
        for problem in problems:
            _log.warning("%s: %s", symbol, problem)
        return written.trades

    async def update_sync_status(self, symbol: str, newest_time: datetime) -> None:
        """Say that a symbol was looked at now, and is stored up to ``newest_time``.

        ``fill_gap_ohlc`` and ``fill_gap_trades`` do so by themselves. The status never names a candle that
        is not there.
        """
        require_aware(newest_time, "newest_time")
        name, store = parse_symbol(symbol), self._connected()
        async with store.database.read() as connection:
            found = await CandleRepository(connection, store.backend).latest(
                name, BASE_INTERVAL, 1, before=newest_time + TICK
            )
        newest = found[-1].timestamp if found else None
        await note_synced(store, name, DataType.CANDLES_1M, newest)

    async def refresh_continuous_aggregates(self) -> None:
        """Bring the higher intervals up to date, over what was written and nothing else.

        What a killed run has left is done, too. ``fill_all_gaps`` does it by itself.
        """
        store = self._connected()
        await store.refresh_pending()
        await store.release_retention()

    async def fill_all_gaps(self, max_concurrent: int = 3) -> dict[str, Any]:
        """Find the gaps of all symbols, fill them, ``max_concurrent`` symbols side by side, and refresh.

        What happens to one symbol does nothing to the others: ``errors`` has a line for each gap that stays.
        A symbol that another process works on is left to it.
        ``candles_inserted`` and ``trades_processed`` count the rows that were really written.
        """
        return summary(await self.fill(max_concurrent=max_concurrent))

    async def fill(
        self, *, max_concurrent: int = 3, min_gap_minutes: int = MIN_GAP_MINUTES
    ) -> list[FillReport]:
        """What ``fill_all_gaps`` does, with a report for each symbol."""
        if max_concurrent < 1:
            raise ConfigurationError(f"max_concurrent is {max_concurrent}: it is 1 or more")
        store = self._connected()
        gaps = await self.survey(min_gap_minutes)
        if any(one.known and one.known[1] > store.clock() + CLOCK_SKEW for one in gaps):
            # Our clock cannot be right: Kraken says up to when something is missing.
            with suppress(KrakenDBError):
                await self._exchange.now()
            gaps = await self.survey(min_gap_minutes)
        if await self._take_back_ends([one.symbol for one in gaps if one.ended_at]):
            gaps = await self.survey(min_gap_minutes)
        reports = [FillReport(symbol) for symbol in gaps]
        turn = asyncio.Semaphore(max_concurrent)
        done: set[str] = set()
        heartbeat = Heartbeat(store, "gap filling", self.symbols, lambda: pairs_done(self.symbols, done))
        async with heartbeat, Ingest(store) as ingest:
            done |= {report.symbol for report in reports if not report.gaps.found}
            wanted = [report for report in reports if report.gaps.found]
            progress = self._begin(wanted)
            async with store.refreshing(REFRESH_EVERY):
                refused = await unless_set(self._stop, self._refused(wanted)) or []
                async with asyncio.TaskGroup() as group:  # these fail at once, before anything is downloaded
                    for report in refused:
                        group.create_task(self._run(report, ingest, turn, progress, min_gap_minutes, done))
                wanted = [report for report in wanted if report not in refused]
                # Once more at the end: who had a pair may be through with it by then, or gone.
                while wanted:
                    async with asyncio.TaskGroup() as group:
                        for report in wanted:
                            group.create_task(
                                self._run(report, ingest, turn, progress, min_gap_minutes, done)
                            )
                    left = [report for report in wanted if report.is_elsewhere]
                    wanted = left if len(left) < len(wanted) else []
            within = AT_MOST_WHEN_STOPPED if self._stop.is_set() else None
            refresh_error = await store.refresh_or_warn(within)
            progress.done("stopped" if self._stop.is_set() else "")
        self._stop.clear()
        if refresh_error is not None:
            for report in reports:
                if report.filled:
                    report.errors.append(f"{report.symbol}: {refresh_error}")
        async with store.database.read() as connection:
            detector = GapDetector(connection, store.backend, store.clock())
            for report in reports:
                if report.was_stopped and not report.has_begun:
                    report.known_to = report.gaps.known[1] if report.gaps.known else None
                    continue
                known = await detector.known(report.symbol)
                report.known_to = known.span[1] if known.span else None
                report.gaps = replace(report.gaps, ended_at=known.ended_at)
        return reports

    async def _take_back_ends(self, symbols: Sequence[str]) -> bool:
        """Whether one of the pairs that had been delisted is listed again: then more is expected of it.

        Where Kraken does not answer, they are taken to be as they were.
        """
        store = self._connected()
        try:
            listed = await self._exchange.listed(symbols) if symbols else []
        except KrakenDBError as error:
            _log.info("whether delisted pairs are listed again is not known: %s", error)
            return False
        for symbol in listed:
            await note_listed(store, symbol)
        return bool(listed)

    async def _refused(self, wanted: Sequence[FillReport]) -> list[FillReport]:
        """Those whose pair Kraken does not have. Where it does not answer, the filling will say."""
        refused = []
        for report in wanted:
            if report.symbol in PAIR_MAP:
                continue
            try:
                await self._exchange.rest_name(report.symbol)
            except UnknownPairError:
                refused.append(report)
            except KrakenDBError:
                break
        return refused

    def _begin(self, wanted: Sequence[FillReport]) -> PairsProgress:
        symbols = [report.symbol for report in wanted]
        progress = PairsProgress(self._progress, "gaps", symbols, unit="gaps", what="gaps")
        for report in wanted:
            progress.expect(report.symbol, len(report.gaps.found))
        return progress

    async def _run(
        self,
        report: FillReport,
        ingest: Ingest,
        turn: asyncio.Semaphore,
        progress: PairsProgress,
        min_gap: int,
        done: set[str],
    ) -> None:
        store, symbol = self._connected(), report.symbol
        async with turn:
            if self._stop.is_set():  # while it waited for its turn
                report.was_stopped = True
                return
            report.has_begun = True
            task = progress.task(symbol, counts=False)
            report.is_elsewhere = False
            try:
                async with JobLock(store.database, DOWNLOAD_JOB, symbol) as lock:
                    await SymbolFiller(
                        store,
                        CandleFiller(ingest, self._client),
                        self._trade_filler(ingest),
                        lock,
                        task,
                        report,
                        timedelta(minutes=min_gap),
                    ).fill_all()
            except JobRunningError:
                report.is_elsewhere = True
            except Exception as error:  # of the others each has its own task
                _log.debug("%s", symbol, exc_info=error)
                report.errors.append(f"{symbol}: {foreseen(error)}")
            finally:
                # Of few pairs the report says it, in a moment.
                reason = "; ".join(report.errors) if len(self.symbols) > MANY else ""
                task.done(_outcome(report), failed=bool(report.errors), reason=reason)
            if not (report.errors or report.is_elsewhere):
                done.add(symbol)

    def _trade_filler(self, ingest: Ingest) -> TradeFiller:
        return TradeFiller(ingest, self._client, self._exchange, self._retry, self._stop)

    @asynccontextmanager
    async def _working(self, symbol: str) -> AsyncIterator[tuple[Ingest, JobLock]]:
        store = self._connected()
        async with (
            Ingest(store) as ingest,
            JobLock(store.database, DOWNLOAD_JOB, symbol) as lock,
        ):
            yield ingest, lock

    def _connected(self) -> Store:
        if self._store is None:
            raise NotConnectedError("the GapFiller is not started", hint="call start() first")
        return self._store


async def run_gap_filler(db_url: str, symbols: list[str] | None = None) -> dict[str, Any]:
    """Find and fill the gaps of ``symbols``, DEFAULT_SYMBOLS if None: ``GapFiller.fill_all_gaps``."""
    async with GapFiller(db_url, symbols) as filler:
        return await filler.fill_all_gaps()


def summary(reports: Sequence[FillReport]) -> dict[str, Any]:
    """All symbols together, as ``fill_all_gaps`` returns it."""
    return {
        "gaps_detected": sum(len(report.gaps.found) for report in reports),
        "gaps_filled": sum(report.filled for report in reports),
        "candles_inserted": sum(report.written.candles for report in reports),
        "trades_processed": sum(report.written.trades for report in reports),
        "errors": [error for report in reports for error in report.errors],
    }


def _outcome(report: FillReport) -> str:
    if report.is_elsewhere:
        return "another process is at it"
    total = len(report.gaps.found)
    return f"{report.filled} of {total} gaps filled" if total else ""

"""One history, downloaded by several processes, on one machine or on many.

Kraken's limit is per address and pair: so many addresses, so many times as fast. Who has the lock of a pair
walks forward from its beginning. Everybody else who wants the pair takes stretches of it, the newest first,
each under a lock of its own, until they meet. Coverage says what is done, and locks say what is at work: they
end with the session of a process that dies. Nothing else is agreed upon.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.bulk_csv_importer.report import ArchiveFile
from kraken_db.data_types import DataType
from kraken_db.db.locks import JobLock
from kraken_db.errors import JobRunningError, UnknownPairError
from kraken_db.historical_backfill.archive import Wanted
from kraken_db.historical_backfill.download import (
    DOWNLOAD_JOB,
    BackfillReport,
    Download,
    Remaining,
    find_goal,
)
from kraken_db.ingest.missing import build_missing
from kraken_db.ingest.pages import PageStore, ResumePoint, find_resume_point
from kraken_db.ingest.write_unit import Ingest
from kraken_db.intervals import BASE_INTERVAL, floor_to_interval
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import cursor_time, to_cursor
from kraken_db.kraken.rest import MAX_COUNT, KrakenRestClient
from kraken_db.progress import Task
from kraken_db.ranges import TICK, TimeRange, difference
from kraken_db.repositories.coverage import CoverageRepository, Source
from kraken_db.repositories.running_jobs import RunningJobRepository
from kraken_db.repositories.trade_neighbours import TradeNeighbours
from kraken_db.repositories.trades import TradeRepository
from kraken_db.retry import Retry, unless_set
from kraken_db.store import Store

MOST_STRETCHES, LEAST_PAGES = 64, 25
"""Stretches of a pair, about, and pages of one at least: each costs a page or two more."""

_HOUR = timedelta(hours=1)
_BEGIN = datetime(1970, 1, 1, tzinfo=UTC)
_OFFICIAL: tuple[Source, ...] = ("rest_trades", "csv")


@dataclass(frozen=True, slots=True)
class Grid:
    """Stretches of time of one length, the same for everybody: so many hours as a power of 2."""

    length: timedelta

    @classmethod
    def between(cls, first: KrakenTrade, last: KrakenTrade) -> Grid | None:
        """None where there is too little to share, or no ids say how much."""
        pages = ((last.trade_id or 0) - (first.trade_id or 0)) / MAX_COUNT
        count = min(MOST_STRETCHES, int(pages / LEAST_PAGES))
        if not first.trade_id or count < 2:
            return None
        hours = (last.timestamp - first.timestamp) / count / _HOUR
        return cls(_HOUR * 2 ** max(0, math.ceil(math.log2(hours))) if hours > 0 else _HOUR)

    def stretches(self, start: datetime, end: datetime) -> list[TimeRange]:
        """Those that end by ``end``, oldest first; the first one begins with the minute of ``start``."""
        at = _BEGIN + (start - _BEGIN) // self.length * self.length
        ends = [at + (n + 1) * self.length for n in range(max(0, (end - at) // self.length))]
        begins = [floor_to_interval(start, BASE_INTERVAL), *ends]
        return list(zip(begins, ends, strict=False))


@dataclass(frozen=True, slots=True)
class SharedHistory:
    """What processes bring of one symbol. ``before``: what is covered and to be downloaded all the same."""

    store: Store
    symbol: str
    before: Sequence[TimeRange] = ()
    is_shared: bool = False
    """Whether another backfill of the symbol is at work."""
    is_finished: bool = False
    """Whether another one has brought all of it, since this process began."""

    @classmethod
    async def find(cls, store: Store, symbol: str, me: UUID, wanted: Wanted) -> SharedHistory:
        """``me``: this process' job. Where nobody else is at work, and it does not resume, what is stored is
        downloaded again. A part of a history is not shared."""
        found = cls(store, symbol)
        async with store.database.read() as connection:
            jobs = await RunningJobRepository(connection).all()
        began = next((job.started_at for job in jobs if job.id == me), _BEGIN)
        others = [job for job in jobs if job.kind == "backfill" and job.id != me and symbol in job.symbols]
        others = others if wanted.is_whole else []
        # Who was at work since this process began has done a part of it.
        recent = [job for job in others if job.is_alive or (job.ended_at or job.heard_at) >= began]
        return replace(
            found,
            before=[] if wanted.resume or recent else await found.covered(),
            is_shared=any(job.is_alive for job in recent),
            is_finished=any(symbol not in job.behind for job in recent),
        )

    async def covered(self) -> Sequence[TimeRange]:
        """What Kraken's REST or its archives have brought."""
        async with self.store.database.read() as connection:
            coverage = CoverageRepository(connection)
            return await coverage.covered(self.symbol, DataType.TRADES, _OFFICIAL)

    async def known_until(self, since: int) -> datetime | None:
        """The last trade of what is done already and goes on behind a cursor, in ns; None if none does."""
        known = difference(await self.covered(), self.before)
        async with self.store.database.read() as connection:
            end = await self._end(connection, known, since)
            last = end and await TradeRepository(connection).newest_until(self.symbol, end - TICK)
        return last[1] if last and (not since or last[1] > cursor_time(since) + TICK) else None

    async def _end(
        self, connection: AsyncConnection, known: Sequence[TimeRange], since: int
    ) -> datetime | None:
        if since:
            moment = cursor_time(since)
            return next((end for start, end in known if start <= moment < end), None)
        if not known:
            return None
        is_first = await TradeNeighbours(connection, self.symbol).is_first(known[0][0])
        return known[0][1] if is_first else None

    async def resume_point(self, since: int) -> ResumePoint:
        """Where to go on from a cursor: behind what others have brought since."""
        known_until = await self.known_until(since)
        since = since if known_until is None else to_cursor(known_until)
        async with self.store.database.read() as connection:
            found = await find_resume_point(connection, self.symbol, since)
        # All before it is known: the next download may go on from where this one ends.
        return found if known_until is None else replace(found, stored_cursor=since, chain_start=None)


@dataclass(slots=True)
class Stretches:
    """Takes stretches of a symbol that another process walks through, each once."""

    ingest: Ingest
    client: KrakenRestClient
    exchange: Exchange
    retry: Retry
    stop: asyncio.Event
    wanted: Wanted
    _left: list[TimeRange] | None = field(default=None, init=False)
    """Newest first; None until Kraken was asked how much there is."""

    def behind(self, files: Sequence[ArchiveFile]) -> Stretches:
        """Only those behind what archives have: nobody asks REST for that."""
        ends = [to_cursor(end) for file in files if (end := file.covers[1])]
        return replace(self, wanted=replace(self.wanted, since=max([self.wanted.since, *ends])))

    async def take_all(self, shared: SharedHistory, report: BackfillReport, task: Task) -> None:
        """All that nobody has now; may be called again. Where there is little to share, nothing is done."""
        try:
            name = await unless_set(self.stop, self.exchange.rest_name(shared.symbol))
        except UnknownPairError:
            return  # who has its lock says so, or reads its archive
        if name is None:
            return
        if self._left is None:
            self._left = await self._find(name)
        for stretch in list(self._left):
            if self.stop.is_set():
                return
            lock = JobLock(
                shared.store.database, DOWNLOAD_JOB, f"{shared.symbol} from {stretch[0]:%Y-%m-%d %H}"
            )
            try:
                async with lock:
                    for one in difference([stretch], await shared.covered()):
                        await self._download(name, one, shared, report, task, lock)
            except JobRunningError:
                continue
            self._left.remove(stretch)  # what Kraken does not have of it is not asked for again

    async def _find(self, name: str) -> list[TimeRange]:
        page = await self.client.trades(name, self.wanted.since, count=1)
        goal = await find_goal(self.client, name, self.wanted.end)
        grid = Grid.between(page.trades[0], goal) if page.trades and goal else None
        if grid is None or goal is None:
            return []
        return grid.stretches(page.trades[0].timestamp, goal.timestamp)[::-1]

    async def _download(
        self,
        name: str,
        stretch: TimeRange,
        shared: SharedHistory,
        report: BackfillReport,
        task: Task,
        lock: JobLock,
    ) -> None:
        since = to_cursor(stretch[0] - TICK)
        async with shared.store.database.read() as connection:
            found = await find_resume_point(connection, shared.symbol, since)
        # Where the next download goes on from is for the one to say who walks from the beginning.
        resume_point = replace(found, is_repair=True, stored_cursor=None)
        walk = self.exchange.pager(name, resume_point.since, stretch[1], resume_point.sequence)
        pager = await unless_set(self.stop, walk)
        if pager is None:
            return
        pages = PageStore(self.ingest, shared.symbol, resume_point, self.wanted.build_candles)
        await Download(pager, pages, lock, report, Remaining(task), self.retry, self.stop).run()
        if self.wanted.build_candles and not resume_point.is_joined:
            await build_missing(self.ingest, shared.symbol)  # the minute that it began in

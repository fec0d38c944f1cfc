"""One pair's download: the next page is fetched while the last one is stored."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field
from datetime import datetime

from kraken_db.db.locks import JobLock
from kraken_db.errors import DatabaseUnavailableError
from kraken_db.historical_backfill.estimate import Remaining
from kraken_db.historical_backfill.paging import TradePager
from kraken_db.historical_backfill.patience import Patience
from kraken_db.historical_backfill.report import MOST_EXAMPLES, BackfillReport
from kraken_db.historical_backfill.step import Step
from kraken_db.historical_backfill.storing import Pages, PageStore, Stored
from kraken_db.kraken.rest import KrakenRestClient

# Pages that wait for the database, and that it takes at once: memory is bounded by them, and a database that
# is slower than the network has fewer transactions to commit.
AT_ONCE = 16

DOWNLOAD_JOB = "download"
"""The job that whoever downloads a symbol's trades holds the lock of."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Download:
    """Runs until everything is there, or until ``stop`` is set; ``report`` tells how far it came."""

    pager: TradePager
    pages: PageStore
    lock: JobLock
    report: BackfillReport
    remaining: Remaining
    patience: Patience
    stop: asyncio.Event
    auto_stop: bool = True
    _queue: asyncio.Queue[Step] = field(default_factory=lambda: asyncio.Queue(AT_ONCE), init=False)

    async def run(self) -> None:
        """Raises what neither patience nor a second attempt helps against; what was stored stays."""
        fetching = asyncio.create_task(self._fetch())
        stopping = asyncio.create_task(self.stop.wait())
        # A page that is under way is not waited for: it is asked for again by the next run.
        stopping.add_done_callback(lambda _: fetching.cancel())
        try:
            while steps := await self._fetched(fetching):
                await self._save(steps)
            if not fetching.cancelled():
                fetching.result()
        finally:
            fetching.cancel()
            stopping.cancel()
            await asyncio.gather(fetching, stopping, return_exceptions=True)

    async def run_with_estimate(self, client: KrakenRestClient, pair: str, end: datetime | None) -> None:
        """The same, while it is found out how many trades there are until ``end``."""
        looking = asyncio.create_task(self.remaining.look(client, pair, end))
        try:
            await self.run()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _fetch(self) -> None:
        async with contextlib.aclosing(self.pager.steps(auto_stop=self.auto_stop)) as steps:
            async for step in steps:
                await self._queue.put(step)

    async def _fetched(self, fetching: asyncio.Task[None]) -> list[Step]:
        """All pages that wait to be stored; waits for one. Nothing is left when nothing more will come."""
        steps: list[Step] = []
        if self._queue.empty():
            first = asyncio.create_task(self._queue.get())
            await asyncio.wait({first, fetching}, return_when=asyncio.FIRST_COMPLETED)
            if first.done():
                steps.append(first.result())
            first.cancel()
        while not self._queue.empty():
            steps.append(self._queue.get_nowait())
        return steps

    async def _save(self, steps: list[Step]) -> None:
        pages = Pages.of(steps)
        stored = await self.patience.run(
            lambda: self.pages.save(pages),
            is_worth_it=lambda: not self.stop.is_set(),
            between=self._reconnect,
        )
        self._tell(steps, pages, stored)

    async def _reconnect(self) -> None:
        """The database may have been started anew, and its lock be gone."""
        with contextlib.suppress(DatabaseUnavailableError):  # the attempt itself tells it
            await self.pages.store.database.revive()
            await self.lock.hold()

    def _tell(self, steps: list[Step], pages: Pages, stored: Stored) -> None:
        report = self.report
        report.pages += len(steps)
        report.received += len(pages.trades)
        report.new += stored.trades.new
        report.changed += stored.trades.changed
        report.removed += stored.trades.removed
        report.candles_new += stored.candles_new
        report.candles_changed += stored.candles_changed
        report.cursor = pages.cursor
        if pages.trades:
            report.oldest = report.oldest or pages.trades[0].timestamp
            report.newest = pages.trades[-1].timestamp
        if steps[-1].reached_end:
            report.outcome = "reached the end"
        elif steps[-1].caught_up and self.auto_stop:
            report.outcome = "caught up"
        for hole in pages.holes:
            report.holes.append(hole)
            _log.warning("%s: Kraken has no trade for %s", report.symbol, hole)
        conflicts = stored.trades.conflicts
        report.conflicts += len(conflicts)
        report.conflict_examples += conflicts[: MOST_EXAMPLES - len(report.conflict_examples)]
        self.remaining.advance(list(pages.trades))

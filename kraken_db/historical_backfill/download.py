"""One pair's download: the next page is fetched while the last one is stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kraken_db.db.locks import JobLock
from kraken_db.errors import DatabaseUnavailableError
from kraken_db.historical_backfill.estimate import Remaining
from kraken_db.historical_backfill.paging import Step, TradePager
from kraken_db.historical_backfill.patience import Patience
from kraken_db.historical_backfill.report import MOST_EXAMPLES, BackfillReport
from kraken_db.historical_backfill.storing import Pages, PageStore, Stored
from kraken_db.kraken.messages import TradesPage
from kraken_db.kraken.rest import KrakenRestClient

# Pages that wait for the database, and that it takes at once: memory is bounded by them, and a database that
# is slower than the network has fewer transactions to commit.
AT_ONCE = 16

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Asker:
    """Asks for pages with patience: from the first answer on, so that a wrong address is told at once."""

    client: KrakenRestClient
    pair: str
    patience: Patience
    _has_answered: bool = False

    async def ask(self, since: int) -> TradesPage:
        page = await self.patience.run(
            lambda: self.client.trades_page(self.pair, since), is_worth_it=lambda: self._has_answered
        )
        self._has_answered = True
        return page


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
    _queue: asyncio.Queue[Step | None] = field(default_factory=lambda: asyncio.Queue(AT_ONCE), init=False)

    async def run(self) -> None:
        """Raises what neither patience nor a second attempt helps against; what was stored stays."""
        fetching = asyncio.create_task(self._fetch())
        stopping = asyncio.create_task(self.stop.wait())
        stopping.add_done_callback(lambda _: fetching.cancel())
        try:
            await self._save_all()
        finally:
            # A page that is under way is not waited for: it is asked for again by the next run.
            fetching.cancel()
            stopping.cancel()
            done, _ = await asyncio.gather(fetching, stopping, return_exceptions=True)
        if isinstance(done, BaseException) and not isinstance(done, asyncio.CancelledError):
            raise done

    async def _fetch(self) -> None:
        try:
            async with aclosing(self.pager.steps(auto_stop=self.auto_stop)) as steps:
                async for step in steps:
                    await self._queue.put(step)
        finally:
            # What has been fetched is still stored; a full queue has room as soon as that goes on.
            await asyncio.shield(self._queue.put(None))

    async def _save_all(self) -> None:
        is_over = False
        while not is_over:
            steps = [await self._queue.get()]
            while len(steps) < AT_ONCE and not self._queue.empty():
                steps.append(self._queue.get_nowait())
            is_over = steps[-1] is None
            found = [step for step in steps if step is not None]
            if found:
                await self._save(found)

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
        try:
            await self.pages.store.database.revive()
            await self.lock.hold()
        except DatabaseUnavailableError:
            pass  # told by the attempt itself

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


def offset_clock(clock: Callable[[], datetime], offset: timedelta) -> Callable[[], datetime]:
    """``clock``, set by another one."""
    return lambda: clock() + offset

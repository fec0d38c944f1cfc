"""One pair's download: the next page is fetched while the last one is stored.

How much is left is counted in trades that are still to come. The early years of a pair are quiet, so the
share of its time says little about how long the rest takes. Ids count trades, and so requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from kraken_db.db.locks import JobLock
from kraken_db.errors import DatabaseError, KrakenDBError
from kraken_db.id_runs import IdHole
from kraken_db.ingest.pages import Pages, PageStore, PagesWritten
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import Step, TradePager, to_cursor
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.progress import Task
from kraken_db.retry import Retry


@dataclass(slots=True)
class Remaining:
    """Follows one download and keeps its task up to date.

    ``check``: called with the number of trades as soon as that is known; what it raises ends the download.
    """

    task: Task
    check: Callable[[int], None] | None = None
    before: int = 0
    """Trades that the task has counted already: those of archives."""
    first_id: int | None = None
    began: datetime | None = None
    goal: KrakenTrade | None = None
    _has_begun: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _unchecked: int | None = field(default=None, init=False)

    async def look(self, client: KrakenRestClient, pair: str, end: datetime | None) -> None:
        """Ask for the trade that the download will end at. Without an answer there is no estimate.

        It waits for the first trades of the download: an answer to this question that comes again must not
        be taken for the beginning.
        """
        await self._has_begun.wait()
        try:
            self.goal = await find_goal(client, pair, end)
        except KrakenDBError:
            return
        self._update_total()

    def advance(self, trades: list[KrakenTrade]) -> None:
        if not trades:
            return
        if self.began is None:
            self.began = trades[0].timestamp
            self._has_begun.set()
            self.first_id = next((trade.trade_id for trade in trades if trade.trade_id), None)
            self._update_total()
        self.task.update(note=self._place(trades[-1].timestamp))
        self.task.advance(len(trades))
        if self.check is not None and self._unchecked is not None:
            total, self._unchecked = self._unchecked, None
            self.check(total)

    def _update_total(self) -> None:
        goal = self.goal.trade_id if self.goal else None
        if goal is not None and self.first_id is not None and goal >= self.first_id:
            self._unchecked = goal - self.first_id + 1
            self.task.update(total=self.before + self._unchecked)

    def _place(self, reached: datetime) -> str:
        place = f"at {reached:%Y-%m-%d %H:%M}"
        if self.goal is None or self.began is None or self.goal.timestamp <= self.began:
            return place
        share = (reached - self.began) / (self.goal.timestamp - self.began)
        return f"{place}, {min(share, 1):.0%} of the time range"


_MOST_TRADES = 10**10  # five times those of all pairs of Kraken together


async def find_goal(client: KrakenRestClient, pair: str, end: datetime | None) -> KrakenTrade | None:
    """The trade that a download ends at; None if there is none at all, or its id cannot be."""
    found: list[KrakenTrade] = []
    if end is not None:
        found = (await client.trades(pair, to_cursor(end), count=1)).trades[:1]
    if not found:
        found = (await client.newest_trades(pair, count=1)).trades[-1:]
    return found[0] if found and (found[0].trade_id or 0) < _MOST_TRADES else None


# Pages that wait for the database, and that it takes at once: memory is bounded by them, and a database that
# is slower than the network has fewer transactions to commit.
AT_ONCE = 16

LOOK_EVERY = 1.0
"""Seconds between two looks at what others have brought meanwhile."""

DOWNLOAD_JOB = "download"
"""The job that whoever downloads a symbol's trades holds the lock of."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Download:
    """Runs until everything is there, or until ``stop`` is set; ``report`` says how far it came."""

    pager: TradePager
    pages: PageStore
    lock: JobLock
    report: BackfillReport
    remaining: Remaining
    retry: Retry
    stop: asyncio.Event
    auto_stop: bool = True
    known_until: Callable[[int], Awaitable[datetime | None]] | None = None
    """Whether somebody else has brought what comes behind a cursor: then it ends, and has ``met`` them."""
    met: bool = field(default=False, init=False)
    _looked_at: float = field(default=0.0, init=False)
    _queue: asyncio.Queue[Step] = field(default_factory=lambda: asyncio.Queue(AT_ONCE), init=False)

    async def run(self) -> None:
        """Raises what no further attempt helps against; what was stored stays."""
        fetching = asyncio.create_task(self._fetch())
        stopping = asyncio.create_task(self.stop.wait())
        # A page that is under way is not waited for: it is asked for again by the next run.
        stopping.add_done_callback(lambda _: fetching.cancel())
        try:
            while steps := await self._fetched(fetching):
                await self._save(steps)
                if await self._meets(steps[-1].cursor):
                    return
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

    async def _meets(self, cursor: int) -> bool:
        now = time.monotonic()
        if self.known_until is None or now - self._looked_at < LOOK_EVERY:
            return False
        self._looked_at = now
        with contextlib.suppress(DatabaseError):  # the next page reports it
            self.met = await self.known_until(cursor) is not None
        return self.met

    async def _save(self, steps: list[Step]) -> None:
        pages = Pages.of(steps)
        stored = await self.lock.outlasting(
            lambda: self.pages.save(pages), self.retry, lambda: not self.stop.is_set()
        )
        self._add_to_report(steps, pages, stored)

    def _add_to_report(self, steps: list[Step], pages: Pages, stored: PagesWritten) -> None:
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
            first, last = pages.trades[0].timestamp, pages.trades[-1].timestamp
            report.oldest = min(report.oldest or first, first)
            report.newest = max(report.newest or last, last)
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


MOST_EXAMPLES = 20


Outcome: TypeAlias = Literal[
    "caught up", "reached the end", "archive read", "delisted", "elsewhere", "stopped", "failed"
]
"""``elsewhere``: another process downloads the pair, and goes on with it."""


@dataclass(slots=True)
class BackfillReport:
    """One pair. Times are UTC; ``oldest`` and ``newest`` bound what this run received, both inclusive."""

    symbol: str
    outcome: Outcome = "stopped"
    pages: int = 0
    received: int = 0
    """Trades that Kraken sent, or its archives have, each counted once."""
    archived: int = 0
    """Those of them that came from archives."""
    notes: list[str] = field(default_factory=list)
    """What is to be said of the archives."""
    new: int = 0
    changed: int = 0
    """Stored trades that took Kraken's stamp, or what they lacked."""
    removed: int = 0
    """Stored trades without an id whose place was taken by those with one."""
    candles_new: int = 0
    candles_changed: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    cursor: int | None = None
    """Where ``--resume`` goes on, in ns."""
    holes: list[IdHole] = field(default_factory=list)
    """Ids that Kraken has no trade for, however it was asked: their stretch counts as unknown."""
    conflicts: int = 0
    """Trades that are stored under the same id with another content; they were left as they are."""
    conflict_examples: list[str] = field(default_factory=list)
    error: KrakenDBError | None = None
    refresh_error: KrakenDBError | None = None
    """Why the higher intervals do not show all of it yet, the same for all pairs of a run."""

    @property
    def is_flawed(self) -> bool:
        """Whether something is left for a person to look at."""
        has_failed = self.error is not None or self.refresh_error is not None
        return has_failed or bool(self.holes or self.conflicts)

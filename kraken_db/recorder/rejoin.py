"""From what is stored to the live feed, through REST: after a start, and after every hole in the ids.

All that is needed to go on is in the database, so that a run that was killed anywhere leaves nothing
behind: the end of what is known, and the trade there. ``CatchUp`` is one attempt, ``Rejoin`` goes on until
the pair is live.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.errors import DatabaseError, KrakenDBError
from kraken_db.ingest.missing import build_missing
from kraken_db.ingest.pages import Pages, PageStore, ResumePoint, find_resume_point
from kraken_db.ingest.write_unit import Ingest
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.kraken.websocket_messages import LiveTrade
from kraken_db.ranges import TICK
from kraken_db.recorder.candle_closer import CandleCloser, Flushing
from kraken_db.recorder.symbol_feed import SymbolFeed
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.trades import TradeRepository
from kraken_db.retry import may_pass
from kraken_db.store import Store
from kraken_db.times import Sleep

_log = logging.getLogger(__name__)

BEHIND = 1.0
"""Seconds until REST is asked again where it does not have yet what the feed had."""
_TRADES = "trades"
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Of one recording; ``sleep`` is for tests."""

    store: Store
    client: KrakenRestClient
    exchange: Exchange
    writer: Flushing
    sleep: Sleep = asyncio.sleep

    async def run(self, symbol_feed: SymbolFeed) -> datetime | None:
        """Returns when the next trade of the feed follows on; from when on there is something new, or None.

        Raises ExchangeErrors and DatabaseErrors; it may be called again then.
        """
        began: datetime | None = None
        async with Ingest(self.store) as ingest:
            while True:
                await self.writer.flush()
                resume_point = await self._resume_point(symbol_feed)
                if resume_point is None:
                    return None  # nothing is stored: the feed is the beginning
                began = began or resume_point.known_from
                if symbol_feed.follows_on or await self._glance(symbol_feed, resume_point, ingest):
                    return began
                resume_point = await self._resume_point(symbol_feed)
                if resume_point is None or await self._walk(symbol_feed, resume_point, ingest):
                    return began
                await self.sleep(BEHIND)

    async def _resume_point(self, symbol_feed: SymbolFeed) -> ResumePoint | None:
        """Where what is known ends; the symbol_feed is there then."""
        async with self.store.database.read() as connection:
            since = await _end_of_what_is_known(connection, symbol_feed.symbol)
            if since is None:
                return None
            resume_point = await find_resume_point(connection, symbol_feed.symbol, since)
        symbol_feed.reach(resume_point.sequence.last_id, resume_point.sequence.last_time)
        if resume_point.stored_cursor is None:  # where a download goes on is not for a recording to say
            return replace(resume_point, stored_cursor=0)
        return resume_point

    async def _glance(self, symbol_feed: SymbolFeed, resume_point: ResumePoint, ingest: Ingest) -> bool:
        """Take from one page what its ids prove: nearly always that is all that was missing.

        The trade that it begins with is in it once more: from then on the stored one has the stamp of REST,
        which a walk relies on. Returns whether the feed follows on.
        """
        last_id = resume_point.sequence.last_id
        if last_id is None:
            return False
        name = await self.exchange.rest_name(symbol_feed.symbol)
        page = await self.client.trades(name, resume_point.since)
        trades = _chain(page.trades, last_id)
        if trades:
            cursor = page.last or to_cursor(trades[-1].timestamp)
            pages = PageStore(ingest, symbol_feed.symbol, resume_point)
            await self._save(symbol_feed, pages, Pages(trades, cursor, trades[-1].timestamp, ()))
        return symbol_feed.follows_on

    async def _walk(self, symbol_feed: SymbolFeed, resume_point: ResumePoint, ingest: Ingest) -> bool:
        """Page after page, until the feed follows on or there is nothing more; returns whether it does."""
        name = await self.exchange.rest_name(symbol_feed.symbol)
        pager = await self.exchange.pager(name, resume_point.since, None, resume_point.sequence)
        pages = PageStore(ingest, symbol_feed.symbol, resume_point)
        async with aclosing(pager.steps(auto_stop=True)) as steps:
            async for step in steps:
                await self._save(symbol_feed, pages, Pages.of([step]))
                if symbol_feed.follows_on:
                    return True
        return not symbol_feed.waiting

    async def _save(self, symbol_feed: SymbolFeed, store: PageStore, pages: Pages) -> None:
        stored = await store.save(pages)
        if symbol_feed.received:
            symbol_feed.repaired += stored.trades.new
        else:
            symbol_feed.caught_up += stored.trades.new
        for conflict in stored.trades.conflicts:
            _log.error("%s: %s; left as it is stored", symbol_feed.symbol, conflict)
        for hole in pages.holes:
            _log.warning("%s: Kraken has no trade for %s", symbol_feed.symbol, hole)
        last = next((trade for trade in reversed(pages.trades) if trade.trade_id is not None), None)
        if last is not None:
            symbol_feed.reach(last.trade_id, last.timestamp)


def _chain(trades: Sequence[KrakenTrade], first_id: int) -> list[KrakenTrade]:
    """The trade of that id, and those behind it whose ids follow each other."""
    by_id = {trade.trade_id: trade for trade in trades}
    chain: list[KrakenTrade] = []
    while (trade := by_id.get(first_id + len(chain))) is not None:
        chain.append(trade)
    return chain


async def _end_of_what_is_known(connection: AsyncConnection, symbol: str) -> int | None:
    """The cursor, in ns, behind which a trade may be missing; None where nothing is stored.

    The newest range that is known to be complete ends there, or else the newest trade with an id is there.
    """
    trades = TradeRepository(connection)
    covered = await CoverageRepository(connection).covered(symbol, _TRADES)
    if not covered:
        newest = await trades.newest_until(symbol, _FAR)
        return None if newest is None else to_cursor(newest[1])
    start, end = covered[-1]
    last = await trades.newest_until(symbol, end)
    return to_cursor(last[1] if last is not None and last[1] >= start - TICK else end)


AT_ONCE = 10
"""Pairs that are caught up with side by side."""
_LONGEST_PAUSE = 60.0


@dataclass(slots=True)
class Rejoin:
    """``write`` takes the trades that follow on; ``refuse`` gets a pair that cannot be recorded."""

    catch_up: CatchUp
    closer: CandleCloser
    write: Callable[[SymbolFeed, Sequence[LiveTrade]], None]
    refuse: Callable[[SymbolFeed, KrakenDBError], None]
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _bug: BaseException | None = None
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def begin(self, symbol_feed: SymbolFeed) -> None:
        """Let a pair catch up; its trades wait until it has."""
        symbol_feed.lose_track()
        running = self._tasks.get(symbol_feed.symbol)
        if running is None or running.done():
            task = self._tasks[symbol_feed.symbol] = asyncio.create_task(self._join(symbol_feed))
            task.add_done_callback(self._note_bug)

    async def end(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def raise_bug(self) -> None:
        """Raise what an attempt of a pair has ended with, and should not have."""
        if self._bug is not None:
            raise self._bug

    def _note_bug(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._bug = self._bug or task.exception()

    async def _join(self, symbol_feed: SymbolFeed) -> None:
        pause = 1.0
        is_first = symbol_feed.last_id is None
        while symbol_feed.state == "catching up":
            try:
                await self._once(symbol_feed, is_first)
                is_first, pause = False, 1.0
                continue
            except KrakenDBError as error:
                # What is wrong with a database its owner mends: the pair is recorded from then on.
                if not (may_pass(error) or isinstance(error, DatabaseError)):
                    self.refuse(symbol_feed, error)
                    return
                _log.warning("%s: %s; trying again in %.0f s", symbol_feed.symbol, error, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            with suppress(KrakenDBError):  # the next attempt reports it
                await self.catch_up.store.database.revive()

    async def _once(self, symbol_feed: SymbolFeed, is_first: bool) -> None:
        async with self._turns:
            began = await self.catch_up.run(symbol_feed)
            if is_first:  # candles of trades that a killed run has stored, too
                store = self.catch_up.store
                async with Ingest(store) as ingest:
                    await build_missing(ingest, symbol_feed.symbol)
        if symbol_feed.state != "catching up":
            return  # the feed has refused it meanwhile
        if began is not None:
            self.closer.reopen(symbol_feed, began)
        # From here on nothing waits: no trade of the feed comes in between.
        self.write(symbol_feed, symbol_feed.join())
        if symbol_feed.has_hole:
            symbol_feed.holes += 1
            symbol_feed.lose_track()

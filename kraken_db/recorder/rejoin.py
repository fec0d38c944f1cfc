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

from kraken_db.errors import (
    ConfigurationError,
    DatabaseError,
    ExchangeLockoutError,
    ExchangeThrottledError,
    ExchangeUnavailableError,
    KrakenDBError,
    UnknownPairError,
    foreseen,
)
from kraken_db.ingest.missing import build_missing
from kraken_db.ingest.pages import Pages, PageStore, ResumePoint, find_resume_point
from kraken_db.ingest.write_unit import Ingest
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import cursor_of, to_cursor
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.kraken.websocket_messages import LiveTrade
from kraken_db.log_throttle import LogThrottle
from kraken_db.ranges import TICK
from kraken_db.recorder.candle_closer import CandleCloser, Flushing
from kraken_db.recorder.symbol_feed import SymbolFeed
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.trades import TradeRepository
from kraken_db.retry import MAX_WAIT, may_pass
from kraken_db.store import Store
from kraken_db.times import Sleep

_log = logging.getLogger(__name__)

_TRADES = "trades"
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


class BehindError(ExchangeUnavailableError):
    """REST does not have yet what the feed had: it lags by a second or two, or something is wrong with it."""


@dataclass(slots=True)
class CatchUp:
    """Of one recording; ``sleep`` is for tests."""

    store: Store
    client: KrakenRestClient
    exchange: Exchange
    writer: Flushing
    sleep: Sleep = asyncio.sleep

    _has_flushed: bool = False
    """Whether all that an earlier process has left is stored."""
    _began: dict[str, datetime | None] = field(default_factory=dict)
    """Where the attempts that were not enough have begun."""

    async def run(self, symbol_feed: SymbolFeed) -> datetime | None:
        """Returns when the next trade of the feed follows on; from when on there is something new, or None.

        Raises BehindError, other ExchangeErrors, and DatabaseErrors; it may be called again then.
        """
        if symbol_feed.received or not self._has_flushed:
            await self.writer.flush()
            self._has_flushed = True
        resume_point = await self._resume_point(symbol_feed)
        if resume_point is None:
            return None  # nothing is stored: the feed is the beginning
        self._began.setdefault(symbol_feed.symbol, resume_point.known_from)
        if not symbol_feed.follows_on:
            async with Ingest(self.store) as ingest:
                await self._fetch(symbol_feed, resume_point, ingest)
        return self._began.pop(symbol_feed.symbol)

    async def _fetch(self, symbol_feed: SymbolFeed, resume_point: ResumePoint, ingest: Ingest) -> None:
        """Bring what is missing through REST. Raises BehindError where it does not have it."""
        if await self._glance(symbol_feed, resume_point, ingest):
            return
        further = await self._resume_point(symbol_feed)
        if further is not None and not await self._walk(symbol_feed, further, ingest):
            raise BehindError(
                f"Kraken's REST has trades up to {symbol_feed.last_id}, and the feed goes on behind that"
            )

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
            cursor = cursor_of(page) or to_cursor(trades[-1].timestamp)
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
        if strays := symbol_feed.drop_strays():
            _log.error(
                "%s: %d trades of the feed left out: no ids of it are so large", symbol_feed.symbol, strays
            )
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
FIRST_WORD = 30.0
"""Seconds that a pair waits for the feed's snapshot, which nearly always says that nothing is missing, before
REST is asked."""
LONGEST_PAUSE = 60.0
"""Seconds between two attempts, where what is wrong is known to pass."""
LONGEST_PAUSE_REFUSED = 900.0
"""The same where Kraken refuses: an address that is locked out is so for 15 minutes."""
_PATIENT = 4.0  # seconds that REST may lag behind the feed before that is told


@dataclass(slots=True)
class Rejoin:
    """``write`` takes the trades that follow on, and says whether it has lost none. ``doubt`` is told of a
    pair that Kraken does not know, and ``refuse`` gets one that cannot be recorded, whatever Kraken says."""

    catch_up: CatchUp
    closer: CandleCloser
    write: Callable[[SymbolFeed, Sequence[LiveTrade]], bool]
    doubt: Callable[[SymbolFeed, KrakenDBError], None]
    refuse: Callable[[SymbolFeed, KrakenDBError], None]
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _first_words: dict[str, asyncio.Event] = field(default_factory=dict)
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _throttle: LogThrottle = field(default_factory=lambda: LogThrottle(_log))

    def begin(self, symbol_feed: SymbolFeed) -> None:
        """Let a pair catch up; its trades wait until it has."""
        symbol_feed.lose_track()
        running = self._tasks.get(symbol_feed.symbol)
        if running is None or running.done():
            self._tasks[symbol_feed.symbol] = asyncio.create_task(self._join(symbol_feed))

    def heard(self, symbol_feed: SymbolFeed) -> None:
        """The feed has said something of a pair."""
        if (first_word := self._first_words.pop(symbol_feed.symbol, None)) is not None:
            first_word.set()

    async def end(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _join(self, symbol_feed: SymbolFeed) -> None:
        pause = 1.0
        is_first = symbol_feed.last_id is None
        await self._first_word(symbol_feed)
        while symbol_feed.stage == "catching up":
            try:
                await self._once(symbol_feed, is_first)
                is_first, pause = False, 1.0
                continue
            except ConfigurationError as error:  # nothing that Kraken or the database says
                self.refuse(symbol_feed, error)
                return
            except Exception as error:  # of the others each has its own task
                _log.debug("%s", symbol_feed.symbol, exc_info=error)
                pause = await self._wait_after(symbol_feed, foreseen(error), pause)

    async def _wait_after(self, symbol_feed: SymbolFeed, error: KrakenDBError, pause: float) -> float:
        """Wait for another attempt; returns the pause of the next time.

        Nothing that Kraken says about a request ends a pair: it may say something else later. What is wrong
        with a database its owner mends.
        """
        symbol_feed.error = error
        if isinstance(error, UnknownPairError):
            self.doubt(symbol_feed, error)
        asks = error.retry_after if isinstance(error, ExchangeThrottledError) else None
        if isinstance(error, ExchangeLockoutError) or (asks or 0.0) > MAX_WAIT:
            pause = LONGEST_PAUSE_REFUSED
        if not isinstance(error, BehindError) or pause > _PATIENT:
            detail = f"{symbol_feed.symbol}: {error}; trying again in {pause:.0f} s"
            self._throttle.say(logging.WARNING, "trades are missing", detail)
        await self.catch_up.sleep(pause)
        with suppress(Exception):  # the next attempt reports it
            await self.catch_up.store.database.revive()
        passes = may_pass(error) or isinstance(error, DatabaseError)
        return min(2 * pause, LONGEST_PAUSE if passes else LONGEST_PAUSE_REFUSED)

    async def _first_word(self, symbol_feed: SymbolFeed) -> None:
        if symbol_feed.has_heard or symbol_feed.last_id is not None:
            return
        first_word = self._first_words.setdefault(symbol_feed.symbol, asyncio.Event())
        with suppress(TimeoutError):
            async with asyncio.timeout(FIRST_WORD):
                await first_word.wait()

    async def _once(self, symbol_feed: SymbolFeed, is_first: bool) -> None:
        async with self._turns:
            began = await self.catch_up.run(symbol_feed)
            if is_first:  # candles of trades that a killed run has stored, too
                store = self.catch_up.store
                async with Ingest(store) as ingest:
                    await build_missing(ingest, symbol_feed.symbol)
        if symbol_feed.stage != "catching up":
            return  # it has ended meanwhile
        symbol_feed.error = None
        if began is not None:
            self.closer.reopen(symbol_feed, began)
        # From here on nothing waits: no trade of the feed comes in between.
        is_kept = self.write(symbol_feed, symbol_feed.join())
        if symbol_feed.has_hole or not is_kept:
            symbol_feed.holes += 1
            symbol_feed.lose_track()

"""From what is stored to the live feed, through REST: after a start, and after every hole in the ids.

All that is needed to go on is in the database, so that a run that was killed anywhere leaves nothing behind:
the end of what is known, and the trade there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.historical_backfill.cursor import to_cursor
from kraken_db.historical_backfill.exchange import Exchange
from kraken_db.historical_backfill.storing import Origin, Pages, PageStore, find_origin
from kraken_db.kraken.limiter import Sleep
from kraken_db.kraken.records import KrakenTrade
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.ranges import TICK
from kraken_db.recorder.lane import Lane
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.trades import TradeRepository
from kraken_db.retention import RetentionPause
from kraken_db.store import Store

_log = logging.getLogger(__name__)

BEHIND = 1.0
"""Seconds until REST is asked again where it does not have yet what the feed had."""
_TRADES = "trades"
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


class Flushing(Protocol):
    """What catching up needs of a writer: that all it was given is stored."""

    async def flush(self) -> object: ...


@dataclass(frozen=True, slots=True)
class CatchUp:
    """Of one recording; ``sleep`` is for tests."""

    store: Store
    client: KrakenRestClient
    exchange: Exchange
    writer: Flushing
    sleep: Sleep = asyncio.sleep

    async def run(self, lane: Lane) -> datetime | None:
        """Returns when the next trade of the feed follows on; from when on there is something new, or None.

        Raises ExchangeErrors and DatabaseErrors; it may be called again then.
        """
        began: datetime | None = None
        async with self.store.retention_paused() as retention:
            while True:
                await self.writer.flush()
                origin = await self._origin(lane)
                if origin is None:
                    return None  # nothing is stored: the feed is the beginning
                began = began or origin.known_from
                if lane.follows_on or await self._glance(lane, origin, retention):
                    return began
                origin = await self._origin(lane)
                if origin is None or await self._walk(lane, origin, retention):
                    return began
                await self.sleep(BEHIND)

    async def _origin(self, lane: Lane) -> Origin | None:
        """Where what is known ends; the lane is there then."""
        async with self.store.database.read() as connection:
            since = await _end_of_what_is_known(connection, lane.symbol)
            if since is None:
                return None
            origin = await find_origin(connection, lane.symbol, since)
        lane.reach(origin.sequence.last_id, origin.sequence.last_time)
        if origin.stored_cursor is None:  # where a download goes on is not for a recording to say
            return replace(origin, stored_cursor=0)
        return origin

    async def _glance(self, lane: Lane, origin: Origin, retention: RetentionPause) -> bool:
        """Take from one page what its ids prove: nearly always that is all that was missing.

        The trade that it begins with is in it once more: from then on the stored one has the stamp of REST,
        which a walk relies on. Returns whether the feed follows on.
        """
        last_id = origin.sequence.last_id
        if last_id is None:
            return False
        name = await self.exchange.rest_name(lane.symbol)
        page = await self.client.trades(name, origin.since)
        trades = _chain(page.trades, last_id)
        if trades:
            cursor = page.last or to_cursor(trades[-1].timestamp)
            pages = PageStore(self.store, retention, lane.symbol, origin)
            await self._save(lane, pages, Pages(trades, cursor, trades[-1].timestamp, ()))
        return lane.follows_on

    async def _walk(self, lane: Lane, origin: Origin, retention: RetentionPause) -> bool:
        """Page after page, until the feed follows on or there is nothing more; returns whether it does."""
        name = await self.exchange.rest_name(lane.symbol)
        pager = await self.exchange.pager(name, origin.since, None, origin.sequence)
        pages = PageStore(self.store, retention, lane.symbol, origin)
        async with aclosing(pager.steps(auto_stop=True)) as steps:
            async for step in steps:
                await self._save(lane, pages, Pages.of([step]))
                if lane.follows_on:
                    return True
        return not lane.waiting

    async def _save(self, lane: Lane, store: PageStore, pages: Pages) -> None:
        stored = await store.save(pages)
        if lane.received:
            lane.repaired += stored.trades.new
        else:
            lane.caught_up += stored.trades.new
        for conflict in stored.trades.conflicts:
            _log.error("%s: %s; left as it is stored", lane.symbol, conflict)
        for hole in pages.holes:
            _log.warning("%s: Kraken has no trade for %s", lane.symbol, hole)
        last = next((trade for trade in reversed(pages.trades) if trade.trade_id is not None), None)
        if last is not None:
            lane.reach(last.trade_id, last.timestamp)


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

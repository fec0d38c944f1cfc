"""Fills a range from Kraken's trades: with the backfill's own download, from a trade that is stored on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from kraken_db.data_types import DataType
from kraken_db.db.locks import JobLock
from kraken_db.errors import ExchangeFormatError, UnknownPairError
from kraken_db.gap_filler.gaps import Filled
from kraken_db.historical_backfill.download import BackfillReport, Download, Remaining
from kraken_db.ingest.delisting import note_end
from kraken_db.ingest.pages import Pages, PageStore, find_resume_point
from kraken_db.ingest.trades import REST
from kraken_db.ingest.write_unit import Ingest
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import QUIET, cursor_time, to_cursor
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.progress import Task
from kraken_db.ranges import TICK
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.trade_neighbours import TradeNeighbours
from kraken_db.repositories.trades import TradeRepository
from kraken_db.retry import FLAWED, Retry, unless_set
from kraken_db.tolerances import SAME_TRADE, SETTLED

ROUNDS = 5
"""How often it goes on with trades that came while it looked whether there are any."""
_LONG = timedelta(hours=12)
"""From here on it is worth a request to know how much is left."""


@dataclass(frozen=True, slots=True)
class TradeFiller:
    """Downloads ranges of a symbol whose download lock the caller holds."""

    ingest: Ingest
    client: KrakenRestClient
    exchange: Exchange
    retry: Retry
    stop: asyncio.Event

    async def fill(
        self, symbol: str, start: datetime, end: datetime, lock: JobLock, task: Task, written: Filled
    ) -> list[str]:
        """Download the whole minutes around ``[start, end)`` and build them; returns what is wrong with it,
        one line each.

        ``written`` counts the rows, also of what ends early: where ``stop`` was set, or by what is raised.
        """
        name = await unless_set(self.stop, self.exchange.rest_name(symbol))
        start, until = floor_to_interval(start, BASE_INTERVAL), await self._until(end)
        problems: list[str] = []
        for _ in range(ROUNDS):
            if name is None or self.stop.is_set():
                return problems
            report, pages = await replace(FLAWED, sleep=self.retry.sleep).run(
                partial(self._round, name, symbol, start, until, lock, task, written, problems),
                is_worth_it=lambda: not self.stop.is_set(),
            )
            if report.outcome != "caught up" or await self._is_quiet(name, pages, until):
                return problems
            start = floor_to_interval(report.newest or start, BASE_INTERVAL)
        return [*problems, "new trades kept coming; the next run goes on"]

    async def _round(
        self,
        name: str,
        symbol: str,
        start: datetime,
        until: datetime,
        lock: JobLock,
        task: Task,
        written: Filled,
        problems: list[str],
    ) -> tuple[BackfillReport, PageStore]:
        report = BackfillReport(symbol)
        pages = await self._pages(symbol, start)
        try:
            await self._download(name, pages, until, lock, report, Remaining(task))
        finally:
            written.add(_written(report))
            problems += [one for one in _problems(report) if one not in problems]
        return report, pages

    async def _until(self, end: datetime) -> datetime:
        """To the end of a minute, but not so far that it would not be settled yet."""
        return min(ceil_to_interval(end, BASE_INTERVAL), max(end, await self.exchange.now() - SETTLED))

    async def _pages(self, symbol: str, start: datetime) -> PageStore:
        """Begin at the stored trade before the range: then the first answer shows that nothing is skipped.

        A little before it, for a live stamp may be ahead of Kraken's own.
        """
        async with self.ingest.store.database.read() as connection:
            before = await TradeNeighbours(connection, symbol).before(start)
            covered = await CoverageRepository(connection).covered(symbol, DataType.TRADES)
            joins = before is not None and any(
                first <= before.timestamp and start <= last for first, last in covered
            )
            since = to_cursor(before.timestamp - SAME_TRADE if before and joins else start)
            resume_point = await find_resume_point(connection, symbol, since)
        return PageStore(self.ingest, symbol, replace(resume_point, is_repair=True))

    async def _download(
        self,
        name: str,
        pages: PageStore,
        end: datetime,
        lock: JobLock,
        report: BackfillReport,
        remaining: Remaining,
    ) -> None:
        resume_point = pages.resume_point
        walk = self.exchange.pager(name, resume_point.since, end, resume_point.sequence)
        pager = await unless_set(self.stop, walk)
        if pager is None:
            return
        download = Download(pager, pages, lock, report, remaining, self.retry, self.stop)
        if end - cursor_time(resume_point.since) > _LONG:
            await download.run_with_estimate(self.client, name, end)
        else:
            await download.run()

    async def _is_quiet(self, name: str, pages: PageStore, end: datetime) -> bool:
        """After the last trade, whether there was none up to ``end``: then so much is known.

        An empty answer proves nothing. The newest trade of all does, if it is one that is stored or from
        before the range; and so that the pair is not off the list: then it was the last one, and the end.
        """
        symbol, known_from = pages.symbol, pages.resume_point.known_from
        asked_at = await self.exchange.now()
        newest = await self._newest(symbol, name)
        is_known = known_from is not None and newest.timestamp < known_from
        if not is_known and not await self._is_stored(symbol, newest):
            return False
        if await self.exchange.listed([symbol]):
            await pages.save(Pages([], 0, min(end, asked_at - SETTLED), []))
        else:
            await self._note_end(symbol, newest.timestamp)
        return True

    async def _note_end(self, symbol: str, last: datetime) -> None:
        """Kraken has taken the pair off its list, and what it still serves ends with this trade."""
        minute_end = ceil_to_interval(last + TICK, BASE_INTERVAL)
        if not await note_end(self.ingest.store, symbol, last, minute_end, REST.source):
            raise UnknownPairError(
                f"Kraken does not list {symbol} any more: nothing is known after its last trade, at"
                f" {last:%Y-%m-%d %H:%M:%S} UTC"
            )

    async def _newest(self, symbol: str, name: str) -> KrakenTrade:
        """The newest trade of all. One empty answer may be that to another question."""
        for _ in range(QUIET):
            newest = (await self.client.newest_trades(name, count=1)).trades
            if newest:
                return newest[-1]
        raise ExchangeFormatError(f"Kraken has no trade of {symbol}")

    async def _is_stored(self, symbol: str, trade: KrakenTrade) -> bool:
        async with self.ingest.store.database.read() as connection:
            around = await TradeRepository(connection).between(
                symbol, trade.timestamp - SAME_TRADE, trade.timestamp + SAME_TRADE
            )
        if trade.trade_id is not None:
            return any(one.id == trade.trade_id for one in around)
        content = (trade.timestamp, trade.price, trade.volume)
        return any((one.timestamp, one.price, one.volume) == content for one in around)


def _written(report: BackfillReport) -> Filled:
    return Filled(report.new, report.changed, report.candles_new, report.candles_changed)


def _problems(report: BackfillReport) -> list[str]:
    found = [f"Kraken has no trade for {hole}" for hole in report.holes]
    found += [f"{conflict}; the stored one was left as it is" for conflict in report.conflict_examples]
    if more := report.conflicts - len(report.conflict_examples):
        found.append(f"and {more:,} more such trades")
    return found

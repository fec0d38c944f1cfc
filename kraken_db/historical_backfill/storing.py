"""What was downloaded goes into the store: trades, cursor, counters, coverage and candles in one go."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.db.locks import lock_job
from kraken_db.historical_backfill.building import write_minutes
from kraken_db.id_runs import IdHole, IdSequence
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import Step, cursor_time, to_cursor
from kraken_db.ranges import TICK, TimeRange, difference, whole_candles
from kraken_db.repositories.coverage import CoverageRepository, Source
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.trade_batch import TradeBatch, TradesWritten
from kraken_db.repositories.trades import TradeRepository
from kraken_db.retention import RetentionPause
from kraken_db.retry import CONFLICT
from kraken_db.store import Store

_log = logging.getLogger(__name__)
_SOURCE: Source = "rest_trades"


@dataclass(frozen=True, slots=True)
class Pages:
    """Some pages in a row that are stored together."""

    trades: Sequence[KrakenTrade]
    cursor: int
    known_until: datetime | None
    holes: Sequence[IdHole]

    @classmethod
    def of(cls, steps: Sequence[Step]) -> Pages:
        return cls(
            [trade for step in steps for trade in step.trades],
            steps[-1].cursor,
            max((step.known_until for step in steps if step.known_until), default=None),
            [hole for step in steps for hole in step.holes],
        )


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a download begins, and how it lies to what is stored."""

    since: int
    sequence: IdSequence
    known_from: datetime | None
    """From where on it knows every trade; None: since the first one, wherever that is."""
    is_joined: bool
    """Whether all before ``known_from`` in its minute is known too, so that the minute will be whole."""
    stored_cursor: int | None
    chain_start: datetime | None
    """Where the stretch begins that ``stored_cursor`` is the end of."""
    is_repair: bool = False
    """Whether it fills in what is missing: that is no reason for a download to go on from further back."""

    def cursor(self, reached: int) -> int | None:
        """What the stored cursor becomes: the end of one stretch without a gap; None leaves it as it is."""
        if self.is_repair:
            return self._further(reached)
        if self.stored_cursor is None:
            return reached
        if self.since > self.stored_cursor:
            return None
        chain_start = self.chain_start
        meets = (
            chain_start is None or self.since >= to_cursor(chain_start) or reached >= to_cursor(chain_start)
        )
        return max(self.stored_cursor, reached) if meets else reached

    def _further(self, reached: int) -> int | None:
        if self.stored_cursor is None or self.chain_start is None:
            return None
        goes_on = to_cursor(self.chain_start) <= self.since <= self.stored_cursor
        return max(self.stored_cursor, reached) if goes_on else None


async def find_origin(connection: AsyncConnection, symbol: str, since: int) -> Origin:
    """What is stored around the place where a download begins (``since`` in ns)."""
    status = await SyncStatusRepository(connection).get(symbol, DataType.TRADES)
    covered = await CoverageRepository(connection).covered(symbol, DataType.TRADES)
    cursor = status.last_kraken_since if status else None
    chain = [start for start, end in covered if cursor and start <= cursor_time(cursor) <= end + TICK]
    chain_start = min(chain, default=None)
    if not since:
        return Origin(since, IdSequence(), None, True, cursor, chain_start)
    moment = cursor_time(since)
    before = await TradeRepository(connection).newest_until(symbol, moment + TICK)
    if before is not None and before[1] >= moment - TICK:  # the very trade that the cursor is of
        minute = floor_to_interval(before[1], BASE_INTERVAL)
        is_joined = any(start <= minute and before[1] <= end + TICK for start, end in covered)
        return Origin(since, IdSequence(*before), before[1], is_joined, cursor, chain_start)
    if since == cursor:
        # It was dropped, and with it the trades of its minute: take that from its beginning.
        moment = floor_to_interval(moment, BASE_INTERVAL) - TICK
        since = to_cursor(moment + TICK)
    known_from = moment + TICK
    minute = floor_to_interval(known_from, BASE_INTERVAL)
    is_known = any(start <= minute and known_from <= end for start, end in covered)
    # Covered, and nothing of it there: it may have been dropped.
    is_joined = minute == known_from or (
        is_known and await TradeRepository(connection).any_between(symbol, minute, known_from)
    )
    return Origin(since, IdSequence(), known_from, is_joined, cursor, chain_start)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a transaction did."""

    trades: TradesWritten
    candles_new: int = 0
    candles_changed: int = 0


@dataclass(slots=True)
class PageStore:
    """Stores the pages of one download of one symbol, in their order."""

    store: Store
    retention: RetentionPause
    symbol: str
    origin: Origin
    build_candles: bool = True
    _known_until: datetime | None = field(default=None, init=False)
    """Where the claim of the last transaction ended."""
    _candles_until: datetime | None = field(default=None, init=False)
    _flawed: list[TimeRange] = field(default_factory=list, init=False)
    """The minutes in which trades are missing."""

    async def save(self, pages: Pages) -> Stored:
        """One transaction: whole or not at all, and the same if it is done twice."""
        begins = self._begins(pages)
        candles_from = self._candles_until or self._first_minute(begins)
        candles_until = pages.known_until and floor_to_interval(pages.known_until, BASE_INTERVAL)
        if pages.trades:
            await self.retention.before_writing("trades", pages.trades[0].timestamp)
        if candles_from:
            await self.retention.before_writing("candles", candles_from)
        self._flawed += whole_candles(((hole.after, hole.before) for hole in pages.holes), BASE_INTERVAL)
        async with self.store.database.begin() as connection:
            await self.store.backend.prepare_bulk_write(connection)
            await lock_job(connection, DataType.TRADES, DataType.CANDLES_1M, of=self.symbol)
            stored = Stored(await self._save_trades(connection, pages, begins))
            if self.build_candles and candles_from and candles_until and candles_from < candles_until:
                stored = await self._save_candles(connection, stored.trades, candles_from, candles_until)
        self._known_until = pages.known_until or self._known_until
        if candles_from and candles_until:
            self._candles_until = max(candles_from, candles_until)
        return stored

    def _begins(self, pages: Pages) -> datetime | None:
        """From where on these pages know every trade; None while there is none."""
        if self._known_until or self.origin.known_from:
            return self._known_until or self.origin.known_from
        # Before the first trade of all there is nothing: its minute is whole.
        return floor_to_interval(pages.trades[0].timestamp, BASE_INTERVAL) if pages.trades else None

    def _first_minute(self, begins: datetime | None) -> datetime | None:
        if begins is None:
            return None
        rounded = floor_to_interval if self.origin.is_joined else ceil_to_interval
        return rounded(begins, BASE_INTERVAL)

    async def _save_trades(
        self, connection: AsyncConnection, pages: Pages, begins: datetime | None
    ) -> TradesWritten:
        coverage = CoverageRepository(connection)
        ranges: list[TimeRange] = []
        if begins is not None and pages.known_until is not None:
            ranges = _without(begins, pages.known_until, pages.holes)
        if not pages.trades:
            await coverage.add(self.symbol, DataType.TRADES, _SOURCE, ranges)
            await SyncStatusRepository(connection).touch(
                self.symbol,
                [DataType.TRADES, DataType.CANDLES_1M] if self.build_candles else [DataType.TRADES],
            )
            return TradesWritten()
        oldest, newest = pages.trades[0].timestamp, pages.trades[-1].timestamp
        async with self.store.writing(
            connection, self.symbol, DataType.TRADES, oldest, newest + TICK
        ) as write:
            written = await TradeBatch(connection, self.symbol).write(pages.trades, may_have_ids=False)
        await SyncStatusRepository(connection).record(
            self.symbol,
            DataType.TRADES,
            oldest=oldest,
            newest=newest,
            added=written.new - written.removed - write.returned,
            cursor=self.origin.cursor(pages.cursor),
        )
        await write.shows(_SOURCE, ranges, goes_on=True)
        return written

    async def _save_candles(
        self, connection: AsyncConnection, trades: TradesWritten, start: datetime, end: datetime
    ) -> Stored:
        known = {_SOURCE: difference([(start, end)], self._flawed)}
        built = await write_minutes(self.store, connection, self.symbol, start, end, known)
        return Stored(trades, built.new, built.changed)


async def save_raw(store: Store, symbol: str, trades: Sequence[KrakenTrade]) -> TradesWritten:
    """Store trades that somebody has got from Kraken, in one transaction; what their ids prove is covered."""
    trades = sorted(trades, key=lambda trade: (trade.timestamp, trade.trade_id or -1))
    async with store.retention_paused() as retention:
        await retention.before_writing("trades", trades[0].timestamp)
        written = await CONFLICT.run(partial(_save_raw, store, symbol, trades))
    for conflict in written.conflicts:
        _log.error("%s: %s; left as it is stored", symbol, conflict)
    return written


async def _save_raw(store: Store, symbol: str, trades: Sequence[KrakenTrade]) -> TradesWritten:
    first, last = trades[0], trades[-1]
    async with store.database.begin() as connection:
        await store.backend.prepare_bulk_write(connection)
        await lock_job(connection, DataType.TRADES, of=symbol)
        before = await TradeRepository(connection).newest_until(symbol, first.timestamp)
        joins = before is not None and before[0] + 1 == first.trade_id
        sequence = IdSequence(*before) if joins and before else IdSequence()
        _, holes = sequence.follow(trades)
        async with store.writing(
            connection, symbol, DataType.TRADES, first.timestamp, last.timestamp + TICK
        ) as write:
            written = await TradeBatch(connection, symbol).write(trades)
        await SyncStatusRepository(connection).record(
            symbol,
            DataType.TRADES,
            oldest=first.timestamp,
            newest=last.timestamp,
            added=written.new - written.removed - write.returned,
        )
        ranges = _without(sequence.last_time or first.timestamp, last.timestamp, holes)
        await write.shows(_SOURCE, ranges)
    return written


def _without(start: datetime, end: datetime, holes: Iterable[IdHole]) -> list[TimeRange]:
    """``[start, end)`` without the stretches in which trades are missing."""
    missing = [(hole.after + TICK, max(hole.before, hole.after + 2 * TICK)) for hole in holes]
    return difference([(start, end)], missing)

"""A stretch of trades goes into the store step by step: trades, cursor, counters, coverage and candles in one
go.

A download, the filling of a gap, the catching up of a recording and a file with ids are the same thing from
here on: they begin at a ``ResumePoint``, and hand pages or batches of rows to a ``PageStore``, in order.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.id_runs import IdHole, IdSequence
from kraken_db.ingest.candles import build_minutes
from kraken_db.ingest.trades import HANDED_OVER, REST, TradesWritten, rebuild_touched, stage_trades
from kraken_db.ingest.write_unit import Ingest, WriteTransaction, keys_with_trades
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import Step, cursor_time, to_cursor
from kraken_db.ranges import TICK, TimeRange, difference, whole_candles
from kraken_db.repositories.candle_merge import MINUTES, MinutesOf
from kraken_db.repositories.coverage import CoverageRepository, Source
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.trades import TradeRepository
from kraken_db.store import Store

_log = logging.getLogger(__name__)
_SOURCE: Source = REST.source


class TradeStep(Protocol):
    """Trades that follow upon those of the step before, and are stored together."""

    @property
    def source(self) -> Source: ...
    @property
    def span(self) -> TimeRange | None:
        """The first and the last stamp; None without a trade."""

    @property
    def cursor(self) -> int:
        """Where a download goes on behind it, in ns as Kraken gave it."""

    @property
    def known_until(self) -> datetime | None:
        """Every trade before this moment has come by now; None if there is none at all."""

    @property
    def holes(self) -> Sequence[IdHole]:
        """The ids that are missing, within it and at its ends; known once it is written."""

    @property
    def keeps_trades(self) -> bool:
        """Whether its trades are stored, or only the candles of them."""

    @property
    def minutes(self) -> MinutesOf:
        """The candles of what ``write`` has written."""

    @property
    def is_cut(self) -> bool:
        """Whether it may begin or end in a minute that no other step has the rest of."""

    async def write(self, transaction: WriteTransaction, symbol: str, cursor: int | None) -> TradesWritten:
        """Write its trades, of which there are some, and the ``cursor`` that the store has from now on."""


@dataclass(frozen=True, slots=True)
class Pages:
    """Some pages in a row that are stored together."""

    trades: Sequence[KrakenTrade]
    cursor: int
    known_until: datetime | None
    holes: Sequence[IdHole]
    source: ClassVar[Source] = REST.source
    keeps_trades: ClassVar[bool] = True
    minutes: ClassVar[MinutesOf] = MINUTES
    is_cut: ClassVar[bool] = False

    @classmethod
    def of(cls, steps: Sequence[Step]) -> Pages:
        return cls(
            [trade for step in steps for trade in step.trades],
            steps[-1].cursor,
            max((step.known_until for step in steps if step.known_until), default=None),
            [hole for step in steps for hole in step.holes],
        )

    @property
    def span(self) -> TimeRange | None:
        stamps = [trade.timestamp for trade in self.trades]
        return (min(stamps), max(stamps)) if stamps else None

    async def write(self, transaction: WriteTransaction, symbol: str, cursor: int | None) -> TradesWritten:
        batch = await stage_trades(transaction, symbol, REST, self.trades)
        return await batch.store(cursor=cursor)


@dataclass(frozen=True, slots=True)
class ResumePoint:
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


async def find_resume_point(connection: AsyncConnection, symbol: str, since: int) -> ResumePoint:
    """What is stored around the place where a download begins (``since`` in ns)."""
    status = await SyncStatusRepository(connection).get(symbol, DataType.TRADES)
    covered = await CoverageRepository(connection).covered(symbol, DataType.TRADES)
    cursor = status.last_kraken_since if status else None
    chain = [start for start, end in covered if cursor and start <= cursor_time(cursor) <= end + TICK]
    chain_start = min(chain, default=None)
    if not since:
        return ResumePoint(since, IdSequence(), None, True, cursor, chain_start)
    moment = cursor_time(since)
    trades = TradeRepository(connection)
    before = await trades.newest_between(symbol, moment - TICK, moment + TICK)
    if before is not None:  # the very trade that the cursor is of
        minute = floor_to_interval(before[1], BASE_INTERVAL)
        is_joined = any(start <= minute and before[1] <= end + TICK for start, end in covered)
        return ResumePoint(since, IdSequence(*before), before[1], is_joined, cursor, chain_start)
    if since == cursor:
        # It was dropped, and with it the trades of its minute: take that from its beginning.
        moment = floor_to_interval(moment, BASE_INTERVAL) - TICK
        since = to_cursor(moment + TICK)
    known_from = moment + TICK
    minute = floor_to_interval(known_from, BASE_INTERVAL)
    is_known = any(start <= minute and known_from <= end for start, end in covered)
    # Covered, and nothing of it there: it may have been dropped.
    is_joined = minute == known_from or (is_known and await trades.any_between(symbol, minute, known_from))
    return ResumePoint(since, IdSequence(), known_from, is_joined, cursor, chain_start)


@dataclass(frozen=True, slots=True)
class PagesWritten:
    """What a transaction did."""

    trades: TradesWritten
    candles_new: int = 0
    candles_changed: int = 0


@dataclass(slots=True)
class PageStore:
    """Stores the steps of one stretch of one symbol's trades, in their order."""

    ingest: Ingest
    symbol: str
    resume_point: ResumePoint
    build_candles: bool = True
    _known_until: datetime | None = field(default=None, init=False)
    """Where the claim of the last transaction ended."""
    _candles_until: datetime | None = field(default=None, init=False)
    _flawed: list[TimeRange] = field(default_factory=list, init=False)
    """The minutes in which trades are missing."""

    @property
    def store(self) -> Store:
        return self.ingest.store

    async def save(self, step: TradeStep) -> PagesWritten:
        """One transaction: whole or not at all, and the same if it is done twice."""
        begins = self._begins(step)
        first = self._candles_until or self._first_minute(begins)
        until = step.known_until and floor_to_interval(step.known_until, BASE_INTERVAL)
        minutes = (first, until) if first and until and first < until else None
        keys = keys_with_trades(self.symbol)
        oldest = min([first or self.store.clock(), *(step.span or ())[:1]])
        async with self.ingest.transaction(keys if step.keeps_trades else keys[1:], oldest) as transaction:
            trades = await self._save_trades(transaction, step, begins)
            flawed = self._flawed + whole_candles(
                ((hole.after, hole.before) for hole in step.holes), BASE_INTERVAL
            )
            stored = PagesWritten(trades)
            if self.build_candles and minutes:
                whole = difference([minutes], flawed)
                known = {step.source: whole}
                inside = None if whole == [minutes] else whole
                built = await build_minutes(
                    transaction, self.symbol, *minutes, known, step.minutes, inside=inside
                )
                stored = PagesWritten(trades, built.new, built.changed)
            if step.keeps_trades:
                entered = self._entered(step, minutes)
                await rebuild_touched(transaction, self.symbol, trades, step.source, entered=entered)
        self._flawed = flawed
        self._known_until = step.known_until or self._known_until
        if first and until:
            self._candles_until = max(first, until)
        return stored

    def _entered(self, step: TradeStep, built: TimeRange | None) -> list[TimeRange]:
        """Where new trades may lie in minutes that have a candle already, and were not built."""
        span = [(step.span[0], step.span[1] + TICK)] if step.span else []
        if not self.build_candles:
            return span
        return difference(span, [built] if built else []) if step.is_cut else []

    def _begins(self, step: TradeStep) -> datetime | None:
        """From where on this step knows every trade; None while there is none."""
        if self._known_until or self.resume_point.known_from:
            return self._known_until or self.resume_point.known_from
        # Before the first trade of all there is nothing: its minute is whole.
        return floor_to_interval(step.span[0], BASE_INTERVAL) if step.span else None

    def _first_minute(self, begins: datetime | None) -> datetime | None:
        if begins is None:
            return None
        rounded = floor_to_interval if self.resume_point.is_joined else ceil_to_interval
        return rounded(begins, BASE_INTERVAL)

    async def _save_trades(
        self, transaction: WriteTransaction, step: TradeStep, begins: datetime | None
    ) -> TradesWritten:
        written = TradesWritten()
        if step.span:
            written = await step.write(transaction, self.symbol, self.resume_point.cursor(step.cursor))
        elif self.build_candles:
            transaction.unit(self.symbol, DataType.CANDLES_1M).looked()
        if step.keeps_trades:
            ranges: list[TimeRange] = []
            if begins is not None and step.known_until is not None:
                ranges = without_holes(begins, step.known_until, step.holes)
            transaction.unit(self.symbol, DataType.TRADES).mark_complete(
                step.source, ranges, is_continued=True
            )
        return written


async def store_rows(store: Store, symbol: str, trades: Sequence[KrakenTrade]) -> TradesWritten:
    """Store trades that somebody has got from Kraken, in one transaction; what their ids prove is covered."""
    trades = sorted(trades, key=lambda trade: (trade.timestamp, trade.trade_id or -1))
    first, last = trades[0], trades[-1]

    async def work(transaction: WriteTransaction) -> TradesWritten:
        before = await TradeRepository(transaction.connection).newest_until(symbol, first.timestamp)
        joins = before is not None and before[0] + 1 == first.trade_id
        sequence = IdSequence(*before) if joins and before else IdSequence()
        _, holes = sequence.follow(trades)
        batch = await stage_trades(transaction, symbol, HANDED_OVER, trades)
        written = await batch.store()
        ranges = without_holes(sequence.last_time or first.timestamp, last.timestamp, holes)
        transaction.unit(symbol, DataType.TRADES).mark_complete(_SOURCE, ranges)
        span = (first.timestamp, last.timestamp + TICK)
        await rebuild_touched(transaction, symbol, written, _SOURCE, entered=[span])
        return written

    async with Ingest(store) as ingest:
        keys = keys_with_trades(symbol)
        written = await ingest.write(keys, first.timestamp, work)
    for conflict in written.conflicts:
        _log.error("%s: %s; left as it is stored", symbol, conflict)
    return written


def without_holes(start: datetime, end: datetime, holes: Iterable[IdHole]) -> list[TimeRange]:
    """``[start, end)`` without the stretches in which trades are missing."""
    return difference([(start, end)], (hole.gap for hole in holes))

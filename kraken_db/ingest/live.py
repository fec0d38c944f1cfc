"""What a live feed brings goes into the store: trades and candles of many symbols in one transaction.

Ids prove what is complete. Between two trades whose ids follow each other there is no other: a run of ids
that joins what is stored is claimed up to its last trade, and the next flush goes on from there. Nearly
always that is all there is to do: what is stored next to a run is looked up only where this writer does not
know it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

import msgspec

from kraken_db.data_types import DataType
from kraken_db.id_runs import IdHole, IdRun
from kraken_db.ingest.candles import store_staged
from kraken_db.ingest.rules import candle_end
from kraken_db.ingest.trades import (
    LIVE,
    LIVE_OFFICIAL,
    LIVE_WITHOUT_IDS,
    TradePolicy,
    TradesWritten,
    merge_staged,
    rebuild_touched,
)
from kraken_db.ingest.write_unit import WriteTransaction
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.staged_trades import StorableTrade
from kraken_db.repositories.sync_status import SyncStatus, SyncStatusRepository
from kraken_db.repositories.trade_merge import NO_ID, Window
from kraken_db.repositories.trade_neighbours import Beside, beside, count_ids
from kraken_db.tolerances import SAME_TRADE, STAMPS_APART
from kraken_db.types import CandleRecord

Series = tuple[str, int]


class QueuedTrade(msgspec.Struct, array_like=True, gc=False):
    """A trade that can be stored. ``is_official``: it is REST's record, whose stamp replaces a live one."""

    symbol: str
    timestamp: datetime
    price: Decimal
    volume: Decimal
    side: str
    trade_id: int | None
    order_type: str | None
    misc: str | None
    is_official: bool


@dataclass(frozen=True, slots=True)
class StoredTrades:
    """The trades with ids of one symbol that a writer knows to be committed."""

    newest_id: int
    newest_time: datetime
    holes: tuple[IdHole, ...] = ()
    """Ids that are missing between stored ones, in order."""

    @property
    def contiguous_until(self) -> int:
        """The last id up to which none is missing."""
        return self.holes[0].first - 1 if self.holes else self.newest_id


@dataclass(slots=True)
class SymbolState:
    """What is known of a symbol after a flush; replaced when the flush has been committed."""

    stored: StoredTrades | None = None
    claimed: tuple[int, datetime] | None = None
    """The newest id that a claim of this writer reached up to, and where the claim ended."""
    anonymous_until: datetime | None = None
    """Where the trades without ids of this writer ended, up to now."""
    built_until: datetime | None = None
    """Where the candles end that this writer has built: by a clock that may be hours ahead."""


@dataclass(slots=True)
class TradesFlushed:
    """What a transaction has done. ``states`` and ``holes`` by symbol, to be believed after the commit."""

    written: int = 0
    conflicts: list[str] = field(default_factory=list)
    states: dict[str, SymbolState] = field(default_factory=dict)
    holes: dict[str, list[IdHole]] = field(default_factory=dict)


@dataclass(slots=True)
class CandlesFlushed:
    """What a transaction has done; ``until`` is to be believed after the commit."""

    written: int = 0
    until: dict[Series, datetime] = field(default_factory=dict)


async def store_trades(
    transaction: WriteTransaction, trades: Sequence[QueuedTrade], states: Mapping[str, SymbolState]
) -> TradesFlushed:
    """Write trades of any symbols. The same again changes nothing, but for trades without ids."""
    by_symbol: dict[str, list[QueuedTrade]] = defaultdict(list)
    for trade in trades:
        by_symbol[trade.symbol].append(trade)
    batches = [
        _SymbolBatch(transaction, symbol, own, states.get(symbol) or SymbolState())
        for symbol, own in sorted(by_symbol.items())
    ]
    for batch in batches:
        await batch.begin()
    status = await SyncStatusRepository(transaction.connection).of_each(DataType.TRADES, by_symbol)
    await _write_rows(transaction, batches)
    flushed = TradesFlushed()
    for batch in batches:
        await batch.finish(flushed, status.get(batch.symbol))
    return flushed


async def store_candles(
    transaction: WriteTransaction, candles: Sequence[CandleRecord], until: Mapping[Series, datetime]
) -> CandlesFlushed:
    """Write candles of any symbols and intervals; none of them is claimed to be complete.

    ``until``: where the candles of a series that were written before ended.
    """
    by_series: dict[Series, dict[datetime, CandleRecord]] = defaultdict(dict)
    for candle in candles:
        known = by_series[candle.symbol, candle.interval_minutes]
        other = known.get(candle.timestamp)
        if other is None or candle.trade_count >= other.trade_count:
            known[candle.timestamp] = candle
    await transaction.candles.copy_records(one for own in by_series.values() for one in own.values())
    flushed = CandlesFlushed()
    for (symbol, interval), own in sorted(by_series.items()):
        end = max(map(candle_end, own.values()))
        # One range for what a feed brings, not one for each candle between quiet ones.
        begins = min(min(own), until.get((symbol, interval)) or end)
        written = await store_staged(transaction, symbol, interval, (begins, end), rows=len(own))
        flushed.written += written.new + written.changed
        flushed.until[symbol, interval] = end
    return flushed


async def claim_filled(transaction: WriteTransaction, symbol: str, holes: Sequence[IdHole]) -> list[IdHole]:
    """Those of the holes that are still there; the others have been filled, and count as complete."""
    unit = transaction.unit(symbol, DataType.TRADES)
    left: list[IdHole] = []
    for hole in holes:
        start, end = hole.after - STAMPS_APART, hole.before + STAMPS_APART
        found = await count_ids(transaction.connection, symbol, hole.first, hole.last, start, end)
        if found < hole.size:
            left.append(hole)
            continue
        run = IdRun(hole.first, hole.last, hole.after, hole.before)
        around = await beside(transaction.connection, symbol, run, hole.after, hole.before)
        unit.mark_complete(LIVE.source, [proven(run, around, None)], is_continued=True)
    return left


def runs_of(trades: Iterable[StorableTrade]) -> list[IdRun]:
    """Trades with ids, each id once, as runs of ids that follow each other, in their order."""
    runs: list[IdRun] = []
    for trade in sorted(trades, key=lambda trade: trade.trade_id or 0):
        number = trade.trade_id
        assert number is not None
        if runs and runs[-1].last + 1 == number:
            runs[-1] = IdRun(runs[-1].first, number, runs[-1].oldest, trade.timestamp)
        else:
            runs.append(IdRun(number, number, trade.timestamp, trade.timestamp))
    return runs


def proven(run: IdRun, around: Beside, claimed_until: datetime | None) -> TimeRange:
    """The times of which a stored run shows that no trade is missing; none if it ends before it starts.

    Of the moment (microsecond) of a trade that is only so where its neighbours are known too.
    ``claimed_until``: how far the trade before the run has been claimed by this writer; its stamp may have
    been corrected since.
    """
    start, end = run.oldest + TICK, run.newest
    if around.before is not None and around.before[0] == run.first - 1:
        moment = around.before[1]
        start = min(moment if around.is_known_before else moment + TICK, start)
        if claimed_until is not None:
            start = min(start, claimed_until)
    if around.after is not None and around.after[0] == run.last + 1:
        moment = around.after[1]
        end = max(moment + TICK if around.is_known_after else moment, end)
    return start, end


def holes_beside(run: IdRun, around: Beside) -> list[IdHole]:
    """The ids that are missing right before and right behind a stored run."""
    holes = []
    if around.before is not None and around.before[0] < run.first - 1:
        number, moment = around.before
        holes.append(IdHole(number + 1, run.first - 1, moment, run.oldest))
    if around.after is not None and around.after[0] > run.last + 1:
        number, moment = around.after
        holes.append(IdHole(run.last + 1, number - 1, run.newest, moment))
    return holes


def follow(
    known: StoredTrades | None, runs: Sequence[IdRun], neighbours: Mapping[int, Beside]
) -> tuple[StoredTrades, list[IdHole]]:
    """What is stored after these runs, and the holes that are new with them."""
    holes = {hole.first: hole for hole in known.holes} if known else {}
    newest = (known.newest_id, known.newest_time) if known else (0, runs[0].oldest)
    fresh: list[IdHole] = []
    for run in runs:
        around = neighbours[run.first]
        low = around.before[0] if around.before else run.first - 1
        high = around.after[0] if around.after else run.last + 1
        inside = [hole for hole in holes.values() if hole.last > low and hole.first < high]
        for hole in inside:
            del holes[hole.first]
        for hole in holes_beside(run, around):
            holes[hole.first] = hole
            if not any(old.first <= hole.first and hole.last <= old.last for old in inside):
                fresh.append(hole)
        newest = max(newest, (run.last, run.newest))
    return StoredTrades(*newest, tuple(sorted(holes.values(), key=lambda hole: hole.first))), fresh


async def _write_rows(transaction: WriteTransaction, batches: Sequence[_SymbolBatch]) -> None:
    """Usually all of it is newer than what is stored, and one statement does it."""
    plain = [batch for batch in batches if not batch.anonymous]
    new: dict[str, int] = {}
    if plain:
        await transaction.trades.copy_records({batch.symbol: batch.identified for batch in plain})
        new = await transaction.trades.insert_each([batch.window for batch in plain])
    for batch in batches:
        batch.written = TradesWritten(new=new.get(batch.symbol, 0))
        if batch.anonymous or batch.written.new < len(batch.identified):
            await batch.merge()


class _SymbolBatch:
    """The trades of one symbol in a flush."""

    def __init__(
        self, transaction: WriteTransaction, symbol: str, trades: Sequence[QueuedTrade], state: SymbolState
    ) -> None:
        self.symbol = symbol
        self.identified, self._contradictions = _by_id(trades)
        self.anonymous = sorted(
            (trade for trade in trades if trade.trade_id is None), key=lambda trade: trade.timestamp
        )
        self.written = TradesWritten()
        self._transaction = transaction
        self._unit = transaction.unit(symbol, DataType.TRADES)
        self._state = state
        self._runs = runs_of(self.identified)
        ends = [one for one in (self.identified, self.anonymous) if one]
        self._oldest = min(one[0].timestamp for one in ends)
        self._newest = max(one[-1].timestamp for one in ends)

    @property
    def window(self) -> Window:
        first_id = self._runs[0].first if self._runs and not self.anonymous else 0
        return Window(self.symbol, self._oldest - SAME_TRADE, self._newest + SAME_TRADE, first_id)

    async def begin(self) -> None:
        # One range for what a feed without ids brings, not one a flush.
        until = self._state.anonymous_until if self.anonymous else None
        await self._unit.begin(min(self._oldest, until or self._oldest), self._newest + TICK)

    async def merge(self) -> None:
        """Write them one kind after the other, compared with what is stored."""
        parts: list[tuple[TradePolicy, Sequence[QueuedTrade]]] = [
            (LIVE, [trade for trade in self.identified if not trade.is_official]),
            (LIVE_OFFICIAL, [trade for trade in self.identified if trade.is_official]),
            (LIVE_WITHOUT_IDS, self.anonymous),
        ]
        total = self.written
        for policy, trades in parts:
            if not trades:
                continue
            done = await self._merge(policy, trades)
            total = replace(
                total,
                new=total.new + done.new,
                changed=total.changed + done.changed,
                removed=total.removed + done.removed,
                conflicts=(*total.conflicts, *done.conflicts),
                touched=tuple(sorted({*total.touched, *done.touched})),
            )
        self.written = total

    async def _merge(self, policy: TradePolicy, trades: Sequence[QueuedTrade]) -> TradesWritten:
        staged, window = self._transaction.trades, self.window
        await staged.copy_records({self.symbol: trades})
        if trades[0].trade_id is None:
            # Only a stored trade with an id can be one of these.
            window = replace(window, first_id=1, below=NO_ID)
            new = await staged.insert(window)
            if new:
                return TradesWritten(new=new)
        return await merge_staged(self._transaction, window, policy)

    async def finish(self, flushed: TradesFlushed, status: SyncStatus | None) -> None:
        """Count and claim what was written; ``status`` is that from before."""
        neighbours = {run.first: await self._beside(run, status) for run in self._runs}
        claims = [self._proven(run, neighbours[run.first]) for run in self._runs]
        if self.written.new or self.written.changed:
            self._unit.wrote(self._oldest, self._newest, self.written.added)
        else:
            self._unit.looked()
        is_continued = not self.anonymous and len(self._runs) == 1 and _joins(self._runs[0], neighbours)
        self._unit.mark_complete(LIVE.source, claims, is_continued=is_continued)
        # What follows upon the newest trade has no candle yet, if none was built too early.
        is_next = not self.anonymous and all(map(self._goes_on, self._runs))
        is_next = is_next and (self._state.built_until or self._oldest) <= self._oldest
        entered = [] if is_next else [(self._oldest, self._newest + TICK)]
        await rebuild_touched(self._transaction, self.symbol, self.written, LIVE.source, entered=entered)
        self._note(flushed, neighbours, claims)

    async def _beside(self, run: IdRun, status: SyncStatus | None) -> Beside:
        known = self._state.stored
        newest = status.newest if status else None
        if known is not None and self._goes_on(run) and (newest is None or newest <= run.newest):
            return Beside(before=(known.newest_id, known.newest_time))
        oldest = (status.oldest if status else None) or run.oldest
        return await beside(
            self._transaction.connection, self.symbol, run, oldest, max(newest or run.newest, self._newest)
        )

    def _goes_on(self, run: IdRun) -> bool:
        """Whether a run follows upon what this writer itself has stored and claimed last."""
        known, claimed = self._state.stored, self._state.claimed
        return (
            len(self._runs) == 1
            and known is not None
            and known.newest_id == run.first - 1
            and claimed is not None
            and claimed[0] == run.first - 1
        )

    def _proven(self, run: IdRun, around: Beside) -> TimeRange:
        claimed = self._state.claimed
        return proven(run, around, claimed[1] if claimed and claimed[0] == run.first - 1 else None)

    def _note(
        self, flushed: TradesFlushed, neighbours: Mapping[int, Beside], claims: Sequence[TimeRange]
    ) -> None:
        """What is to be believed once it is committed."""
        flushed.written += self.written.new + self.written.changed
        conflicts = (*self._contradictions, *self.written.conflicts)
        flushed.conflicts += [f"{self.symbol}: {one}" for one in conflicts]
        state = replace(self._state)
        if self._runs:
            state.stored, flushed.holes[self.symbol] = follow(state.stored, self._runs, neighbours)
            if self._runs[-1].last == state.stored.newest_id:
                start, end = claims[-1]
                state.claimed = (self._runs[-1].last, end) if start < end else None
        if self.anonymous:
            state.anonymous_until = self.anonymous[-1].timestamp + TICK
        flushed.states[self.symbol] = state


def _joins(run: IdRun, neighbours: Mapping[int, Beside]) -> bool:
    before = neighbours[run.first].before
    return before is not None and before[0] == run.first - 1


def _by_id(trades: Iterable[QueuedTrade]) -> tuple[list[QueuedTrade], list[str]]:
    """Each id once, in order of time, and what is said twice in different ways; REST's word counts."""
    known: dict[int, QueuedTrade] = {}
    contradictions: list[str] = []
    for trade in trades:
        if trade.trade_id is None:
            continue
        other = known.setdefault(trade.trade_id, trade)
        if other is trade:
            continue
        if (other.price, other.volume, other.side) != (trade.price, trade.volume, trade.side):
            contradictions.append(
                f"trade {trade.trade_id} came as {other.price} {other.volume} {other.side},"
                f" and as {trade.price} {trade.volume} {trade.side}"
            )
        if trade.is_official and not other.is_official:
            known[trade.trade_id] = trade
    return sorted(known.values(), key=lambda trade: (trade.timestamp, trade.trade_id or 0)), contradictions

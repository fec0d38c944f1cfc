"""Trades of a live feed go into the store: rows, counters and coverage, in the caller's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.database_writer.chains import StoredTrades, all_proven, follow, runs_of
from kraken_db.database_writer.records import QueuedTrade
from kraken_db.db.locks import lock_job_of_each
from kraken_db.id_runs import IdHole
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.coverage import Source
from kraken_db.repositories.live_insert import insert_new
from kraken_db.repositories.live_trades import Beside, LiveTradeRepository, Run, beside
from kraken_db.repositories.sync_status import Stored, SyncStatusRepository
from kraken_db.repositories.trade_batch import TradeBatch, TradesWritten
from kraken_db.store import Store
from kraken_db.writing import Write

SOURCE: Source = "live"


@dataclass(slots=True)
class SymbolState:
    """What is known of a symbol after a flush; replaced when the flush has been committed."""

    stored: StoredTrades | None = None
    claimed: tuple[int, datetime] | None = None
    """The newest id that a claim of this writer reached up to, and where the claim ended."""
    anonymous_until: datetime | None = None
    """Where the trades without ids of this writer ended, up to now."""


@dataclass(slots=True)
class Flushed:
    """What a transaction has done. ``states`` and ``holes`` by symbol, to be believed after the commit."""

    written: int = 0
    conflicts: list[str] = field(default_factory=list)
    states: dict[str, SymbolState] = field(default_factory=dict)
    holes: dict[str, list[IdHole]] = field(default_factory=dict)


async def store_trades(
    store: Store,
    connection: AsyncConnection,
    trades: Sequence[QueuedTrade],
    states: dict[str, SymbolState],
) -> Flushed:
    """Write trades of any symbols. The same again changes nothing, but for trades without ids."""
    by_symbol: dict[str, list[QueuedTrade]] = defaultdict(list)
    for trade in trades:
        by_symbol[trade.symbol].append(trade)
    batches = {
        symbol: _SymbolBatch(symbol, by_symbol[symbol], states.get(symbol) or SymbolState())
        for symbol in sorted(by_symbol)
    }
    await store.prepare_bulk_write(connection)
    # In one order everywhere: two writers never wait for each other.
    await lock_job_of_each(connection, DataType.TRADES, batches)
    status = SyncStatusRepository(connection)
    newest = await status.newest(DataType.TRADES, batches)
    async with AsyncExitStack() as stack:
        writes = {
            symbol: await stack.enter_async_context(
                store.writing(connection, symbol, DataType.TRADES, one.begins, one.newest + TICK)
            )
            for symbol, one in batches.items()
        }
        await _write_rows(connection, batches)
    await _record(status, batches, writes)
    neighbours = await beside(connection, {symbol: one.runs for symbol, one in batches.items()}, newest)
    flushed = Flushed()
    for symbol, one in batches.items():
        claims = all_proven(one.runs, neighbours.get(symbol, {}), one.state.claimed)
        await writes[symbol].shows(SOURCE, claims, goes_on=one.goes_on(neighbours.get(symbol, {})))
        one.note(flushed, neighbours.get(symbol, {}), claims)
    return flushed


async def _write_rows(connection: AsyncConnection, batches: Mapping[str, _SymbolBatch]) -> None:
    """Usually all of it is newer than what is stored, and one statement does it."""
    new = await insert_new(
        connection, {symbol: one.identified for symbol, one in batches.items() if not one.anonymous}
    )
    for symbol, one in batches.items():
        one.written = TradesWritten(new=new.get(symbol, 0))
        if one.anonymous or one.written.new < len(one.identified):
            await one.merge(connection)


async def _record(
    status: SyncStatusRepository, batches: Mapping[str, _SymbolBatch], writes: Mapping[str, Write]
) -> None:
    stored = [
        Stored(
            symbol, one.oldest, one.newest, one.written.new - one.written.removed - writes[symbol].returned
        )
        for symbol, one in batches.items()
        if one.written.new or one.written.changed
    ]
    if stored:
        await status.record_each(DataType.TRADES, stored)
    for symbol in set(batches) - {one.symbol for one in stored}:
        await status.touch(symbol, [DataType.TRADES])


class _SymbolBatch:
    """The trades of one symbol in a flush."""

    def __init__(self, symbol: str, trades: Sequence[QueuedTrade], state: SymbolState) -> None:
        self.state = state
        self.identified, self._contradictions = _by_id(trades)
        self.anonymous = sorted(
            (trade for trade in trades if trade.trade_id is None), key=lambda trade: trade.timestamp
        )
        self.runs = runs_of(self.identified)
        self.written = TradesWritten()
        ends = [one for one in (self.identified, self.anonymous) if one]
        self.oldest = min(one[0].timestamp for one in ends)
        self.newest = max(one[-1].timestamp for one in ends)
        # One range for what a feed without ids brings, not one a flush.
        until = state.anonymous_until if self.anonymous else None
        self.begins = min(self.oldest, until or self.oldest)
        self._symbol = symbol

    async def merge(self, connection: AsyncConnection) -> None:
        """Write them one kind after the other, compared with what is stored."""
        batch = TradeBatch(connection, self._symbol)
        new, changed, removed = self.written.new, 0, 0
        conflicts: list[str] = []
        for is_official in (False, True):
            part = [trade for trade in self.identified if trade.is_official is is_official]
            done = await batch.write(part, may_have_ids=False, is_official=is_official)
            new, changed, removed = new + done.new, changed + done.changed, removed + done.removed
            conflicts += done.conflicts
        if self.anonymous:
            rows = LiveTradeRepository(connection, self._symbol)
            new += await rows.write_anonymous(self.anonymous)
        self.written = TradesWritten(new, changed, removed, tuple(conflicts))

    def goes_on(self, neighbours: Mapping[int, Beside]) -> bool:
        """Whether the next flush proves the end of this one."""
        return not self.anonymous and len(self.runs) == 1 and _is_joined(self.runs[0], neighbours)

    def note(self, flushed: Flushed, neighbours: Mapping[int, Beside], claims: Sequence[TimeRange]) -> None:
        """What is to be believed once it is committed."""
        flushed.written += self.written.new + self.written.changed
        told = (*self._contradictions, *self.written.conflicts)
        flushed.conflicts += [f"{self._symbol}: {one}" for one in told]
        state = replace(self.state)
        if self.runs:
            state.stored, flushed.holes[self._symbol] = follow(state.stored, self.runs, neighbours)
            if self.runs[-1].last == state.stored.newest_id:
                start, end = claims[-1]
                state.claimed = (self.runs[-1].last, end) if start < end else None
        if self.anonymous:
            state.anonymous_until = self.anonymous[-1].timestamp + TICK
        flushed.states[self._symbol] = state


def _is_joined(run: Run, neighbours: Mapping[int, Beside]) -> bool:
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
    return sorted(known.values(), key=lambda trade: (trade.timestamp, trade.trade_id)), contradictions

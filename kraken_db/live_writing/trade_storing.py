"""Trades of a live feed go into the store: rows, counters and coverage, in the caller's transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.locks import lock_job
from kraken_db.historical_backfill.building import TRADES
from kraken_db.historical_backfill.sequence import IdHole
from kraken_db.live_writing.chains import StoredTrades, follow, proven, runs_of
from kraken_db.live_writing.records import QueuedTrade
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.coverage import Source
from kraken_db.repositories.live_trades import Beside, LiveTradeRepository, Run
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.trade_batch import TradeBatch, TradesWritten
from kraken_db.store import Store

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
    await store.timeseries.prepare_bulk_write(connection)
    flushed = Flushed()
    # In one order everywhere: two writers never wait for each other.
    for symbol in sorted(by_symbol):
        await lock_job(connection, TRADES, of=symbol)
    for symbol, own in sorted(by_symbol.items()):
        one = _SymbolBatch(store, connection, symbol, own, states.get(symbol) or SymbolState())
        await one.write(flushed)
    return flushed


class _SymbolBatch:
    """The trades of one symbol in a flush."""

    def __init__(
        self,
        store: Store,
        connection: AsyncConnection,
        symbol: str,
        trades: Sequence[QueuedTrade],
        state: SymbolState,
    ) -> None:
        self._store = store
        self._connection = connection
        self._symbol = symbol
        self._state = state
        self._rows = LiveTradeRepository(connection, symbol)
        self._identified, self._contradictions = _by_id(trades)
        self._anonymous = [trade for trade in trades if trade.trade_id is None]

    async def write(self, flushed: Flushed) -> None:
        times = [trade.timestamp for trade in (*self._identified, *self._anonymous)]
        oldest, newest = min(times), max(times)
        status = SyncStatusRepository(self._connection)
        before = await status.get(self._symbol, TRADES)
        # One range for what a feed without ids brings, not one a flush.
        begins = min(oldest, self._state.anonymous_until or oldest) if self._anonymous else oldest
        async with self._store.writing(
            self._connection, self._symbol, TRADES, begins, newest + TICK
        ) as write:
            written = await self._write_rows()
        if written.new or written.changed:
            added = written.new - written.removed - write.returned
            await status.record(self._symbol, TRADES, oldest=oldest, newest=newest, added=added)
        else:
            await status.touch(self._symbol, [TRADES])
        runs = runs_of(self._identified)
        beside = await self._rows.beside(runs, before.newest if before else None) if runs else {}
        claimed = self._state.claimed
        claims = [
            proven(run, beside[run.first], claimed[1] if claimed and claimed[0] == run.first - 1 else None)
            for run in runs
        ]
        goes_on = not self._anonymous and len(runs) == 1 and _is_joined(runs[0], beside)
        await write.shows(SOURCE, claims, goes_on=goes_on)
        self._note(flushed, written, runs, beside, claims)

    async def _write_rows(self) -> TradesWritten:
        batch = TradeBatch(self._connection, self._symbol)
        new = changed = removed = 0
        conflicts: list[str] = []
        for is_official in (False, True):
            part = [trade for trade in self._identified if trade.is_official is is_official]
            done = await batch.write(part, may_have_ids=False, is_official=is_official)
            new, changed, removed = new + done.new, changed + done.changed, removed + done.removed
            conflicts += done.conflicts
        if self._anonymous:
            new += await self._rows.write_anonymous(sorted(self._anonymous, key=lambda one: one.timestamp))
        return TradesWritten(new, changed, removed, tuple(conflicts))

    def _note(
        self,
        flushed: Flushed,
        written: TradesWritten,
        runs: Sequence[Run],
        beside: dict[int, Beside],
        claims: Sequence[TimeRange],
    ) -> None:
        flushed.written += written.new + written.changed
        flushed.conflicts += [f"{self._symbol}: {one}" for one in (*self._contradictions, *written.conflicts)]
        state = replace(self._state)
        if runs:
            state.stored, flushed.holes[self._symbol] = follow(state.stored, runs, beside)
            if runs[-1].last == state.stored.newest_id:
                start, end = claims[-1]
                state.claimed = (runs[-1].last, end) if start < end else None
        if self._anonymous:
            state.anonymous_until = max(trade.timestamp for trade in self._anonymous) + TICK
        flushed.states[self._symbol] = state


def _is_joined(run: Run, beside: dict[int, Beside]) -> bool:
    before = beside[run.first].before
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

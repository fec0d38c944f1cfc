"""One flush: a batch and the number of its last record, in one transaction, whole and exactly once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.database_writer.candle_storing import Series, store_candles
from kraken_db.database_writer.chains import StoredTrades, proven
from kraken_db.database_writer.channel import Batch
from kraken_db.database_writer.journal import Journal
from kraken_db.database_writer.records import QueuedTrade
from kraken_db.database_writer.trade_storing import SOURCE, SymbolState, store_trades
from kraken_db.db.locks import lock_job
from kraken_db.errors import first_line
from kraken_db.historical_backfill.building import build_minutes
from kraken_db.id_runs import IdHole
from kraken_db.log_throttle import LogThrottle
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.flush_positions import FlushPositionRepository
from kraken_db.repositories.live_trades import LiveTradeRepository, Run, beside
from kraken_db.store import Store
from kraken_db.types import CandleRecord

R = TypeVar("R")
OnHole = Callable[[str, IdHole], None]
# Whatever the policy, a row of the last hour is in the higher intervals before it can be dropped: they are
# refreshed every minute.
_RECENT = timedelta(hours=1)
_SLACK = timedelta(milliseconds=1)
_log = logging.getLogger(__name__)


class Flusher:
    """Stores batches, and remembers what the flushes of this process have shown."""

    def __init__(self, store: Store, on_hole: OnHole | None) -> None:
        self.conflicts = 0
        self._store = store
        self._on_hole = on_hole
        self._states: dict[str, SymbolState] = {}
        self._candles_until: dict[Series, datetime] = {}
        self._told = LogThrottle(_log)

    async def begin(self, journal: Journal, ended: Iterable[UUID]) -> None:
        """A stream begins: its position has a row from now on. ``ended`` are others that left nothing."""
        async with self._store.database.begin() as connection:
            positions = FlushPositionRepository(connection)
            await positions.open(journal.stream)
            for stream in ended:
                await positions.close(stream)

    async def end(self, journal: Journal) -> None:
        """All of a stream is stored: its position is not needed any more."""
        async with self._store.database.begin() as connection:
            await FlushPositionRepository(connection).close(journal.stream)

    async def trades(self, journal: Journal, batch: Batch[QueuedTrade]) -> int | None:
        """Store trades; how many rows are new or better, or None if all of it was stored before."""
        async with self._retention("trades", min(trade.timestamp for trade in batch.records)):
            async with self._store.database.begin() as connection:
                missing = await self._missing(connection, journal, batch)
                if not missing.records:
                    return None
                flushed = await store_trades(self._store, connection, missing.records, self._states)
            self._states.update(flushed.states)
        self.conflicts += len(flushed.conflicts)
        for conflict in flushed.conflicts:
            self._told.say(logging.ERROR, "a trade contradicts the stored one, which stays", conflict)
        for symbol, holes in flushed.holes.items():
            self._tell_of(symbol, holes)
        return flushed.written

    async def candles(self, journal: Journal, batch: Batch[CandleRecord]) -> int | None:
        """Store candles; how many rows are new or better, or None if all of it was stored before."""
        async with self._retention("candles", min(candle.timestamp for candle in batch.records)):
            async with self._store.database.begin() as connection:
                missing = await self._missing(connection, journal, batch)
                if not missing.records:
                    return None
                flushed = await store_candles(self._store, connection, missing.records, self._candles_until)
            self._candles_until.update(flushed.until)
        return flushed.written

    def stored(self, symbol: str) -> StoredTrades | None:
        """What is known to be stored of the trades with ids of a symbol, since this process began."""
        state = self._states.get(symbol)
        return state.stored if state else None

    async def check_holes(self, symbol: str) -> Sequence[IdHole]:
        """Look which holes others have filled, and claim those; returns what is left."""
        state = self._states.get(symbol)
        if state is None or state.stored is None or not state.stored.holes:
            return ()
        left: list[IdHole] = []
        async with self._store.database.begin() as connection:
            await lock_job(connection, DataType.TRADES, of=symbol)
            rows = LiveTradeRepository(connection, symbol)
            for hole in state.stored.holes:
                start, end = hole.after - _SLACK, hole.before + _SLACK
                if await rows.count(hole.first, hole.last, start, end) < hole.last - hole.first + 1:
                    left.append(hole)
                    continue
                run = Run(hole.first, hole.after, hole.last, hole.before)
                around = (await beside(connection, {symbol: [run]}, {symbol: hole.before}))[symbol]
                shown = proven(run, around[run.first], None)
                await CoverageRepository(connection).add(symbol, DataType.TRADES, SOURCE, [shown])
        stored = self._states[symbol].stored
        assert stored is not None
        fresh = [hole for hole in stored.holes if hole not in state.stored.holes]
        self._states[symbol].stored = StoredTrades(
            stored.newest_id, stored.newest_time, tuple(sorted([*left, *fresh], key=lambda one: one.first))
        )
        return left

    async def build_candles(self, symbol: str, start: datetime, end: datetime) -> None:
        """Build the minutes of ``[start, end)`` that have ended from the stored trades."""
        async with self._retention("candles", start), self._store.retention_paused() as retention:
            await build_minutes(self._store, retention, symbol, start, end)

    async def _missing(self, connection: AsyncConnection, journal: Journal, batch: Batch[R]) -> Batch[R]:
        """What of a batch is not stored; from here on it counts as stored, if the transaction ends well."""
        positions = FlushPositionRepository(connection)
        if await positions.advance(journal.stream, batch.first, batch.last):
            return batch
        # An attempt whose end was not heard of, or what a process before this one has written.
        missing = batch.after(await positions.open(journal.stream))
        if missing.records:
            await positions.advance(journal.stream, missing.first, missing.last)
        return missing

    @asynccontextmanager
    async def _retention(self, table: str, oldest: datetime) -> AsyncIterator[None]:
        """Old rows: retention waits until they are in the higher intervals."""
        if oldest > self._store.clock() - _RECENT:
            yield
            return
        async with self._store.retention_paused() as retention:
            await retention.before_writing(table, oldest)
            yield
            if table == "candles":
                await self._store.refresh_pending()

    def _tell_of(self, symbol: str, holes: Sequence[IdHole]) -> None:
        for hole in holes:
            self._told.say(logging.WARNING, f"{symbol}: trades are missing", str(hole))
            if self._on_hole is None:
                continue
            try:
                self._on_hole(symbol, hole)
            except Exception as error:
                self._told.say(
                    logging.ERROR, "on_hole failed", f"{type(error).__name__}: {first_line(error)}"
                )

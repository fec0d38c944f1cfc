"""One flush: a batch and the number of its last record, in one transaction, whole and exactly once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.database_writer.channel import Batch
from kraken_db.database_writer.journal import Journal
from kraken_db.errors import first_line
from kraken_db.id_runs import IdHole
from kraken_db.ingest.live import (
    QueuedTrade,
    Series,
    StoredTrades,
    SymbolState,
    claim_filled,
    store_candles,
    store_trades,
)
from kraken_db.ingest.missing import build_ranges
from kraken_db.ingest.write_unit import RECENT, Ingest, WriteTransaction, keys_with_trades, write_transaction
from kraken_db.log_throttle import LogThrottle
from kraken_db.repositories.flush_positions import FlushPositionRepository
from kraken_db.store import Store
from kraken_db.types import CandleRecord

R = TypeVar("R")
OnHole = Callable[[str, IdHole], None]
_log = logging.getLogger(__name__)


class Flusher:
    """Stores batches, and remembers what the flushes of this process have shown."""

    def __init__(self, store: Store, on_hole: OnHole | None) -> None:
        self.conflicts = 0
        self._store = store
        self._on_hole = on_hole
        self._states: dict[str, SymbolState] = {}
        self._candles_until: dict[Series, datetime] = {}
        self._throttle = LogThrottle(_log)

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
        oldest = min(trade.timestamp for trade in batch.records)
        async with self._transaction(
            keys_with_trades(*{trade.symbol for trade in batch.records}), oldest
        ) as transaction:
            missing = await self._missing(transaction.connection, journal, batch)
            if not missing.records:
                return None
            await transaction.begin()
            flushed = await store_trades(transaction, missing.records, self._states)
        self._states.update(flushed.states)
        self.conflicts += len(flushed.conflicts)
        for conflict in flushed.conflicts:
            self._throttle.say(logging.ERROR, "a trade contradicts the stored one, which stays", conflict)
        for symbol, holes in flushed.holes.items():
            self._report_holes(symbol, holes)
        return flushed.written

    async def candles(self, journal: Journal, batch: Batch[CandleRecord]) -> int | None:
        """Store candles; how many rows are new or better, or None if all of it was stored before."""
        oldest = min(candle.timestamp for candle in batch.records)
        keys = {(one.symbol, DataType.candles(one.interval_minutes)) for one in batch.records}
        async with self._transaction(keys, oldest) as transaction:
            missing = await self._missing(transaction.connection, journal, batch)
            if not missing.records:
                return None
            await transaction.begin()
            flushed = await store_candles(transaction, missing.records, self._candles_until)
        self._candles_until.update(flushed.until)
        if oldest < self._store.clock() - RECENT:
            await self._store.refresh_pending()
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
        async with self._transaction({(symbol, DataType.TRADES)}, self._store.clock()) as transaction:
            await transaction.begin()
            left = await claim_filled(transaction, symbol, state.stored.holes)
        stored = self._states[symbol].stored
        assert stored is not None
        fresh = [hole for hole in stored.holes if hole not in state.stored.holes]
        self._states[symbol].stored = StoredTrades(
            stored.newest_id, stored.newest_time, tuple(sorted([*left, *fresh], key=lambda one: one.first))
        )
        return left

    async def build_candles(self, symbol: str, start: datetime, end: datetime) -> None:
        """Build the minutes of ``[start, end)`` that have ended from the stored trades."""
        state = self._states.setdefault(symbol, SymbolState())
        state.built_until = max(state.built_until or end, end)
        async with Ingest(self._store) as ingest:
            await build_ranges(ingest, symbol, [(start, end)])
            if start < self._store.clock() - RECENT:
                await self._store.refresh_pending()

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
    async def _transaction(
        self, keys: Iterable[tuple[str, DataType]], oldest: datetime
    ) -> AsyncIterator[WriteTransaction]:
        """One that waits for its locks when ``begin`` is called."""
        if oldest >= self._store.clock() - RECENT:
            async with write_transaction(self._store, keys, locks_late=True) as transaction:
                yield transaction
            return
        async with (
            Ingest(self._store) as ingest,
            ingest.transaction(keys, oldest, locks_late=True) as transaction,
        ):
            yield transaction

    def _report_holes(self, symbol: str, holes: Sequence[IdHole]) -> None:
        for hole in holes:
            self._throttle.say(logging.WARNING, f"{symbol}: trades are missing", str(hole))
            if self._on_hole is None:
                continue
            try:
                self._on_hole(symbol, hole)
            except Exception as error:
                self._throttle.say(
                    logging.ERROR, "on_hole failed", f"{type(error).__name__}: {first_line(error)}"
                )

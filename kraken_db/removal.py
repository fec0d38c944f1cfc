"""Pairs removed from a store, one after the other, unless somebody is at work on them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from kraken_db.data_types import DataType
from kraken_db.db.locks import JobLock
from kraken_db.errors import JobRunningError
from kraken_db.historical_backfill.download import DOWNLOAD_JOB
from kraken_db.ingest.removal import remove_symbol
from kraken_db.patterns import is_pattern, without
from kraken_db.recorder.recorder import RECORDING_JOB
from kraken_db.repositories.removal import Removed, SymbolRows
from kraken_db.repositories.running_jobs import RunningJobRepository
from kraken_db.repositories.sync_status import SyncStatus, SyncStatusRepository
from kraken_db.store import Store, StoreService


@dataclass(frozen=True, slots=True)
class StoredPair:
    """What was ever stored of a pair, by its counters. ``oldest`` and ``newest``: of its records, UTC."""

    symbol: str
    trades: int = 0
    candles: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None


class PairRemoval(StoreService):
    """Removes everything that is stored of a pair. An embedded database is never made here.

    Use it as an asynchronous context manager, or call ``connect()`` and ``close()``.
    """

    def __init__(self, db_url: str) -> None:
        super().__init__(db_url, pool_min_size=1, pool_max_size=2, creates=False)

    async def survey(self, wanted: Sequence[str], exclude: Sequence[str] = ()) -> list[StoredPair]:
        """The pairs of names and patterns, with what goes; those of which nothing is stored are left out.

        A pattern means stored pairs. Looks at counters alone, however much is stored.
        """
        named = [symbol for symbol in wanted if not is_pattern(symbol)]
        async with self._connected().database.read() as connection:
            rows = await SyncStatusRepository(connection).all()
            by_symbol = groupby(rows, key=lambda row: row.symbol)
            known = {symbol: _summed(symbol, of) for symbol, of in by_symbol}
            for symbol in without(named, exclude):
                # Rows of other programs have no counters.
                if symbol not in known and await SymbolRows(connection, symbol).are_there():
                    known[symbol] = StoredPair(symbol)
        selected = await self.select_stored(wanted, exclude)
        return [known[symbol] for symbol in selected if symbol in known]

    async def remove(self, symbol: str) -> Removed:
        """Remove everything of a pair, in one transaction.

        Raises JobRunningError where a recording, a download or an import works on the pair, and
        DatabaseErrors; then all of it is still there.
        """
        store = self._connected()
        async with left_alone(store, symbol):
            return await remove_symbol(store, symbol)


@asynccontextmanager
async def left_alone(store: Store, symbol: str) -> AsyncIterator[None]:
    """Within it no recording and no download of the pair begins. Raises JobRunningError where one is at work,
    or an import."""
    async with AsyncExitStack() as held:
        for job in (RECORDING_JOB, DOWNLOAD_JOB):
            await held.enter_async_context(JobLock(store.database, job, symbol))
        jobs = await store.database.reading(lambda connection: RunningJobRepository(connection).all())
        for one in jobs:
            # A copy holds the locks above, of one pair after the other; a killed one may be repeated at once.
            if one.is_alive and one.kind != "copy" and symbol in one.symbols:
                raise JobRunningError(
                    f"{symbol}: {one} is at work on it", hint="wait for it to end, or stop it"
                )
        yield


def _summed(symbol: str, rows: Iterable[SyncStatus]) -> StoredPair:
    of = list(rows)
    trades = sum(row.total_records for row in of if row.data_type == DataType.TRADES)
    return StoredPair(
        symbol,
        trades,
        sum(row.total_records for row in of) - trades,
        min((row.oldest for row in of if row.oldest), default=None),
        max((row.newest for row in of if row.newest), default=None),
    )

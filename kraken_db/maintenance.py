"""Upkeep of a store: policies changed as a whole, and retention, compression and refresh done now.

Nothing is dropped before it has been aggregated, and little of it at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypedDict

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import Compression, OldRows, PendingRefresh, StaleRange
from kraken_db.data_types import OLD_ROWS, TableName
from kraken_db.db.locks import lock_job
from kraken_db.heartbeat import Heartbeat
from kraken_db.ingest.missing import build_ranges
from kraken_db.ingest.write_unit import Ingest
from kraken_db.intervals import DAY, floor_to_interval
from kraken_db.policies import TablePolicy, check_policy
from kraken_db.progress import NullProgress, Progress
from kraken_db.ranges import TimeRange
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.retention import RetentionRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.store import Store, StoreService
from kraken_db.times import Clock, utc_now


@dataclass(slots=True)
class TableReport:
    """Of one table. After a dry run: what there is to do."""

    policy: TablePolicy
    before: datetime | None
    """Rows from before this moment (UTC) are due to be dropped; None if they are kept for good."""
    dropped_rows: int = 0
    dropped_pieces: int = 0
    """Chunks, or days or weeks of a symbol."""
    compressed_pieces: int = 0
    freed_bytes: int | None = None
    """None where the database gives nothing back."""
    kept_minutes: int = 0
    """Minutes whose trades stay: they have no candle, and not all of their trades are known."""
    waiting_pieces: int = 0
    """Chunks, or days, that stay for now: something was written there meanwhile."""


@dataclass(slots=True)
class MaintenanceReport:
    kind: str
    """What the database is."""
    dry_run: bool
    built_candles: int = 0
    """Minutes that were built from trades, before these were dropped."""
    refreshed_ranges: int = 0
    """Ranges that waited for their higher intervals."""
    tables: list[TableReport] = field(default_factory=list)

    @property
    def has_retention(self) -> bool:
        return any(table.policy.retention is not None for table in self.tables)


class Periods(TypedDict, total=False):
    """What to change of a table's policies; what is not named stays. None means never."""

    retention: timedelta | None
    compression: timedelta | None


@dataclass(frozen=True, slots=True)
class PolicyChange:
    old: TablePolicy
    new: TablePolicy
    drops_before: datetime | None = None
    """Where rows are kept shorter than until now: from before this moment (UTC) they are dropped soon."""
    oldest: datetime | None = None
    """The oldest row that was ever stored."""


async def change_policies(store: Store, changes: Mapping[TableName, Periods]) -> list[PolicyChange]:
    """Change what is named, in one transaction. Raises ConfigurationError, and then nothing has changed."""
    done: list[PolicyChange] = []
    async with store.database.begin() as connection:
        records = await SyncStatusRepository(connection).all()
        for old in await store.backend.policies(connection):
            if not changes.get(old.table):
                continue
            new = replace(old, **changes[old.table])
            check_policy(new)
            await store.backend.set_policy(connection, new)
            stored = [item.oldest for item in records if item.data_type.startswith(old.table) and item.oldest]
            done.append(
                PolicyChange(old, new, _drops_before(old, new, store.clock()), min(stored, default=None))
            )
    return done


def _drops_before(old: TablePolicy, new: TablePolicy, now: datetime) -> datetime | None:
    if new.retention is None or (old.retention is not None and old.retention <= new.retention):
        return None
    return now - new.retention


class Maintenance(StoreService):
    """Does at once what policies ask for: what the database's jobs do too, where it has any.

    Every piece (a chunk, or a day or a week of a symbol) is a transaction of its own: a run may be killed at
    any moment, and the next one goes on. An embedded database is never made here.
    """

    def __init__(self, db_url: str, *, progress: Progress | None = None, clock: Clock = utc_now) -> None:
        super().__init__(db_url, pool_min_size=1, pool_max_size=2, clock=clock, creates=False)
        self._progress = progress or NullProgress()

    async def run(self, *, dry_run: bool = False) -> MaintenanceReport:
        """Refresh what waits for it; then, of each table, drop and compress what is old enough.

        With ``dry_run`` nothing is changed, and the report says how much there is to do; what has to be
        built and refreshed first is not known before.
        """
        store = self._connected()
        if dry_run:
            return await self._work(store, dry_run=True)
        async with Heartbeat(store, "maintenance", []):
            return await self._work(store, dry_run=False)

    async def _work(self, store: Store, *, dry_run: bool) -> MaintenanceReport:
        report = MaintenanceReport(store.backend.name, dry_run)
        async with store.database.read() as connection:
            policies = await store.backend.policies(connection)
            report.refreshed_ranges = len(await PendingRefresh(connection).unrefreshed())
        if not dry_run:
            await store.refresh_pending()
            await store.release_retention()
        now = store.clock()
        for policy in policies:
            # Whole days: no candle of a day is cut.
            before = None if policy.retention is None else floor_to_interval(now - policy.retention, DAY)
            table = TableReport(policy, before)
            report.tables.append(table)
            if before is not None and policy.table == "trades" and not dry_run:
                async with Ingest(store, uses_reserve=True) as ingest:
                    report.built_candles = await self._build_candles(ingest, before)
                    await store.refresh_pending()
            await self._work_on(store, table, now, dry_run)
        return report

    async def _work_on(self, store: Store, report: TableReport, now: datetime, dry_run: bool) -> None:
        name = report.policy.table
        compression = store.backend.compression
        before = await _size(store, name)
        if report.before is not None:
            await self._drop(store, report, report.before, dry_run)
        if compression is not None and report.policy.compression is not None:
            await self._compress(store, compression, report, now - report.policy.compression, dry_run)
        if before is None or dry_run:
            return
        report.freed_bytes = before - (await _size(store, name) or 0)

    async def _build_candles(self, ingest: Ingest, before: datetime) -> int:
        """Build the minutes of all trades that are about to go and are known to be complete."""
        built = 0
        store = ingest.store
        async with store.database.read() as connection:
            symbols = await RetentionRepository(connection).symbols("trades")
        for symbol in symbols:
            async with store.database.read() as connection:
                ranges = await CoverageRepository(connection).without_candles(symbol)
            for start, end in ranges:
                for written in await build_ranges(ingest, symbol, [(start, min(end, before))]):
                    built += written.new
        return built

    async def _drop(self, store: Store, report: TableReport, before: datetime, dry_run: bool) -> None:
        table = report.policy.table
        async with store.database.read() as connection:
            pieces = await store.backend.droppable(connection, table, before)
        task = self._progress.task(f"dropping {table}", len(pieces))
        try:
            for piece in pieces:
                if dry_run:
                    async with store.database.read() as connection:
                        report.dropped_rows += await RetentionRepository(connection).count(piece)
                    report.dropped_pieces += 1
                else:
                    await self._drop_piece(store, report, piece)
                task.advance()
        finally:
            task.done()

    async def _drop_piece(self, store: Store, report: TableReport, piece: OldRows) -> None:
        symbols = await self._symbols(store, piece)
        if piece.table == "candles" and piece.symbol is None:
            # Rows of other programs, which left no note that they wait for it.
            await store.refresh_pending([StaleRange(symbol, piece.start, piece.end) for symbol in symbols])
        async with store.database.begin() as connection:
            for symbol in symbols:
                await lock_job(connection, OLD_ROWS[piece.table], of=symbol)
            if await _is_waiting(connection, piece):
                report.waiting_pieces += 1
                return
            keep = await _unaggregated(connection, piece, symbols)
            report.kept_minutes += len(keep)
            dropped = await store.backend.drop(connection, piece, keep)
        report.dropped_rows += dropped
        report.dropped_pieces += bool(dropped)

    async def _symbols(self, store: Store, piece: OldRows) -> Sequence[str]:
        if piece.symbol is not None:
            return [piece.symbol]
        async with store.database.read() as connection:
            return await RetentionRepository(connection).symbols(OLD_ROWS[piece.table])

    async def _compress(
        self, store: Store, compression: Compression, report: TableReport, before: datetime, dry_run: bool
    ) -> None:
        table = report.policy.table
        async with store.database.read() as connection:
            pieces = await compression.due(connection, table, before)
        if dry_run:
            due = report.before
            report.compressed_pieces = sum(due is None or piece.end > due for piece in pieces)
            return
        task = self._progress.task(f"compressing {table}", len(pieces))
        try:
            for piece in pieces:
                async with store.database.begin() as connection:
                    if await _is_waiting(connection, piece):
                        report.waiting_pieces += 1
                    else:
                        await compression.compress(connection, piece)
                        report.compressed_pieces += 1
                task.advance()
        finally:
            task.done()


async def _is_waiting(connection: AsyncConnection, piece: OldRows) -> bool:
    """Whether minutes of a piece were written that are not in the higher intervals yet."""
    if piece.table != "candles":
        return False
    return any(
        item.start < piece.end and piece.start < item.end and piece.symbol in (None, item.symbol)
        for item in await PendingRefresh(connection).unrefreshed()
    )


async def _size(store: Store, table: TableName) -> int | None:
    """Bytes on disk of a table; None where rows that go give nothing back."""
    if store.backend.chunks is None:
        return None
    async with store.database.read() as connection:
        storage = await store.backend.storage(connection)
    return next(item.size for item in storage if item.table == table)


async def _unaggregated(
    connection: AsyncConnection, piece: OldRows, symbols: Sequence[str]
) -> list[TimeRange]:
    """The minutes of trades that no candle was ever made of."""
    if piece.table != "trades":
        return []
    repository = RetentionRepository(connection)
    found = [await repository.minutes_without_candle(symbol, piece.start, piece.end) for symbol in symbols]
    return [minute for minutes in found for minute in minutes]

"""A store copied to another database, of whatever kind: pair after pair, each whole or not at all.

A run that was killed is repeated: a pair that is there and equal is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import TracebackType
from typing import Literal, Self, TypeAlias
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import Backend
from kraken_db.data_types import TABLES, DataType, TableName
from kraken_db.db.engine import Database, is_embedded
from kraken_db.db.locks import try_exclusive
from kraken_db.db.migrations import current_revision, migrate
from kraken_db.errors import ConfigurationError, DataRefusedError, JobRunningError, KrakenDBError, PairError
from kraken_db.heartbeat import Heartbeat, pairs_done
from kraken_db.ingest.copying import CopiedRows, copy_symbol, snapshot
from kraken_db.ingest.write_unit import Ingest
from kraken_db.patterns import select
from kraken_db.progress import NullProgress, Progress, Task
from kraken_db.removal import left_alone
from kraken_db.repositories.pair_copy import PairCopyRepository, minutes_of, other_candles_of, trades_of
from kraken_db.repositories.pair_facts import read_facts
from kraken_db.repositories.removal import SymbolRows
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.retry import until_undisturbed
from kraken_db.store import Store
from kraken_db.times import Clock, utc_now

PairState: TypeAlias = Literal["missing", "equal", "different"]
"""What the target has of a pair: nothing, the same as the source, or something else."""


@dataclass(frozen=True, slots=True)
class PairToCopy:
    """``trades`` and ``candles``: what was ever stored of it in the source, by its counters."""

    symbol: str
    trades: int
    candles: int
    target: PairState


@dataclass(slots=True)
class CopyReport:
    """``equal``: pairs that were there already. ``keeps_less``: how long the target keeps the rows of tables
    that the source keeps for longer. ``refresh_error``: the rows are there, not yet all higher intervals."""

    copied: dict[str, CopiedRows] = field(default_factory=dict)
    equal: list[str] = field(default_factory=list)
    failed: list[tuple[str, KrakenDBError]] = field(default_factory=list)
    keeps_less: dict[TableName, timedelta] = field(default_factory=dict)
    refresh_error: KrakenDBError | None = None


class StoreCopy:
    """Copies pairs from one store to another; an asynchronous context manager.

    ``dry``: the target is looked at, never made and never written. Entering it raises the errors of
    ``Store.open``, and ConfigurationError where both are the same database.
    """

    def __init__(
        self,
        source_url: str,
        target_url: str,
        *,
        dry: bool = False,
        progress: Progress | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self._urls = source_url, target_url
        self._dry = dry
        self._progress = progress or NullProgress()
        self._clock = clock
        self._stack = AsyncExitStack()
        self._source: Store
        self._target: Store | None = None
        """None in a dry run, where there is no store yet."""

    async def __aenter__(self) -> Self:
        try:
            source_url, target_url = self._urls
            self._source = await self._opened(source_url)
            if await _has_schema(target_url, makes_it=not self._dry):
                self._target = await self._opened(target_url)
                await _require_two(self._source.database, self._target.database)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _opened(self, url: str) -> Store:
        store = await Store.open(url, pool_min_size=1, pool_max_size=3, clock=self._clock, creates=False)
        self._stack.push_async_callback(store.close)
        return store

    async def plan(
        self, symbols: Sequence[str] | None = None, exclude: Sequence[str] = (), *, checks: bool = True
    ) -> list[PairToCopy]:
        """What a copy would find, pair by pair; nothing is changed. ``checks``: rows are compared, too."""
        return [
            PairToCopy(symbol, *counts, await self._state(symbol, checks))
            for symbol, counts in (await self._select(symbols, exclude)).items()
        ]

    async def run(
        self,
        symbols: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        *,
        replaces: bool = False,
        checks: bool = True,
    ) -> CopyReport:
        """Copy pairs: names and patterns of the source's, None for all of them.

        A pair of which the target has something else is left alone, unless ``replaces``. An empty target gets
        the source's policies first. ``checks``: every pair is read again on both sides, and compared. May be
        killed at any moment, and repeated; a lost node of a cluster is waited for. Raises PairError,
        ConfigurationError and DatabaseErrors; what goes wrong with one pair alone is in the report.
        """
        assert self._target is not None, "a dry run copies nothing"
        target = self._target

        async def begin() -> tuple[dict[str, tuple[int, int]], CopyReport]:
            wanted = await self._select(symbols, exclude)
            await _take_policies(self._source, target)
            return wanted, CopyReport(keeps_less=await _keeps_less(self._source, target))

        wanted, report = await until_undisturbed(begin)
        task = self._progress.task("copy", sum(map(sum, wanted.values())), unit="rows")
        try:
            heartbeat = Heartbeat(
                target, "copy", [*wanted], lambda: pairs_done([*wanted], {*report.copied, *report.equal})
            )
            async with heartbeat, Ingest(target) as ingest:
                for symbol, counts in wanted.items():
                    task.update(note=symbol)
                    try:
                        done = await self._copied(ingest, symbol, replaces, checks, task)
                    except (JobRunningError, DataRefusedError) as error:
                        report.failed.append((symbol, error))
                        continue
                    if done is None:
                        report.equal.append(symbol)
                        task.advance(sum(counts))
                    else:
                        report.copied[symbol] = done
                task.update(note="higher intervals")
                report.refresh_error = await target.refresh_or_warn()
        finally:
            task.done(failed=bool(report.failed))
        return report

    async def _copied(
        self, ingest: Ingest, symbol: str, replaces: bool, checks: bool, task: Task
    ) -> CopiedRows | None:
        """None where the target has the pair as it is in the source."""
        advanced = 0

        def advance(rows: int) -> None:
            nonlocal advanced
            advanced += rows
            task.advance(rows)

        async def attempt() -> CopiedRows | None:
            if advanced:
                advance(-advanced)
            state = await self._state(symbol, checks)
            if state == "equal":
                return None
            if state == "different" and not replaces:
                raise DataRefusedError(
                    f"{symbol}: the target has something else of it", hint="to have it replaced: --replace"
                )
            return await copy_symbol(
                self._source, ingest, symbol, replaces=replaces, checks=checks, advance=advance
            )

        async with left_alone(ingest.store, symbol):
            return await until_undisturbed(attempt)

    async def _select(
        self, symbols: Sequence[str] | None, exclude: Sequence[str]
    ) -> dict[str, tuple[int, int]]:
        """Each pair that is wanted, with the number of its trades and of its candles, by the counters."""
        async with self._source.database.read() as connection:
            counts: dict[str, tuple[int, int]] = {}
            for row in await SyncStatusRepository(connection).all():
                trades, candles = counts.get(row.symbol, (0, 0))
                is_trades = row.data_type == DataType.TRADES
                trades += row.total_records if is_trades else 0
                counts[row.symbol] = trades, candles + (0 if is_trades else row.total_records)
            wanted = select(symbols, sorted(counts), exclude=exclude)
            for symbol in wanted:
                if symbol not in counts and not await SymbolRows(connection, symbol).are_there():
                    raise PairError(f"nothing is stored of {symbol} in {self._source.database.display}")
        return {symbol: counts.get(symbol, (0, 0)) for symbol in wanted}

    async def _state(self, symbol: str, checks: bool) -> PairState:
        if self._target is None:
            return "missing"
        async with snapshot(self._target, symbol) as there:
            if not await SymbolRows(there, symbol).are_there():
                return "missing"
            async with snapshot(self._source, symbol) as here:
                if await read_facts(here, self._source.backend, symbol) != await read_facts(
                    there, self._target.backend, symbol
                ):
                    return "different"
                if checks and not await _same_rows(here, there, symbol):
                    return "different"
        return "equal"


async def _same_rows(here: AsyncConnection, there: AsyncConnection, symbol: str) -> bool:
    for rows in (trades_of(symbol), minutes_of(symbol), other_candles_of(symbol)):
        if await PairCopyRepository(here).digest(rows) != await PairCopyRepository(there).digest(rows):
            return False
    return True


async def _has_schema(url: str, *, makes_it: bool) -> bool:
    """Whether there is a store at ``url``, which is made where there is none if ``makes_it``."""
    try:
        database = await Database.open(url, pool_max_size=1, creates=makes_it)
    except ConfigurationError:
        if makes_it or not is_embedded(url):
            raise
        return False
    try:
        await database.wait_until_ready()
        if await database.reading(current_revision) is not None:
            return True
        if makes_it:
            await migrate(database)
        return makes_it
    finally:
        await database.close()


async def _require_two(source: Database, target: Database) -> None:
    """Raise ConfigurationError where both are one: what the first locks, the other cannot lock then."""
    name = f"kraken-db:copy:{uuid4()}"
    async with source.begin() as here, target.begin() as there:
        keys = [f"{name}:{await one.scalar(text('SELECT current_schema()'))}" for one in (here, there)]
        if not (await try_exclusive(here, keys[0]) and await try_exclusive(there, keys[1])):
            raise ConfigurationError(f"FROM and TO are the same database: {source.display}")


async def _take_policies(source: Store, target: Store) -> None:
    """Have an empty target keep rows as long as the source does, before the first of them is there."""
    async with target.database.begin() as connection:
        if await SyncStatusRepository(connection).all():
            return
        async with source.database.read() as reading:
            wanted = {policy.table: policy for policy in await source.backend.policies(reading)}
        for policy in await target.backend.policies(connection):
            new = replace(policy, retention=wanted[policy.table].retention)
            if source.backend.compression is not None and target.backend.compression is not None:
                new = wanted[policy.table]
            if new != policy:
                await target.backend.set_policy(connection, new)


async def _keeps_less(source: Store, target: Store) -> dict[TableName, timedelta]:
    here, there = await _retentions(source), await _retentions(target)
    return {
        table: period
        for table in TABLES
        if (period := there[table]) is not None and ((other := here[table]) is None or period < other)
    }


async def _retentions(store: Store) -> dict[TableName, timedelta | None]:
    backend: Backend = store.backend
    policies = await store.database.reading(backend.policies)
    return {policy.table: policy.retention for policy in policies}

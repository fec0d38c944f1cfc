"""A symbol copied from another store, exactly, in one transaction: all of it is there afterwards, or nothing.

What a refresh makes of the rows is not copied: the next refresh of the target makes it. What a refresh cannot
make again is: candles whose minutes retention has dropped.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Table, literal_column
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.rolled_candles import FROM_MINUTES
from kraken_db.backends.rollup import Rows
from kraken_db.data_types import TABLES, DataType
from kraken_db.db.locks import lock_for_writing
from kraken_db.errors import DataRefusedError
from kraken_db.ingest.removal import remove_rows
from kraken_db.ingest.write_unit import Ingest, WriteTransaction
from kraken_db.intervals import BASE_INTERVAL, interval_length
from kraken_db.models import CANDLES, TRADES
from kraken_db.repositories.pair_copy import (
    PairCopyRepository,
    kept_of,
    minutes_of,
    other_candles_of,
    trades_of,
)
from kraken_db.repositories.pair_facts import PairFacts, read_facts
from kraken_db.repositories.removal import SymbolRows
from kraken_db.store import Store

_EVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CopiedRows:
    """How many rows were copied. ``kept``: candles of 5m to 1h that have outlived their minutes."""

    trades: int
    candles: int
    kept: int


class CopyDiffersError(DataRefusedError):
    """What was copied of a symbol is not what the source has; nothing of it was committed."""


@asynccontextmanager
async def snapshot(store: Store, symbol: str) -> AsyncIterator[AsyncConnection]:
    """A connection to which the rows of a symbol do not change, whoever writes them."""
    async with store.database.read() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        if store.backend.chunks is not None:
            await PairCopyRepository(connection).hold_chunks()
        if store.backend.shards is not None:
            # Each statement on a shard has a snapshot of its own: writers wait.
            await lock_for_writing(connection, [f"{data_type}:{symbol}" for data_type in DataType], {})
        await PairCopyRepository(connection).begin()
        yield connection


async def copy_symbol(
    source: Store,
    ingest: Ingest,
    symbol: str,
    *,
    replaces: bool,
    checks: bool,
    advance: Callable[[int], None],
) -> CopiedRows:
    """Copy everything that ``source`` has of a symbol; ``advance`` is told of rows as they pass.

    What the target has of it is removed in the same transaction if ``replaces``; else it is an error.
    ``checks``: both sides are read again, and compared, before anything is committed. Raises
    CopyDiffersError, DataRefusedError and DatabaseErrors.
    """

    async def work(transaction: WriteTransaction) -> CopiedRows:
        async with snapshot(source, symbol) as connection:
            copy = _SymbolCopy(connection, source, transaction, symbol, advance)
            return await copy.run(replaces=replaces, checks=checks)

    return await ingest.write([(symbol, data_type) for data_type in DataType], _EVER, work)


class _SymbolCopy:
    def __init__(
        self,
        connection: AsyncConnection,
        source: Store,
        transaction: WriteTransaction,
        symbol: str,
        advance: Callable[[int], None],
    ) -> None:
        self._connection = connection
        self._source = source
        self._transaction = transaction
        self._symbol = symbol
        self._advance = advance
        self._read = PairCopyRepository(connection)
        self._write = PairCopyRepository(transaction.connection)

    async def run(self, *, replaces: bool, checks: bool) -> CopiedRows:
        transaction, symbol = self._transaction, self._symbol
        await self._write.begin()
        if await SymbolRows(transaction.connection, symbol).are_there():
            if not replaces:
                raise DataRefusedError(f"{symbol} is stored in the target already")
            await remove_rows(transaction, symbol)
        facts = await read_facts(self._connection, self._source.backend, symbol)
        trades = await self._pour(trades_of(symbol), TRADES)
        candles = await self._minutes() + await self._pour(other_candles_of(symbol), CANDLES)
        await self._note_dropped()  # what it looks for, the next line would make of this symbol
        kept = await self._kept(facts)
        await transaction.ledger.restate(facts.rows)
        if (last := await self._read.last_own_id()) is not None:
            await self._write.advance_own_ids(last)
        if checks:
            await self._check(facts)
        return CopiedRows(trades, candles, kept)

    async def _minutes(self) -> int:
        edges = await self._read.minute_edges(self._symbol)
        if edges is None:
            return await self._pour(minutes_of(self._symbol), CANDLES)
        end = edges[1] + interval_length(BASE_INTERVAL)
        connection = self._transaction.connection
        async with self._transaction.backend.writing_minutes(
            connection, self._symbol, edges[0], end, are_new=True
        ):
            return await self._pour(minutes_of(self._symbol), CANDLES)

    async def _kept(self, facts: PairFacts) -> int:
        dropped = facts.dropped(DataType.CANDLES_1M)
        if not dropped:
            return 0
        copied = 0
        backend = self._transaction.backend
        for interval in FROM_MINUTES:
            rows = kept_of(self._symbol, interval, self._source.backend.kept_table(interval), dropped)
            copied += await self._pour(rows, backend.kept_table(interval))
        if copied:
            await backend.mark_stale(self._transaction.connection, self._symbol, dropped)
        return copied

    async def _pour(self, rows: Rows, table: Table) -> int:
        columns = [column.name for column in rows.selected_columns]
        if "kept" in table.c:
            rows, columns = rows.add_columns(literal_column("true")), [*columns, "kept"]
        async with aclosing(self._read.blocks(rows)) as blocks:
            return await self._write.take(table, columns, self._counted(blocks))

    async def _counted(self, blocks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        async for block in blocks:
            yield block
            self._advance(block.count(b"\n"))

    async def _note_dropped(self) -> None:
        """What other symbols had in chunks that are new: it was dropped."""
        new = await self._transaction.chunks_made(TABLES)
        for table, created in new.ours.items() if new is not None else ():
            await self._transaction.note_dropped(table, created)

    async def _check(self, facts: PairFacts) -> None:
        symbol, dropped = self._symbol, facts.dropped(DataType.CANDLES_1M)
        ours, theirs = self._transaction.backend, self._source.backend
        pairs = [(rows, rows) for rows in (trades_of(symbol), minutes_of(symbol), other_candles_of(symbol))]
        for interval in FROM_MINUTES if dropped else ():
            here = kept_of(symbol, interval, ours.kept_table(interval), dropped)
            there = kept_of(symbol, interval, theirs.kept_table(interval), dropped)
            pairs.append((there, here))
        for there, here in pairs:
            read, written = await self._read.digest(there), await self._write.digest(here)
            if read != written:
                raise CopyDiffersError(
                    f"{symbol}: {read.rows} rows were read, and the {written.rows} that were written are not"
                    " the same; nothing of it was committed"
                )

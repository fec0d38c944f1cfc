"""What a write owes beside its rows: counters, coverage, dropped and unproven ranges.

Only ``kraken_db.ingest`` imports this module (a contract of the imports holds it): what is claimed here is
claimed in the transaction that writes the rows, and can claim nothing that is not stored. The repositories
beside it read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Table, bindparam, case, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, TSTZMULTIRANGE, VARCHAR, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.data_types import DataType
from kraken_db.db.multiranges import from_multirange, to_multirange
from kraken_db.intervals import BASE_INTERVAL
from kraken_db.models import CANDLES, COVERAGE, DROPPED_RANGES, SYNC_STATUS, TRADES, UNPROVEN_RANGES
from kraken_db.ranges import TimeRange
from kraken_db.repositories.coverage import STORED_RANGES, Source
from kraken_db.repositories.pair_facts import FACTS

_ADD_STORED = text(f"""
    INSERT INTO dropped_ranges (symbol, data_type, dropped) {STORED_RANGES}
    ON CONFLICT (symbol, data_type) DO UPDATE SET dropped = dropped_ranges.dropped + excluded.dropped
""").bindparams(bindparam("gone", type_=TSTZMULTIRANGE), bindparam("types", type_=ARRAY(VARCHAR)))

_DOUBTS = text("""
    SELECT symbol, data_type, d.dropped, u.unproven
    FROM (SELECT * FROM dropped_ranges WHERE symbol = ANY(:symbols) AND data_type = ANY(:types)) d
    FULL JOIN (SELECT * FROM unproven_ranges WHERE symbol = ANY(:symbols) AND data_type = ANY(:types)) u
    USING (symbol, data_type)
""").bindparams(bindparam("symbols", type_=ARRAY(VARCHAR)), bindparam("types", type_=ARRAY(VARCHAR)))


@dataclass(frozen=True, slots=True)
class Stored:
    """What a write has stored of one symbol and data type. ``cursor``: where the next download goes on, in
    ns as Kraken gave it; None leaves it as it is."""

    symbol: str
    data_type: DataType
    oldest: datetime
    newest: datetime
    added: int
    cursor: int | None = None


@dataclass(frozen=True, slots=True)
class Doubts:
    """What is not there of a symbol and data type: ranges in order of time, apart from each other."""

    dropped: tuple[TimeRange, ...] = ()
    """What was stored once and is gone."""
    unproven: tuple[TimeRange, ...] = ()
    """Of what there are rows that no source has shown to be complete."""


class Ledger:
    """Writes on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def doubts(self, keys: Collection[tuple[str, DataType]]) -> dict[tuple[str, DataType], Doubts]:
        """What is dropped and unproven of some symbols and data types; a key without any is left out."""
        symbols, types = zip(*keys, strict=True)
        rows = await self._connection.execute(_DOUBTS, {"symbols": list(symbols), "types": list(types)})
        return {
            (row.symbol, DataType(row.data_type)): Doubts(
                from_multirange(row.dropped), from_multirange(row.unproven)
            )
            for row in rows
        }

    async def count(self, stored: Iterable[Stored]) -> None:
        """Widen the ranges of ``data_sync_status``, add to its counts, and set the time of the sync.

        A record that is newer than the newest one says that the pair has not ended.
        """
        rows = [
            {
                "symbol": one.symbol,
                "data_type": one.data_type,
                "oldest_timestamp": one.oldest,
                "newest_timestamp": one.newest,
                "total_records": one.added,
                "last_kraken_since": one.cursor,
            }
            for one in stored
        ]
        if not rows:
            return
        fresh = insert(SYNC_STATUS)  # the time of the sync is the column's default: now
        new, old = fresh.excluded, SYNC_STATUS.c
        await self._connection.execute(
            fresh.on_conflict_do_update(
                index_elements=["symbol", "data_type"],
                set_={
                    "oldest_timestamp": func.least(old.oldest_timestamp, new.oldest_timestamp),
                    "newest_timestamp": func.greatest(old.newest_timestamp, new.newest_timestamp),
                    "last_sync_at": new.last_sync_at,
                    "total_records": old.total_records + new.total_records,
                    "last_kraken_since": func.coalesce(new.last_kraken_since, old.last_kraken_since),
                    "ended_at": case((new.newest_timestamp > old.newest_timestamp, None), else_=old.ended_at),
                },
            ),
            rows,
        )

    async def touch(self, keys: Iterable[tuple[str, DataType]]) -> None:
        """There was nothing new: set the time of the sync, and leave the rest."""
        rows = [{"of_symbol": symbol, "of_type": data_type} for symbol, data_type in keys]
        if not rows:
            return
        c = SYNC_STATUS.c
        await self._connection.execute(
            update(SYNC_STATUS)
            .where(c.symbol == bindparam("of_symbol"), c.data_type == bindparam("of_type"))
            .values(last_sync_at=func.now()),
            rows,
        )

    async def end(self, symbol: str, moment: datetime | None) -> None:
        """No trade of a symbol is expected from this moment on; None: they are, from now on."""
        c = SYNC_STATUS.c
        await self._connection.execute(
            update(SYNC_STATUS)
            .where(c.symbol == symbol, c.data_type == DataType.TRADES)
            .values(ended_at=moment)
        )

    async def forget(self, symbol: str) -> None:
        """Nothing was ever stored of a symbol: counters, coverage, dropped and unproven ranges go."""
        for table in FACTS:
            await self._connection.execute(delete(table).where(table.c.symbol == symbol))

    async def restate(self, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Say of a symbol of which nothing is known what another store says: rows, by the table's name."""
        for table in FACTS:
            if of_table := rows.get(table.name):
                await self._connection.execute(insert(table), [dict(row) for row in of_table])

    async def correct(self, symbol: str, data_type: DataType, *, counted: int, stored: int) -> bool:
        """Set a count to what is stored; returns whether it still was what it had been: ``counted``."""
        c = SYNC_STATUS.c
        done = await self._connection.execute(
            update(SYNC_STATUS)
            .where(c.symbol == symbol, c.data_type == data_type, c.total_records == counted)
            .values(total_records=stored)
        )
        return bool(done.rowcount)

    async def correct_edges(self, symbol: str, data_type: DataType) -> None:
        """Set the times of the oldest and the newest record to those of the stored trades, or minutes."""
        rows = TRADES if data_type == DataType.TRADES else CANDLES
        stored = [rows.c.symbol == symbol]
        if rows is CANDLES:
            stored.append(rows.c.interval_minutes == BASE_INTERVAL)
        extent = select(func.min(rows.c.timestamp), func.max(rows.c.timestamp)).where(*stored)
        oldest, newest = (await self._connection.execute(extent)).one()
        c = SYNC_STATUS.c
        await self._connection.execute(
            update(SYNC_STATUS)
            .where(c.symbol == symbol, c.data_type == data_type)
            .values(oldest_timestamp=oldest, newest_timestamp=newest)
        )

    async def cover(self, claims: Iterable[tuple[str, DataType, Source, Iterable[TimeRange]]]) -> None:
        """Add ranges to what each source covers; touching ranges become one."""
        rows = [
            {"symbol": symbol, "data_type": data_type, "source": source, "covered": added}
            for symbol, data_type, source, ranges in claims
            if (added := to_multirange(ranges))
        ]
        if not rows:
            return
        fresh = insert(COVERAGE)
        await self._connection.execute(
            fresh.on_conflict_do_update(
                index_elements=["symbol", "data_type", "source"],
                set_={"covered": COVERAGE.c.covered + fresh.excluded.covered},
            ),
            rows,
        )

    async def uncover(
        self, symbol: str, data_type: DataType, source: Source, ranges: Iterable[TimeRange]
    ) -> None:
        """A source has not shown these ranges after all."""
        gone = bindparam("gone", to_multirange(ranges), TSTZMULTIRANGE)
        c = COVERAGE.c
        of_source = (c.symbol == symbol, c.data_type == data_type, c.source == source)
        await self._connection.execute(
            update(COVERAGE).where(*of_source).values(covered=c.covered.op("-")(gone))
        )
        await self._connection.execute(delete(COVERAGE).where(*of_source, func.isempty(c.covered)))

    async def drop(self, symbol: str, data_type: DataType, ranges: Iterable[TimeRange]) -> None:
        """Rows of these ranges were stored, and are not there any more."""
        await self._add(DROPPED_RANGES, symbol, data_type, ranges)

    async def drop_stored(self, data_types: Iterable[DataType], gone: Iterable[TimeRange]) -> None:
        """Nothing is left of these ranges: what was stored in them, of all symbols, was dropped."""
        await self._connection.execute(_ADD_STORED, {"gone": to_multirange(gone), "types": list(data_types)})

    async def restore(self, symbol: str, data_type: DataType, ranges: Iterable[TimeRange]) -> None:
        """All rows of these ranges are there again."""
        await self._remove(DROPPED_RANGES, symbol, data_type, ranges)

    async def doubt(self, symbol: str, data_type: DataType, ranges: Iterable[TimeRange]) -> None:
        """Rows were stored in these ranges that no source has shown to be complete."""
        await self._add(UNPROVEN_RANGES, symbol, data_type, ranges)

    async def prove(self, symbol: str, data_type: DataType, ranges: Iterable[TimeRange]) -> None:
        """A source covers these ranges now."""
        await self._remove(UNPROVEN_RANGES, symbol, data_type, ranges)

    async def _add(self, table: Table, symbol: str, data_type: DataType, ranges: Iterable[TimeRange]) -> None:
        added = to_multirange(ranges)
        if not added:
            return
        column = table.columns[2]
        fresh = insert(table).values(symbol=symbol, data_type=data_type, **{column.name: added})
        await self._connection.execute(
            fresh.on_conflict_do_update(
                index_elements=["symbol", "data_type"],
                set_={column.name: column + fresh.excluded[column.name]},
            )
        )

    async def _remove(
        self, table: Table, symbol: str, data_type: DataType, ranges: Iterable[TimeRange]
    ) -> None:
        removed = to_multirange(ranges)
        if not removed:
            return
        column = table.columns[2]
        same = (table.c.symbol == symbol, table.c.data_type == data_type)
        gone = bindparam("gone", removed, TSTZMULTIRANGE)
        await self._connection.execute(
            update(table).where(*same, column.op("&&")(gone)).values({column.name: column.op("-")(gone)})
        )
        await self._connection.execute(delete(table).where(*same, func.isempty(column)))

"""Citus: PostgreSQL on several machines, with all rows of a symbol on one of them.

A store is one after ``citus_schema.distribute``. What decides this module (measured):

- a statement whose every table has the symbol bound is one task on one node, whatever else is in it: so the
  higher intervals are put together here, and not read from the views, which know no value of the symbol;
- a statement that writes cannot be part of another one (``WITH ... AS (DELETE ...)``): it is taken in steps;
- a trigger runs on a shard, and can write into the one beside it (``citus_schema``). What a transaction sets
  reaches it by ``SET LOCAL`` only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from types import MappingProxyType

from sqlalchemy import bindparam, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import TSTZRANGE, insert
from sqlalchemy.dialects.postgresql.ranges import Range
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.base import MinutesWritten, Node, OldRows, TableStorage
from kraken_db.backends.citus_candles import FINEST_STORED, candles_of
from kraken_db.backends.postgres import PostgresBackend
from kraken_db.backends.rolled_candles import keep_rolled, lock_slice
from kraken_db.backends.rollup import AnySelect
from kraken_db.backends.storage import citus_nodes, citus_storage
from kraken_db.data_types import OLD_ROWS
from kraken_db.db.locks import lock_for_writing
from kraken_db.db.multiranges import from_multirange, lies_in, to_multirange
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, interval_length
from kraken_db.models import CANDLES, COVERAGE, DROPPED_RANGES, PENDING_REFRESH, TRADES
from kraken_db.ranges import TICK, TimeRange, difference, intersection, union

# Such a setting goes to every node that the transaction is on.
_IS_NOTED, _IS_NOT_NOTED = [text(f"SET LOCAL kraken_db.noted TO {state}") for state in ("on", "off")]


class CitusShards:
    """Which node has how much."""

    async def nodes(self, connection: AsyncConnection) -> Sequence[Node]:
        return await citus_nodes(connection)


class CitusBackend(PostgresBackend):
    """Citus from version 12, under a schema that is distributed by symbol."""

    name = "Citus"
    session_settings: Mapping[str, str] = MappingProxyType(
        {
            # What a transaction sets for its plans is meant for the node that makes them.
            "citus.propagate_set_commands": "local",
            # To hide shards from lists of tables, Citus asks of every relation in each look at pg_class. The
            # driver has such a look for every new type in every new connection: 1.5 s in the place of 0.1.
            "citus.override_table_visibility": "off",
        }
    )

    def __init__(self) -> None:
        self.shards = CitusShards()

    def candles_between(self, symbol: str, interval: int, start: datetime, end: datetime) -> AnySelect:
        if interval < FINEST_STORED:
            return super().candles_between(symbol, interval, start, end)
        return candles_of(
            symbol, interval, ceil_to_interval(start, interval), ceil_to_interval(end, interval)
        )

    @asynccontextmanager
    async def writing_minutes(
        self,
        connection: AsyncConnection,
        symbol: str,
        start: datetime,
        end: datetime,
        *,
        are_new: bool = False,
    ) -> AsyncIterator[MinutesWritten]:
        # Triggers see by themselves what changes. To look through a million new rows takes them a while.
        written = MinutesWritten(start, end)
        if not are_new:
            yield written
            return
        await connection.execute(_IS_NOTED)
        yield written
        await connection.execute(_IS_NOT_NOTED)
        if written.stale is not None:
            await _note(connection, symbol, written.stale)

    async def mark_stale(self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]) -> None:
        for stale in union(ranges):
            await _note(connection, symbol, stale)

    async def drop(self, connection: AsyncConnection, rows: OldRows, keep: Sequence[TimeRange] = ()) -> int:
        assert rows.symbol is not None
        # Writers wait: several statements see several moments.
        await lock_for_writing(connection, [f"{OLD_ROWS[rows.table]}:{rows.symbol}"], {})
        if rows.table == "candles":
            await lock_slice(connection, rows.symbol, rows.start)
            if await _is_stale(connection, rows.symbol, (rows.start, rows.end)):
                return 0
            await keep_rolled(connection, rows)
        await connection.execute(_IS_NOTED)
        return await _delete(connection, rows, difference([(rows.start, rows.end)], keep))

    async def storage(self, connection: AsyncConnection) -> Sequence[TableStorage]:
        return await citus_storage(connection)


async def _note(connection: AsyncConnection, symbol: str, stale: TimeRange) -> None:
    """As ``PendingRefreshWriter.add`` does, in steps."""
    c = PENDING_REFRESH.c
    added = bindparam("added", Range(*stale), TSTZRANGE)
    touching = (
        await connection.execute(
            select(c.id, func.lower(c.stale), func.upper(c.stale))
            .where(
                c.symbol == symbol,
                c.refreshed_at.is_(None),
                or_(c.stale.bool_op("&&")(added), c.stale.bool_op("-|-")(added)),
            )
            .with_for_update(skip_locked=True)
        )
    ).all()
    if touching:
        gone = delete(PENDING_REFRESH).where(c.symbol == symbol, c.id.in_([row[0] for row in touching]))
        await connection.execute(gone)
    start, end = (
        min([stale[0], *(row[1] for row in touching)]),
        max([stale[1], *(row[2] for row in touching)]),
    )
    await connection.execute(insert(PENDING_REFRESH).values(symbol=symbol, stale=Range(start, end)))


async def _is_stale(connection: AsyncConnection, symbol: str, span: TimeRange) -> bool:
    c = PENDING_REFRESH.c
    touched = bindparam("touched", Range(*span), TSTZRANGE)
    waiting = select(c.id).where(c.symbol == symbol, c.stale.bool_op("&&")(touched)).limit(1)
    return await connection.scalar(waiting) is not None


async def _delete(connection: AsyncConnection, old: OldRows, going: Sequence[TimeRange]) -> int:
    """Delete rows of a symbol, and note what is gone: what was known, and beyond that the rows themselves."""
    if not going:
        return 0
    table, length = (TRADES, TICK) if old.table == "trades" else (CANDLES, interval_length(BASE_INTERVAL))
    key = {"symbol": old.symbol, "data_type": OLD_ROWS[old.table]}
    c = COVERAGE.c
    of_key = (c.symbol == key["symbol"], c.data_type == key["data_type"])
    covered = [from_multirange(one) for one in await connection.scalars(select(c.covered).where(*of_key))]
    known = intersection(union(*covered), going)
    of_symbol = [table.c.symbol == old.symbol]
    if table is CANDLES:
        of_symbol.append(CANDLES.c.interval_minutes == BASE_INTERVAL)
    moment = table.c.timestamp
    deleted = (await connection.execute(delete(table).where(*of_symbol, lies_in(moment, known)))).rowcount
    others = list(
        await connection.scalars(delete(table).where(*of_symbol, lies_in(moment, going)).returning(moment))
    )
    if gone := to_multirange(union(known, ((start, start + length) for start in others))):
        new = insert(DROPPED_RANGES).values(**key, dropped=gone)
        grown = DROPPED_RANGES.c.dropped + new.excluded.dropped
        await connection.execute(
            new.on_conflict_do_update(index_elements=["symbol", "data_type"], set_={"dropped": grown})
        )
    return deleted + len(others)

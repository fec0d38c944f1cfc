"""Candles of one symbol written into an aggregate's own table, where a refresh would destroy others.

By way of temporary tables that are analyzed and have an index: the statistics of an aggregate that is being
filled say that there is nothing, and a planner that believes them joins row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    MetaData,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateTable, DropTable
from sqlalchemy.types import Numeric

from kraken_db.db.locks import lock_job
from kraken_db.db.multiranges import to_multirange
from kraken_db.intervals import BASE_INTERVAL
from kraken_db.models import CANDLES, Amount, Timestamp
from kraken_db.ranges import TimeRange
from kraken_db.timeseries.rollup import AnySelect, rollup

# An hour may hold more than the column of a minute.
_FRESH = Table(
    "fresh_candles",
    MetaData(),
    *(Column(c.name, Numeric() if c.type is Amount else c.type) for c in CANDLES.columns),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
_KNOWN = Table(
    "known_candles",
    MetaData(),
    Column("timestamp", Timestamp),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)


async def store_directly(
    connection: AsyncConnection,
    stored: Table,
    interval: int,
    symbol: str,
    candles: Sequence[TimeRange],
    dropped: Sequence[TimeRange],
) -> None:
    """Compute the candles of a symbol in these ranges, which lie on the grid, from minutes.

    ``dropped`` is where the symbol's minutes are known to be gone. A candle that reaches into it stays as
    it is stored, for what is left of its minutes is not all of it; every other one is computed anew.
    """
    if not candles:
        return
    # Two runs that write the same candle would each delete the old one and add a new one.
    await lock_job(connection, "write", of="the higher intervals")
    start, end = candles[0][0], candles[-1][1]
    minutes = (
        select(CANDLES)
        .where(
            CANDLES.c.symbol == symbol,
            CANDLES.c.interval_minutes == BASE_INTERVAL,
            CANDLES.c.timestamp >= start,
            CANDLES.c.timestamp < end,
            CANDLES.c.timestamp.op("<@")(_multirange("wanted", candles)),
        )
        .subquery("minutes")
    )
    await _fill(connection, _FRESH, rollup(minutes, interval))
    inside = (stored.c.symbol == symbol, stored.c.timestamp >= start, stored.c.timestamp < end)
    if dropped:
        await _fill(connection, _KNOWN, select(stored.c.timestamp).where(*inside))
        length: ColumnElement[Any] = literal_column(f"INTERVAL '{int(interval)} minutes'")
        lifetime = func.tstzrange(_FRESH.c.timestamp, _FRESH.c.timestamp + length)
        is_partial = lifetime.op("&&")(_multirange("dropped", dropped))
        is_known = _FRESH.c.timestamp.in_(select(_KNOWN.c.timestamp))
        await connection.execute(delete(_FRESH).where(is_partial, is_known))
    await connection.execute(
        delete(stored).where(*inside, stored.c.timestamp.in_(select(_FRESH.c.timestamp)))
    )
    await connection.execute(insert(stored).from_select([column.name for column in _FRESH.c], select(_FRESH)))


async def _fill(connection: AsyncConnection, table: Table, rows: AnySelect) -> None:
    """Make a temporary table of these rows, which the planner knows all about."""
    await connection.execute(DropTable(table, if_exists=True))
    await connection.execute(CreateTable(table))
    columns = [column.name for column in rows.selected_columns]
    await connection.execute(insert(table).from_select(columns, rows))
    await connection.execute(text(f"CREATE INDEX ON {table.name} (timestamp)"))
    await connection.execute(text(f"ANALYZE {table.name}"))


def _multirange(name: str, ranges: Sequence[TimeRange]) -> object:
    return bindparam(name, to_multirange(ranges), TSTZMULTIRANGE)

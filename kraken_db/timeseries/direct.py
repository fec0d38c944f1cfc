"""Candles of one symbol written into an aggregate's own table, where a refresh would destroy others.

In temporary tables that are analyzed: the statistics of an aggregate that is being filled say that there is
nothing, and a planner that believes them joins row by row.
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
from sqlalchemy.dialects.postgresql.ranges import MultiRange, Range
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateTable, DropTable
from sqlalchemy.types import Numeric

from kraken_db.db.locks import lock_job
from kraken_db.intervals import BASE_INTERVAL
from kraken_db.models import CANDLES, Amount
from kraken_db.ranges import TimeRange
from kraken_db.timeseries.rollup import rollup

# An hour may hold more than the column of a minute.
_FRESH = Table(
    "fresh_candles",
    MetaData(),
    *(Column(c.name, Numeric() if c.type is Amount else c.type) for c in CANDLES.columns),
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
    await connection.execute(DropTable(_FRESH, if_exists=True))
    await connection.execute(CreateTable(_FRESH))
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
    fresh = rollup(minutes, interval)
    columns = [column.name for column in fresh.selected_columns]
    await connection.execute(insert(_FRESH).from_select(columns, fresh))
    await connection.execute(text(f"ANALYZE {_FRESH.name}"))
    inside = (stored.c.symbol == symbol, stored.c.timestamp >= start, stored.c.timestamp < end)
    if dropped:
        length: ColumnElement[Any] = literal_column(f"INTERVAL '{int(interval)} minutes'")
        lifetime = func.tstzrange(_FRESH.c.timestamp, _FRESH.c.timestamp + length)
        is_partial = lifetime.op("&&")(_multirange("dropped", dropped))
        known = select(stored.c.timestamp).where(*inside)
        await connection.execute(delete(_FRESH).where(is_partial, _FRESH.c.timestamp.in_(known)))
    await connection.execute(
        delete(stored).where(*inside, stored.c.timestamp.in_(select(_FRESH.c.timestamp)))
    )
    await connection.execute(insert(stored).from_select([column.name for column in _FRESH.c], select(_FRESH)))


def _multirange(name: str, ranges: Sequence[TimeRange]) -> object:
    return bindparam(name, MultiRange([Range(*item) for item in ranges]), TSTZMULTIRANGE)

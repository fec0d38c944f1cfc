"""Old rows of plain PostgreSQL: found symbol by symbol, and deleted a day or a week at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Interval, Table, bindparam, func, literal, select, text, true
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE, VARCHAR
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.base import OldRows
from kraken_db.data_types import OLD_ROWS, TableName
from kraken_db.db.multiranges import to_multirange
from kraken_db.intervals import BASE_INTERVAL, DAY, floor_to_interval
from kraken_db.models import CANDLES, SYNC_STATUS, TRADES, Timestamp
from kraken_db.ranges import TICK, TimeRange, difference

_TABLES: dict[TableName, Table] = {"trades": TRADES, "candles": CANDLES}
# What is deleted in one transaction: as many rows as a moment's work takes, and whole candles.
_LENGTHS: dict[TableName, timedelta] = {"trades": timedelta(days=1), "candles": timedelta(days=7)}
_WEEK = 10080
_GRIDS: dict[TableName, int] = {"trades": DAY, "candles": _WEEK}

# Rows go, and it is noted where something is gone: where everything was known, and beyond that the rows
# themselves. One statement sees one moment: minutes that were written and wait for their refresh stay.
_DROP = """
    WITH gone AS (
        DELETE FROM {table} WHERE symbol = :symbol AND {only} AND {is_free}
          AND timestamp >= :start AND timestamp < :end AND timestamp <@ :going
        RETURNING timestamp
    ), noted AS (
        INSERT INTO dropped_ranges (symbol, data_type, dropped)
        SELECT :symbol, :data_type, range_agg(part) FROM (
            SELECT unnest(covered * :going) AS part FROM data_coverage
            WHERE symbol = :symbol AND data_type = :data_type AND covered && :going AND {is_free}
            UNION ALL
            SELECT tstzrange(timestamp, timestamp + INTERVAL '{length}') FROM gone
        ) parts
        HAVING count(*) > 0
        ON CONFLICT (symbol, data_type) DO UPDATE SET dropped = dropped_ranges.dropped + excluded.dropped
    )
    SELECT count(*) FROM gone
"""
_IS_FREE = """NOT EXISTS (SELECT 1 FROM pending_refresh p
                          WHERE p.symbol = :symbol AND p.stale && tstzrange(:start, :end))"""
_STATEMENTS: dict[TableName, str] = {
    "trades": _DROP.format(table="trades", only="true", is_free="true", length="1 microsecond"),
    "candles": _DROP.format(
        table="candles", only="interval_minutes = 1", is_free=_IS_FREE, length="1 minute"
    ),
}
_DROPS = {
    table: text(statement).bindparams(
        bindparam("symbol", type_=VARCHAR),
        bindparam("data_type", type_=VARCHAR),
        bindparam("start", type_=Timestamp),
        bindparam("end", type_=Timestamp),
        bindparam("going", type_=TSTZMULTIRANGE),
    )
    for table, statement in _STATEMENTS.items()
}
# Whatever else changes a minute leaves a note that its candles are stale; these were stored before.
_STORED_BEFORE = text("SELECT set_config('kraken_db.retention', :state, true)")


async def find_old_rows(connection: AsyncConnection, table: TableName, before: datetime) -> list[OldRows]:
    """The days (weeks of minutes) that hold rows from before the day (UTC) of ``before``, oldest first."""
    found: list[OldRows] = []
    for symbol in await connection.scalars(select(SYNC_STATUS.c.symbol).distinct()):
        found += await _old_rows_of(connection, table, symbol, floor_to_interval(before, DAY))
    return sorted(found, key=lambda old: (old.start, old.symbol or ""))


async def _old_rows_of(
    connection: AsyncConnection, table: TableName, symbol: str, before: datetime
) -> list[OldRows]:
    rows, length = _TABLES[table], _LENGTHS[table]
    of_symbol = [rows.c.symbol == symbol]
    if rows is CANDLES:
        of_symbol.append(CANDLES.c.interval_minutes == BASE_INTERVAL)
    moment = rows.c.timestamp
    oldest = await connection.scalar(select(moment).where(*of_symbol).order_by(moment).limit(1))
    if oldest is None or oldest >= before:
        return []
    step = literal(length, Interval)
    grid = func.generate_series(
        literal(floor_to_interval(oldest, _GRIDS[table]), Timestamp),
        literal(before - TICK, Timestamp),
        step,
        type_=Timestamp,
    ).column_valued("start")
    # One look at the index for each of them, however many rows it has.
    any_row = (
        select(literal(1).label("found"))
        .where(*of_symbol, moment >= grid, moment < func.least(grid + step, literal(before, Timestamp)))
        .limit(1)
        .lateral()
    )
    starts = await connection.scalars(select(grid).join(any_row, true()).order_by(grid))
    return [OldRows(table, symbol, start, min(start + length, before)) for start in starts]


async def delete_rows(connection: AsyncConnection, old: OldRows, keep: Sequence[TimeRange]) -> int:
    """Delete the rows of a symbol outside of ``keep``, and note what is gone; returns their number.

    Of minutes, all of them stay where some were written and wait for their refresh.
    """
    going = to_multirange(difference([(old.start, old.end)], keep))
    names = {"symbol": old.symbol, "data_type": OLD_ROWS[old.table]}
    await connection.execute(_STORED_BEFORE, {"state": "on"})
    rows = await connection.scalar(
        _DROPS[old.table], {**names, "start": old.start, "end": old.end, "going": going}
    )
    await connection.execute(_STORED_BEFORE, {"state": ""})
    return rows or 0

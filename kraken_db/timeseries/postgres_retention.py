"""Retention on plain PostgreSQL: old rows found symbol by symbol, and deleted a day or a week at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Interval, Table, delete, func, literal, select, true
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE, Range
from sqlalchemy.dialects.postgresql.ranges import MultiRange
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.intervals import BASE_INTERVAL, floor_to_interval
from kraken_db.models import CANDLES, SYNC_STATUS, TRADES, Timestamp
from kraken_db.policies import TableName
from kraken_db.timeseries.base import Piece, TimeRange

_TABLES: dict[TableName, Table] = {"trades": TRADES, "candles": CANDLES}
# What is deleted in one transaction: as many rows as a moment's work takes, and whole candles.
_LENGTHS: dict[TableName, timedelta] = {"trades": timedelta(days=1), "candles": timedelta(days=7)}
_DAY, _WEEK = 1440, 10080
_GRIDS: dict[TableName, int] = {"trades": _DAY, "candles": _WEEK}


async def pieces_with_rows(connection: AsyncConnection, table: TableName, before: datetime) -> list[Piece]:
    """The days (weeks of minutes) that hold rows from before the day (UTC) of ``before``, oldest first."""
    found: list[Piece] = []
    for symbol in await connection.scalars(select(SYNC_STATUS.c.symbol).distinct()):
        found += await _pieces_of(connection, table, symbol, floor_to_interval(before, _DAY))
    return sorted(found, key=lambda piece: (piece.start, piece.symbol or ""))


async def _pieces_of(
    connection: AsyncConnection, table: TableName, symbol: str, before: datetime
) -> list[Piece]:
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
        literal(before - timedelta(microseconds=1), Timestamp),
        step,
        type_=Timestamp,
    ).column_valued("start")
    # One look at the index for each piece, however many rows it has.
    any_row = (
        select(literal(1).label("found"))
        .where(*of_symbol, moment >= grid, moment < func.least(grid + step, literal(before, Timestamp)))
        .limit(1)
        .lateral()
    )
    starts = await connection.scalars(select(grid).join(any_row, true()).order_by(grid))
    return [Piece(table, symbol, start, min(start + length, before)) for start in starts]


async def delete_rows(connection: AsyncConnection, piece: Piece, keep: Sequence[TimeRange]) -> int:
    """Delete the rows of a piece outside of ``keep``; returns their number."""
    rows = _TABLES[piece.table]
    statement = delete(rows).where(
        rows.c.symbol == piece.symbol, rows.c.timestamp >= piece.start, rows.c.timestamp < piece.end
    )
    if rows is CANDLES:
        statement = statement.where(CANDLES.c.interval_minutes == BASE_INTERVAL)
    if keep:
        kept = literal(MultiRange([Range(start, end) for start, end in keep]), TSTZMULTIRANGE)
        statement = statement.where(~kept.bool_op("@>")(rows.c.timestamp))
    return (await connection.execute(statement)).rowcount

"""``rolled_candles``, on plain PostgreSQL: the candles that outlive the minutes they were computed from.

A candle that is rolled up takes the place of what the minutes say. So it must go once its minutes are there
again as a whole, and must stay while some of them are dropped.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Interval, delete, exists, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.engine import Database
from kraken_db.intervals import (
    BASE_INTERVAL,
    INTERVAL_SOURCES,
    floor_to_interval,
    interval_length,
)
from kraken_db.models import CANDLES, DROPPED_RANGES, ROLLED_CANDLES
from kraken_db.timeseries.base import Piece, StaleRange
from kraken_db.timeseries.rollup import Rows, rollup

ROLLED_INTERVALS = [interval for interval, source in INTERVAL_SOURCES.items() if source == BASE_INTERVAL]
_KEY = ["symbol", "interval_minutes", "timestamp"]
CANDLE_COLUMNS = [column.name for column in rollup(CANDLES, BASE_INTERVAL).selected_columns]


def minutes_between(symbol: str, start: datetime | None = None, end: datetime | None = None) -> Rows:
    c = CANDLES.c
    rows = select(CANDLES).where(c.symbol == symbol, c.interval_minutes == BASE_INTERVAL)
    return _bounded(rows, c.timestamp, start, end)


def rolled_between(
    symbol: str, interval: int, start: datetime | None = None, end: datetime | None = None
) -> Rows:
    """All columns of ``candles``, in the order that ``rollup`` has."""
    c = ROLLED_CANDLES.c
    columns = (c[name] for name in CANDLE_COLUMNS)
    rows = select(*columns).where(c.symbol == symbol, c.interval_minutes == interval)
    return _bounded(rows, c.timestamp, start, end)


def _bounded(
    rows: Rows, moment: ColumnElement[datetime], start: datetime | None, end: datetime | None
) -> Rows:
    if start is not None:
        rows = rows.where(moment >= start)
    return rows if end is None else rows.where(moment < end)


async def store_rolled(connection: AsyncConnection, piece: Piece) -> None:
    """Roll up the minutes of a piece, before they go: whole days, so that no candle is cut.

    A candle that is there already gives way only to one of minutes that are all there.
    """
    assert piece.symbol is not None
    for interval in ROLLED_INTERVALS:
        minutes = minutes_between(piece.symbol, piece.start, piece.end)
        fresh = rollup(minutes.subquery(), interval).subquery()
        rows = select(*(fresh.c[name] for name in CANDLE_COLUMNS))
        new = insert(ROLLED_CANDLES).from_select(CANDLE_COLUMNS, rows)
        values = {name: new.excluded[name] for name in CANDLE_COLUMNS if name not in _KEY}
        is_whole = _is_whole(piece.symbol, new.excluded.timestamp, interval)
        await connection.execute(new.on_conflict_do_update(index_elements=_KEY, set_=values, where=is_whole))


async def forget_rolled(database: Database, item: StaleRange) -> None:
    """Delete the rolled candles of a range whose minutes are all there again: these speak for themselves.

    A candle stays while some of its minutes are dropped.
    """
    old = ROLLED_CANDLES.c
    async with database.begin() as connection:
        any_rolled = exists().where(old.symbol == item.symbol, old.timestamp < item.end)
        if not await connection.scalar(select(any_rolled)):
            return
        for interval in ROLLED_INTERVALS:
            await connection.execute(
                delete(ROLLED_CANDLES).where(
                    old.symbol == item.symbol,
                    old.interval_minutes == interval,
                    old.timestamp >= floor_to_interval(item.start, interval),
                    old.timestamp < item.end,
                    _is_whole(item.symbol, old.timestamp, interval),
                )
            )


def _is_whole(symbol: str, opens_at: ColumnElement[datetime], interval: int) -> ColumnElement[bool]:
    """Whether no minute of a candle was dropped, or all of them are there again."""
    d = DROPPED_RANGES.c
    dropped = select(d.dropped).where(d.symbol == symbol, d.data_type == "candles_1m").scalar_subquery()
    span = func.tstzrange(opens_at, opens_at + literal(interval_length(interval), Interval))
    return ~func.coalesce(dropped.bool_op("&&")(span), False)

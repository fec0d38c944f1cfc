"""``rolled_candles``, on plain PostgreSQL: the candles that outlive the minutes they were computed from.

A candle that is rolled up takes the place of what the minutes say. So it must go once its minutes are there
again as a whole, and must stay while some of them are dropped.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Interval, and_, delete, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.engine import Database
from kraken_db.intervals import (
    BASE_INTERVAL,
    INTERVAL_SOURCES,
    ceil_to_interval,
    floor_to_interval,
    interval_length,
)
from kraken_db.models import CANDLES, DROPPED_RANGES, ROLLED_CANDLES
from kraken_db.timeseries.base import Piece, StaleRange
from kraken_db.timeseries.rollup import Rows, rollup

ROLLED_INTERVALS = [interval for interval, source in INTERVAL_SOURCES.items() if source == BASE_INTERVAL]
_SLICE = timedelta(days=84)
_KEY = ["symbol", "interval_minutes", "timestamp"]
CANDLE_COLUMNS = [column.name for column in CANDLES.columns]


def minutes_between(symbol: str, start: datetime | None = None, end: datetime | None = None) -> Rows:
    c = CANDLES.c
    rows = select(CANDLES).where(c.symbol == symbol, c.interval_minutes == BASE_INTERVAL)
    return _bounded(rows, c.timestamp, start, end)


def rolled_between(
    symbol: str, interval: int, start: datetime | None = None, end: datetime | None = None
) -> Rows:
    """All columns of ``candles``, in its order."""
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

    A candle that is there already gives way only to one of minutes that are all there, and that know as
    many trades.
    """
    assert piece.symbol is not None
    old = ROLLED_CANDLES.c
    for interval in ROLLED_INTERVALS:
        minutes = minutes_between(piece.symbol, piece.start, piece.end)
        fresh = rollup(minutes.subquery(), interval).subquery()
        same = and_(
            old.symbol == fresh.c.symbol,
            old.interval_minutes == interval,
            old.timestamp == fresh.c.timestamp,
        )
        better = and_(_is_whole(fresh.c, interval), _knows_as_many(fresh.c, old))
        rows = select(*(fresh.c[name] for name in CANDLE_COLUMNS)).select_from(
            fresh.outerjoin(ROLLED_CANDLES, same)
        )
        new = insert(ROLLED_CANDLES).from_select(
            CANDLE_COLUMNS, rows.where(or_(old.timestamp.is_(None), better))
        )
        values = {name: new.excluded[name] for name in CANDLE_COLUMNS if name not in _KEY}
        await connection.execute(new.on_conflict_do_update(index_elements=_KEY, set_=values))


async def forget_rolled(database: Database, item: StaleRange) -> None:
    """Delete the rolled candles of a range whose minutes are all there again: these speak for themselves.

    In slices of bounded length, each in a transaction of its own. A rolled candle with more trades than
    its minutes stays, unless they were forced.
    """
    async with database.read() as connection:
        first, last = await _rolled_span(connection, item)
    if first is None or last is None:
        return
    start, end = max(item.start, first), min(item.end, last + interval_length(ROLLED_INTERVALS[-1]))
    while start < end:
        async with database.begin() as connection:
            for interval in ROLLED_INTERVALS:
                stop = min(start + _SLICE, end)
                await _forget(connection, item, interval, start, stop)
        start += _SLICE


async def _rolled_span(
    connection: AsyncConnection, item: StaleRange
) -> tuple[datetime | None, datetime | None]:
    """The open times of the first and the last rolled candle that reach into a range."""
    c = ROLLED_CANDLES.c
    found = await connection.execute(
        select(func.min(c.timestamp), func.max(c.timestamp)).where(
            c.symbol == item.symbol,
            c.interval_minutes.in_(ROLLED_INTERVALS),
            c.timestamp >= floor_to_interval(item.start, ROLLED_INTERVALS[-1]),
            c.timestamp < item.end,
        )
    )
    first, last = found.one()
    return first, last


async def _forget(
    connection: AsyncConnection, item: StaleRange, interval: int, start: datetime, end: datetime
) -> None:
    first, last = floor_to_interval(start, interval), ceil_to_interval(end, interval)
    fresh = rollup(minutes_between(item.symbol, first, last).subquery(), interval).subquery()
    old = ROLLED_CANDLES.c
    condition = _is_whole(old, interval)
    if not item.replaced:
        condition = and_(condition, _knows_as_many(fresh.c, old))
    await connection.execute(
        delete(ROLLED_CANDLES).where(
            old.symbol == item.symbol,
            old.interval_minutes == interval,
            old.timestamp >= first,
            old.timestamp < last,
            old.timestamp == fresh.c.timestamp,
            condition,
        )
    )


def _is_whole(candle: Any, interval: int) -> ColumnElement[bool]:
    """Whether no minute of a candle was dropped, or all of them are there again."""
    d = DROPPED_RANGES.c
    dropped = (
        select(d.dropped).where(d.symbol == candle.symbol, d.data_type == "candles_1m").scalar_subquery()
    )
    span = func.tstzrange(candle.timestamp, candle.timestamp + literal(interval_length(interval), Interval))
    return ~func.coalesce(dropped.bool_op("&&")(span), False)


def _knows_as_many(new: Any, old: Any) -> ColumnElement[bool]:
    return func.coalesce(new.trade_count, 0) >= func.coalesce(old.trade_count, 0)

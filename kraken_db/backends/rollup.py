"""Higher intervals computed from lower ones: the definition that the views of the schema have too."""

from __future__ import annotations

from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    FromClause,
    Integer,
    MetaData,
    Select,
    SmallInteger,
    Table,
    case,
    cast,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.intervals import BASE_INTERVAL, GRID_ORIGIN_EPOCH, INTERVAL_VIEWS
from kraken_db.models import CANDLES, Price, Timestamp

Rows: TypeAlias = Select[*tuple[Any, ...]]
AnySelect: TypeAlias = Rows | CompoundSelect[*tuple[Any, ...]]


def bucket(timestamp: ColumnElement[Any], interval: int) -> ColumnElement[Any]:
    """The open time of the candle that ``timestamp`` lies in, whatever the session's time zone."""
    # Written out, not bound: GROUP BY must see the same expression as the select list.
    length: ColumnElement[Any] = literal_column(f"INTERVAL '{int(interval)} minutes'")
    origin: ColumnElement[Any] = literal_column(f"to_timestamp({GRID_ORIGIN_EPOCH})")
    return func.date_bin(length, timestamp, origin, type_=Timestamp)


def rollup(source: FromClause, interval: int) -> Rows:
    """Aggregate the candles of ``source`` (all columns of ``candles``) to ``interval`` minutes.

    vwap is the mean of the parts, weighted by volume; NULL if a part that has volume lacks it. quote_volume
    is NULL as soon as one part lacks it. Sums of volumes have no width: none is too large.
    """
    return rollup_at(source, bucket(source.c.timestamp, interval), interval, Integer)


def rollup_at(
    source: FromClause, opens_at: ColumnElement[Any], interval: int, count: type[Integer] = BigInteger
) -> Rows:
    """The same, to candles that open at ``opens_at``, an expression of the rows of ``source``.

    ``count``: the type of the number of trades. A month may have more than an integer holds.
    """
    c = source.c
    lacking_vwap = func.count().filter(c.volume > 0, c.vwap.is_(None))
    mean = func.sum(c.vwap * c.volume) / func.nullif(func.sum(c.volume), 0)
    every_part_known = func.count(c.quote_volume) == func.count()
    return select(
        c.symbol,
        opens_at.label("timestamp"),
        # As small as the table's: PostgreSQL merges only unions of equal types without sorting them anew.
        cast(literal_column(str(int(interval))), SmallInteger).label("interval_minutes"),
        in_order(c.open, c.timestamp)[1].label("open"),
        func.max(c.high).label("high"),
        func.min(c.low).label("low"),
        in_order(c.close, c.timestamp)[func.count()].label("close"),
        func.sum(c.volume).label("volume"),
        case((every_part_known, func.sum(c.quote_volume))).label("quote_volume"),
        cast(func.sum(c.trade_count), count).label("trade_count"),
        cast(case((lacking_vwap == 0, mean)), Price).label("vwap"),
    ).group_by(c.symbol, opens_at)


def in_order(value: ColumnElement[Any], *order: ColumnElement[Any]) -> ColumnElement[Any]:
    """All of a group's values as an array, by ``order``: the first is ``[1]``."""
    return func.array_agg(aggregate_order_by(value, *order), type_=ARRAY(Price))


def _like_candles(name: str, schema: str | None = None) -> Table:
    columns = (column._copy() for column in CANDLES.columns)
    return Table(name, MetaData(), *columns, schema=schema)


_RELATIONS = {
    view: CANDLES if minutes == BASE_INTERVAL else _like_candles(view)
    for minutes, view in INTERVAL_VIEWS.items()
}


def candle_relation(name: str) -> Table:
    """The table of minutes, or the view of a higher interval: the same columns."""
    return _RELATIONS[name]


async def materialized_relations(connection: AsyncConnection) -> dict[int, Table]:
    """Interval to the table in which TimescaleDB keeps the rows of its aggregate."""
    rows = await connection.execute(
        text(
            "SELECT view_name, materialization_hypertable_schema, materialization_hypertable_name"
            " FROM timescaledb_information.continuous_aggregates WHERE view_schema = current_schema()"
        )
    )
    behind = {view: (schema, name) for view, schema, name in rows}
    return {
        minutes: _like_candles(behind[view][1], behind[view][0])
        for minutes, view in INTERVAL_VIEWS.items()
        if view in behind
    }

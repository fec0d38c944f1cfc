"""The relations of the higher intervals, and the tables behind TimescaleDB's aggregates."""

from __future__ import annotations

from sqlalchemy import MetaData, Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.intervals import BASE_INTERVAL, INTERVAL_VIEWS
from kraken_db.models import CANDLES


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

"""``rolled_candles``, on plain PostgreSQL: the candles of 1h to 1w, and what outlives its minutes.

Candles of 1h and more are stored by every refresh (``rolling``). Where a row of ``pending_refresh`` touches
one, what is stored does not count; the views know that. Those of 5m to 30m are stored only before retention
drops their minutes. What retention has seen is ``kept``: while minutes of it are missing, it stays as it is.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Interval, func, literal_column, select, true, update
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.intervals import BASE_INTERVAL, INTERVAL_SOURCES
from kraken_db.models import CANDLES, DROPPED_RANGES, ROLLED_CANDLES
from kraken_db.timeseries.base import Piece
from kraken_db.timeseries.rollup import AnySelect, Rows, rollup

FINEST_STORED = 60
"""The shortest interval whose candles every refresh stores; the shorter ones are not worth the time."""
FROM_MINUTES = [interval for interval, source in INTERVAL_SOURCES.items() if source == BASE_INTERVAL]
NOT_STORED = [interval for interval in FROM_MINUTES if interval < FINEST_STORED]
CANDLE_COLUMNS = [column.name for column in rollup(CANDLES, BASE_INTERVAL).selected_columns]
_KEY = ["symbol", "interval_minutes", "timestamp"]
_VALUES = [name for name in CANDLE_COLUMNS if name not in _KEY]


def minutes_between(symbol: str, start: datetime | None = None, end: datetime | None = None) -> Rows:
    c = CANDLES.c
    rows = select(CANDLES).where(c.symbol == symbol, c.interval_minutes == BASE_INTERVAL)
    return _bounded(rows, c.timestamp, start, end)


def rolled_between(
    symbol: str, interval: int, start: datetime | None = None, end: datetime | None = None
) -> Rows:
    """All columns of ``candles``, in the order that ``rollup`` has, whether they still count or not."""
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


def is_standing(symbol: str) -> ColumnElement[bool]:
    """Whether a rolled candle stays as it is: it was kept, and some of its minutes are still missing."""
    d, c = DROPPED_RANGES.c, ROLLED_CANDLES.c
    dropped = select(d.dropped).where(d.symbol == symbol, d.data_type == "candles_1m").scalar_subquery()
    minute: ColumnElement[object] = literal_column("INTERVAL '1 minute'", Interval)
    span = func.tstzrange(c.timestamp, c.timestamp + c.interval_minutes * minute)
    return c.kept & func.coalesce(dropped.bool_op("&&")(span), False)


def write_rolled(symbol: str, candles: AnySelect, *, kept: bool) -> Insert:
    """Store candles of a symbol, but not in the place of those that stand."""
    fresh = candles.subquery("fresh")
    rows = select(*(fresh.c[name] for name in CANDLE_COLUMNS), literal_column(str(kept)))
    new = insert(ROLLED_CANDLES).from_select([*CANDLE_COLUMNS, "kept"], rows)
    values = [*_VALUES, "kept"]
    differs = func.row(*(ROLLED_CANDLES.c[name] for name in values)).is_distinct_from(
        func.row(*(new.excluded[name] for name in values))
    )
    return new.on_conflict_do_update(
        index_elements=_KEY,
        set_={name: new.excluded[name] for name in values},
        where=differs & ~is_standing(symbol),
    )


async def keep_rolled(connection: AsyncConnection, piece: Piece) -> None:
    """Store the candles of a piece of minutes before these go: whole days, so that no candle is cut.

    Nothing of the piece may wait for its refresh, and none may be running: then 1h and more are stored.
    """
    assert piece.symbol is not None
    for interval in NOT_STORED:
        minutes = minutes_between(piece.symbol, piece.start, piece.end)
        candles = rollup(minutes.subquery(), interval)
        await connection.execute(write_rolled(piece.symbol, candles, kept=True))
    c = ROLLED_CANDLES.c
    inside = (c.timestamp >= piece.start, c.timestamp < piece.end, ~c.kept)
    hours = (c.symbol == piece.symbol, c.interval_minutes == FINEST_STORED)
    await connection.execute(update(ROLLED_CANDLES).where(*hours, *inside).values(kept=true()))

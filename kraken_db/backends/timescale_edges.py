"""The oldest and the newest candle of a symbol on TimescaleDB. Where to look for them: see ``reaches``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, bindparam, func, select, union_all
from sqlalchemy.dialects.postgresql import VARCHAR
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends.reaches import CANDLE_REACH, known_span, reaches
from kraken_db.backends.rollup import bucket
from kraken_db.data_types import DataType
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval
from kraken_db.models import CANDLES, Timestamp
from kraken_db.ranges import TimeRange

_FIRST, _LAST = datetime(1969, 12, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)


class Edges:
    """``stored``: the table behind the aggregate of the interval; None for minutes."""

    def __init__(
        self,
        connection: AsyncConnection | AsyncSession,
        symbol: str,
        interval: int,
        stored: Table | None,
    ) -> None:
        self._connection = connection
        self._symbol = symbol
        self._interval = interval
        self._stored = stored

    async def find(self) -> TimeRange | None:
        known = await known_span(self._connection, self._symbol, DataType.CANDLES_1M)
        if known is None:
            first, last = await self._outermost([(_FIRST, _LAST)], [(_FIRST, _LAST)])
        else:
            older, newer = known.older(CANDLE_REACH, _FIRST), known.newer(CANDLE_REACH, _LAST)
            first, last = await self._outermost(older, newer)
            if first is None:
                first = await self._found(reaches(known.oldest, _LAST, CANDLE_REACH), newest=False)
            if first is not None and last is None:
                last = await self._found(reaches(known.newest, _FIRST, CANDLE_REACH), newest=True)
        return None if first is None or last is None else (first, last)

    async def _outermost(
        self, older: Sequence[TimeRange], newer: Sequence[TimeRange]
    ) -> tuple[datetime | None, datetime | None]:
        """The oldest candle of some ranges, and the newest one of others; their ends are included."""
        statement = _edges(self._stored, self._interval, len(older), len(newer))
        values = self._values("older", older) | self._values("newer", newer)
        row = (await self._connection.execute(statement, values)).one()
        return row[0], row[1]

    async def _found(self, ranges: Iterable[TimeRange], *, newest: bool) -> datetime | None:
        """That of the first of the ranges that has one."""
        for one in ranges:
            oldest, last = await self._outermost([one], [one])
            if (found := last if newest else oldest) is not None:
                return found
        return None

    def _values(self, name: str, ranges: Sequence[TimeRange]) -> dict[str, Any]:
        values: dict[str, Any] = {"symbol": self._symbol}
        for n, (start, end) in enumerate(ranges):
            values |= {f"{name}_start{n}": start, f"{name}_end{n}": end}
            if self._stored is not None:
                values[f"{name}_first{n}"] = floor_to_interval(start, self._interval)
                values[f"{name}_last{n}"] = ceil_to_interval(end, self._interval)
        return values


# Made once: to put it together takes longer than the database needs for it.
@lru_cache(maxsize=64)
def _edges(
    stored: Table | None, interval: int, older: int, newer: int
) -> Select[datetime | None, datetime | None]:
    return select(_edge(stored, interval, "older", older), _edge(stored, interval, "newer", newer))


def _edge(stored: Table | None, interval: int, name: str, ranges: int) -> ColumnElement[datetime | None]:
    # Not from the view: it would sort all candles of the symbol. What is not stored in the aggregate is
    # computed from minutes, and both have an index that begins or ends with the answer.
    minute, symbol = CANDLES.c.timestamp, bindparam("symbol", type_=VARCHAR)
    minutes = select(minute if interval == BASE_INTERVAL else bucket(minute, interval)).where(
        CANDLES.c.symbol == symbol, CANDLES.c.interval_minutes == BASE_INTERVAL
    )
    parts = [_outermost(minutes, minute, f"{name}_start{n}", f"{name}_end{n}") for n in range(ranges)]
    if stored is not None:
        candles = select(stored.c.timestamp).where(stored.c.symbol == symbol)
        parts += [
            _outermost(candles, stored.c.timestamp, f"{name}_first{n}", f"{name}_last{n}")
            for n in range(ranges)
        ]
    edges = union_all(*(select(part.subquery()) for part in parts)).subquery()
    (moment,) = edges.c
    return select(func.max(moment) if name == "newer" else func.min(moment)).scalar_subquery()


def _outermost(
    rows: Select[datetime], moment: ColumnElement[datetime], start: str, end: str
) -> Select[datetime]:
    first, last = bindparam(start, type_=Timestamp), bindparam(end, type_=Timestamp)
    order = moment.desc() if start.startswith("newer") else moment
    return rows.where(moment >= first, moment <= last).order_by(order).limit(1)

"""The oldest and the newest candle of a symbol on TimescaleDB. Where to look for them: see ``reaches``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Select, Table, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends.reaches import known_span, reaches
from kraken_db.backends.rollup import bucket
from kraken_db.data_types import DataType
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval
from kraken_db.models import CANDLES
from kraken_db.ranges import TimeRange

_REACH = timedelta(weeks=4)
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
            older, newer = known.older(_REACH, _FIRST), known.newer(_REACH, _LAST)
            first, last = await self._outermost(older, newer)
            if first is None:
                first = await self._found(reaches(known.oldest, _LAST, _REACH), newest=False)
            if first is not None and last is None:
                last = await self._found(reaches(known.newest, _FIRST, _REACH), newest=True)
        return None if first is None or last is None else (first, last)

    async def _outermost(
        self, older: Sequence[TimeRange], newer: Sequence[TimeRange]
    ) -> tuple[datetime | None, datetime | None]:
        """The oldest candle of some ranges, and the newest one of others; their ends are included."""
        edges = select(self._edge(older, newest=False), self._edge(newer, newest=True))
        row = (await self._connection.execute(edges)).one()
        return row[0], row[1]

    async def _found(self, ranges: Iterable[TimeRange], *, newest: bool) -> datetime | None:
        """That of the first of the ranges that has one."""
        for one in ranges:
            edge = select(self._edge([one], newest=newest))
            found: datetime | None = await self._connection.scalar(edge)
            if found is not None:
                return found
        return None

    def _edge(self, ranges: Sequence[TimeRange], *, newest: bool) -> ColumnElement[datetime | None]:
        # Not from the view: it would sort all candles of the symbol. What is not stored in the aggregate
        # is computed from minutes, and both have an index that begins or ends with the answer.
        minute = CANDLES.c.timestamp
        is_base = self._interval == BASE_INTERVAL
        minutes = select(minute if is_base else bucket(minute, self._interval)).where(
            CANDLES.c.symbol == self._symbol, CANDLES.c.interval_minutes == BASE_INTERVAL
        )
        parts = [_outermost(minutes, minute, start, end, newest) for start, end in ranges]
        if self._stored is not None:
            opens_at = self._stored.c.timestamp
            candles = select(opens_at).where(self._stored.c.symbol == self._symbol)
            for start, end in ranges:
                first, last = floor_to_interval(start, self._interval), ceil_to_interval(end, self._interval)
                parts.append(_outermost(candles, opens_at, first, last, newest))
        edges = union_all(*(select(part.subquery()) for part in parts)).subquery()
        (moment,) = edges.c
        return select(func.max(moment) if newest else func.min(moment)).scalar_subquery()


def _outermost(
    rows: Select[datetime], moment: ColumnElement[datetime], start: datetime, end: datetime, newest: bool
) -> Select[datetime]:
    inside = rows.where(moment >= start, moment <= end)
    return inside.order_by(moment.desc() if newest else moment).limit(1)

"""The oldest and the newest candle of a symbol on TimescaleDB, without a plan over all chunks.

A look-up that says of no moment that the answer lies on one side of it is planned for each chunk: 0.1 s where
there are 600 of them. ``data_sync_status`` knows what was the oldest and the newest minute, whoever stores
more of them: so the look-up begins there, and goes on outwards without an end, for there are no chunks. Only
where nothing is found (retention, or somebody, has taken it away) it goes inwards, in growing reaches.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Select, Table, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends.rollup import bucket
from kraken_db.data_types import DataType
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval
from kraken_db.models import CANDLES, SYNC_STATUS
from kraken_db.ranges import TimeRange

_REACH, _GROWTH = timedelta(weeks=4), 8
# Longer than there is time at Kraken; and what a moment with such a reach around it still is.
_LONGEST_REACH = timedelta(weeks=4000)
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
        oldest, newest = await self._known()
        if oldest is None or newest is None:
            # Nobody but other programs has stored anything.
            first, last = await self._between((None, None), (None, None))
        else:
            first, last = await self._between((None, oldest), (newest, None))
            if first is None:
                first = await self._oldest_from(oldest)
            if first is not None and last is None:
                last = await self._newest_to(newest)
        return None if first is None or last is None else (first, last)

    async def _known(self) -> tuple[datetime | None, datetime | None]:
        c = SYNC_STATUS.c
        found = await self._connection.execute(
            select(c.oldest_timestamp, c.newest_timestamp).where(
                c.symbol == self._symbol, c.data_type == DataType.CANDLES_1M
            )
        )
        row = found.first()
        return (row[0], row[1]) if row is not None else (None, None)

    async def _oldest_from(self, start: datetime) -> datetime | None:
        reach = _REACH
        while reach < _LONGEST_REACH:
            end = start + min(reach, _LAST - start)
            found: datetime | None = await self._connection.scalar(
                select(self._edge(start, end, newest=False))
            )
            if found is not None:
                return found
            start, reach = end, reach * _GROWTH
        return None

    async def _newest_to(self, end: datetime) -> datetime | None:
        reach = _REACH
        while reach < _LONGEST_REACH:
            start = end - min(reach, end - _FIRST)
            found: datetime | None = await self._connection.scalar(
                select(self._edge(start, end, newest=True))
            )
            if found is not None:
                return found
            end, reach = start, reach * _GROWTH
        return None

    async def _between(
        self,
        oldest: tuple[datetime | None, datetime | None],
        newest: tuple[datetime | None, datetime | None],
    ) -> tuple[datetime | None, datetime | None]:
        """The outermost candles, each looked for from the first to the second moment, both included."""
        edges = (self._edge(*oldest, newest=False), self._edge(*newest, newest=True))
        row = (await self._connection.execute(select(*edges))).one()
        return row[0], row[1]

    def _edge(
        self, start: datetime | None, end: datetime | None, *, newest: bool
    ) -> ColumnElement[datetime | None]:
        # Not from the view: it would sort all candles of the symbol. What is not stored in the aggregate
        # is computed from minutes, and both have an index that begins or ends with the answer.
        minute = CANDLES.c.timestamp
        is_base = self._interval == BASE_INTERVAL
        minutes = select(minute if is_base else bucket(minute, self._interval)).where(
            CANDLES.c.symbol == self._symbol, CANDLES.c.interval_minutes == BASE_INTERVAL
        )
        parts = [_outermost(minutes, minute, start, end, newest)]
        if self._stored is not None:
            opens_at = self._stored.c.timestamp
            candles = select(opens_at).where(self._stored.c.symbol == self._symbol)
            first = start and floor_to_interval(start, self._interval)
            last = end and ceil_to_interval(end, self._interval)
            parts.append(_outermost(candles, opens_at, first, last, newest))
        edges = union_all(*(select(part.subquery()) for part in parts)).subquery()
        (moment,) = edges.c
        return select(func.max(moment) if newest else func.min(moment)).scalar_subquery()


def _outermost(
    rows: Select[datetime],
    moment: ColumnElement[datetime],
    start: datetime | None,
    end: datetime | None,
    newest: bool,
) -> Select[datetime]:
    if start is not None:
        rows = rows.where(moment >= start)
    if end is not None:
        rows = rows.where(moment <= end)
    return rows.order_by(moment.desc() if newest else moment).limit(1)

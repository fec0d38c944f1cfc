"""Which ranges were stored once and are gone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE, insert
from sqlalchemy.dialects.postgresql.ranges import MultiRange, Range
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.models import DROPPED_RANGES
from kraken_db.repositories.coverage import TimeRange


class DroppedRangeRepository:
    """Keeps ``dropped_ranges`` on the caller's connection; never commits. Ranges are half-open."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def add(self, symbol: str, data_type: str, ranges: Iterable[TimeRange]) -> None:
        """Rows of these ranges were stored, and are not there any more."""
        added = _multirange(ranges)
        if not added:
            return
        fresh = insert(DROPPED_RANGES).values(symbol=symbol, data_type=data_type, dropped=added)
        await self._connection.execute(
            fresh.on_conflict_do_update(
                index_elements=["symbol", "data_type"],
                set_={"dropped": DROPPED_RANGES.c.dropped + fresh.excluded.dropped},
            )
        )

    async def remove(self, symbol: str, data_type: str, ranges: Iterable[TimeRange]) -> None:
        """Rows of these ranges are all there again."""
        removed = _multirange(ranges)
        if not removed:
            return
        c = DROPPED_RANGES.c
        same = (c.symbol == symbol, c.data_type == data_type)
        back = bindparam("back", removed, TSTZMULTIRANGE)
        await self._connection.execute(
            update(DROPPED_RANGES).where(*same).values(dropped=c.dropped.op("-")(back))
        )
        await self._connection.execute(delete(DROPPED_RANGES).where(*same, func.isempty(c.dropped)))

    async def of(self, symbol: str, data_type: str) -> tuple[TimeRange, ...]:
        """In order of time, apart from each other."""
        c = DROPPED_RANGES.c
        found = await self._connection.scalar(
            select(c.dropped).where(c.symbol == symbol, c.data_type == data_type)
        )
        return tuple((item.lower, item.upper) for item in found or [])


def _multirange(ranges: Iterable[TimeRange]) -> MultiRange[datetime]:
    return MultiRange([Range(start, end, bounds="[)") for start, end in ranges if start < end])

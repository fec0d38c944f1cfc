"""Sets of ranges by symbol and data type: what the tables of dropped and of unproven ranges share."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Table, bindparam, delete, func, select, update
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.db.multiranges import from_multirange, to_multirange
from kraken_db.ranges import TimeRange


class RangeSetRepository:
    """Keeps one such table on the caller's connection; never commits. Ranges are half-open.

    The table's key is (symbol, data_type), its third column the set.
    """

    def __init__(self, connection: AsyncConnection | AsyncSession, table: Table) -> None:
        self._connection = connection
        self._table = table
        self._ranges = table.columns[2]

    async def add(self, symbol: str, data_type: str, ranges: Iterable[TimeRange]) -> None:
        added = to_multirange(ranges)
        if not added:
            return
        name = self._ranges.name
        fresh = insert(self._table).values(symbol=symbol, data_type=data_type, **{name: added})
        await self._connection.execute(
            fresh.on_conflict_do_update(
                index_elements=["symbol", "data_type"],
                set_={name: self._ranges + fresh.excluded[name]},
            )
        )

    async def remove(self, symbol: str, data_type: str, ranges: Iterable[TimeRange]) -> None:
        removed = to_multirange(ranges)
        if not removed:
            return
        c = self._table.c
        same = (c.symbol == symbol, c.data_type == data_type)
        gone = bindparam("gone", removed, TSTZMULTIRANGE)
        await self._connection.execute(
            update(self._table)
            .where(*same, self._ranges.op("&&")(gone))
            .values({self._ranges.name: self._ranges.op("-")(gone)})
        )
        await self._connection.execute(delete(self._table).where(*same, func.isempty(self._ranges)))

    async def of(self, symbol: str, data_type: str) -> tuple[TimeRange, ...]:
        """In order of time, apart from each other."""
        c = self._table.c
        found = await self._connection.scalar(
            select(self._ranges).where(c.symbol == symbol, c.data_type == data_type)
        )
        return from_multirange(found)

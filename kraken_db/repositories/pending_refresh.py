"""The ranges that were written and wait for their higher intervals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, exists, func, insert, literal, or_, select, text, update
from sqlalchemy.dialects.postgresql import TSTZRANGE
from sqlalchemy.dialects.postgresql.ranges import Range
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.models import PENDING_REFRESH, Timestamp
from kraken_db.timeseries import StaleRange

_REMOVE = """
    DELETE FROM pending_refresh p
    USING unnest(CAST(:ids AS bigint[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
          AS done(id, starts, ends)
    WHERE p.id = done.id AND p.stale = tstzrange(done.starts, done.ends)
"""


class PendingRefreshRepository:
    """Keeps ``pending_refresh`` on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def add(self, item: StaleRange) -> None:
        """Note a range. One that touches a range of the symbol that waits already makes that one longer."""
        c, stale = PENDING_REFRESH.c, bindparam("stale", Range(item.start, item.end), TSTZRANGE)
        refreshed_at = bindparam("refreshed", item.refreshed_at, Timestamp)
        longer = (
            update(PENDING_REFRESH)
            .where(c.symbol == item.symbol, c.refreshed_at.is_not_distinct_from(refreshed_at))
            .where(or_(c.stale.op("&&")(stale), c.stale.op("-|-")(stale)))
            .values(stale=func.range_merge(c.stale, stale))
            .returning(c.id)
            .cte("longer")
        )
        other = select(literal(item.symbol), stale, refreshed_at).where(~exists(select(longer)))
        await self._connection.execute(
            insert(PENDING_REFRESH).from_select(["symbol", "stale", "refreshed_at"], other).add_cte(longer)
        )

    async def all(self) -> tuple[Sequence[int], Sequence[StaleRange]]:
        """The ids and the ranges of everything that waits."""
        c = PENDING_REFRESH.c
        rows = (
            await self._connection.execute(
                select(c.id, c.symbol, func.lower(c.stale), func.upper(c.stale), c.refreshed_at).order_by(
                    c.id
                )
            )
        ).all()
        return [row[0] for row in rows], [StaleRange(*row[1:]) for row in rows]

    async def oldest(self) -> datetime | None:
        """Where the oldest range starts that no refresh has been over; None if there is none."""
        found: datetime | None = await self._connection.scalar(
            select(func.min(func.lower(PENDING_REFRESH.c.stale))).where(
                PENDING_REFRESH.c.refreshed_at.is_(None)
            )
        )
        return found

    async def remove(self, ids: Sequence[int], done: Sequence[StaleRange]) -> None:
        """Take off what ``all`` gave. A range that has grown since then stays."""
        await self._connection.execute(
            text(_REMOVE),
            {"ids": list(ids), "starts": [item.start for item in done], "ends": [item.end for item in done]},
        )

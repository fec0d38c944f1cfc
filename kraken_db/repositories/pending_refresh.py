"""The ranges that were written and wait for their higher intervals."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import BigInteger, bindparam, delete, func, insert, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.ranges import Range
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.models import PENDING_REFRESH
from kraken_db.timeseries import StaleRange


class PendingRefreshRepository:
    """Keeps ``pending_refresh`` on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def add(self, item: StaleRange) -> None:
        await self._connection.execute(
            insert(PENDING_REFRESH).values(
                symbol=item.symbol, stale=Range(item.start, item.end), refreshed_at=item.refreshed_at
            )
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

    async def remove(self, ids: Sequence[int]) -> None:
        # One parameter: a long run has more ranges than a statement may have parameters.
        done = bindparam("done", list(ids), ARRAY(BigInteger))
        await self._connection.execute(delete(PENDING_REFRESH).where(PENDING_REFRESH.c.id == func.any(done)))

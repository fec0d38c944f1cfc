"""How far the streams of live writers are stored."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.models import FLUSH_POSITIONS

_FORGOTTEN_AFTER = timedelta(days=365)


class FlushPositionRepository:
    """Keeps ``flush_positions`` on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def open(self, stream: UUID) -> int:
        """The position of a stream, which is 0 when it begins; what was left a year ago is forgotten."""
        c = FLUSH_POSITIONS.c
        await self._connection.execute(
            delete(FLUSH_POSITIONS).where(c.flushed_at < func.now() - _FORGOTTEN_AFTER)
        )
        fresh = insert(FLUSH_POSITIONS).values(stream=stream, position=0)
        await self._connection.execute(fresh.on_conflict_do_nothing())
        return await self.of(stream)

    async def of(self, stream: UUID) -> int:
        """The position that counts: a commit that is still on its way is waited for. 0 without one."""
        statement = (
            select(FLUSH_POSITIONS.c.position).where(FLUSH_POSITIONS.c.stream == stream).with_for_update()
        )
        return await self._connection.scalar(statement) or 0

    async def advance(self, stream: UUID, first: int, last: int) -> bool:
        """Note that the records ``first`` to ``last`` are stored; False if one of them was before.

        Call it before the rows are written: who comes second waits here until the first has ended.
        """
        c = FLUSH_POSITIONS.c
        done = await self._connection.execute(
            update(FLUSH_POSITIONS)
            .where(c.stream == stream, c.position < first)
            .values(position=last, flushed_at=func.now())
            .returning(c.stream)
        )
        return done.first() is not None

    async def close(self, stream: UUID) -> None:
        """The stream has ended, and all of it is stored."""
        await self._connection.execute(delete(FLUSH_POSITIONS).where(FLUSH_POSITIONS.c.stream == stream))

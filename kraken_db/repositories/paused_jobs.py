"""The retention jobs that wait until everything that was written has been aggregated."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.models import PAUSED_JOBS


class PausedJobRepository:
    """Keeps ``paused_jobs`` on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def add(self, job_id: int) -> None:
        await self._connection.execute(insert(PAUSED_JOBS).values(job_id=job_id).on_conflict_do_nothing())

    async def all(self) -> Sequence[int]:
        found = await self._connection.scalars(select(PAUSED_JOBS.c.job_id).order_by(PAUSED_JOBS.c.job_id))
        return found.all()

    async def clear(self) -> None:
        await self._connection.execute(delete(PAUSED_JOBS))

"""Retention waits while old rows are written: it must not drop what has not been aggregated yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import Backend, RetentionJob
from kraken_db.db.engine import Database
from kraken_db.db.locks import hold_shared, lock_job, try_exclusive
from kraken_db.errors import KrakenDBError, PermissionDeniedError
from kraken_db.repositories.pending_refresh import PendingRefreshRepository
from kraken_db.repositories.retention import PausedJobRepository

log = logging.getLogger(__name__)

# Whoever writes old rows holds it together with the others; who lets the jobs run again has it alone.
_LOCK = "kraken-db:old rows are written"
_POLL_SECONDS = 0.5
_TABLES = ("trades", "candles")


class RetentionPause:
    """Of one run: pauses the job of a table before its first old row. See ``Store.retention_paused``."""

    def __init__(
        self,
        database: Database,
        backend: Backend,
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._backend = backend
        self._clock = clock
        self._sleep = sleep
        self._jobs: dict[str, RetentionJob] | None = None
        self._paused: set[str] = set()
        self._is_holding = False
        self._holding = AsyncExitStack()
        self._turn = asyncio.Lock()

    async def before_writing(self, table: str, oldest: datetime) -> None:
        """Call this before the transaction that writes rows as old as ``oldest`` into ``table``.

        Never inside of a transaction: what it does must be committed before. It costs something only the
        first time that a row is old.
        """
        async with self._turn:
            if self._jobs is None:
                self._jobs = await self._find_jobs()
            job = self._jobs.get(table)
            if job is None or table in self._paused or oldest >= self._clock() - job.period + job.part:
                return
            if not self._is_holding:
                await self._holding.enter_async_context(_holding_off(self._database))
                self._is_holding = True
            await self._pause(table, job)
            self._paused.add(table)

    async def end(self) -> None:
        """This run is over: let the jobs run again, unless somebody else still writes."""
        if self._jobs is not None and not self._jobs:
            return  # nothing is dropped by itself here
        try:
            await self._holding.aclose()
            await release(self._database, self._backend, self._clock())
        except KrakenDBError as error:
            # The rows are stored; the next run lets them run.
            log.warning("retention may stay paused until the next run: %s", error)

    async def _find_jobs(self) -> dict[str, RetentionJob]:
        async with self._database.read() as connection:
            found = {table: await self._backend.retention_job(connection, table) for table in _TABLES}
        return {table: job for table, job in found.items() if job is not None}

    async def _pause(self, table: str, job: RetentionJob) -> None:
        try:
            async with self._database.begin() as connection:
                # TimescaleDB fails where two transactions alter a job at once.
                await lock_job(connection, "pause retention", of=table)
                if await self._backend.schedule_retention(connection, job.job_id, on=False):
                    await PausedJobRepository(connection).add(job.job_id)
        except PermissionDeniedError as error:
            log.warning(
                "retention of %s cannot be paused (%s): it may drop rows of this run before they are in the"
                " higher intervals; use the role that owns the schema",
                table,
                error,
            )
            return
        while await self._is_running(job.job_id):
            await self._sleep(_POLL_SECONDS)

    async def _is_running(self, job_id: int) -> bool:
        async with self._database.read() as connection:
            return await self._backend.is_retention_running(connection, job_id)


async def release(database: Database, backend: Backend, now: datetime) -> bool:
    """Let the paused jobs run again: returns whether none is paused any more.

    They stay paused while somebody writes old rows, and while old rows wait for their refresh.
    """
    async with database.read() as connection:
        if not await PausedJobRepository(connection).all():
            return True
    try:
        async with database.begin() as connection:
            if not await try_exclusive(connection, _LOCK):
                return False
            if await _old_rows_wait(connection, backend, now):
                log.warning("retention stays paused: what was written is not in the higher intervals yet")
                return False
            paused = PausedJobRepository(connection)
            for job_id in await paused.all():
                await backend.schedule_retention(connection, job_id, on=True)
            await paused.clear()
    except PermissionDeniedError as error:
        log.warning("retention stays paused: %s", error)
        return False
    return True


async def _old_rows_wait(connection: AsyncConnection, backend: Backend, now: datetime) -> bool:
    oldest = await PendingRefreshRepository(connection).oldest()
    job = await backend.retention_job(connection, "candles")
    return oldest is not None and job is not None and oldest < now - job.period + job.part


@asynccontextmanager
async def _holding_off(database: Database) -> AsyncIterator[None]:
    async with database.dedicated() as connection:
        await hold_shared(connection, _LOCK)
        yield

"""Retention waits while old rows are written: it must not drop what has not been aggregated yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import Backend, Jobs, PendingRefresh, RetentionJob
from kraken_db.db.engine import Database
from kraken_db.db.locks import held_shared, lock_job, try_exclusive
from kraken_db.errors import KrakenDBError, PermissionDeniedError
from kraken_db.repositories.retention import PausedJobRepository

log = logging.getLogger(__name__)

# Whoever writes old rows holds it together with the others; who lets the jobs run again has it alone.
_LOCK = "kraken-db:old rows are written"
_POLL_SECONDS = 0.5
_TABLES = ("trades", "candles")


class RetentionPause:
    """Of one run: pauses the job of a table before its first old row. ``Ingest`` has one."""

    def __init__(
        self,
        database: Database,
        backend: Backend,
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._database = database
        self._backend = backend
        self._scheduler = backend.jobs
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
            if self._scheduler is None:
                return  # nothing is dropped by itself here
            if self._jobs is None:
                self._jobs = await self._find_jobs(self._scheduler)
            job = self._jobs.get(table)
            if job is None or table in self._paused or oldest >= job.may_drop_before(self._clock()):
                return
            if not self._is_holding:
                await self._holding.enter_async_context(held_shared(self._database, _LOCK))
                self._is_holding = True
            await self._pause(self._scheduler, table, job)
            self._paused.add(table)

    async def end(self) -> None:
        """This run is over: let the jobs run again, unless somebody else still writes."""
        if self._scheduler is None or (self._jobs is not None and not self._jobs):
            return
        try:
            await self._holding.aclose()
            await release(self._database, self._backend, self._clock())
        except KrakenDBError as error:
            # The rows are stored; the next run lets them run.
            log.warning("retention may stay paused until the next run: %s", error)

    async def _find_jobs(self, scheduler: Jobs) -> dict[str, RetentionJob]:
        async with self._database.read() as connection:
            found = {table: await scheduler.retention(connection, table) for table in _TABLES}
        return {table: job for table, job in found.items() if job is not None}

    async def _pause(self, scheduler: Jobs, table: str, job: RetentionJob) -> None:
        try:
            async with self._database.begin() as connection:
                # A database may refuse that two transactions alter a job at once.
                await lock_job(connection, "pause retention", of=table)
                if await scheduler.schedule(connection, job.job_id, on=False):
                    await PausedJobRepository(connection).add(job.job_id)
        except PermissionDeniedError as error:
            log.warning(
                "retention of %s cannot be paused (%s): it may drop rows of this run before they are in the"
                " higher intervals; use the role that owns the schema",
                table,
                error,
            )
            return
        while await self._is_running(scheduler, job.job_id):
            await self._sleep(_POLL_SECONDS)

    async def _is_running(self, scheduler: Jobs, job_id: int) -> bool:
        async with self._database.read() as connection:
            return await scheduler.is_running(connection, job_id)


async def release(database: Database, backend: Backend, now: datetime) -> bool:
    """Let the paused jobs run again: returns whether none is paused any more.

    They stay paused while somebody writes old rows, and while old rows wait for their refresh.
    """
    jobs = backend.jobs
    if jobs is None:
        return True
    async with database.read() as connection:
        if not await PausedJobRepository(connection).all():
            return True
    try:
        async with database.begin() as connection:
            if not await try_exclusive(connection, _LOCK):
                return False
            if await _old_rows_wait(connection, jobs, now):
                log.warning("retention stays paused: what was written is not in the higher intervals yet")
                return False
            paused = PausedJobRepository(connection)
            for job_id in await paused.all():
                await jobs.schedule(connection, job_id, on=True)
            await paused.clear()
    except PermissionDeniedError as error:
        log.warning("retention stays paused: %s", error)
        return False
    return True


async def _old_rows_wait(connection: AsyncConnection, jobs: Jobs, now: datetime) -> bool:
    oldest = await PendingRefresh(connection).oldest()
    job = await jobs.retention(connection, "candles")
    return oldest is not None and job is not None and oldest < job.may_drop_before(now)

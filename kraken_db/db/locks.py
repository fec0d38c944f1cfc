"""Advisory locks: two runs never work on the same symbol and job at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db import blockers
from kraken_db.db.blockers import telling_who_blocks
from kraken_db.db.engine import Database
from kraken_db.errors import DatabaseUnavailableError, EmbeddedServerError, JobRunningError
from kraken_db.retry import Retry

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_PREFIX = "kraken-db"
_POLL_SECONDS = 0.5


async def lock_job(connection: AsyncConnection, *jobs: str, of: str) -> None:
    """Wait until no other transaction holds these jobs ``of`` a symbol, or of whatever they are done to.

    Held until the transaction ends. Whoever needs several takes them at once, or in alphabetical order: two
    never wait for each other.
    """
    locks = ", ".join(f"pg_advisory_xact_lock(hashtextextended(:job{at}, 0))" for at in range(len(jobs)))
    names = {f"job{at}": _name(job, of) for at, job in enumerate(sorted(jobs))}
    async with telling_who_blocks(connection):
        await connection.execute(text(f"SELECT {locks}"), names)


async def lock_for_writing(
    connection: AsyncConnection, names: Sequence[str], settings: Mapping[str, str]
) -> str:
    """Wait for these locks, until the transaction ends, and make these settings for as long.

    In one statement, and in one order everywhere: two writers never wait for each other. Returns a snapshot
    of before, as ``pg_current_snapshot`` gives it.
    """
    # With the offset the rows are sorted before the first lock is waited for.
    statement = text(
        "WITH made AS MATERIALIZED (SELECT set_config(name, value, true)"
        " FROM unnest(CAST(:settings AS text[]), CAST(:values AS text[])) AS s(name, value))"
        " SELECT CAST(pg_current_snapshot() AS text), (SELECT count(*) FROM made),"
        " pg_advisory_xact_lock(hashtextextended(name, 0))"
        " FROM (SELECT name FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS t(name, at)"
        " ORDER BY at OFFSET 0) names"
    )
    values = {
        "settings": list(settings),
        "values": list(settings.values()),
        "names": [f"{_PREFIX}:{name}" for name in sorted(names)],
    }
    async with telling_who_blocks(connection):
        rows = await connection.execute(statement, values)
    return str(rows.scalars().first())


@asynccontextmanager
async def held_shared(database: Database, key: str) -> AsyncIterator[None]:
    """Hold ``key`` together with any number of others; waits while somebody has it alone, which is short."""
    async with _held(database, key, shared=True):
        yield


@asynccontextmanager
async def held_alone(database: Database, key: str, *, waiting: str) -> AsyncIterator[None]:
    """Hold ``key`` of the store's schema alone, for as long as the block takes.

    Waits for as long as somebody else has it; after some seconds ``waiting`` is logged, and who has it.
    """
    async with database.read() as connection:
        schema = await connection.scalar(text("SELECT current_schema()"))
    async with _held(database, f"{_name(key, schema)}", waiting=waiting):
        yield


@asynccontextmanager
async def _held(
    database: Database, key: str, *, shared: bool = False, waiting: str = "waiting for another run"
) -> AsyncIterator[None]:
    owner, waited, tell_at = object(), 0.0, blockers.PATIENT_SECONDS
    try:
        while await database.locks.take(owner, key, shared=shared):
            await asyncio.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
            if waited >= tell_at:
                tell_at += blockers.AGAIN_SECONDS
                blockers.notices.info("%s%s", waiting, blockers.told(await database.locks.holders(key)))
        yield
    finally:
        await database.locks.release(owner)


async def try_exclusive(connection: AsyncConnection, key: str) -> bool:
    """Hold ``key`` alone until the transaction ends; returns whether nobody else has it."""
    free: bool = await connection.scalar(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key}
    )
    return free


class JobLock:
    """Held for as long as a run takes: a second run is refused at once, in this process or in another one.

    Of several symbols it is held for all or for none. It ends with the process, however that ends.

    An asynchronous context manager; entering it raises JobRunningError where another run has the lock.
    """

    def __init__(self, database: Database, job: str, *symbols: str) -> None:
        self._database = database
        self._job = job
        self._symbols = {_name(job, symbol): symbol for symbol in symbols}

    async def __aenter__(self) -> Self:
        try:
            await self.hold()
        except BaseException:
            await self._database.locks.release(self)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._database.locks.release(self)

    async def hold(self) -> None:
        """Have the lock: again, too, after the connection was lost. Raises JobRunningError."""
        await self._take(self._symbols)

    async def extend(self, symbol: str) -> None:
        """Have the lock of one more symbol. Raises JobRunningError where another run has it."""
        one = {_name(self._job, symbol): symbol}
        await self._take(one)
        self._symbols |= one

    async def _take(self, symbols: Mapping[str, str]) -> None:
        taken_by_another = await self._database.locks.take(self, *symbols)
        if taken_by_another is not None:
            who = await self._database.locks.holders(taken_by_another)
            raise JobRunningError(
                f"another {self._job} of {symbols[taken_by_another]} is running on this database"
                f"{blockers.told(who)}",
                hint="wait for it to end, or stop it",
            )

    async def outlasting(
        self, work: Callable[[], Awaitable[_T]], policy: Retry, is_worth_it: Callable[[], bool]
    ) -> _T:
        """What ``work`` returns: done again, with the lock held again, where the database was away.

        Raises the last error of ``work``, and JobRunningError where another process has the lock by now.
        """
        return await policy.run(work, is_worth_it=is_worth_it, between=self._regain)

    async def _regain(self) -> None:
        """The database may have been started anew, and the lock be gone."""
        try:
            await self._database.revive()
            await self.hold()
        except DatabaseUnavailableError:
            pass  # the next attempt reports it
        except EmbeddedServerError as error:  # killed while it started, perhaps
            _log.warning("%s", error.message)


def _name(job: str, symbol: str) -> str:
    return f"{_PREFIX}:{job}:{symbol}"

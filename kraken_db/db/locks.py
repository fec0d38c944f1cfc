"""Advisory locks: two runs never work on the same symbol and job at once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Self, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.engine import Database
from kraken_db.errors import DatabaseUnavailableError, EmbeddedServerError, JobRunningError
from kraken_db.retry import Retry

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_PREFIX = "kraken-db"
_POLL_SECONDS = 0.5
_PATIENT_SECONDS = 5.0
"""How long is waited before a line says so."""


async def lock_job(connection: AsyncConnection, *jobs: str, of: str) -> None:
    """Wait until no other transaction holds these jobs ``of`` a symbol, or of whatever they are done to.

    Held until the transaction ends. Whoever needs several takes them at once, or in alphabetical order: two
    never wait for each other.
    """
    locks = ", ".join(f"pg_advisory_xact_lock(hashtextextended(:job{at}, 0))" for at in range(len(jobs)))
    names = {f"job{at}": _name(job, of) for at, job in enumerate(sorted(jobs))}
    await connection.execute(text(f"SELECT {locks}"), names)


async def lock_for_writing(
    connection: AsyncConnection, names: Sequence[str], settings: Mapping[str, str]
) -> str:
    """Wait for these locks, until the transaction ends, and make these settings for as long.

    In one statement, and in one order everywhere: two writers never wait for each other. Returns a snapshot
    of before, as ``pg_current_snapshot`` gives it.
    """
    # With the offset the rows are sorted before the first lock is waited for.
    rows = await connection.execute(
        text(
            "WITH made AS MATERIALIZED (SELECT set_config(name, value, true)"
            " FROM unnest(CAST(:settings AS text[]), CAST(:values AS text[])) AS s(name, value))"
            " SELECT CAST(pg_current_snapshot() AS text), (SELECT count(*) FROM made),"
            " pg_advisory_xact_lock(hashtextextended(name, 0))"
            " FROM (SELECT name FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS t(name, at)"
            " ORDER BY at OFFSET 0) names"
        ),
        {
            "settings": list(settings),
            "values": list(settings.values()),
            "names": [f"{_PREFIX}:{name}" for name in sorted(names)],
        },
    )
    return str(rows.scalars().first())


async def hold_shared(connection: AsyncConnection, key: str) -> None:
    """Hold ``key`` together with any number of others, until the connection is closed."""
    await connection.execute(text("SELECT pg_advisory_lock_shared(hashtextextended(:key, 0))"), {"key": key})


@asynccontextmanager
async def held_alone(database: Database, key: str, *, waiting: str) -> AsyncIterator[None]:
    """Hold ``key`` of the connection's schema alone, on a connection of its own.

    Waits for as long as another session has it; what is waited for is logged once, as ``waiting``.
    """
    statement = text("SELECT pg_try_advisory_lock(hashtextextended(:key || current_schema(), 0))")
    async with database.dedicated() as connection:
        waited = 0.0
        while not await connection.scalar(statement, {"key": f"kraken-db:{key}:"}):
            await asyncio.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
            if waited == _PATIENT_SECONDS:
                _log.info("%s", waiting)
        yield


async def try_exclusive(connection: AsyncConnection, key: str) -> bool:
    """Hold ``key`` alone until the transaction ends; returns whether nobody else has it."""
    free: bool = await connection.scalar(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key}
    )
    return free


class JobLock:
    """Held on a connection of its own for as long as a run takes: a second run is refused at once.

    Of several symbols it is held for all or for none.

    An asynchronous context manager; entering it raises JobRunningError where another process has the lock.
    """

    def __init__(self, database: Database, job: str, *symbols: str) -> None:
        self._database = database
        self._job = job
        self._symbols = symbols
        self._connection: AsyncConnection | None = None
        self._held = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self.hold()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._release()

    async def hold(self) -> None:
        """Have the lock: again, too, after the connection was lost. Raises JobRunningError."""
        if self._connection is not None and await self._is_alive():
            return
        await self._release()
        self._connection = await self._held.enter_async_context(self._database.dedicated())
        for symbol in self._symbols:
            taken = await self._connection.scalar(
                text("SELECT pg_try_advisory_lock(hashtextextended(:key, 0))"),
                {"key": _name(self._job, symbol)},
            )
            if not taken:
                await self._release()
                raise JobRunningError(
                    f"another {self._job} of {symbol} is running on this database",
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

    async def _is_alive(self) -> bool:
        assert self._connection is not None
        try:
            with self._database.errors():
                await self._connection.execute(text("SELECT 1"))
        except DatabaseUnavailableError:
            return False
        return True

    async def _release(self) -> None:
        self._connection = None
        with suppress(DatabaseUnavailableError):  # then the lock is gone already
            await self._held.aclose()


def _name(job: str, symbol: str) -> str:
    return f"{_PREFIX}:{job}:{symbol}"

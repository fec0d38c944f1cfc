"""What all answers share: the open store, the jobs that were started here, and who listens to what is new."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.errors import DatabaseUnavailableError
from kraken_db.repositories.candle_versions import CandleVersionRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.store import Store
from kraken_db.times import Clock
from kraken_db.web.connections import MOST_STREAMS, MOST_WAITING, Guard, Places

if TYPE_CHECKING:
    from kraken_db.metrics.endpoint import MetricsEndpoint
    from kraken_db.web.coverage import KnownPairs
    from kraken_db.web.jobs import JobRunner
    from kraken_db.web.live import Live
    from kraken_db.web.overview import OverviewReader
    from kraken_db.web.routes import Route
    from kraken_db.web.security import Doorkeeper

LONGEST_STATEMENT = "30s"
"""What a statement may take: whoever asks for more is to ask for less at a time."""
_BETWEEN_STARTS = 5.0
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Site:
    """Made by ``app.serving``. ``read`` is the only way to the database."""

    overview: OverviewReader
    known: KnownPairs
    live: Live
    jobs: JobRunner

    def __init__(self, store: Store, doorkeeper: Doorkeeper, routes: Sequence[Route]) -> None:
        self.store = store
        self.doorkeeper = doorkeeper
        self.routes = routes
        self.public = {route.path for route in routes if route.is_public}
        """Paths that are answered without the token."""
        self.began = time.time()
        self.waiting = Places(MOST_WAITING, "too many ask at once")
        self.streams = Places(MOST_STREAMS, "too many long answers are being sent")
        self.guard: Guard | None = None
        self.metrics: MetricsEndpoint | None = None
        """Made when somebody asks for it."""
        self._revived_at = float("-inf")
        self._are_versioned: bool | None = None

    @property
    def clock(self) -> Clock:
        return self.store.clock

    async def read(self, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        """What ``work`` returns on a connection; it may be called again, and keeps nothing of its first call.

        Hand out nothing to a client from within: a slow one would hold the connection. Raises errors of
        ``kraken_db.errors``, and BusyError.
        """
        with self.waiting.one():
            return await self._read(work)

    async def _read(self, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
        try:
            return await self.store.database.reading(work)
        except DatabaseUnavailableError:
            if not self.store.database.is_embedded or time.monotonic() - self._revived_at < _BETWEEN_STARTS:
                raise
            self._revived_at = time.monotonic()
            _log.warning("the embedded database is gone: starting it again")
            await self.store.database.revive()
            return await self.store.database.reading(work)

    async def symbols(self) -> list[str]:
        """All pairs of which something is stored, in alphabetical order."""
        rows = await self.read(lambda connection: SyncStatusRepository(connection).all())
        return sorted({row.symbol for row in rows})

    def is_public(self, request: web.Request) -> bool:
        """Whether a request is answered without the token: what it shows is not of the store."""
        resource = request.match_info.route.resource
        return resource is not None and resource.canonical in self.public

    async def are_versioned(self) -> bool:
        """Whether the database says which candles have changed."""
        if self._are_versioned is None:
            self._are_versioned = await self.read(
                lambda connection: CandleVersionRepository(connection, self.store.backend).are_renewed()
            )
        return self._are_versioned


class Shared(Generic[_T]):
    """The result of some work that many ask for at once: done once, and kept for ``seconds``."""

    def __init__(self, work: Callable[[], Awaitable[_T]], seconds: float) -> None:
        self._work = work
        self._seconds = seconds
        self._running: asyncio.Task[_T] | None = None
        self._done_at = float("-inf")

    async def get(self) -> _T:
        task = self._running
        is_over = task is not None and task.done()
        is_old = time.monotonic() - self._done_at > self._seconds
        if task is None or (is_over and (is_old or task.exception() is not None)):
            task = self._running = asyncio.ensure_future(self._run())
        # Whoever goes away leaves the others their result.
        return await asyncio.shield(task)

    async def _run(self) -> _T:
        found = await self._work()
        self._done_at = time.monotonic()
        return found


SITE = web.AppKey("site", Site)

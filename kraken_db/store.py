"""An open store, as every service uses it: connections, the kind of database, and its upkeep."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Self

from kraken_db.backends import Backend, StaleRange, detect
from kraken_db.db.engine import Database
from kraken_db.db.migrations import check_schema, current_revision, head_revision, migrate
from kraken_db.errors import DatabaseError, KrakenDBError, NotConnectedError
from kraken_db.patterns import select
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.retention import release
from kraken_db.retry import until_undisturbed
from kraken_db.times import Clock, utc_now

_log = logging.getLogger(__name__)


class Store:
    """A database whose schema is known to fit this version of the package."""

    def __init__(self, database: Database, backend: Backend, clock: Clock = utc_now) -> None:
        self.database = database
        self.backend = backend
        self.clock = clock

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        pool_min_size: int = 2,
        pool_max_size: int = 10,
        clock: Clock = utc_now,
        creates: bool = True,
    ) -> Store:
        """Connect and check the schema; the embedded database is migrated where it is older.

        ``pool_min_size`` connections are opened at once, up to ``pool_max_size`` when they are needed.
        ``creates``: whether an embedded database is made where there is none. Raises ConfigurationError,
        DatabaseUnavailableError, AuthenticationError, SchemaError and EmbeddedServerError, each with what to
        do next.
        """
        database = await Database.open(url, pool_max_size=pool_max_size, creates=creates)
        try:
            await database.wait_until_ready()
            if database.is_embedded:
                await _migrate_if_older(database)
            async with database.read() as connection:
                await check_schema(connection, database.folder)
                backend = await detect(connection)
            await database.set_in_sessions(backend.session_settings)
            await database.open_connections(min(pool_min_size, pool_max_size))
        except BaseException:
            await database.close()
            raise
        return cls(database, backend, clock)

    async def close(self) -> None:
        await self.database.close()

    async def refresh_pending(self, also: Sequence[StaleRange] = ()) -> None:
        """Bring the higher intervals up to date over everything that was written and not refreshed.

        What a killed run left behind is done too, and ``also`` what nobody has noted.
        """
        began = time.monotonic()
        await until_undisturbed(partial(self.backend.refresh, self.database, self.clock(), also))
        _log.info("refreshed the higher intervals in %.2f s", time.monotonic() - began)

    async def refresh_or_warn(self, within: float | None = None) -> KrakenDBError | None:
        """The same at the end of a run: a refresh that fails is logged, for what is stored is stored.

        ``within``: what takes more seconds is left to the next run, and that is no mistake. Returns what went
        wrong: the run has not done all of its work then.
        """
        try:
            async with asyncio.timeout(within):
                await self.refresh_pending()
        except TimeoutError:
            if within is None:
                raise
            _log.warning("the higher intervals are not up to date: the next run refreshes them")
        except KrakenDBError as error:
            _log.warning(
                "the higher intervals are not up to date: %s; the next run refreshes them", error.message
            )
            return DatabaseError(
                f"the higher intervals are not up to date: {error.message}",
                hint="the rows are stored; the next run refreshes them, or kraken-db db maintain",
            )
        return None

    @asynccontextmanager
    async def refreshing(self, every: float) -> AsyncIterator[None]:
        """Have this around a run that may take days: the higher intervals should not."""
        refreshing = asyncio.create_task(self._refresh_again_and_again(every))
        try:
            yield
        finally:
            refreshing.cancel()
            await asyncio.gather(refreshing, return_exceptions=True)

    async def _refresh_again_and_again(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            await self.refresh_or_warn()

    async def release_retention(self) -> bool:
        """Let retention run again where nothing speaks against it; returns whether it does."""
        return await release(self.database, self.backend, self.clock())


class StoreService:
    """What is common to the services that are connected and closed: provider, importer.

    Use one as an asynchronous context manager, or call ``connect()`` and ``close()``; everything that
    needs the database raises NotConnectedError (a RuntimeError) before that.
    """

    def __init__(
        self,
        db_url: str,
        *,
        pool_min_size: int = 2,
        pool_max_size: int = 10,
        clock: Clock = utc_now,
        creates: bool = True,
    ) -> None:
        self._db_url = db_url
        self._pool_sizes = (pool_min_size, pool_max_size)
        self._clock = clock
        self._creates = creates
        self._store: Store | None = None

    async def connect(self) -> None:
        """Open the store; may be called twice. Raises an error of ``kraken_db.errors``."""
        if self._store is None:
            low, high = self._pool_sizes
            self._store = await Store.open(
                self._db_url,
                pool_min_size=low,
                pool_max_size=high,
                clock=self._clock,
                creates=self._creates,
            )

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        store, self._store = self._store, None
        if store is not None:
            await store.close()

    @property
    def store(self) -> Store | None:
        """What it works on; None while it is not connected."""
        return self._store

    async def revive(self) -> bool:
        """After the connection was lost: start the embedded server again, should it be gone.

        Returns whether it is an embedded one: a server of the user's own is the user's to start.
        """
        database = self._connected().database
        await database.revive()
        return database.is_embedded

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def stored_symbols(self) -> list[str]:
        """Every symbol of which something was ever stored, in alphabetical order."""
        rows = await self._connected().database.reading(
            lambda connection: SyncStatusRepository(connection).all()
        )
        return sorted({row.symbol for row in rows})

    async def select_stored(self, wanted: Sequence[str] | None, exclude: Sequence[str] = ()) -> list[str]:
        """The pairs of names and patterns, by what is stored: see ``kraken_db.patterns.select``.

        ``wanted``: None for all that are stored. A name of which nothing is stored stays.
        """
        return select(wanted, await self.stored_symbols(), exclude=exclude)

    def _connected(self) -> Store:
        if self._store is None:
            raise NotConnectedError(
                f"the {type(self).__name__} is not connected", hint="call connect() first"
            )
        return self._store


async def _migrate_if_older(database: Database) -> None:
    async with database.read() as connection:
        revision = await current_revision(connection)
    if revision is None or revision < head_revision():
        await migrate(database)

"""An open store, as every service uses it: connections, the kind of database, and its upkeep."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from kraken_db.db.engine import Database
from kraken_db.db.migrations import check_schema, current_revision, head_revision, migrate
from kraken_db.repositories.pending_refresh import PendingRefreshRepository
from kraken_db.timeseries import TimeSeries, detect

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock that services use unless they are given another."""
    return datetime.now(UTC)


class Store:
    """A database whose schema is known to fit this version of the package."""

    def __init__(self, database: Database, timeseries: TimeSeries, clock: Clock = utc_now) -> None:
        self.database = database
        self.timeseries = timeseries
        self.clock = clock

    @classmethod
    async def open(
        cls, url: str, *, pool_min_size: int = 2, pool_max_size: int = 10, clock: Clock = utc_now
    ) -> Store:
        """Connect and check the schema; the embedded database is migrated where it is older.

        Raises ConfigurationError, DatabaseUnavailableError, AuthenticationError, SchemaError and
        EmbeddedServerError, each with what to do next.
        """
        database = await Database.open(url, pool_min_size=pool_min_size, pool_max_size=pool_max_size)
        try:
            if database.is_embedded:
                await _migrate_if_older(database)
            async with database.read() as connection:
                await check_schema(connection)
                timeseries = await detect(connection)
        except BaseException:
            await database.close()
            raise
        return cls(database, timeseries, clock)

    async def close(self) -> None:
        await self.database.close()

    async def refresh_pending(self) -> None:
        """Bring the higher intervals up to date over everything that was written and not refreshed.

        What a killed run left behind is done too.
        """
        async with self.database.read() as connection:
            ids, stale = await PendingRefreshRepository(connection).all()
        if not ids:
            return
        await self.timeseries.refresh(self.database, stale, self.clock())
        async with self.database.begin() as connection:
            await PendingRefreshRepository(connection).remove(ids)


async def _migrate_if_older(database: Database) -> None:
    async with database.read() as connection:
        revision = await current_revision(connection)
    if revision is None or revision < head_revision():
        await migrate(database)

"""Alembic's environment: runs the revisions on a connection it is given, or on the store of the settings.

All revisions of one call run in one transaction, under a lock: two programs that start on an empty
database at once migrate it once, and a failure leaves the schema as it was.
"""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection, text

from kraken_db.db.engine import Database
from kraken_db.models import Base
from kraken_db.settings import Settings

# Only this number is shared between programs that migrate; it says "kraken" in ASCII.
MIGRATION_LOCK = 0x6B72616B656E


def _is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Extensions keep tables of their own in the schema; they are none of our business."""
    return kind != "table" or name in Base.metadata.tables


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        include_name=_is_ours,
        compare_type=True,
    )
    with context.begin_transaction():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        # Readers must not queue up behind a revision that waits for one of them.
        connection.execute(text("SET LOCAL lock_timeout = '30s'"))
        context.run_migrations()


async def _run_on_configured_store() -> None:
    url = context.config.get_main_option("sqlalchemy.url") or Settings.from_environment().database_url
    database = await Database.open(url, pool_max_size=0)
    try:
        async with database.begin() as connection:
            await connection.run_sync(_run)
    finally:
        await database.close()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
elif (given := context.config.attributes.get("connection")) is not None:
    _run(given)
else:
    asyncio.run(_run_on_configured_store())

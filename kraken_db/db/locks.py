"""Advisory locks: two runs never work on the same symbol and job at once."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


async def lock_job(connection: AsyncConnection, job: str, symbol: str) -> None:
    """Wait until no other transaction holds this job of this symbol; held until the transaction ends."""
    await connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"kraken-db:{job}:{symbol}"}
    )


async def hold_shared(connection: AsyncConnection, key: str) -> None:
    """Hold ``key`` together with any number of others, until the connection is closed."""
    await connection.execute(text("SELECT pg_advisory_lock_shared(hashtextextended(:key, 0))"), {"key": key})


async def try_exclusive(connection: AsyncConnection, key: str) -> bool:
    """Hold ``key`` alone until the transaction ends; returns whether nobody else has it."""
    free: bool = await connection.scalar(
        text("SELECT pg_try_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key}
    )
    return free

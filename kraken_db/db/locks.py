"""Advisory locks: two runs never work on the same symbol and job at once."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


async def lock_job(connection: AsyncConnection, job: str, symbol: str) -> None:
    """Wait until no other transaction holds this job of this symbol; held until the transaction ends."""
    await connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"kraken-db:{job}:{symbol}"}
    )

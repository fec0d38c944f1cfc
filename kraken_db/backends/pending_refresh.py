"""``pending_refresh``: the ranges that were written and wait for their higher intervals.

Only backends write it: on plain PostgreSQL its triggers do, elsewhere ``Backend.writing_minutes``. Whoever
wants to know what waits reads it here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import bindparam, delete, func, select, text
from sqlalchemy.dialects.postgresql import TSTZRANGE, VARCHAR
from sqlalchemy.dialects.postgresql.ranges import Range
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends.base import StaleRange
from kraken_db.models import PENDING_REFRESH, Timestamp

_ADD = text("""
    WITH touching AS MATERIALIZED (
        SELECT id, stale FROM pending_refresh
        WHERE symbol = :symbol AND refreshed_at IS NOT DISTINCT FROM :refreshed
          AND (stale && :added OR stale -|- :added)
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM pending_refresh WHERE symbol = :symbol AND id IN (SELECT id FROM touching)
    )
    INSERT INTO pending_refresh (symbol, stale, refreshed_at)
    SELECT :symbol, tstzrange(least(lower(:added), min(lower(stale))),
                              greatest(upper(:added), max(upper(stale)))), :refreshed
    FROM touching
""").bindparams(
    bindparam("symbol", type_=VARCHAR),
    bindparam("added", type_=TSTZRANGE),
    bindparam("refreshed", type_=Timestamp),
)
_REMOVE = """
    DELETE FROM pending_refresh p
    USING unnest(CAST(:ids AS bigint[]), CAST(:symbols AS text[]),
                 CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
          AS done(id, symbol, starts, ends)
    WHERE p.id = done.id AND p.symbol = done.symbol AND p.stale = tstzrange(done.starts, done.ends)
"""

# The triggers on minutes take this range, and do not look through the rows for it.
_SPAN = text(
    "SELECT set_config('kraken_db.symbol', :symbol, true), set_config('kraken_db.span', :span, true)"
).bindparams(bindparam("symbol", type_=VARCHAR), bindparam("span", type_=VARCHAR))


@asynccontextmanager
async def announced(
    connection: AsyncConnection, symbol: str, new: tuple[datetime, datetime] | None
) -> AsyncIterator[None]:
    """Within it, all minutes that are inserted are of a symbol and of a range without any; None: who knows.

    To look through a million new rows takes the triggers a while.
    """
    if new is not None:
        span = f"[{new[0].isoformat()},{new[1].isoformat()})"
        await connection.execute(_SPAN, {"symbol": symbol, "span": span})
    yield
    if new is not None:
        await connection.execute(_SPAN, {"symbol": "", "span": ""})


class PendingRefresh:
    """Reads on the caller's connection what waits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def all(self) -> Sequence[StaleRange]:
        """Everything that waits, in the order in which it was noted."""
        return [item for _, item in await self.numbered()]

    async def unrefreshed(self) -> Sequence[StaleRange]:
        """What no refresh has been over yet. The other ranges wait for their candles to close."""
        return [item for item in await self.all() if item.refreshed_at is None]

    async def oldest(self) -> datetime | None:
        """Where the oldest range starts that no refresh has been over; None if there is none."""
        c = PENDING_REFRESH.c
        found: datetime | None = await self._connection.scalar(
            select(func.min(func.lower(c.stale))).where(c.refreshed_at.is_(None))
        )
        return found

    async def numbered(self) -> Sequence[tuple[int, StaleRange]]:
        """Everything that waits, with its number."""
        c = PENDING_REFRESH.c
        columns = (c.id, c.symbol, func.lower(c.stale), func.upper(c.stale), c.refreshed_at)
        rows = await self._connection.execute(select(*columns).order_by(c.id))
        return [(row[0], StaleRange(*row[1:])) for row in rows]


class PendingRefreshWriter(PendingRefresh):
    """For backends: notes what is stale, and takes it off; never commits."""

    async def add(self, item: StaleRange) -> None:
        """Note a range, as one with those of the symbol that wait already and that it touches.

        What it becomes is a new row, which a refresh that is at work on the old ones leaves alone. Rows that
        another transaction holds stay apart: nobody waits.
        """
        await self._connection.execute(
            _ADD,
            {"symbol": item.symbol, "added": Range(item.start, item.end), "refreshed": item.refreshed_at},
        )

    async def forget(self, symbol: str) -> None:
        """Nothing of a symbol waits any more. Who refreshes some of it is waited for."""
        await self._connection.execute(delete(PENDING_REFRESH).where(PENDING_REFRESH.c.symbol == symbol))

    async def remove(self, done: Sequence[tuple[int, StaleRange]]) -> None:
        """Take off what ``numbered`` gave. A range that has grown since then stays."""
        await self._connection.execute(
            text(_REMOVE),
            {
                "ids": [number for number, _ in done],
                "symbols": [item.symbol for _, item in done],
                "starts": [item.start for _, item in done],
                "ends": [item.end for _, item in done],
            },
        )

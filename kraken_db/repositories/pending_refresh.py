"""The ranges that were written and wait for their higher intervals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import bindparam, func, select, text
from sqlalchemy.dialects.postgresql import TSTZRANGE, VARCHAR
from sqlalchemy.dialects.postgresql.ranges import Range
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends import StaleRange
from kraken_db.models import PENDING_REFRESH, Timestamp

_ADD = text("""
    WITH touching AS MATERIALIZED (
        SELECT id, stale FROM pending_refresh
        WHERE symbol = :symbol AND refreshed_at IS NOT DISTINCT FROM :refreshed
          AND (stale && :added OR stale -|- :added)
        FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM pending_refresh WHERE id IN (SELECT id FROM touching)
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
_SPAN = text(
    "SELECT set_config('kraken_db.symbol', :symbol, true), set_config('kraken_db.span', :span, true)"
).bindparams(bindparam("symbol", type_=VARCHAR), bindparam("span", type_=VARCHAR))
_REMOVE = """
    DELETE FROM pending_refresh p
    USING unnest(CAST(:ids AS bigint[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
          AS done(id, starts, ends)
    WHERE p.id = done.id AND p.stale = tstzrange(done.starts, done.ends)
"""


class PendingRefreshRepository:
    """Keeps ``pending_refresh`` on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def add(self, item: StaleRange) -> None:
        """Note a range, as one with those of the symbol that wait already and that it touches.

        What it becomes is a new row, which a refresh that is at work on the old ones leaves alone. Rows that
        another transaction holds stay apart: nobody waits.
        """
        await self._connection.execute(
            _ADD,
            {"symbol": item.symbol, "added": Range(item.start, item.end), "refreshed": item.refreshed_at},
        )

    @asynccontextmanager
    async def writing_within(self, symbol: str, start: datetime, end: datetime) -> AsyncIterator[None]:
        """Have this around one statement that writes minutes of a symbol, all of them in ``[start, end)``.

        The triggers of plain PostgreSQL note this range then, and do not look through the rows for it.
        """
        span = f"[{start.isoformat()},{end.isoformat()})"
        await self._connection.execute(_SPAN, {"symbol": symbol, "span": span})
        yield
        await self._connection.execute(_SPAN, {"symbol": "", "span": ""})

    async def all(self) -> tuple[Sequence[int], Sequence[StaleRange]]:
        """The ids and the ranges of everything that waits."""
        c = PENDING_REFRESH.c
        rows = (
            await self._connection.execute(
                select(c.id, c.symbol, func.lower(c.stale), func.upper(c.stale), c.refreshed_at).order_by(
                    c.id
                )
            )
        ).all()
        return [row[0] for row in rows], [StaleRange(*row[1:]) for row in rows]

    async def oldest(self) -> datetime | None:
        """Where the oldest range starts that no refresh has been over; None if there is none."""
        found: datetime | None = await self._connection.scalar(
            select(func.min(func.lower(PENDING_REFRESH.c.stale))).where(
                PENDING_REFRESH.c.refreshed_at.is_(None)
            )
        )
        return found

    async def remove(self, ids: Sequence[int], done: Sequence[StaleRange]) -> None:
        """Take off what ``all`` gave. A range that has grown since then stays."""
        await self._connection.execute(
            text(_REMOVE),
            {"ids": list(ids), "starts": [item.start for item in done], "ends": [item.end for item in done]},
        )

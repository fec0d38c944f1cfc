"""What the ids and the times of stored trades say, found out where the trades are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ARRAY, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.db.multiranges import to_multirange
from kraken_db.models import TRADES, Timestamp
from kraken_db.ranges import TimeRange

# Within a run of ids without a hole, the id less its rank is always the same.
_RUNS = text("""
    SELECT is_real, min(id) AS first, max(id) AS last, count(*) AS trades,
           min(timestamp) AS oldest, max(timestamp) AS newest,
           count(*) FILTER (WHERE is_backwards) AS backwards
    FROM (
        SELECT id, timestamp, id > 0 AS is_real,
               CASE WHEN id > 0 THEN id - dense_rank() OVER w END AS run,
               id > 0 AND id - 1 = lag(id) OVER v
               AND timestamp < lag(timestamp) OVER v - INTERVAL '1 second' AS is_backwards
        FROM trades
        WHERE symbol = :symbol AND timestamp >= :start AND timestamp < :end
        WINDOW w AS (PARTITION BY id > 0 ORDER BY id),
               v AS (PARTITION BY id > 0 ORDER BY id, timestamp DESC)
    ) ranked
    GROUP BY is_real, run ORDER BY is_real, first
""")
_TWICE = text("""
    SELECT id, min(timestamp) AS first, max(timestamp) AS last
    FROM trades
    WHERE symbol = :symbol AND timestamp >= :start AND timestamp < :end AND id BETWEEN :low AND :high
    GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT :limit
""")
_BACKWARDS = text("""
    SELECT id, timestamp, earlier FROM (
        SELECT id, timestamp, lag(id) OVER v AS before, lag(timestamp) OVER v AS earlier FROM trades
        WHERE symbol = :symbol AND timestamp >= :start AND timestamp < :end AND id > 0
        WINDOW v AS (ORDER BY id, timestamp DESC)
    ) ordered
    WHERE before = id - 1 AND timestamp < earlier - INTERVAL '1 second' ORDER BY id LIMIT :limit
""")
_ANONYMOUS = text("""
    SELECT hole.number, (
        SELECT count(*) FROM trades
        WHERE symbol = :symbol AND id < 0 AND timestamp >= :start AND timestamp <= :end
          AND timestamp >= hole.after AND timestamp <= hole.before)
    FROM unnest(CAST(:afters AS timestamptz[]), CAST(:befores AS timestamptz[])) WITH ORDINALITY
         AS hole(after, before, number)
    ORDER BY hole.number
""").bindparams(bindparam("afters", type_=ARRAY(Timestamp)), bindparam("befores", type_=ARRAY(Timestamp)))
_EDGES = {
    ending: text(
        f"SELECT timestamp FROM trades WHERE symbol = :symbol AND timestamp >= :start AND timestamp < :end"
        f" ORDER BY timestamp{ending} LIMIT 1"
    )
    for ending in ("", " DESC")
}


@dataclass(frozen=True, slots=True)
class IdRun:
    """Stored ids that follow one another: all of ``first`` to ``last``, in ``count`` rows."""

    first: int
    last: int
    count: int
    """More than there are ids where one is stored twice."""
    oldest: datetime
    newest: datetime
    """Of its rows' times, both inclusive."""
    backwards: int = 0
    """Rows that are more than a second older than the one with the id before."""

    @property
    def doubled(self) -> int:
        return self.count - (self.last - self.first + 1)


@dataclass(frozen=True, slots=True)
class SliceOfTrades:
    """What a stretch of time has: runs of ids in their order, and how many trades have no id."""

    runs: Sequence[IdRun]
    anonymous: int

    @property
    def count(self) -> int:
        return self.anonymous + sum(run.count for run in self.runs)


class TradeAudit:
    """Looks at the trades of one symbol on the caller's connection; no row leaves the server.

    Ranges are half-open. What a statement costs depends on the rows of its range: keep it short.
    """

    def __init__(self, connection: AsyncConnection | AsyncSession, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def extent(self, start: datetime, end: datetime) -> tuple[datetime, datetime] | None:
        """The times of the oldest and the newest trade, both inclusive; None if there is none."""
        wanted = {"symbol": self._symbol, "start": start, "end": end}
        oldest, newest = [await self._connection.scalar(_EDGES[ending], wanted) for ending in ("", " DESC")]
        return None if oldest is None or newest is None else (oldest, newest)

    async def count(self, ranges: Sequence[TimeRange]) -> int:
        """How many trades there are in some ranges."""
        if not ranges:
            return 0
        c = TRADES.c
        inside = bindparam("inside", to_multirange(ranges), TSTZMULTIRANGE)
        found = select(func.count()).where(
            c.symbol == self._symbol,
            c.timestamp >= ranges[0][0],
            c.timestamp < ranges[-1][1],
            c.timestamp.op("<@")(inside),
        )
        return await self._connection.scalar(found) or 0

    async def runs(self, start: datetime, end: datetime) -> SliceOfTrades:
        """The ids of a stretch of time, as runs without a hole."""
        wanted = {"symbol": self._symbol, "start": start, "end": end}
        rows = (await self._connection.execute(_RUNS, wanted)).all()
        return SliceOfTrades(
            [IdRun(*row[1:]) for row in rows if row.is_real],
            sum(row.trades for row in rows if not row.is_real),
        )

    async def stored_twice(
        self, start: datetime, end: datetime, ids: tuple[int, int], limit: int
    ) -> list[tuple[int, datetime, datetime]]:
        """Ids within ``ids``, both inclusive, that several rows have; the first and the last of the times."""
        wanted = {"symbol": self._symbol, "start": start, "end": end, "low": ids[0], "high": ids[1]}
        rows = await self._connection.execute(_TWICE, {**wanted, "limit": limit})
        return [(row.id, row.first, row.last) for row in rows]

    async def backwards(
        self, start: datetime, end: datetime, limit: int
    ) -> list[tuple[int, datetime, datetime]]:
        """Ids whose trade is more than a second older than the one before; its time and that one's."""
        wanted = {"symbol": self._symbol, "start": start, "end": end, "limit": limit}
        return [
            (row.id, row.timestamp, row.earlier) for row in await self._connection.execute(_BACKWARDS, wanted)
        ]

    async def anonymous_within(self, spans: Sequence[tuple[datetime, datetime]]) -> list[int]:
        """How many trades without an id there are in each of these spans, both ends inclusive."""
        if not spans:
            return []
        wanted = {
            "symbol": self._symbol,
            "start": min(start for start, _ in spans),
            "end": max(end for _, end in spans),
            "afters": [start for start, _ in spans],
            "befores": [end for _, end in spans],
        }
        return [count for _, count in await self._connection.execute(_ANONYMOUS, wanted)]

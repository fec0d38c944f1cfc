"""The stored trades on both sides of a moment, or of a run of ids, without a look at the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends.reaches import GROWTH
from kraken_db.id_runs import IdHole, IdRun
from kraken_db.models import TRADES
from kraken_db.tolerances import STAMP_JITTER

REACH = timedelta(days=7)
"""How far away a neighbour may be: both bounds of time let TimescaleDB look at few chunks only."""

_ROWS = 20


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The nearest trade on one side. ``id`` is negative where it has none of Kraken's."""

    id: int
    timestamp: datetime


class TradeNeighbours:
    """Two look-ups in the index for each question, on the caller's connection."""

    def __init__(self, connection: AsyncConnection | AsyncSession, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def before(self, moment: datetime, reach: timedelta = REACH) -> Neighbour | None:
        """The newest trade before ``moment``; None where there is none so near."""
        c = TRADES.c
        rows = await self._rows(c.timestamp >= moment - reach, c.timestamp < moment, newest_first=True)
        if not rows:
            return None
        newest = rows[0].timestamp
        same = [row.id for row in rows if row.timestamp > newest - STAMP_JITTER]
        return Neighbour(max(same) if min(same) > 0 else min(same), newest)

    async def behind(self, moment: datetime, reach: timedelta = REACH) -> Neighbour | None:
        """The oldest trade at or after ``moment``; None where there is none so near."""
        c = TRADES.c
        rows = await self._rows(c.timestamp >= moment, c.timestamp < moment + reach, newest_first=False)
        if not rows:
            return None
        oldest = rows[0].timestamp
        return Neighbour(min(row.id for row in rows if row.timestamp < oldest + STAMP_JITTER), oldest)

    async def is_first(self, moment: datetime) -> bool:
        """Whether the pair's history begins there: the first trade from ``moment`` on has the id 1."""
        oldest = await self.behind(moment)
        return oldest is not None and oldest.id == 1

    async def missing_between(
        self, start: datetime, end: datetime, reach: timedelta = REACH
    ) -> IdHole | None:
        """The ids between the last trade before ``start`` and the first one from ``end`` on.

        None where they follow one another, and where one of the two has no id: that proves nothing.
        """
        before, behind = await self.before(start, reach), await self.behind(end, reach)
        if before is None or behind is None or before.id < 0 or behind.id < 0:
            return None
        if behind.id <= before.id + 1:
            return None
        return IdHole(before.id + 1, behind.id - 1, before.timestamp, behind.timestamp)

    async def _rows(self, *bounds: object, newest_first: bool) -> Sequence[Neighbour]:
        c = TRADES.c
        order = (c.timestamp.desc(), c.id.desc()) if newest_first else (c.timestamp, c.id)
        statement = (
            select(c.id, c.timestamp)
            .where(c.symbol == self._symbol, *bounds)  # type: ignore[arg-type]
            .order_by(*order)
            .limit(_ROWS)
        )
        return [Neighbour(*row) for row in await self._connection.execute(statement)]


# The moment (microsecond) of the trade next to a run is known up to that trade if the ids of the stored
# trades of that moment go on without a hole to one of another moment.
_BESIDE = text("""
    SELECT before.id, before.timestamp, after.id, after.timestamp,
           down.count = before.id - down.lowest + 1 AND EXISTS (
               SELECT 1 FROM trades
               WHERE symbol = :symbol AND timestamp >= :oldest AND timestamp <= :newest
                 AND id = down.lowest - 1 AND timestamp < before.timestamp),
           up.count = up.highest - after.id + 1 AND EXISTS (
               SELECT 1 FROM trades
               WHERE symbol = :symbol AND timestamp >= :oldest AND timestamp <= :newest
                 AND id = up.highest + 1 AND timestamp > after.timestamp)
    FROM (SELECT 1) one
    LEFT JOIN LATERAL (
        SELECT id, timestamp FROM trades
        WHERE symbol = :symbol AND timestamp >= :oldest AND timestamp <= :first_time
          AND id > 0 AND id < :first
        ORDER BY timestamp DESC, id DESC LIMIT 1
    ) before ON true
    LEFT JOIN LATERAL (
        SELECT id, timestamp FROM trades
        WHERE symbol = :symbol AND timestamp >= :last_time AND timestamp <= :newest AND id > :last
        ORDER BY timestamp, id LIMIT 1
    ) after ON true
    LEFT JOIN LATERAL (
        SELECT min(id) AS lowest, count(*) AS count FROM trades
        WHERE symbol = :symbol AND timestamp >= :oldest AND timestamp <= :newest
          AND timestamp = before.timestamp AND id > 0 AND id <= before.id
    ) down ON true
    LEFT JOIN LATERAL (
        SELECT max(id) AS highest, count(*) AS count FROM trades
        WHERE symbol = :symbol AND timestamp >= :oldest AND timestamp <= :newest
          AND timestamp = after.timestamp AND id >= after.id
    ) up ON true
""")
_COUNT = text("""
    SELECT count(*) FROM trades
    WHERE symbol = :symbol AND id >= :first AND id <= :last AND timestamp >= :start AND timestamp <= :end
""")
_NEAREST = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Beside:
    """The stored trades with ids next to a run, by time; None: there is none."""

    before: tuple[int, datetime] | None = None
    after: tuple[int, datetime] | None = None
    is_known_before: bool = False
    """Whether no trade of the moment of ``before`` is missing up to it."""
    is_known_after: bool = False
    """Whether no trade of the moment of ``after`` is missing from it on."""


async def beside(
    connection: AsyncConnection, symbol: str, run: IdRun, oldest: datetime, newest: datetime
) -> Beside:
    """What is stored next to a run; ``oldest`` and ``newest``: no trade is stored beyond these, both
    inclusive.

    Far away it is looked for only where nothing is near.
    """
    oldest, newest = min(oldest, run.oldest), max(newest, run.newest)
    reach = _NEAREST
    while True:
        low, high = max(oldest, run.oldest - reach), min(newest, run.newest + reach)
        row = (
            await connection.execute(
                _BESIDE,
                {
                    "symbol": symbol,
                    "first": run.first,
                    "first_time": run.oldest + STAMP_JITTER,
                    "last": run.last,
                    "last_time": run.newest - STAMP_JITTER,
                    "oldest": low,
                    "newest": high + STAMP_JITTER,
                },
            )
        ).one()
        found = Beside(
            None if row[0] is None else (row[0], row[1]),
            None if row[2] is None else (row[2], row[3]),
            bool(row[4]),
            bool(row[5]),
        )
        if (found.before or low <= oldest) and (found.after or high >= newest):
            return found
        reach *= GROWTH


async def count_ids(
    connection: AsyncConnection, symbol: str, first: int, last: int, start: datetime, end: datetime
) -> int:
    """How many of the ids ``first`` to ``last`` are stored, with times in ``[start, end]``."""
    found: int = await connection.scalar(
        _COUNT, {"symbol": symbol, "first": first, "last": last, "start": start, "end": end}
    )
    return found

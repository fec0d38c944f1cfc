"""The stored trades on both sides of a moment: whether ids are missing there, without a look at the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.models import TRADES
from kraken_db.ranges import TICK, TimeRange

REACH = timedelta(days=7)
"""How far away a neighbour may be: both bounds of time let TimescaleDB look at few chunks only."""

_ROWS = 20
# Live stamps are off by about a microsecond: within that, the order of the times is not that of the ids.
_SAME_MOMENT = 10 * TICK


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The nearest trade on one side. ``id`` is negative where it has none of Kraken's."""

    id: int
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class MissingIds:
    """Ids that lie between two stored trades and are not stored, ``first`` and ``last`` included."""

    first: int
    last: int
    after: datetime
    """The time of the stored trade before them."""
    before: datetime
    """The time of the stored trade behind them."""

    @property
    def gap(self) -> TimeRange:
        """Where they must have happened."""
        start = self.after + TICK
        return start, max(self.before, start + TICK)

    def __str__(self) -> str:
        return f"trade {self.first}" if self.first == self.last else f"trades {self.first} to {self.last}"


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
        same = [row.id for row in rows if row.timestamp > newest - _SAME_MOMENT]
        return Neighbour(max(same) if min(same) > 0 else min(same), newest)

    async def behind(self, moment: datetime, reach: timedelta = REACH) -> Neighbour | None:
        """The oldest trade at or after ``moment``; None where there is none so near."""
        c = TRADES.c
        rows = await self._rows(c.timestamp >= moment, c.timestamp < moment + reach, newest_first=False)
        if not rows:
            return None
        oldest = rows[0].timestamp
        return Neighbour(min(row.id for row in rows if row.timestamp < oldest + _SAME_MOMENT), oldest)

    async def missing_between(
        self, start: datetime, end: datetime, reach: timedelta = REACH
    ) -> MissingIds | None:
        """The ids between the last trade before ``start`` and the first one from ``end`` on.

        None where they follow one another, and where one of the two has no id: that proves nothing.
        """
        before, behind = await self.before(start, reach), await self.behind(end, reach)
        if before is None or behind is None or before.id < 0 or behind.id < 0:
            return None
        if behind.id <= before.id + 1:
            return None
        return MissingIds(before.id + 1, behind.id - 1, before.timestamp, behind.timestamp)

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

"""Where to look for the oldest or the newest row of a symbol, without a plan over all chunks.

A look-up without an end is planned for each chunk that it may need: up to a second where there are 1,000.
``data_sync_status`` knows where the rows of a symbol begin and end, whoever stores more of them here. What
lies outside of that, another program has written: it is looked for next to what is known, and where nobody is
known to have stored anything of any symbol, for there are hardly any chunks. Only where nothing is found
(retention, or somebody, has taken it away) the look-up goes inwards, in reaches that grow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.models import SYNC_STATUS
from kraken_db.ranges import TICK, TimeRange

CANDLE_REACH, TRADE_REACH = timedelta(weeks=4), timedelta(days=2)
"""The first of them: a few chunks."""
GROWTH = 8
"""By how much a reach is longer than the one before."""


@dataclass(frozen=True, slots=True)
class KnownSpan:
    """The stamps of the first and the last row of a symbol and of all symbols, as counters have them."""

    oldest: datetime
    newest: datetime
    oldest_of_all: datetime
    newest_of_all: datetime

    def older(self, reach: timedelta, first: datetime) -> list[TimeRange]:
        """The known oldest row, and where other programs may have written older ones, after ``first``.

        The oldest range comes first.
        """
        near, end = max(self.oldest - reach, first), self.oldest + TICK
        is_apart = self.oldest_of_all < near
        return [(first, self.oldest_of_all), (near, end)] if is_apart else [(first, end)]

    def newer(self, reach: timedelta, last: datetime) -> list[TimeRange]:
        """The known newest row, and where they may have written newer ones, before ``last``.

        The newest range comes first.
        """
        if self.newest_of_all - self.newest <= reach:
            return [(self.newest, last)]
        return [(self.newest_of_all, last), (self.newest, self.newest + reach)]


async def known_span(
    connection: AsyncConnection | AsyncSession, symbol: str, data_type: str
) -> KnownSpan | None:
    """None where nobody but other programs has stored anything of the symbol: it may lie anywhere."""
    c = SYNC_STATUS.c
    oldest, newest, is_own = func.min(c.oldest_timestamp), func.max(c.newest_timestamp), c.symbol == symbol
    found = await connection.execute(
        select(oldest.filter(is_own), newest.filter(is_own), oldest, newest).where(c.data_type == data_type)
    )
    moments = found.one()
    return None if None in moments else KnownSpan(*moments)


def reaches(start: datetime, end: datetime, reach: timedelta) -> Iterator[TimeRange]:
    """From ``start`` to ``end``, forwards or backwards, in ranges that touch, each longer than the last."""
    while start < end:
        stop = min(start + reach, end) if reach < end - start else end
        yield start, stop
        start, reach = stop, reach * GROWTH
    while start > end:
        stop = max(start - reach, end) if reach < start - end else end
        yield stop, start
        start, reach = stop, reach * GROWTH

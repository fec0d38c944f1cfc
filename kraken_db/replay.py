"""Candles one after the other, at the pace of the market: read ahead in stretches of bounded size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from itertools import chain
from operator import attrgetter
from typing import TypeAlias

from kraken_db.intervals import ceil_to_interval, interval_length
from kraken_db.ranges import TimeRange
from kraken_db.types import Candle

ReadRange: TypeAlias = Callable[[str, datetime, datetime], Awaitable[list[Candle]]]
"""The candles of a symbol that open in a range, oldest first."""
FindExtent: TypeAlias = Callable[[], Awaitable[TimeRange | None]]
"""The range outside of which no symbol has a candle; it may grow while the replay runs."""

# In candles, of all symbols together: the first stretch is there at once, the others cost little each, and
# memory does not depend on the range.
FIRST_STRETCH, GROWTH, LONGEST_STRETCH = 500, 4, 20_000


async def replay(
    symbols: Sequence[str],
    interval: int,
    start: datetime,
    end: datetime,
    speed: float,
    *,
    read: ReadRange,
    extent: FindExtent,
) -> AsyncIterator[Candle]:
    """Yield the candles of ``[start, end)`` in order of time; of one moment in the order of ``symbols``."""
    stored = await extent()
    if stored is None or start >= stored[1]:
        return
    start = max(start, stored[0])
    pace: _Pace | None = None
    for_each = FIRST_STRETCH
    while start < end:
        longest = max(LONGEST_STRETCH // len(symbols), 1)
        stretch = interval_length(interval) * min(for_each, longest)
        stop = min(ceil_to_interval(start, interval) + stretch, end)
        found = await asyncio.gather(*(read(symbol, start, stop) for symbol in symbols))
        for candle in _merged(found):
            if speed:
                pace = pace or _Pace(candle.timestamp, speed)
                await pace.wait_for(candle.timestamp)
            yield candle
        if not any(found):
            # Past the last one, or in a hole of years.
            stored = await extent()
            if stored is None or stop >= stored[1]:
                return
        start = stop
        for_each = min(for_each * GROWTH, longest)


def _merged(found: Sequence[list[Candle]]) -> list[Candle]:
    # Sorting keeps the order of what is equal, and takes what is in order already as it is.
    return found[0] if len(found) == 1 else sorted(chain.from_iterable(found), key=attrgetter("timestamp"))


class _Pace:
    """When a replayed candle is due: measured from the first one, so that errors don't add up."""

    def __init__(self, first: datetime, speed: float) -> None:
        self._first = first
        self._speed = speed
        self._began = time.monotonic()

    async def wait_for(self, moment: datetime) -> None:
        due = self._began + (moment - self._first).total_seconds() / self._speed
        await asyncio.sleep(max(due - time.monotonic(), 0))

"""Which candles of an interval are rows of an imported file, and not computed from minutes.

Kraken publishes files of 1h, 1d and so on beside those of 1m. Where one of them was imported, and reaches
further back than the minutes of its pair, it answers for that time, and the minutes for all that follows. So
of any moment there is one answer. What was stored tells which: the rows are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.data_types import DataType
from kraken_db.db.driver import CompiledStatement, fetch
from kraken_db.intervals import (
    BASE_INTERVAL,
    Interval,
    ceil_to_interval,
    floor_to_interval,
    interval_length,
)
from kraken_db.models import SYNC_STATUS


@dataclass(frozen=True, slots=True)
class CandleFile:
    """A file answers for the candles that open in ``[start, end)``."""

    start: datetime
    end: datetime
    is_all: bool
    """No minute of the pair is stored: there are no other candles."""

    @classmethod
    def beside(
        cls, interval: int, oldest: datetime, newest: datetime, first_minute: datetime | None
    ) -> CandleFile | None:
        """The file whose candles open from ``oldest`` to ``newest``; None where it answers for nothing.

        The candle that the first minute lies in may have lost the minutes before it. A file that has older
        ones has that one whole. A file that has none begins where the minutes begin, and they know more.
        """
        stop = newest + interval_length(interval)
        if first_minute is None:
            return cls(oldest, stop, is_all=True)
        if oldest >= floor_to_interval(first_minute, interval):
            return None
        return cls(oldest, min(stop, ceil_to_interval(first_minute, interval)), is_all=False)


@dataclass(frozen=True, slots=True)
class CandleSource:
    """The stored interval that candles are read from, or computed from, and what of it is a file."""

    level: int
    file: CandleFile | None


async def find_candle_source(
    connection: AsyncConnection | AsyncSession, symbol: str, interval: Interval
) -> CandleSource:
    """Where the candles of a symbol come from. As a rule all is computed from minutes, and there is no file.

    A stored interval is read as it is. Any other one is computed from the longest stored one that divides it;
    where no minute of the pair is stored, from the longest one that a file was imported of.
    """
    if _levels(interval)[0] == BASE_INTERVAL:
        return CandleSource(BASE_INTERVAL, None)
    rows = await fetch(connection, _COUNTERS.replacing({_SYMBOL: symbol}))
    return candle_source(interval, {kind: (oldest, newest) for kind, oldest, newest in rows})


def candle_source(
    interval: Interval, known: Mapping[str, tuple[datetime | None, datetime | None]]
) -> CandleSource:
    """The same of the counters of a symbol: the oldest and the newest time by data type."""
    levels = _levels(interval)
    first_minute, _ = known.get(DataType.CANDLES_1M, (None, None))
    for level in levels if first_minute is None else levels[:1]:
        oldest, newest = known.get(DataType.candles(level), (None, None))
        if level != BASE_INTERVAL and oldest is not None and newest is not None:
            return CandleSource(level, CandleFile.beside(level, oldest, newest, first_minute))
    return CandleSource(levels[0], None)


def _levels(interval: Interval) -> tuple[int, ...]:
    return interval.levels if interval.stored is None else (interval.stored,)


# What stands in the statement until it is used.
_SYMBOL = "symbol"


def _counters() -> CompiledStatement:
    c = SYNC_STATUS.c
    return CompiledStatement.of(
        select(c.data_type, c.oldest_timestamp, c.newest_timestamp).where(c.symbol == _SYMBOL)
    )


_COUNTERS = _counters()

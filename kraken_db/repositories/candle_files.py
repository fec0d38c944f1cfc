"""Which candles of an interval are rows of an imported file, and not computed from minutes.

Kraken publishes files of 1h, 1d and so on beside those of 1m. Where one of them was imported, and reaches
further back than the minutes of its pair, it answers for that time, and the minutes for all that follows. So
of any moment there is one answer. What was stored tells which: the rows are not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.data_types import DataType
from kraken_db.db.driver import CompiledStatement, fetch
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval, interval_length
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


async def find_candle_file(
    connection: AsyncConnection | AsyncSession, symbol: str, interval: int
) -> CandleFile | None:
    """What is read from a file of this interval; None, as a rule: all of it is computed from minutes."""
    if interval == BASE_INTERVAL:
        return None
    statement = _COUNTERS.replacing({_SYMBOL: symbol, _FILE: DataType.candles(interval)})
    ((oldest, newest, first_minute),) = await fetch(connection, statement)
    if oldest is None or newest is None:
        return None
    return CandleFile.beside(interval, oldest, newest, first_minute)


# What stands in the statement until it is used.
_SYMBOL, _FILE = "symbol", "file"


def _counters() -> CompiledStatement:
    c = SYNC_STATUS.c
    is_file, is_minutes = c.data_type == _FILE, c.data_type == DataType.CANDLES_1M
    return CompiledStatement.of(
        select(
            func.min(c.oldest_timestamp).filter(is_file),
            func.max(c.newest_timestamp).filter(is_file),
            func.min(c.oldest_timestamp).filter(is_minutes),
        ).where(c.symbol == _SYMBOL)
    )


_COUNTERS = _counters()

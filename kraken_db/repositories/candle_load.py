"""Candles of a file straight into their table, by COPY: right where nothing is stored yet.

COPY writes many rows at once, which no INSERT does. It cannot compute, so each line becomes one of the table
on its way: a time in the place of the seconds, symbol and interval behind the rest. What the table takes is
looked at once more where it lies, in numbers that are rounded already.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.errors import DataRefusedError
from kraken_db.intervals import GRID_ORIGIN_EPOCH
from kraken_db.models import CANDLES
from kraken_db.ranges import TimeRange
from kraken_db.repositories.staging import Rule, broken
from kraken_db.repositories.stamp_texts import DAY, EPOCH, day_of, times_of_day

_NUMBERS = ["open", "high", "low", "close", "volume", "trade_count"]
_COLUMNS = ["timestamp", *_NUMBERS, "symbol", "interval_minutes"]
_BROKEN = """
    SELECT count(*) FILTER (WHERE {broken})
    FROM (SELECT open, high, low, close, volume, trade_count AS trades FROM candles
          WHERE symbol = :symbol AND interval_minutes = :interval
            AND timestamp >= :first AND timestamp <= :last) stored
"""


class CandleLoad:
    """One file into the table, inside the caller's transaction; never commits."""

    def __init__(self, connection: AsyncConnection, symbol: str, interval: int) -> None:
        self._connection = connection
        self._key = {"symbol": symbol, "interval": interval}
        self._length = interval * 60
        self._offset = GRID_ORIGIN_EPOCH % self._length
        self._end = f",{symbol},{interval}\n".encode()
        self._day = day_of(0)
        self._edges: list[int] = []

    async def copy(self, source: AsyncIterable[bytes]) -> int:
        """Write rows of an OHLCVT file, which rise in time; returns how many.

        Raises DataRefusedError where a line is not accepted, or its candle is stored: nothing was written
        then, and the transaction is over.
        """
        return await copy_csv_in(self._connection, CANDLES.name, _COLUMNS, self._lines(source))

    @property
    def bounds(self) -> TimeRange:
        """The open times of the first and the last row."""
        return EPOCH + timedelta(seconds=self._edges[0]), EPOCH + timedelta(seconds=self._edges[-1])

    async def broken(self, rules: Sequence[Rule]) -> int:
        """How many of the written rows break a rule for the numbers of ``staged_candles``."""
        first, last = self.bounds
        statement = text(_BROKEN.format(broken=broken(rules)))
        return await self._connection.scalar(statement, {**self._key, "first": first, "last": last}) or 0

    async def _lines(self, source: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for block in source:
            yield self._table_lines(block)

    def _table_lines(self, block: bytes) -> bytes:
        lines, times, length, offset = [], times_of_day(), self._length, self._offset
        start, day = self._day
        seconds = 0
        try:
            for line in block.splitlines():
                written, _, numbers = line.partition(b",")
                seconds = int(written)
                if seconds % length != offset:
                    raise DataRefusedError("a candle does not lie on its grid")
                if not 0 <= seconds - start < DAY:
                    start, day = day_of(seconds)
                if not self._edges:
                    self._edges.append(seconds)
                lines.append(day + times[seconds - start] + b"Z," + numbers)
        except (ValueError, OverflowError) as error:
            raise DataRefusedError("a line does not begin with a time") from error
        self._day = (start, day)
        self._edges[1:] = [seconds]
        lines.append(b"")
        return self._end.join(lines)

"""Candles of a file straight into their table, by COPY: right where nothing is stored yet.

COPY writes many rows at once, which no INSERT does. It cannot compute, so each line becomes one of the table
on its way: a time in the place of the seconds, symbol and interval behind the rest. What the table takes is
looked at once more where it lies, in numbers that are rounded already.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.errors import DataRefusedError
from kraken_db.intervals import GRID_ORIGIN_EPOCH
from kraken_db.models import CANDLES
from kraken_db.ranges import TimeRange
from kraken_db.repositories.staging import Rule, broken

_NUMBERS = ["open", "high", "low", "close", "volume", "trade_count"]
_COLUMNS = ["timestamp", *_NUMBERS, "symbol", "interval_minutes"]
_MINUTES = tuple(f" {minute // 60:02}:{minute % 60:02}:00Z,".encode() for minute in range(1440))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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
        self._step, self._offset = interval, GRID_ORIGIN_EPOCH // 60 % interval
        self._end = f",{symbol},{interval}\n".encode()
        self._days: dict[int, bytes] = {}
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
        return _EPOCH + timedelta(minutes=self._edges[0]), _EPOCH + timedelta(minutes=self._edges[-1])

    async def broken(self, rules: Sequence[Rule]) -> int:
        """How many of the written rows break a rule for the numbers of ``staged_candles``."""
        first, last = self.bounds
        statement = text(_BROKEN.format(broken=broken(rules)))
        return await self._connection.scalar(statement, {**self._key, "first": first, "last": last}) or 0

    async def _lines(self, source: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for block in source:
            yield self._table_lines(block)

    def _table_lines(self, block: bytes) -> bytes:
        lines, days, minute, step, offset = [], self._days, 0, self._step, self._offset
        try:
            for line in block.splitlines():
                seconds, _, numbers = line.partition(b",")
                minute, rest = divmod(int(seconds), 60)
                if rest or minute % step != offset:
                    raise DataRefusedError("a candle does not lie on its grid")
                day, of_day = divmod(minute, 1440)
                if day not in days:
                    days[day] = f"{_EPOCH + timedelta(days=day):%Y-%m-%d}".encode()
                if not self._edges:
                    self._edges.append(minute)
                lines.append(days[day] + _MINUTES[of_day] + numbers)
        except (ValueError, OverflowError) as error:
            raise DataRefusedError("a line does not begin with a time") from error
        self._edges[1:] = [minute]
        lines.append(b"")
        return self._end.join(lines)

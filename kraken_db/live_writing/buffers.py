"""Records in memory, in the order in which they came, with their numbers along the stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from kraken_db.types import CandleRecord

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Batch(Generic[R]):
    """What is stored in one transaction. After it everything from ``first`` to ``last`` is stored.

    ``numbers`` are those of ``records``; some between ``first`` and ``last`` may be no one's.
    """

    first: int
    last: int
    numbers: Sequence[int]
    records: Sequence[R]

    def after(self, position: int) -> Batch[R]:
        """What of it comes after a number."""
        if position < self.first:
            return self
        kept = [at for at, number in enumerate(self.numbers) if number > position]
        return Batch(
            position + 1,
            self.last,
            [self.numbers[at] for at in kept],
            [self.records[at] for at in kept],
        )

    def halves(self) -> tuple[Batch[R], Batch[R]]:
        """The first and the second half; it has two records or more."""
        middle = len(self.records) // 2
        border = self.numbers[middle]
        return (
            Batch(self.first, border - 1, self.numbers[:middle], self.records[:middle]),
            Batch(border, self.last, self.numbers[middle:], self.records[middle:]),
        )


class Buffer(Protocol[R]):
    """Records that wait in memory."""

    def __len__(self) -> int: ...

    def replace(self, record: R) -> bool:
        """Whether the record has taken the place of one that waits, and needs no room."""
        ...

    def add(self, number: int, record: R) -> None:
        """Append a record with the next number, or with that of the record that it has replaced."""
        ...

    def take(self, most: int) -> Batch[R]:
        """Take out the oldest, about so many; there must be some."""
        ...


class TradeBuffer(Generic[R]):
    """Every record is one."""

    def __init__(self) -> None:
        self._records: list[R] = []
        self._last = 0

    def __len__(self) -> int:
        return len(self._records)

    def replace(self, record: R) -> bool:
        return False

    def add(self, number: int, record: R) -> None:
        self._records.append(record)
        self._last = number

    def take(self, most: int) -> Batch[R]:
        taken = self._records[:most]
        first = self._last - len(self._records) + 1
        del self._records[:most]
        last = first + len(taken) - 1
        return Batch(first, last, range(first, last + 1), taken)


class CandleBuffer:
    """Of each candle the version with the most trades: one that grows takes one place."""

    def __init__(self) -> None:
        self._candles: dict[tuple[str, datetime, int], CandleRecord] = {}
        self._first = 1
        self._last = 0

    def __len__(self) -> int:
        return len(self._candles)

    def replace(self, record: CandleRecord) -> bool:
        key = (record.symbol, record.timestamp, record.interval_minutes)
        known = self._candles.get(key)
        if known is None:
            return False
        if record.trade_count >= known.trade_count:
            self._candles[key] = record
        return True

    def add(self, number: int, record: CandleRecord) -> None:
        self._last = number
        if not self.replace(record):
            if not self._candles:
                self._first = number
            self._candles[(record.symbol, record.timestamp, record.interval_minutes)] = record

    def take(self, most: int) -> Batch[CandleRecord]:
        # All of them, for a replaced one has lost its number.
        taken = list(self._candles.values())
        self._candles.clear()
        numbers = range(self._last - len(taken) + 1, self._last + 1)
        return Batch(min(self._first, numbers[0]), self._last, numbers, taken)

"""What Kraken's trade ids prove: a sequence per pair, in which a missing number is a missing trade."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from kraken_db.ranges import TICK, TimeRange

MOST_MISSING = 10_000_000
"""Ids that may be missing between two trades: what jumps further is a number that is no id of the pair."""


class NumberedTrade(Protocol):
    """What a sequence looks at of a trade."""

    @property
    def trade_id(self) -> int | None: ...
    @property
    def timestamp(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class IdRun:
    """Ids that follow one another: all of ``first`` to ``last`` are there."""

    first: int
    last: int
    oldest: datetime
    newest: datetime
    """Of the times of its trades, both inclusive: those of the first and the last id, but for jitter."""
    doubled: int = 0
    """How many rows more there are than ids: one is stored twice. Below zero where ids are missing after
    all."""
    backwards: int = 0
    """Rows that are more than a second older than the one with the id before."""

    @property
    def size(self) -> int:
        """How many ids it has."""
        return self.last - self.first + 1

    @property
    def rows(self) -> int:
        """In how many rows."""
        return self.size + self.doubled


@dataclass(frozen=True, slots=True)
class IdHole:
    """Ids that no answer had, between two trades that came: ``first`` and ``last`` are both missing."""

    first: int
    last: int
    after: datetime
    """The stamp of the trade before the hole."""
    before: datetime
    """The stamp of the trade behind it."""

    @property
    def size(self) -> int:
        """How many ids are missing."""
        return self.last - self.first + 1

    @property
    def gap(self) -> TimeRange:
        """Where the missing trades must have happened, half-open."""
        start = self.after + TICK
        return start, max(self.before, start + TICK)

    @property
    def trades(self) -> str:
        """``trade 5`` or ``trades 5 to 7``."""
        return f"trade {self.first}" if self.first == self.last else f"trades {self.first} to {self.last}"

    def __str__(self) -> str:
        ids = f"id {self.first}" if self.first == self.last else f"ids {self.first} to {self.last}"
        return f"{ids} between {self.after.isoformat()} and {self.before.isoformat()}"


@dataclass(frozen=True, slots=True)
class IdSequence:
    """How far a pair's trades are known. ``last_id`` None: no trade with an id has been seen."""

    last_id: int | None = None
    last_time: datetime | None = None
    """The stamp of that trade."""
    anonymous: int = 0
    """Trades without an id since then, or at its very moment, that no missing number was put down to."""
    anonymous_at: datetime | None = None
    """The stamp of the last of them."""

    def follow(self, trades: Iterable[NumberedTrade]) -> tuple[IdSequence, Sequence[IdHole]]:
        """Where the sequence stands after ``trades``, in order, and the holes on the way there.

        In Kraken's past, runs of trades had the id 0. Where they used up numbers, the hole that their
        run leaves is no larger than it, and is none. Of trades of one moment nobody knows where they were.
        """
        last_id, last_time = self.last_id, self.last_time
        anonymous, anonymous_at = self.anonymous, self.anonymous_at
        holes: list[IdHole] = []
        for trade in trades:
            number = trade.trade_id
            if number is None:
                anonymous, anonymous_at = anonymous + 1, trade.timestamp
                continue
            missing = 0 if last_id is None else number - last_id - 1
            if last_id is not None and last_time is not None and missing > anonymous:
                holes.append(IdHole(last_id + 1, number - 1, last_time, trade.timestamp))
            anonymous = max(0, anonymous - missing) if anonymous_at == trade.timestamp else 0
            last_id, last_time = number, trade.timestamp
        return IdSequence(last_id, last_time, anonymous, anonymous_at), holes

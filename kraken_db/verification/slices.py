"""Time in pieces that the server looks at one by one: memory does not grow with what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kraken_db.intervals import floor_to_interval, interval_length
from kraken_db.progress import Task
from kraken_db.ranges import TimeRange, intersection

ROWS = 200_000
"""Rows of a piece that are about right."""
_DAY = 1440
_SHORTEST, _LONGEST = timedelta(days=1), timedelta(days=56)


@dataclass(slots=True)
class Slices:
    """Cuts ranges into pieces of whole days: longer ones where there is little. Say what each one ``had``.

    A piece is given as those of the ranges that lie in it; ``task`` is told how much time is done.
    """

    ranges: Sequence[TimeRange]
    task: Task
    grid: int = _DAY
    """Pieces begin on the grid of this interval, in minutes."""
    _length: timedelta = field(default=_SHORTEST, init=False)

    def __post_init__(self) -> None:
        self._length = max(self._length, interval_length(self.grid))

    def __iter__(self) -> Iterator[list[TimeRange]]:
        if not self.ranges:
            return
        done, end = self.ranges[0][0], self.ranges[-1][1]
        while done < end:
            until = min(floor_to_interval(done, self.grid) + self._length, end)
            inside = intersection(self.ranges, [(done, until)])
            if inside:
                yield inside
            self.task.advance(round((until - done).total_seconds()))
            done = until if inside else self._next(until)

    def had(self, rows: int) -> None:
        """How many rows the last piece had: the next one is made longer or shorter."""
        shortest = max(_SHORTEST, interval_length(self.grid))
        if rows < ROWS // 4:
            self._length = max(shortest, min(self._length * 2, _LONGEST))
        elif rows > ROWS:
            self._length = max(shortest, self._length // shortest // 2 * shortest)

    def _next(self, moment: datetime) -> datetime:
        """Where the ranges go on: time without any of them takes no time."""
        return next((max(start, moment) for start, end in self.ranges if end > moment), moment)


def seconds_of(ranges: Sequence[TimeRange]) -> int:
    """For a progress: from the first to the last."""
    return round((ranges[-1][1] - ranges[0][0]).total_seconds()) if ranges else 0

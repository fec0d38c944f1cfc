"""Progress of long jobs on stderr: bars on a terminal, a line now and then otherwise.

Both implement ``kraken_db.progress.Progress``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kraken_db.cli.output import duration, note, size_text
from kraken_db.progress import Progress, Task, Unit

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

SECONDS_BETWEEN_LINES = 5.0
_ROOM_FOR_A_BAR = 100  # characters; on narrower terminals the numbers need them


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Progress as it fits stderr."""
    if not sys.stderr.isatty():
        yield LineProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.table import Column

    console = Console(stderr=True)
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeRemainingColumn(),
        # Takes what the others leave, and is cut where that is too little.
        TextColumn(
            "{task.fields[remark]}", markup=False, style="dim", table_column=Column(no_wrap=True, ratio=1)
        ),
    ]
    if console.width >= _ROOM_FOR_A_BAR:
        columns.insert(1, BarColumn(bar_width=20))
    with Bars(*columns, console=console, transient=True, expand=True) as bars:
        yield BarProgress(bars)


def _amount(unit: Unit, done: float, total: float | None, rate: float | None) -> str:
    """``1.2 MB of 3.3 MB, 12.0 MB/s``; ``5,000 of 9,000 trades, 900/s``."""
    text = _quantity(unit, done, with_unit=total is None)
    if total is not None:
        text += f" of {_quantity(unit, total)}"
    return text + (f", {_quantity(unit, rate, with_unit=False)}/s" if rate and unit != "seconds" else "")


def _quantity(unit: Unit, amount: float, *, with_unit: bool = True) -> str:
    if unit == "bytes":
        return size_text(round(amount))
    if unit == "seconds":
        return f"{amount / 86400:,.1f} days"
    return f"{amount:,.0f} {unit}" if with_unit else f"{amount:,.0f}"


class BarProgress:
    """A bar for each running task; those that are over make room for the next."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars

    def task(self, label: str, total: int | None = None, *, unit: Unit = "steps") -> Task:
        return _BarTask(self._bars, label, total, unit)

    def note(self, message: str) -> None:
        self._bars.console.print(message, markup=False, highlight=False, soft_wrap=True)


class _BarTask:
    def __init__(self, bars: Bars, label: str, total: int | None, unit: Unit) -> None:
        self._bars = bars
        self._unit = unit
        self._total = total
        self._done = 0
        self._id = bars.add_task(label, total=total, amount="", remark="")

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        speed = next((task.speed for task in self._bars.tasks if task.id == self._id), None)
        text = _amount(self._unit, self._done, self._total, speed)
        self._bars.update(self._id, advance=amount, amount=text)

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        if total is not None:
            self._total = total
            self._bars.update(self._id, total=total)
        if note is not None:
            self._bars.update(self._id, remark=note)

    def done(self, outcome: str = "", *, failed: bool = False) -> None:
        self._bars.remove_task(self._id)


class LineProgress:
    """A line every few seconds, and one at the end of what took that long: for logs and pipes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock

    def task(self, label: str, total: int | None = None, *, unit: Unit = "steps") -> Task:
        return _LineTask(self, label, total, unit)

    def note(self, message: str) -> None:
        note(message)

    def now(self) -> float:
        return self._clock()


class _LineTask:
    def __init__(self, progress: LineProgress, label: str, total: int | None, unit: Unit) -> None:
        self._progress = progress
        self._label = label
        self._total = total
        self._unit = unit
        self._done = 0
        self._began = self._last = progress.now()
        self._remark = ""
        self._was_seen = False

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        now = self._progress.now()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last, self._was_seen = now, True
            note(f"{self._label}: {self._state()}")

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        if total is not None:
            self._total = total
        if note is not None:
            self._remark = note

    def done(self, outcome: str = "", *, failed: bool = False) -> None:
        if outcome or self._was_seen:  # else it was over before anybody waited for it
            note(f"{self._label}: {outcome or ('failed' if failed else 'done')}")

    def _state(self) -> str:
        seconds = self._progress.now() - self._began
        rate = self._done / seconds if seconds > 0 else None
        text = _amount(self._unit, self._done, self._total, rate)
        if self._total:
            text = f"{min(self._done / self._total, 1):.0%}, {text}"
            if rate and self._done < self._total:
                text += f", {duration((self._total - self._done) / rate)} left"
        return f"{text} ({self._remark})" if self._remark else text

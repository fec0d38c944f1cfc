"""Progress of long jobs on stderr: bars on a terminal, a line now and then otherwise.

Both implement ``kraken_db.progress.Progress``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kraken_db.cli.output import note, size_text
from kraken_db.progress import Progress, Task, Unit

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

SECONDS_BETWEEN_LINES = 5.0
_WIDE = 110
"""Columns of a terminal in which a bar, amounts and a remark have room beside each other."""


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Progress as it fits stderr."""
    if not sys.stderr.isatty():
        yield LineProgress()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    is_narrow = console.width < _WIDE
    bars = Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=10 if is_narrow else 40),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}", markup=False, style="dim"),
        console=console,
        transient=True,
    )
    with bars:
        yield BarProgress(bars, is_narrow=is_narrow)


def _amount(unit: Unit, done: float, total: float | None, rate: float | None) -> str:
    """``1.2 MB of 3.3 MB, 12.0 MB/s``."""
    text = _quantity(unit, done) + (f" of {_quantity(unit, total)}" if total is not None else "")
    return text + (f", {_quantity(unit, rate)}/s" if rate and unit != "seconds" else "")


def _quantity(unit: Unit, amount: float) -> str:
    if unit == "bytes":
        return size_text(round(amount))
    if unit == "seconds":
        return f"{amount / 86400:,.1f} days"
    return f"{amount:,.0f} {unit}"


class BarProgress:
    """A bar for each running task; those that are over make room for the next."""

    def __init__(self, bars: Bars, *, is_narrow: bool = False) -> None:
        self._bars = bars
        self._is_narrow = is_narrow

    def task(self, label: str, total: int | None = None, *, unit: Unit = "steps") -> Task:
        return _BarTask(self._bars, label, total, unit, is_narrow=self._is_narrow)

    def note(self, message: str) -> None:
        self._bars.console.print(message, markup=False, highlight=False, soft_wrap=True)


class _BarTask:
    """On a narrow terminal a remark takes the place of the amounts, or nothing could be read."""

    def __init__(
        self, bars: Bars, label: str, total: int | None, unit: Unit, *, is_narrow: bool = False
    ) -> None:
        self._bars = bars
        self._is_narrow = is_narrow
        self._has_remark = False
        self._unit = unit
        self._total = total
        self._done = 0
        self._id = bars.add_task(label, total=total, amount="", remark="")

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        speed = next((task.speed for task in self._bars.tasks if task.id == self._id), None)
        is_told = not (self._is_narrow and self._has_remark)
        text = _amount(self._unit, self._done, self._total, speed) if is_told else ""
        self._bars.update(self._id, advance=amount, amount=text)

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        if total is not None:
            self._total = total
            self._bars.update(self._id, total=total)
        if note is not None:
            self._has_remark = bool(note)
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
                text += f", {_duration((self._total - self._done) / rate)} left"
        return f"{text} ({self._remark})" if self._remark else text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"

"""Progress of long jobs on stderr: bars on a terminal, a line now and then otherwise.

Both implement ``kraken_db.progress.Progress``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kraken_db.cli.output import count_text, duration, note, plural, size_text
from kraken_db.progress import Overview, Progress, Task, Unit

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

SECONDS_BETWEEN_LINES = 5.0
_WIDTH = 80
"""Characters that a line over many pairs keeps to."""
_MILLION = 10**6


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Progress as it fits stderr."""
    if not sys.stderr.isatty():
        yield LineProgress()
        return
    from kraken_db.cli.bars import open_bars

    with open_bars() as bars:
        yield BarProgress(bars)


def overview_text(seen: Overview, seconds_left: float | None) -> str:
    """``47 of 318 pairs, 12.1 of about 98 M rows, 0:02:10 left, 3 failed``: one line of 80 characters."""
    parts = [f"{count_text(seen.pairs)} of {plural(seen.of_pairs, 'pair')}", _rows_text(seen)]
    if seconds_left is not None:
        parts.append(f"{duration(seconds_left)} left")
    if seen.failed:
        parts.append(f"{count_text(seen.failed)} failed")
    return ", ".join(parts)


def _rows_text(seen: Overview) -> str:
    about, total = "", float(seen.of_rows)
    if seen.is_estimate:
        about, total = "about ", max(float(f"{total:.3g}"), seen.rows)
    if total < _MILLION:
        return f"{seen.rows:,} of {about}{total:,.0f} rows"
    digits = 1 if total < 1000 * _MILLION else 0
    of = f"{total / _MILLION:,.{digits}f}".removesuffix(".0")
    return f"{seen.rows / _MILLION:,.{digits}f} of {about}{of} M rows"


def _seconds_left(done: float, total: float | None, seconds: float) -> float | None:
    """By the pace until now; None where that says nothing."""
    return seconds * (total - done) / done if total and 0 < done < total and seconds > 0 else None


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

    def task(
        self,
        label: str,
        total: int | None = None,
        *,
        unit: Unit = "steps",
        overview: Overview | None = None,
    ) -> Task:
        return _BarTask(self._bars, label, total, unit, overview)

    def note(self, message: str) -> None:
        self._bars.console.print(message, markup=False, highlight=False, soft_wrap=True)


class _BarTask:
    def __init__(
        self, bars: Bars, label: str, total: int | None, unit: Unit, overview: Overview | None
    ) -> None:
        self._bars = bars
        self._unit = unit
        self._total = total
        self._done = 0
        self._began = time.monotonic()
        head = None if overview is None else lambda: self._head(overview)
        self._id = bars.add_task(label, total=total, amount="", remark="", head=head)

    def _head(self, overview: Overview) -> str:
        seconds = time.monotonic() - self._began
        return overview_text(overview, _seconds_left(self._done, self._total, seconds))

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

    def task(
        self,
        label: str,
        total: int | None = None,
        *,
        unit: Unit = "steps",
        overview: Overview | None = None,
    ) -> Task:
        return _LineTask(self, label, total, unit, overview)

    def note(self, message: str) -> None:
        note(message)

    def now(self) -> float:
        return self._clock()


class _LineTask:
    def __init__(
        self,
        progress: LineProgress,
        label: str,
        total: int | None,
        unit: Unit,
        overview: Overview | None,
    ) -> None:
        self._progress = progress
        self._overview = overview
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
            note(f"{self._label}: {self._state()}" if self._overview is None else self._head(self._overview))

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        if total is not None:
            self._total = total
        if note is not None:
            self._remark = note

    def done(self, outcome: str = "", *, failed: bool = False) -> None:
        if outcome or self._was_seen:  # else it was over before anybody waited for it
            note(f"{self._label}: {outcome or ('failed' if failed else 'done')}")

    def _head(self, overview: Overview) -> str:
        left = _seconds_left(self._done, self._total, self._progress.now() - self._began)
        text = overview_text(overview, left)
        told = f"{text} ({self._remark})"
        return told if self._remark and len(told) <= _WIDTH else text

    def _state(self) -> str:
        seconds = self._progress.now() - self._began
        rate = self._done / seconds if seconds > 0 else None
        text = _amount(self._unit, self._done, self._total, rate)
        if self._total:
            text = f"{min(self._done / self._total, 1):.0%}, {text}"
            if (left := _seconds_left(self._done, self._total, seconds)) is not None:
                text += f", {duration(left)} left"
        return f"{text} ({self._remark})" if self._remark else text

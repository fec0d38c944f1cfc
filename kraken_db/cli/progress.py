"""Progress of long jobs on stderr: rows on a terminal, a line now and then otherwise.

Both implement ``kraken_db.progress.Progress``.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from kraken_db.cli.logs import redact
from kraken_db.cli.output import (
    can_repaint,
    count_text,
    folded,
    is_quiet,
    left_text,
    note,
    plural,
    size_text,
)
from kraken_db.progress import PROGRESS_VARIABLE, Overview, Progress, Task, Unit

if TYPE_CHECKING:
    from kraken_db.cli.bars import Rows

SECONDS_BETWEEN_LINES = 5.0
"""In the first minutes; a job of hours says less often how far it is."""
_LONGEST_PAUSE = 60.0
_SHARE_OF_THE_TIME = 20
_WIDTH = 80
"""Characters that a line over many pairs keeps to."""
_MILLION = 10**6
_LEAST_SHARE, _LEAST_SECONDS = 0.005, 60.0
"""What has to be done, or to have passed, before the pace says how long the rest takes."""
_RECENT = 30.0
"""Seconds that the speed of a row is measured over."""


@contextmanager
def show_progress() -> Iterator[Progress]:
    """Progress as it fits stderr, or to the program that has started this one."""
    if wanted := os.environ.get(PROGRESS_VARIABLE):
        yield PipeProgress(wanted)
        return
    if is_quiet() or not can_repaint(err=True):
        yield LineProgress()
        return
    from kraken_db.cli.bars import open_bars

    bars = open_bars()
    with bars.live:
        yield BarProgress(bars)


def overview_text(seen: Overview, seconds_left: float | None, width: int = _WIDTH) -> str:
    """``47 of 318 pairs, 1.2 of 9.8 M trades, 2:10 left, 3 failed``: one line, of what has room in it."""
    pairs = f"{count_text(seen.pairs)} of {plural(seen.of_pairs, 'pair')}"
    rows = _rows_text(seen) if seen.what else ""
    left = "" if seconds_left is None else f"{left_text(seconds_left)} left"
    failed = f"{count_text(seen.failed)} {seen.verb}" if seen.failed else ""
    for parts in ((pairs, rows, left, failed), (pairs, left, failed), (pairs, failed)):
        text = ", ".join(filter(None, parts))
        if len(text) <= width:
            break
    return text


def _rows_text(seen: Overview) -> str:
    about, total = "", float(seen.of_rows)
    if not total and seen.is_estimate:
        return f"{seen.rows:,} {seen.what}"
    if seen.is_estimate:
        about, total = "about ", max(float(f"{total:.3g}"), seen.rows)
    if total < _MILLION:
        return f"{seen.rows:,} of {about}{total:,.0f} {seen.what}"
    digits = 1 if total < 1000 * _MILLION else 0
    of = f"{total / _MILLION:,.{digits}f}".removesuffix(".0")
    return f"{seen.rows / _MILLION:,.{digits}f} of {about}{of} M {seen.what}"


def _seconds_left(done: float, total: float | None, seconds: float) -> float | None:
    """By the pace until now; None where that says nothing."""
    if not total or not 0 < done < total or seconds <= 0:
        return None
    has_a_pace = done / total >= _LEAST_SHARE or seconds >= _LEAST_SECONDS
    return seconds * (total - done) / done if has_a_pace else None


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
    """A row for each task at work; those that are over make room for the next."""

    def __init__(self, bars: Rows) -> None:
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
        shown_on = self._bars.console
        for line in folded(redact(message), shown_on.width):
            shown_on.print(line, markup=False, highlight=False, soft_wrap=True)


class _BarTask:
    def __init__(
        self, bars: Rows, label: str, total: int | None, unit: Unit, overview: Overview | None
    ) -> None:
        from kraken_db.cli.bars import Row

        self._bars = bars
        self._unit = unit
        self._total = total
        self._done = 0
        self._recent: deque[tuple[float, int]] = deque()
        self._row = Row(label)
        self._overview = overview
        if overview is not None:
            bars.heads.append(self._head)
            bars.waiting = lambda: _waiting(overview)
        # A job that counts bytes has no other rows.
        if overview is None or unit == "bytes":
            if overview is not None:  # the head says how it goes
                self._row.at_work, self._row.can_stall = True, False
            bars.add(self._row)

    def _head(self, width: int) -> str:
        assert self._overview is not None
        seconds = time.monotonic() - self._row.began
        return overview_text(self._overview, _seconds_left(self._done, self._total, seconds), width)

    def advance(self, amount: int = 1) -> None:
        now = time.monotonic()
        self._done += amount
        self._begin(now)
        self._recent.append((now, self._done))
        while now - self._recent[0][0] > _RECENT:
            self._recent.popleft()
        self._show(now)

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        now = time.monotonic()
        self._begin(now)
        if total is not None:
            self._total = total
            self._show(now)
        if note is not None:
            self._row.remark = note

    def done(self, outcome: str = "", *, failed: bool = False) -> None:
        self._bars.remove(self._row)
        if self._overview is not None and self._head in self._bars.heads:
            self._bars.heads.remove(self._head)
            self._bars.waiting = lambda: 0

    def _begin(self, now: float) -> None:
        if not self._row.at_work:
            self._row.at_work, self._row.began = True, now
        self._row.changed = now

    def _show(self, now: float) -> None:
        began, done = self._recent[0] if len(self._recent) > 1 else (self._row.began, 0)
        rate = (self._done - done) / (now - began) if now - began >= 1 else None
        self._row.amount = _amount(self._unit, self._done, self._total, rate)
        self._row.share = self._done / self._total if self._total else None
        left = (self._total - self._done) / rate if self._total and rate and rate > 0 else None
        is_told = left is not None and left > 0 and self._overview is None
        self._row.left = f"{left_text(left)} left" if left is not None and is_told else ""


def _waiting(seen: Overview) -> int:
    """Pairs that have not begun; only where it is counted which ones are at work."""
    return max(0, seen.of_pairs - seen.pairs - seen.at_work) if seen.at_work else 0


class LineProgress:
    """A line now and then, and one at the end of what took that long: for logs and pipes.

    While a job over many pairs goes on, its line stands for all of them.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.jobs = 0
        """Those over many pairs that are under way."""

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
        note(redact(message))

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
        progress.jobs += overview is not None

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        if self._overview is None and self._progress.jobs:
            return
        now = self._progress.now()
        pause = min(max(SECONDS_BETWEEN_LINES, (now - self._began) / _SHARE_OF_THE_TIME), _LONGEST_PAUSE)
        if now - self._last >= pause:
            self._last, self._was_seen = now, True
            note(f"{self._label}: {self._state()}" if self._overview is None else self._head(self._overview))

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        if total is not None:
            self._total = total
        if note is not None:
            self._remark = note

    def done(self, outcome: str = "", *, failed: bool = False) -> None:
        self._progress.jobs -= self._overview is not None
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
                text += f", {left_text(left)} left"
        return f"{text} ({self._remark})" if self._remark else text


class PipeProgress(LineProgress):
    """A line of JSON twice a second, into the open file of ``PROGRESS_VARIABLE``; notes go to stderr."""

    def __init__(self, number: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._file = int(number) if number.isdigit() else None
        self._last = float("-inf")

    def task(
        self,
        label: str,
        total: int | None = None,
        *,
        unit: Unit = "steps",
        overview: Overview | None = None,
    ) -> Task:
        return _PipeTask(self, label, total, unit, overview)

    def say(self, share: float | None, text: str, *, now: bool = False) -> None:
        """``now``: even if something was said a moment ago."""
        moment = self.now()
        if self._file is None or (not now and moment - self._last < _BETWEEN_WORDS):
            return
        self._last = moment
        try:
            os.write(self._file, json.dumps({"share": share, "text": redact(text)}).encode() + b"\n")
        except OSError:
            self._file = None  # nobody listens any more


_BETWEEN_WORDS = 0.5


class _PipeTask(_LineTask):
    _progress: PipeProgress

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        self._say()

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        super().update(total=total, note=note)
        self._say()

    def done(self, outcome: str = "", *, failed: bool = False) -> None:
        self._progress.jobs -= self._overview is not None
        if self._overview is not None or not self._progress.jobs:
            text = outcome or ("failed" if failed else "done")
            self._progress.say(self._share(), f"{self._label}: {text}", now=True)

    def _say(self) -> None:
        # While a job over many pairs goes on, its line stands for all of them.
        if self._overview is not None:
            self._progress.say(self._share(), self._head(self._overview))
        elif not self._progress.jobs:
            self._progress.say(self._share(), f"{self._label}: {self._state()}")

    def _share(self) -> float | None:
        return round(min(self._done / self._total, 1.0), 4) if self._total else None

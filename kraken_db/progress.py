"""How a long job reports how far it is.

Services call this protocol and know nothing of terminals; the command line implements it with rows or plain
lines. Several tasks may run side by side (files, pairs), each with its own total::

    task = progress.task("XBTUSDC_1.csv", total=3_334_003, unit="bytes")
    task.advance(65_536)
    task.done("56,717 rows")

A job over many pairs is a ``PairsProgress``, which keeps the line for all of them and a task for each::

    run = PairsProgress(progress, "backfill", symbols, unit="trades", what="trades")
    task = run.task("BTC/USD")

All calls come from the event loop's thread and must return at once. None of them may raise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

PROGRESS_VARIABLE = "KRAKEN_DB_PROGRESS_FD"
"""In the environment: the number of an open file that progress is written to, for the program that started
this one (``kraken-db serve``). A line of JSON at a time: ``share`` (0 to 1, or null) and ``text``."""

Unit: TypeAlias = Literal["bytes", "rows", "trades", "gaps", "pairs", "seconds", "steps"]
"""What a task counts. ``seconds``: of market history, where the number of trades is not known beforehand."""


@dataclass(slots=True)
class Overview:
    """How far a job over many pairs is. Whoever does the job changes it; it is shown as it is at a moment."""

    of_pairs: int
    of_rows: int
    is_estimate: bool
    """Whether nobody knows ``of_rows`` before the end."""
    pairs: int = 0
    """Those that are over, well or not."""
    rows: int = 0
    failed: int = 0
    """Files, or pairs."""
    what: str = "rows"
    """What ``rows`` are; empty: only pairs are counted."""
    at_work: int = 0
    """Pairs that have begun and are not over."""
    verb: str = "failed"
    """What is wrong with those that count as ``failed``."""


class Task(Protocol):
    """One piece of work whose progress is shown."""

    def advance(self, amount: int = 1) -> None:
        """``amount`` more units are finished; a negative one takes back what is done again."""

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        """A better estimate of the total, or a short remark on what is happening; None leaves it as it is."""

    def done(self, outcome: str = "", *, failed: bool = False) -> None:
        """The task is over, with a short outcome. Called once, also after an error (``failed``)."""


class Progress(Protocol):
    """Where a job announces its tasks."""

    def task(
        self,
        label: str,
        total: int | None = None,
        *,
        unit: Unit = "steps",
        overview: Overview | None = None,
    ) -> Task:
        """Begin a task of ``total`` units; None if nobody can know how many.

        ``overview``: the task is the job as a whole, which is shown in one line above all others, with the
        time that is left by the units of the task.
        """

    def note(self, message: str) -> None:
        """One line for the user that belongs to no task."""


MANY = 20
"""Pairs from which on it is not said of each that it is over; what fails is said of each."""


_ALIKE = 3
"""Failures for one reason that are reported one by one."""


class Failures:
    """Tells what fails, at once. Of many that fail for one reason only the first: the report has all."""

    def __init__(self, progress: Progress, verb: str = "failed") -> None:
        self._progress = progress
        self._verb = verb
        self._alike: Counter[str] = Counter()

    def tell(self, name: str, reason: str, kind: str | None = None) -> None:
        """``kind``: what the reason is counted as; by default itself, without the name."""
        kind = reason.replace(name, "") if kind is None else kind
        self._alike[kind] += 1
        if self._alike[kind] <= _ALIKE:
            said = reason.removeprefix(f"{name}: ").removeprefix(f"{name}, ")
            self._progress.note(f"{name}: {self._verb}: {said}")
        elif self._alike[kind] == _ALIKE + 1:
            self._progress.note("... and others for the same reason: the report at the end has them")


class PairsProgress:
    """A job over many pairs: a line for all, and a task for each. Of one pair there is its task alone.

    ``unit``: what is counted for the time that is left; ``what``: how people call it, empty where it only
    counts pairs. ``verb``: what is wrong with a pair that counts as failed.
    """

    def __init__(
        self,
        progress: Progress,
        label: str,
        symbols: Collection[str],
        *,
        unit: Unit = "pairs",
        what: str = "",
        verb: str = "failed",
    ) -> None:
        self._progress = progress
        self._failures = Failures(progress, verb)
        self._expected: dict[str, int] = {}
        self._unknown = set(symbols)
        """Pairs of which nobody has said how much they have."""
        self._told: set[str] = set()
        """Those that have said it themselves."""
        self._over: dict[str, bool] = {}
        """Those that are over, and whether they failed."""
        self.overview = Overview(len(symbols), 0, is_estimate=True, what=what, verb=verb)
        self._head: Task = NullTask()
        if len(symbols) > 1:
            total = None if what else len(symbols)
            self._head = progress.task(label, total, unit=unit, overview=self.overview)

    @property
    def is_of_many(self) -> bool:
        return self.overview.of_pairs > 1

    def task(self, symbol: str, unit: Unit = "trades", *, counts: bool = True) -> PairTask:
        """The task of a pair. ``counts``: what it advances by is what the job as a whole counts."""
        return PairTask(self, symbol, self._progress.task(symbol, unit=unit), counts=counts)

    def expect(self, symbol: str, amount: int) -> None:
        """A pair has about so much of what is counted, unless its task has said it already."""
        if symbol not in self._told:
            self._set(symbol, amount)

    def tell(self, symbol: str, amount: int) -> None:
        """The same by who knows it: the pair's own task."""
        self._told.add(symbol)
        self._set(symbol, amount)

    def _set(self, symbol: str, amount: int) -> None:
        self._unknown.discard(symbol)
        self._expected[symbol] = amount
        self._estimate()

    def advance(self, amount: int = 1) -> None:
        self.overview.rows += amount
        self._head.advance(amount)

    def is_over(self, symbol: str, counted: int | None, reason: str, *, failed: bool) -> None:
        """A pair is over, perhaps once more. ``reason``: why it failed, which is printed at once."""
        self._over[symbol] = failed
        self.overview.pairs = len(self._over)
        self.overview.failed = sum(self._over.values())
        if counted is not None:
            self.tell(symbol, counted)
        if not self.overview.what:
            self._head.advance()
        if reason and self.is_of_many:
            self._failures.tell(symbol, reason)

    def done(self, outcome: str = "") -> None:
        """The job is over."""
        self._head.done(outcome)

    def _estimate(self) -> None:
        """Those that are not known are taken to be as large as the others."""
        known = sum(self._expected.values())
        mean = known / len(self._expected) if self._expected else 0
        self.overview.of_rows = max(known + round(mean * len(self._unknown)), self.overview.rows)
        self.overview.is_estimate = bool(self._unknown)
        if self.overview.what:
            self._head.update(total=self.overview.of_rows)


class PairTask:
    """One pair of a job over many: its own task, and its share of the whole."""

    def __init__(self, run: PairsProgress, symbol: str, row: Task, *, counts: bool) -> None:
        self._run = run
        self._symbol = symbol
        self._row = row
        self._counts = counts
        self._counted = 0
        self._is_at_work = False

    def advance(self, amount: int = 1) -> None:
        self._begin()
        self._row.advance(amount)
        if self._counts:
            self.count(amount)

    def count(self, amount: int = 1) -> None:
        """So much more of what the job as a whole counts."""
        self._counted += amount
        self._run.advance(amount)

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        self._begin()
        self._row.update(total=total, note=note)
        if total is not None and self._counts:
            self._run.tell(self._symbol, total)

    def done(self, outcome: str = "", *, failed: bool = False, reason: str = "") -> None:
        """``reason``: why it failed, for a line of its own where there are other pairs."""
        self._run.overview.at_work -= self._is_at_work
        self._run.is_over(self._symbol, self._counted if self._counts else None, reason, failed=failed)
        is_told = self._run.is_of_many and (bool(reason) or self._run.overview.of_pairs > MANY)
        self._row.done("" if is_told else outcome, failed=failed)

    def _begin(self) -> None:
        self._run.overview.at_work += not self._is_at_work
        self._is_at_work = True


class NullTask:
    """A task that nobody watches."""

    __slots__ = ()

    def advance(self, amount: int = 1) -> None:
        pass

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        pass

    def done(self, outcome: str = "", *, failed: bool = False) -> None:
        pass


class NullProgress:
    """Shows nothing: what services use when the caller passes no progress."""

    __slots__ = ()

    def task(
        self,
        label: str,
        total: int | None = None,
        *,
        unit: Unit = "steps",
        overview: Overview | None = None,
    ) -> Task:
        return NullTask()

    def note(self, message: str) -> None:
        pass

"""How a long job reports how far it is.

Services call this protocol and know nothing of terminals; the command line implements it with bars or plain
lines. Several tasks may run side by side (files, pairs), each with its own total::

    task = progress.task("XBTUSDC_1.csv", total=3_334_003, unit="bytes")
    task.advance(65_536)
    task.done("56,717 rows")

All calls come from the event loop's thread and must return at once. None of them may raise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Unit: TypeAlias = Literal["bytes", "rows", "trades", "seconds", "steps"]
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
    """Files."""


class Task(Protocol):
    """One piece of work whose progress is shown."""

    def advance(self, amount: int = 1) -> None:
        """``amount`` more units are finished; a negative one takes back what is done anew."""

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

        ``overview``: shown above it, with the time that is left by the units of the task.
        """

    def note(self, message: str) -> None:
        """One line for the user that belongs to no task."""


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

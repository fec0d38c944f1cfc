"""Progress: the silent implementation, and that a counting one fits the protocol with tasks side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

from kraken_db.progress import Failures, NullProgress, Overview, Progress, Task, Unit


@dataclass
class CountingTask:
    label: str
    total: int | None
    finished: int = 0
    outcome: str | None = None

    def advance(self, amount: int = 1) -> None:
        self.finished += amount

    def update(self, *, total: int | None = None, note: str | None = None) -> None:
        self.total = self.total if total is None else total

    def done(self, outcome: str = "", *, failed: bool = False) -> None:
        self.outcome = f"failed: {outcome}" if failed else outcome


@dataclass
class CountingProgress:
    tasks: list[CountingTask] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def task(
        self,
        label: str,
        total: int | None = None,
        *,
        unit: Unit = "steps",
        overview: Overview | None = None,
    ) -> Task:
        self.tasks.append(CountingTask(label, total))
        return self.tasks[-1]

    def note(self, message: str) -> None:
        self.notes.append(message)


def import_two_files(progress: Progress) -> None:
    """A job as services write them: two tasks at once, one of which fails."""
    first = progress.task("a.csv", 100, unit="bytes")
    second = progress.task("b.csv", unit="bytes")
    first.advance(60)
    second.update(total=10, note="unpacking")
    second.advance()
    first.advance(40)
    second.done("cut in mid-line", failed=True)
    first.done("7 rows")
    progress.note("2 files")


def test_a_job_runs_without_anybody_watching() -> None:
    import_two_files(NullProgress())


def test_tasks_side_by_side_do_not_mix() -> None:
    progress = CountingProgress()
    import_two_files(progress)
    assert progress.tasks == [
        CountingTask("a.csv", total=100, finished=100, outcome="7 rows"),
        CountingTask("b.csv", total=10, finished=1, outcome="failed: cut in mid-line"),
    ]
    assert progress.notes == ["2 files"]


def test_what_fails_is_told_at_once_and_of_one_reason_the_first() -> None:
    progress = CountingProgress()
    failures = Failures(progress)
    for name in ("A/USD", "B/USD", "C/USD", "D/USD", "E/USD"):
        failures.tell(name, f"{name}: Kraken does not list {name}")
    failures.tell("F/USD", "no answer")
    assert progress.notes == [
        "A/USD: failed: Kraken does not list A/USD",
        "B/USD: failed: Kraken does not list B/USD",
        "C/USD: failed: Kraken does not list C/USD",
        "... and others for the same reason: the report at the end has them",
        "F/USD: failed: no answer",
    ]

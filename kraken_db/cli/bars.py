"""The bars of a terminal: rich's, with a line of their own above for a job over many pairs."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from kraken_db.cli.output import console

_ROOM_FOR_A_BAR = 100  # characters; on narrower terminals the numbers need them


class HeadedBars(Progress):
    """``head`` of a task, a function without arguments, gives the line above all bars."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            if (head := task.fields.get("head")) is not None:
                yield Text(head(), no_wrap=True, overflow="ellipsis")
        yield from super().get_renderables()


class _TimeLeft(TimeRemainingColumn):
    """Nothing where the head says it."""

    def render(self, task: Task) -> Text:
        return Text("") if task.fields.get("head") is not None else super().render(task)


def open_bars() -> HeadedBars:
    """Bars that fit stderr; nothing of them stays."""
    shown_on = console(err=True)
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[amount]}", markup=False),
        _TimeLeft(),
        # Takes what the others leave, and is cut where that is too little.
        TextColumn(
            "{task.fields[remark]}", markup=False, style="dim", table_column=Column(no_wrap=True, ratio=1)
        ),
    ]
    if shown_on.width >= _ROOM_FOR_A_BAR:
        columns.insert(1, BarColumn(bar_width=20))
    return HeadedBars(*columns, console=shown_on, transient=True, expand=True)

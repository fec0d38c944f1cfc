"""The screen of a long job: a line for all of it, and below it the rows at work that have room."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from kraken_db.cli.live import open_live
from kraken_db.cli.output import cell_width, console, count_text, left_text, printable

EVERY = 0.1
"""Seconds between two paintings."""
STALLED_AFTER = 30.0
"""Seconds without a word from which on a row is shown first."""
_ROOM_FOR_A_BAR = 100  # characters; on narrower terminals the numbers need them
_BAR = 20
_LEAST_REMARK = 10
_GAP = "  "


@dataclass(slots=True)
class Row:
    """One piece of work. Times are those of a monotonic clock."""

    label: str
    share: float | None = None
    amount: str = ""
    left: str = ""
    remark: str = ""
    began: float = field(default_factory=time.monotonic)
    changed: float = field(default_factory=time.monotonic)
    at_work: bool = False
    can_stall: bool = True

    def cells(self, now: float) -> tuple[str, ...]:
        percent = "" if self.share is None else f"{min(self.share, 1):4.0%}"
        silent = f"nothing for {left_text(now - self.changed)}" if self.is_stalled(now) else ""
        return self.label, percent, self.amount, self.left, ", ".join(filter(None, (silent, self.remark)))

    def is_stalled(self, now: float) -> bool:
        return self.can_stall and now - self.changed >= STALLED_AFTER


class Rows:
    """What is on the screen. ``head``: gives the line above the rows in so many characters.

    ``waiting`` says how many pairs have not begun yet.
    """

    def __init__(self, shown_on: Console) -> None:
        self.console = shown_on
        self.heads: list[Callable[[int], str]] = []
        self.waiting: Callable[[], int] = lambda: 0
        self._rows: list[Row] = []
        self.live: Live = open_live(shown_on, lambda: self, every=EVERY)

    def add(self, row: Row) -> None:
        self._rows.append(row)

    def remove(self, row: Row) -> None:
        if row in self._rows:
            self._rows.remove(row)

    def refresh(self) -> None:
        """Paint it now; by itself it is painted ten times a second."""
        self.live.refresh()

    def lines(self, width: int, height: int, now: float | None = None) -> list[str]:
        """At most ``height`` lines of at most ``width`` characters; what is silent for long comes first."""
        now = time.monotonic() if now is None else now
        heads = [head(width) for head in list(self.heads)]
        at_work = sorted((row for row in list(self._rows) if row.at_work), key=lambda row: row.began)
        at_work.sort(key=lambda row: not row.is_stalled(now))
        waiting, room = self.waiting(), max(0, height - len(heads))
        if len(at_work) + (waiting > 0) > room:
            room = max(0, room - 1)
        shown = at_work[:room]
        lines = [*heads, *_fitted([row.cells(now) for row in shown], [row.share for row in shown], width)]
        hidden = len(at_work) - len(shown)
        if hidden or waiting:
            lines.append(_hidden_text(hidden, waiting))
        return [_cut(printable(line, one_line=True), width) for line in lines[: max(1, height)]]

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, options.size.height - 1  # the last one stays free for the cursor
        yield Text("\n".join(self.lines(width, height)), no_wrap=True, overflow="crop")


def _hidden_text(hidden: int, waiting: int) -> str:
    """``... and 271 more: 8 at work, 263 waiting``."""
    states = [f"{count_text(hidden)} at work"] * bool(hidden) + [f"{count_text(waiting)} waiting"] * bool(
        waiting
    )
    if len(states) == 1:
        return f"... and {count_text(hidden + waiting)} more {states[0].partition(' ')[2]}"
    return f"... and {count_text(hidden + waiting)} more: {', '.join(states)}"


def _fitted(rows: Sequence[tuple[str, ...]], shares: Sequence[float | None], width: int) -> Iterator[str]:
    """The rows in columns. Where there is no room the remark is cut, then it and the time left go."""
    widths = [max(map(cell_width, cells)) for cells in zip(*rows, strict=True)] if rows else []
    while len(widths) > 1:
        fixed = sum(each + len(_GAP) for each in widths[:4] if each)
        if fixed - len(_GAP) <= width:
            break
        widths.pop()
    for cells, share in zip(rows, shares, strict=True):
        parts = [
            cell + " " * (size - cell_width(cell))
            for cell, size in zip(cells[:4], widths, strict=False)
            if size
        ]
        if width >= _ROOM_FOR_A_BAR and any(one is not None for one in shares):
            full = round(min(share or 0, 1) * _BAR)
            parts.insert(1, "#" * full + ("." if share is not None else " ") * (_BAR - full))
        line = _GAP.join(parts)
        room = width - len(line) - len(_GAP)
        if len(widths) == 5 and cells[4] and room >= _LEAST_REMARK:
            line += _GAP + _cut_between_words(cells[4], room)
        yield line.rstrip()


def _cut(text: str, width: int) -> str:
    if cell_width(text) <= width:
        return text
    while cell_width(text) > max(0, width - 3):
        text = text[:-1]
    return f"{text.rstrip()}..." if width > 3 else text


def _cut_between_words(text: str, width: int) -> str:
    """A word that has no room is left out: half of a name or of a date looks like another one."""
    found = _cut(text, width)
    if found == text or text.startswith(f"{found.removesuffix('...')} "):
        return found
    whole, blank, _ = found.rpartition(" ")
    return f"{whole} ..." if blank else found


def open_bars() -> Rows:
    """Rows that fit stderr; nothing of them stays."""
    return Rows(console(err=True))

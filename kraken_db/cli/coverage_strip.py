"""Coverage by month, a character each: one row for what is stored of a symbol, the years side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from kraken_db.status import Month, MonthState

_MONTHS = 12
_GAP = 2
_COLOURS: dict[MonthState, str] = {
    "full": "green",
    "part": "yellow",
    "none": "red",
    "dropped": "bright_black",
}
_MEANINGS: dict[MonthState, str] = {
    "full": "whole month",
    "part": "part of it",
    "none": "nothing",
    "dropped": "dropped by retention",
}
_BLOCKS: dict[MonthState, str] = {"full": "█", "part": "▒", "none": "·", "dropped": "-"}
_ASCII: dict[MonthState, str] = {"full": "#", "part": "+", "none": ".", "dropped": "-"}


@dataclass(frozen=True, slots=True)
class StripStyle:
    """The character of each state, and whether colours say the same once more."""

    characters: Mapping[MonthState, str]
    colour: bool = False

    @classmethod
    def of_output(cls, encoding: str | None, *, terminal: bool, colour: bool) -> StripStyle:
        """Blocks on a terminal that has them, plain ASCII everywhere else."""
        return cls(_BLOCKS if terminal and _can_show("".join(_BLOCKS.values()), encoding) else _ASCII, colour)

    def paint(self, state: MonthState) -> str:
        character = self.characters[state]
        return click.style(character, fg=_COLOURS[state]) if self.colour else character


def strip_lines(rows: Sequence[tuple[str, Sequence[Month]]], width: int, style: StripStyle) -> list[str]:
    """Labels and their months, as many years on a line as fit into ``width``, and what the characters mean.

    Before the first month of a row there is nothing to show: its places are blank.
    """
    rows = [(label, months) for label, months in rows if months]
    if not rows:
        return []
    indent = max(len(label) for label, _ in rows) + _GAP
    each = max(1, (width - indent + 1) // (_MONTHS + 1))
    first = min(months[0].first_day.year for _, months in rows)
    last = max(months[-1].first_day.year for _, months in rows)
    lines: list[str] = []
    for begin in range(first, last + 1, each):
        years = range(begin, min(begin + each, last + 1))
        if lines:
            lines.append("")
        lines.append(" " * indent + " ".join(str(year).ljust(_MONTHS) for year in years).rstrip())
        for label, months in rows:
            cells = _cells(months, years, style)
            if cells.strip():
                lines.append(label.ljust(indent) + cells)
    shown = {month.state for _, months in rows for month in months} | {"full", "part", "none"}
    meanings = [f"{style.paint(state)} {told}" for state, told in _MEANINGS.items() if state in shown]
    return [*lines, "", "   ".join(meanings)]


def _cells(months: Sequence[Month], years: range, style: StripStyle) -> str:
    states = {(month.first_day.year, month.first_day.month): month.state for month in months}
    texts = []
    for year in years:
        row = [states.get((year, month)) for month in range(1, _MONTHS + 1)]
        texts.append("".join(" " if state is None else style.paint(state) for state in row))
    return " ".join(texts).rstrip()


def _can_show(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True

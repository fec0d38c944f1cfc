"""Help in colour, where a terminal shows one: headings, and the names of options and commands."""

from __future__ import annotations

import os
from collections.abc import Iterable

import click

from kraken_db.cli.output import can_repaint, print_styled

_NARROW = 70


class ColouredHelp(click.HelpFormatter):
    """Help as Click writes it, with colours; without them it is the same text."""

    def __init__(
        self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None
    ) -> None:
        super().__init__(indent_increment, width, max_width)
        # As ``wants_colour``, which would load rich.
        self._is_coloured = can_repaint() and not os.environ.get("NO_COLOR")

    def write_heading(self, heading: str) -> None:
        super().write_heading(self._styled(heading, bold=True))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        if self.width < _NARROW:  # long names get a line of their own, and texts more room
            col_max = self.width // 4
        super().write_dl([(self._styled(name, fg="cyan"), text) for name, text in rows], col_max, col_spacing)

    def _styled(self, text: str, *, fg: str | None = None, bold: bool | None = None) -> str:
        return click.style(text, fg=fg, bold=bold) if self._is_coloured else text


class HelpContext(click.Context):
    """The context of every command."""

    formatter_class = ColouredHelp


def show_help(context: click.Context, _option: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not context.resilient_parsing:
        print_styled(context.get_help())
        context.exit()

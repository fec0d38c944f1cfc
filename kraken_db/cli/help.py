"""Help in colour, where a terminal shows one: headings, and the names of options and commands.

Names are not broken at their hyphens, for they are copied; examples that have no room go on indented.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

import click

from kraken_db.cli.output import can_repaint, folded, print_styled

_NARROW = 70
_KEPT = "\N{NON-BREAKING HYPHEN}"  # what stands for a hyphen until the lines are cut
_COMMENT = re.compile(r"(?<=\S) {2,}(?=\S)")
_DEEPER = 4


class ColouredHelp(click.HelpFormatter):
    """Help as Click writes it, with colours and without broken names; without colours it is the same text."""

    def __init__(
        self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None
    ) -> None:
        super().__init__(indent_increment, width, max_width)
        # As ``wants_colour``, which would load rich.
        self._is_coloured = can_repaint() and not os.environ.get("NO_COLOR")

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args.replace("-", _KEPT), prefix)

    def write_text(self, text: str) -> None:
        room = self.width - self.current_indent
        super().write_text("\n".join(_with_examples(text, room)).replace("-", _KEPT))

    def getvalue(self) -> str:
        return super().getvalue().replace(_KEPT, "-")

    def write_heading(self, heading: str) -> None:
        super().write_heading(self._styled(heading, bold=True))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        if self.width < _NARROW:  # long names get a line of their own, and texts more room
            col_max = self.width // 4
        shown = [(self._styled(name, fg="cyan"), text.replace("-", _KEPT)) for name, text in rows]
        super().write_dl(shown, col_max, col_spacing)

    def _styled(self, text: str, *, fg: str | None = None, bold: bool | None = None) -> str:
        return click.style(text, fg=fg, bold=bold) if self._is_coloured else text


def _with_examples(text: str, room: int) -> Iterator[str]:
    """The lines of ``text``; those that Click leaves alone (after ``\\b``) are none wider than ``room``."""
    is_kept = False
    for line in text.splitlines():
        is_kept = bool(line.strip()) and (is_kept or line == "\b")
        yield from _example(line, room) if is_kept else [line]


def _example(line: str, room: int) -> list[str]:
    """A command, and below it, a little deeper, its comment and whatever else has no room."""
    if len(line) <= room:
        return [line]
    command = line.lstrip()
    own = " " * (len(line) - len(command))
    deeper = own + " " * _DEEPER
    first, *comments = _COMMENT.split(command)
    lines = [own + part for part in folded(first, room - len(own), " " * _DEEPER)]
    return lines + [deeper + part for comment in comments for part in folded(comment, room - len(deeper))]


class HelpContext(click.Context):
    """The context of every command."""

    formatter_class = ColouredHelp


def show_help(context: click.Context, _option: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not context.resilient_parsing:
        print_styled(context.get_help())
        context.exit()

"""The end of a job over many pairs: totals first, then what went wrong, and not a line for each pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from kraken_db.cli.output import Column, count_text, note, print_table
from kraken_db.progress import MANY

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


def details_option(shown: str = "a row for each pair at the end") -> Callable[[_Decorated], _Decorated]:
    """``--details`` as ``details``: without it a job over many pairs ends with its totals.

    ``shown``: what there is with it, for the help.
    """
    return click.option("--details", is_flag=True, help=f"Show {shown}, however many there are.")


def print_totals(totals: Sequence[tuple[str, str]]) -> None:
    """One row: titles and what is below them."""
    print_table([Column(title, right=True) for title, _ in totals], [[cell for _, cell in totals]])


def note_some(lines: Sequence[str]) -> None:
    """The first of many lines, on stderr, and how many more there are."""
    for line in lines[:MANY]:
        note(line)
    if len(lines) > MANY:
        note(f"... and {count_text(len(lines) - MANY)} more; --details or --json has them all")

"""The end of a job over many pairs: totals first, then what went wrong, and not a line for each pair."""

from __future__ import annotations

from collections.abc import Sequence

import click

from kraken_db.cli.output import Column, count_text, note, print_table
from kraken_db.progress import MANY

details_option = click.option(
    "--details", is_flag=True, help="Show a row for each pair at the end, however many there are."
)
"""``--details`` as ``details``: without it a job over many pairs ends with its totals."""


def print_totals(totals: Sequence[tuple[str, str]]) -> None:
    """One row: titles and what is below them."""
    print_table([Column(title, right=True) for title, _ in totals], [[cell for _, cell in totals]])


def note_some(lines: Sequence[str]) -> None:
    """The first of many lines, on stderr, and how many more there are."""
    for line in lines[:MANY]:
        note(line)
    if len(lines) > MANY:
        note(f"... and {count_text(len(lines) - MANY)} more; --details or --json has them all")

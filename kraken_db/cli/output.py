"""Results on stdout: tables for people, aligned text for pipes, JSON for programs.

Colours and lines only on a terminal; rich looks at NO_COLOR and TERM. Everything that is not a result
goes to stderr, through ``note``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any

import click

# Nothing is ever cut: what is wider than the terminal, its columns folded, is the terminal's to break.
_UNLIMITED = 10_000


@dataclass(frozen=True, slots=True)
class Column:
    """``right``: numbers, aligned at their right end. ``folds``: at its spaces, on a narrow terminal."""

    title: str
    right: bool = False
    folds: bool = False


def is_terminal() -> bool:
    return sys.stdout.isatty()


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> None:
    """A table; on a pipe plain columns, two spaces apart, without lines."""
    shown = [tuple(row) for row in rows]
    if is_terminal():
        _print_rich(columns, shown)
        return
    widths = [max(len(column.title), *(len(row[i]) for row in shown), 0) for i, column in enumerate(columns)]
    for row in [tuple(column.title for column in columns), *shown]:
        cells = (
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


def _print_rich(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = Console().width
    narrowest = [_narrowest(column, [row[at] for row in rows]) for at, column in enumerate(columns)]
    gap = 1 if sum(narrowest) + 2 * len(columns) > width else 2
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, gap - 1, 0, 0))
    for column, least in zip(columns, narrowest, strict=True):
        table.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not column.folds,
            min_width=least,
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console(width=_UNLIMITED, highlight=False).print(table, width=width)


def _narrowest(column: Column, cells: Sequence[str]) -> int:
    """The longest piece that must stay in one line."""
    texts = (column.title, *cells)
    return max(len(part) for text in texts for part in (text.split(" ") if column.folds else [text]))


def wants_colour() -> bool:
    """Whether stdout is a terminal that shows colours, and its user has nothing against them."""
    from rich.console import Console

    console = Console()
    return console.is_terminal and not console.no_color and console.color_system is not None


def note(message: str) -> None:
    """One line on stderr."""
    click.echo(message, err=True)


def plain_number(value: Decimal) -> str:
    """All digits, no exponent, no zeros behind the last one that counts."""
    text = format(value, "f")
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def iso(moment: datetime) -> str:
    """``2023-01-31T15:30:00Z``, with a fraction only where there is one."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def moment_text(moment: datetime | None) -> str:
    """For people: ``2023-01-31 15:30``, UTC."""
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def count_text(number: int) -> str:
    return f"{number:,}"


def size_text(size: int) -> str:
    """``3.3 MB``."""
    amount = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{size} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"


def plural(number: int, noun: str) -> str:
    """``1 file``, ``2,000 files``."""
    return f"{count_text(number)} {noun}" + ("" if number == 1 else "s")


def to_json(document: Any, *, indent: int | None = 2) -> str:
    return json.dumps(document, indent=indent, default=_json_value, ensure_ascii=False)


def print_json(document: Any) -> None:
    click.echo(to_json(document))


def _json_value(value: Any) -> Any:
    match value:
        case Decimal():
            return plain_number(value)
        case datetime():
            return iso(value)
        case timedelta():
            return value.total_seconds()
        case PurePath():
            return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")

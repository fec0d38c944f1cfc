"""What an export did."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

Outcome: TypeAlias = Literal["written", "unchanged", "kept"]
"""``kept``: the store has dropped all rows of the file, which therefore stays as it is."""


@dataclass(frozen=True, slots=True)
class FileReport:
    path: Path
    symbol: str
    interval: int | None
    """Minutes; None for trades."""
    outcome: Outcome
    rows: int
    """In the file."""
    kept_rows: int
    """Of these, the ones that the store has dropped since they were exported."""
    size: int
    """Bytes."""


@dataclass(slots=True)
class ExportReport:
    files: list[FileReport] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    """Symbols of which nothing is stored in the range."""

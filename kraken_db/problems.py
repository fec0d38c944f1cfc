"""What somebody has to look after: the words of ``status --check`` and of alarms."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Problem:
    """One of them; ``str`` is a line for a person."""

    key: str
    """What it is: the same for as long as it lasts, whatever ``text`` says of it meanwhile."""
    text: str
    size: int = 1
    """Where it has grown it is news."""
    patience: float = 0.0
    """Seconds that it must last before it is told: some pass by themselves."""

    since: datetime | None = None
    """When it began, UTC; None: when it was first seen."""

    def __str__(self) -> str:
        return self.text

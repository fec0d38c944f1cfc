"""What a download did, pair by pair."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from kraken_db.errors import KrakenDBError
from kraken_db.historical_backfill.sequence import IdHole

MOST_EXAMPLES = 20
Outcome: TypeAlias = Literal["caught up", "reached the end", "stopped", "failed"]


@dataclass(slots=True)
class BackfillReport:
    """One pair. Times are UTC; ``oldest`` and ``newest`` bound what this run received, both inclusive."""

    symbol: str
    outcome: Outcome = "stopped"
    pages: int = 0
    received: int = 0
    """Trades that Kraken sent, each counted once."""
    new: int = 0
    changed: int = 0
    """Stored trades that took Kraken's stamp, or what they lacked."""
    removed: int = 0
    """Stored trades without an id whose place was taken by those with one."""
    candles_new: int = 0
    candles_changed: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    cursor: int | None = None
    """Where ``--resume`` goes on, in ns."""
    holes: list[IdHole] = field(default_factory=list)
    """Ids that Kraken has no trade for, however it was asked: their stretch counts as unknown."""
    conflicts: int = 0
    """Trades that are stored under the same id with another content; they were left as they are."""
    conflict_examples: list[str] = field(default_factory=list)
    error: KrakenDBError | None = None

    @property
    def is_flawed(self) -> bool:
        """Whether something is left for a person to look at."""
        return self.error is not None or bool(self.holes or self.conflicts)

"""What a run of the upkeep has done, or would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from kraken_db.policies import TablePolicy


@dataclass(slots=True)
class TableReport:
    """Of one table. After a dry run: what there is to do."""

    policy: TablePolicy
    before: datetime | None
    """Rows from before this moment (UTC) are due to be dropped; None if they are kept for good."""
    dropped_rows: int = 0
    dropped_pieces: int = 0
    """Chunks, or days or weeks of a symbol."""
    compressed_pieces: int = 0
    freed_bytes: int | None = None
    """None where the database gives nothing back."""
    kept_minutes: int = 0
    """Minutes whose trades stay: they have no candle, and not all of their trades are known."""
    waiting_pieces: int = 0
    """Pieces that stay for now: something was written there meanwhile."""


@dataclass(slots=True)
class MaintenanceReport:
    kind: str
    """What the database is."""
    dry_run: bool
    built_candles: int = 0
    """Minutes that were built from trades, before these were dropped."""
    refreshed_ranges: int = 0
    """Ranges that waited for their higher intervals."""
    tables: list[TableReport] = field(default_factory=list)

    @property
    def has_retention(self) -> bool:
        return any(table.policy.retention is not None for table in self.tables)

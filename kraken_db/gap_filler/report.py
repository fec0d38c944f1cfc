"""What was filled, symbol by symbol."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from kraken_db.gap_filler.gaps import SymbolGaps


@dataclass(slots=True)
class Filled:
    """Rows that were really written: new ones, and stored ones that took what they lacked."""

    trades_new: int = 0
    trades_changed: int = 0
    candles_new: int = 0
    candles_changed: int = 0

    @property
    def trades(self) -> int:
        return self.trades_new + self.trades_changed

    @property
    def candles(self) -> int:
        return self.candles_new + self.candles_changed

    def add(self, other: Filled) -> None:
        self.trades_new += other.trades_new
        self.trades_changed += other.trades_changed
        self.candles_new += other.candles_new
        self.candles_changed += other.candles_changed


@dataclass(slots=True)
class FillReport:
    """One symbol."""

    gaps: SymbolGaps
    filled: int = 0
    """How many of its gaps are none any more."""
    written: Filled = field(default_factory=Filled)
    errors: list[str] = field(default_factory=list)
    """One line for each gap that stays, beginning with the symbol."""
    known_to: datetime | None = None
    """The newest moment that is known after it; None if nothing is."""
    was_stopped: bool = False

    @property
    def symbol(self) -> str:
        return self.gaps.symbol

"""What one page of a walk has brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kraken_db.historical_backfill.sequence import IdHole
from kraken_db.kraken.messages import TradesPage
from kraken_db.kraken.records import KrakenTrade


@dataclass(frozen=True, slots=True)
class Step:
    """One page, checked: what of it is new, and what is known now."""

    page: TradesPage
    positions: Sequence[int]
    """Where in the page the new trades are, oldest first."""
    cursor: int
    """What to go on with after this page, in ns; all trades up to there have been handed out."""
    known_until: datetime | None
    """Every trade before this moment has been handed out; None if there is none at all."""
    holes: Sequence[IdHole] = ()
    """Ids that Kraken has no trade for, however it was asked."""
    caught_up: bool = False
    """There was nothing newer when it was asked."""
    reached_end: bool = False
    """A trade at or after the end that was asked for has been seen."""

    @property
    def trades(self) -> list[KrakenTrade]:
        return [self.page.trades[position] for position in self.positions]

    @property
    def raw(self) -> list[list[Any]]:
        return [self.page.raw[position] for position in self.positions]

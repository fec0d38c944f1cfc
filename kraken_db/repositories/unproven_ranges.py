"""Of which ranges rows were stored that no source has shown to be complete."""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.models import UNPROVEN_RANGES
from kraken_db.repositories.range_sets import RangeSetRepository


class UnprovenRangeRepository(RangeSetRepository):
    """Keeps ``unproven_ranges`` on the caller's connection; never commits. Ranges are half-open.

    ``add``: rows were stored there. ``remove``: a source covers them now.
    """

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        super().__init__(connection, UNPROVEN_RANGES)

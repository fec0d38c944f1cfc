"""Which ranges were stored once and are gone."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TSTZMULTIRANGE, VARCHAR
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.intervals import INTERVAL_NAMES
from kraken_db.models import DROPPED_RANGES
from kraken_db.ranges import TimeRange
from kraken_db.repositories.range_sets import RangeSetRepository, multirange

# Which data types lie in which table.
DATA_TYPES = {
    "trades": ["trades"],
    "candles": [f"candles_{name}" for name in INTERVAL_NAMES.values()],
}
# range_agg of multiranges needs PostgreSQL 15; of ranges, 14 is enough.
_ADD_STORED = """
    INSERT INTO dropped_ranges (symbol, data_type, dropped)
    SELECT symbol, data_type, range_agg(part) FROM (
        SELECT symbol, data_type, unnest(covered * :gone) AS part
        FROM data_coverage WHERE data_type = ANY(:types) AND covered && :gone
        UNION ALL
        SELECT symbol, data_type, unnest(unproven * :gone)
        FROM unproven_ranges WHERE data_type = ANY(:types) AND unproven && :gone
    ) stored
    GROUP BY symbol, data_type
    ON CONFLICT (symbol, data_type) DO UPDATE SET dropped = dropped_ranges.dropped + excluded.dropped
"""


class DroppedRangeRepository(RangeSetRepository):
    """Keeps ``dropped_ranges`` on the caller's connection; never commits. Ranges are half-open.

    ``add``: rows of these ranges were stored, and are not there any more. ``remove``: they are all there
    again.
    """

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        super().__init__(connection, DROPPED_RANGES)

    async def add_stored(self, data_types: Iterable[str], gone: Iterable[TimeRange]) -> None:
        """Nothing is left of these ranges: add what was stored in them, of all symbols."""
        statement = text(_ADD_STORED).bindparams(
            bindparam("gone", multirange(gone), TSTZMULTIRANGE),
            bindparam("types", list(data_types), ARRAY(VARCHAR)),
        )
        await self._connection.execute(statement)

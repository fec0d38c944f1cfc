"""Which ranges were stored once and are gone."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TSTZMULTIRANGE, VARCHAR
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.db.multiranges import from_multirange, to_multirange
from kraken_db.intervals import INTERVAL_NAMES
from kraken_db.models import DROPPED_RANGES
from kraken_db.ranges import TimeRange
from kraken_db.repositories.range_sets import RangeSetRepository

# Which data types lie in which table.
DATA_TYPES = {
    "trades": ["trades"],
    "candles": [f"candles_{name}" for name in INTERVAL_NAMES.values()],
}
# range_agg of multiranges needs PostgreSQL 15; of ranges, 14 is enough.
_STORED = """
    SELECT symbol, data_type, range_agg(part) FROM (
        SELECT symbol, data_type, unnest(covered * :gone) AS part
        FROM data_coverage WHERE data_type = ANY(:types) AND covered && :gone
        UNION ALL
        SELECT symbol, data_type, unnest(unproven * :gone)
        FROM unproven_ranges WHERE data_type = ANY(:types) AND unproven && :gone
    ) stored
    GROUP BY symbol, data_type ORDER BY symbol, data_type
"""
_ADD_STORED = f"""
    INSERT INTO dropped_ranges (symbol, data_type, dropped) {_STORED}
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
        await self._connection.execute(_bound(_ADD_STORED, data_types, gone))

    async def ever_stored(self, data_type: str, ranges: Iterable[TimeRange]) -> dict[str, list[TimeRange]]:
        """What was stored in these ranges at any time, of all symbols that we know of."""
        rows = await self._connection.execute(_bound(_STORED, [data_type], ranges))
        return {symbol: list(from_multirange(found)) for symbol, _, found in rows}


def _bound(statement: str, data_types: Iterable[str], ranges: Iterable[TimeRange]) -> TextClause:
    return text(statement).bindparams(
        bindparam("gone", to_multirange(ranges), TSTZMULTIRANGE),
        bindparam("types", list(data_types), ARRAY(VARCHAR)),
    )

"""Coverage in short: how many gaps it has and how much of each month, whatever the number of its ranges.

Summed up by the database: a store with ten thousand gaps sends as much as one without any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.db.multiranges import from_multirange
from kraken_db.ranges import TimeRange

# range_agg of multiranges needs PostgreSQL 15; of ranges, 14 is enough.
_UNION = """
    WITH known AS (
        SELECT symbol, data_type, array_agg(DISTINCT source ORDER BY source) AS sources,
               range_agg(part) AS covered
        FROM data_coverage, unnest(covered) AS part
        WHERE NOT lower_inf(part) AND NOT upper_inf(part)
          AND (CAST(:symbols AS text[]) IS NULL OR symbol = ANY(CAST(:symbols AS text[])))
        GROUP BY symbol, data_type
    )
"""
_SUMMARIES = text(f"""
    {_UNION}
    SELECT symbol, data_type, sources, number, lower(covered), upper(covered),
           CASE WHEN number <= :most THEN covered END
    FROM known, LATERAL (SELECT count(*) AS number FROM unnest(covered)) AS parts
    ORDER BY symbol, data_type
""")
# Each range is cut at the ends of months, never each month out of all ranges.
_MONTHS = text(f"""
    {_UNION},
    parts AS (
        SELECT symbol, data_type, false AS gone, unnest(covered) AS part FROM known
        UNION ALL
        SELECT symbol, data_type, true, unnest(covered * dropped)
        FROM known JOIN dropped_ranges USING (symbol, data_type)
    ),
    times AS (
        SELECT symbol, data_type, gone, lower(part) AT TIME ZONE 'UTC' AS first,
               upper(part) AT TIME ZONE 'UTC' AS past
        FROM parts
    )
    SELECT symbol, data_type, CAST(month AS date),
           COALESCE(sum(part) FILTER (WHERE NOT gone), INTERVAL '0'),
           COALESCE(sum(part) FILTER (WHERE gone), INTERVAL '0')
    FROM times,
         generate_series(date_trunc('month', first), past - INTERVAL '1 us', INTERVAL '1 month') AS month,
         LATERAL (SELECT least(past, month + INTERVAL '1 month') - greatest(first, month) AS part) AS inside
    GROUP BY symbol, data_type, month
    ORDER BY symbol, data_type, month
""")


@dataclass(frozen=True, slots=True)
class CoverageSummary:
    """What all sources together have shown to be complete of a symbol and data type.

    ``start`` is inclusive, ``end`` exclusive; in between there are ``ranges`` ranges with a gap after each
    but the last. ``covered`` has them in order of time, None if there are more than were asked for.
    """

    symbol: str
    data_type: str
    sources: tuple[str, ...]
    ranges: int
    start: datetime
    end: datetime
    covered: tuple[TimeRange, ...] | None

    @property
    def gaps(self) -> int:
        return self.ranges - 1


@dataclass(frozen=True, slots=True)
class MonthCoverage:
    """A month (UTC, by its first day) of which something is covered, and how much of that was dropped."""

    symbol: str
    data_type: str
    month: date
    covered: timedelta
    dropped: timedelta


class CoverageSummaryRepository:
    """Sums ``data_coverage`` up on the caller's connection. ``symbols``: only these; None for all."""

    def __init__(
        self, connection: AsyncConnection | AsyncSession, symbols: Sequence[str] | None = None
    ) -> None:
        self._connection = connection
        self._symbols = None if symbols is None else list(symbols)

    async def all(self, most_ranges: int) -> Sequence[CoverageSummary]:
        """By symbol and data type; the ranges themselves where there are at most so many."""
        rows = await self._connection.execute(_SUMMARIES, {"symbols": self._symbols, "most": most_ranges})
        return [
            CoverageSummary(
                symbol,
                data_type,
                tuple(sources),
                number,
                start,
                end,
                None if covered is None else from_multirange(covered),
            )
            for symbol, data_type, sources, number, start, end, covered in rows
        ]

    async def by_month(self) -> Sequence[MonthCoverage]:
        """By symbol, data type and month; months of which nothing is covered are left out."""
        rows = await self._connection.execute(_MONTHS, {"symbols": self._symbols})
        return [MonthCoverage(*row) for row in rows]

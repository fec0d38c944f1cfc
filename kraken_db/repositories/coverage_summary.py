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
# As for ``kraken-db gaps``: where the minutes around a hole in the trades are known, no more was wanted.
_SUMMARIES = text(f"""
    {_UNION}
    SELECT k.symbol, k.data_type, k.sources, lower(k.covered), upper(k.covered),
           (SELECT count(*) FROM unnest(k.covered)),
           (SELECT count(*)
            FROM unnest(tstzmultirange(tstzrange(lower(k.covered), upper(k.covered))) - k.covered) AS hole
            WHERE k.data_type <> 'trades' OR minutes.covered IS NULL OR NOT minutes.covered @> tstzrange(
                date_trunc('minute', lower(hole)),
                date_trunc('minute', upper(hole) + INTERVAL '1 minute' - INTERVAL '1 us'))),
           CASE WHEN (SELECT count(*) FROM unnest(k.covered)) <= :most THEN k.covered END
    FROM known AS k
    LEFT JOIN known AS minutes ON minutes.symbol = k.symbol AND minutes.data_type = 'candles_1m'
    ORDER BY k.symbol, k.data_type
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

    ``start`` is inclusive, ``end`` exclusive; in between there are ``ranges`` ranges. ``gaps``: how many of
    the holes between them are gaps; one in the trades is none where the minutes around it are known.
    ``covered`` has the ranges in order of time, None if there are more than were asked for.
    """

    symbol: str
    data_type: str
    sources: tuple[str, ...]
    start: datetime
    end: datetime
    ranges: int
    gaps: int
    covered: tuple[TimeRange, ...] | None


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
                start,
                end,
                ranges,
                gaps,
                None if covered is None else from_multirange(covered),
            )
            for symbol, data_type, sources, start, end, ranges, gaps, covered in rows
        ]

    async def by_month(self) -> Sequence[MonthCoverage]:
        """By symbol, data type and month; months of which nothing is covered are left out."""
        rows = await self._connection.execute(_MONTHS, {"symbols": self._symbols})
        return [MonthCoverage(*row) for row in rows]

"""Which ranges are known to be complete, and by which source; which were dropped, and which are unproven.

Read as they are, or summed up by the database: a store with ten thousand gaps sends as much as one without
any.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, TypeAlias

from sqlalchemy import Table, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY, TSTZMULTIRANGE, VARCHAR
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.data_types import TABLES, DataType, TableName
from kraken_db.db.multiranges import from_multirange, to_multirange
from kraken_db.models import COVERAGE, DROPPED_RANGES, UNPROVEN_RANGES
from kraken_db.ranges import TimeRange, difference, union


class RangeSetRepository:
    """Reads a table of sets of ranges on the caller's connection. Ranges are half-open.

    The table's key is (symbol, data_type), its third column the set.
    """

    def __init__(self, connection: AsyncConnection | AsyncSession, table: Table) -> None:
        self._connection = connection
        self._table = table
        self._ranges = table.columns[2]

    async def of(self, symbol: str, data_type: str) -> tuple[TimeRange, ...]:
        """In order of time, apart from each other."""
        c = self._table.c
        found = await self._connection.scalar(
            select(self._ranges).where(c.symbol == symbol, c.data_type == data_type)
        )
        return from_multirange(found)


TYPES_IN: dict[TableName, list[DataType]] = {
    table: [data_type for data_type in DataType if data_type.table == table] for table in TABLES
}
"""Which data types lie in which table."""
# range_agg of multiranges needs PostgreSQL 15; of ranges, 14 is enough.
STORED_RANGES = """
    SELECT symbol, data_type, range_agg(part) FROM (
        SELECT symbol, data_type, unnest(covered * :gone) AS part
        FROM data_coverage WHERE data_type = ANY(:types) AND covered && :gone
        UNION ALL
        SELECT symbol, data_type, unnest(unproven * :gone)
        FROM unproven_ranges WHERE data_type = ANY(:types) AND unproven && :gone
    ) stored
    GROUP BY symbol, data_type ORDER BY symbol, data_type
"""
_STORED = text(STORED_RANGES).bindparams(
    bindparam("gone", type_=TSTZMULTIRANGE), bindparam("types", type_=ARRAY(VARCHAR))
)


class DroppedRangeRepository(RangeSetRepository):
    """Reads ``dropped_ranges``: which ranges were stored once and are gone."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        super().__init__(connection, DROPPED_RANGES)

    async def ever_stored(self, data_type: str, ranges: Iterable[TimeRange]) -> dict[str, list[TimeRange]]:
        """What was stored in these ranges at any time, of all symbols that we know of."""
        wanted = {"gone": to_multirange(ranges), "types": [data_type]}
        rows = await self._connection.execute(_STORED, wanted)
        return {symbol: list(from_multirange(found)) for symbol, _, found in rows}


class UnprovenRangeRepository(RangeSetRepository):
    """Reads ``unproven_ranges``: of which ranges rows were stored that no source has shown to be complete."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        super().__init__(connection, UNPROVEN_RANGES)


Source: TypeAlias = Literal["rest_trades", "rest_ohlc", "csv", "live"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one source has shown to be complete: ranges in order of time, apart from each other."""

    symbol: str
    data_type: str
    source: Source
    ranges: tuple[TimeRange, ...]


class CoverageRepository:
    """Reads ``data_coverage`` on the caller's connection."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def all(self, symbol: str | None = None) -> Sequence[Coverage]:
        """What every source covers, of one symbol or of all."""
        c = COVERAGE.c
        statement = select(c.symbol, c.data_type, c.source, c.covered).order_by(
            c.symbol, c.data_type, c.source
        )
        if symbol is not None:
            statement = statement.where(c.symbol == symbol)
        return [
            Coverage(row_symbol, data_type, source, from_multirange(covered))
            for row_symbol, data_type, source, covered in await self._connection.execute(statement)
        ]

    async def covered(
        self, symbol: str, data_type: str, sources: Sequence[Source] | None = None
    ) -> tuple[TimeRange, ...]:
        """The union over these sources; None: over all."""
        c = COVERAGE.c
        wanted = [c.symbol == symbol, c.data_type == data_type]
        if sources is not None:
            wanted.append(c.source.in_(sources))
        found = await self._connection.scalars(select(c.covered).where(*wanted))
        return tuple(union(*(from_multirange(covered) for covered in found)))

    async def without_candles(self, symbol: str) -> list[TimeRange]:
        """Where the trades are known and stored, and the minutes are not known."""
        trades = await self.covered(symbol, DataType.TRADES)
        minutes = await self.covered(symbol, DataType.CANDLES_1M)
        gone = await DroppedRangeRepository(self._connection).of(symbol, DataType.TRADES)
        return difference(trades, union(minutes, gone))


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
           (SELECT count(*) FROM unnest(k.covered)), gaps.number, gaps.together,
           CASE WHEN (SELECT count(*) FROM unnest(k.covered)) <= :most THEN k.covered END
    FROM known AS k
    LEFT JOIN known AS minutes ON minutes.symbol = k.symbol AND minutes.data_type = 'candles_1m'
    CROSS JOIN LATERAL (
        SELECT count(*) AS number, COALESCE(sum(upper(hole) - lower(hole)), INTERVAL '0') AS together
        FROM unnest(tstzmultirange(tstzrange(lower(k.covered), upper(k.covered))) - k.covered) AS hole
        WHERE k.data_type <> 'trades' OR minutes.covered IS NULL OR NOT minutes.covered @> tstzrange(
            date_trunc('minute', lower(hole)),
            date_trunc('minute', upper(hole) + INTERVAL '1 minute' - INTERVAL '1 us'))
    ) AS gaps
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
    ``missing``: how long these gaps are together. ``covered`` has the ranges in order of time, None if there
    are more than were asked for.
    """

    symbol: str
    data_type: str
    sources: tuple[str, ...]
    start: datetime
    end: datetime
    ranges: int
    gaps: int
    missing: timedelta
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
                missing,
                None if covered is None else from_multirange(covered),
            )
            for symbol, data_type, sources, start, end, ranges, gaps, missing, covered in rows
        ]

    async def by_month(self) -> Sequence[MonthCoverage]:
        """By symbol, data type and month; months of which nothing is covered are left out."""
        rows = await self._connection.execute(_MONTHS, {"symbols": self._symbols})
        return [MonthCoverage(*row) for row in rows]

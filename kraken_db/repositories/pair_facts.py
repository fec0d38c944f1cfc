"""What a store knows of a symbol beside its rows: counters, coverage, unproven and dropped ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import Backend
from kraken_db.backends.base import Chunks
from kraken_db.data_types import DataType
from kraken_db.db.multiranges import from_multirange, to_multirange
from kraken_db.intervals import DAY, FINEST_AGGREGATE, interval_length
from kraken_db.models import COVERAGE, DROPPED_RANGES, SYNC_STATUS, UNPROVEN_RANGES
from kraken_db.ranges import TimeRange, difference, intersection, union, whole_candles
from kraken_db.repositories.coverage import DroppedRangeRepository
from kraken_db.repositories.sync_status import SyncStatusRepository

FACTS: tuple[Table, ...] = (SYNC_STATUS, COVERAGE, UNPROVEN_RANGES, DROPPED_RANGES)
"""The tables of what is known."""
_Rows: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class PairFacts:
    """``rows``: those of each table of ``FACTS``, by its name, in the order of its key.

    In those of ``dropped_ranges`` is also what only the lack of a chunk shows to be dropped.
    """

    rows: _Rows

    def dropped(self, data_type: DataType) -> tuple[TimeRange, ...]:
        return _ranges(self.rows, DROPPED_RANGES, data_type)


async def read_facts(connection: AsyncConnection, backend: Backend, symbol: str) -> PairFacts:
    """What is known of a symbol now, in words that mean the same on every kind of database."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for table in FACTS:
        of_symbol = select(table).where(table.c.symbol == symbol).order_by(*table.primary_key.columns)
        rows[table.name] = [dict(row) for row in (await connection.execute(of_symbol)).mappings()]
    if backend.chunks is not None:
        for data_type in (DataType.TRADES, DataType.CANDLES_1M):
            gone = await _without_chunk(connection, backend, symbol, data_type, rows)
            _add_dropped(rows[DROPPED_RANGES.name], symbol, data_type, gone)
    return PairFacts(rows)


async def _without_chunk(
    connection: AsyncConnection, backend: Backend, symbol: str, data_type: DataType, rows: _Rows
) -> list[TimeRange]:
    """Of which time it shows by its candles that something was stored there, and there is no chunk."""
    assert backend.chunks is not None
    edges = await backend.edges(connection, symbol, FINEST_AGGREGATE)
    if edges is None:
        return []
    span = (edges[0], edges[1] + interval_length(FINEST_AGGREGATE))
    there = await backend.chunks.existing(connection, data_type.table, *span)
    absent = difference([span], [*there, *_ranges(rows, DROPPED_RANGES, data_type)])
    stored = union(_ranges(rows, COVERAGE, data_type), _ranges(rows, UNPROVEN_RANGES, data_type))
    if data_type is DataType.TRADES:
        absent = intersection(absent, stored)
    known = list(await backend.chunks.aggregated_of(connection, symbol, absent))
    ours = intersection(intersection(whole_candles(known, DAY), absent), stored)
    # What other programs have written is covered by nobody.
    return ours if data_type is DataType.TRADES else union(ours, known)


async def dropped_trades(
    connection: AsyncConnection, chunks: Chunks, created: Sequence[TimeRange]
) -> dict[str, list[TimeRange]]:
    """What had been stored of the trades of each symbol where chunks are new, by symbol.

    Not the days without a trade: many a pair has some, for which there never was a chunk. Without minutes
    nothing shows which days these are.
    """
    stored = await DroppedRangeRepository(connection).ever_stored(DataType.TRADES, created)
    if not stored:
        return {}
    days = await chunks.aggregated_days(connection, created)
    have_minutes = await SyncStatusRepository(connection).of_each(DataType.CANDLES_1M, stored)
    return {
        symbol: intersection(ranges, union(days.get(symbol, ()))) if symbol in have_minutes else ranges
        for symbol, ranges in stored.items()
    }


def _ranges(rows: _Rows, table: Table, data_type: DataType) -> tuple[TimeRange, ...]:
    (name,) = table.columns.keys()[-1:]
    found = (from_multirange(row[name]) for row in rows[table.name] if row["data_type"] == data_type)
    return tuple(union(*found))


def _add_dropped(
    rows: list[Mapping[str, Any]], symbol: str, data_type: DataType, gone: Sequence[TimeRange]
) -> None:
    if not gone:
        return
    before = [row for row in rows if row["data_type"] == data_type]
    known = from_multirange(before[0]["dropped"]) if before else ()
    rows[:] = [row for row in rows if row["data_type"] != data_type]
    rows.append(
        {"symbol": symbol, "data_type": data_type.value, "dropped": to_multirange(union(known, gone))}
    )
    rows.sort(key=lambda row: str(row["data_type"]))

"""TimescaleDB's chunks: which there are, which a transaction has made, what they are compressed to.

Chunks are not read from TimescaleDB's own catalog, whose tables and columns change from version to version.
Its view of chunks takes 30 ms where there are 3,000 of them, so a write asks PostgreSQL instead, which
knows chunks as children of the table: 1 ms. Old chunks are dropped and compressed one at a time: thousands
of them in one statement run out of locks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Table, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.base import ChunksMade, OldRows
from kraken_db.data_types import TableName
from kraken_db.intervals import DAY, FINEST_AGGREGATE, floor_to_interval, interval_length
from kraken_db.models import CANDLES, TRADES
from kraken_db.ranges import TimeRange, intersection, union, whole_candles

# Our own, and what others have committed since an older snapshot. Ids of transactions are 32 bits of a
# longer number; those of new rows are near our own. A row that we see and whose transaction has not ended
# is our own; to its own snapshots, a transaction seems to have ended.
_NEW = text("""
    WITH own AS MATERIALIZED (SELECT CAST(CAST(pg_current_xact_id() AS text) AS bigint) AS id),
    children AS (
        SELECT i.inhrelid, i.inhparent, own.id AS own,
               own.id + mod(CAST(CAST(i.xmin AS text) AS bigint) - mod(own.id, 4294967296)
                            + 6442450944, 4294967296) - 2147483648 AS made_by
        FROM pg_inherits i, own
        WHERE i.inhparent = ANY(CAST(CAST(:tables AS text[]) AS regclass[]))
    ),
    known AS (
        SELECT inhrelid, inhparent, CAST(CAST(made_by AS text) AS xid8) AS made_by,
               CASE WHEN made_by BETWEEN own AND own + 1000000
                    THEN pg_xact_status(CAST(CAST(made_by AS text) AS xid8)) = 'in progress'
                    ELSE false END AS is_ours
        FROM children WHERE made_by > 0
    )
    SELECT p.relname AS parent, n.nspname, c.relname, is_ours
    FROM known
    JOIN pg_class c ON c.oid = inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_class p ON p.oid = inhparent
    WHERE is_ours OR NOT pg_visible_in_snapshot(made_by, CAST(CAST(:since AS text) AS pg_snapshot))
""")
_RANGES_OF = """
    SELECT range_start, range_end FROM timescaledb_information.chunks
    WHERE (chunk_schema, chunk_name)
          IN (SELECT * FROM unnest(CAST(:schemas AS text[]), CAST(:names AS text[])))
"""
_RANGES_BETWEEN = """
    SELECT range_start, range_end FROM timescaledb_information.chunks
    WHERE hypertable_schema = current_schema() AND hypertable_name = :table
      AND range_end > :start AND range_start < :end
"""
_RANGES_BEHIND = """
    SELECT range_start, range_end FROM timescaledb_information.chunks
    WHERE (hypertable_schema, hypertable_name)
          IN (SELECT * FROM unnest(CAST(:schemas AS text[]), CAST(:names AS text[])))
      AND range_end > :start AND range_start < :end
"""
# Bit 8 of the status: written after it was compressed; bit 2, in older versions: not in order any more. The
# view of chunks does not tell.
_OLD_CHUNKS = text("""
    SELECT c.range_start, c.range_end
    FROM timescaledb_information.chunks c
    JOIN _timescaledb_catalog.chunk k ON k.schema_name = c.chunk_schema AND k.table_name = c.chunk_name
    WHERE c.hypertable_schema = current_schema() AND c.hypertable_name = :table
      AND c.range_end <= :before AND (NOT :unpacked OR NOT c.is_compressed OR k.status & 10 <> 0)
    ORDER BY c.range_start
""")
_DROP = text(
    "SELECT count(*) FROM drop_chunks(CAST(CAST(:table AS text) AS regclass),"
    " older_than => CAST(:end AS timestamptz), newer_than => CAST(:start AS timestamptz))"
)
_COMPRESS = text("""
    SELECT compress_chunk(CAST(format('%I.%I', chunk_schema, chunk_name) AS regclass), true)
    FROM timescaledb_information.chunks
    WHERE hypertable_schema = current_schema() AND hypertable_name = :table
      AND range_start = :start AND range_end = :end
""")
# Where packing a chunk again is another function than packing it.
_UNPACK_PARTLY_COMPRESSED = text("""
    SELECT decompress_chunk(CAST(format('%I.%I', c.chunk_schema, c.chunk_name) AS regclass), true)
    FROM timescaledb_information.chunks c
    JOIN _timescaledb_catalog.chunk k ON k.schema_name = c.chunk_schema AND k.table_name = c.chunk_name
    WHERE c.hypertable_schema = current_schema() AND c.hypertable_name = :table
      AND c.range_start = :start AND c.range_end = :end AND k.status & 10 <> 0
""")
# Not by the view of chunks, which takes 5 ms for 1,000 of them. Times are microseconds since 1970 there. A
# chunk that is compressed, or written after that, is stored anew; what can be read of it is the same.
_PARTS = """
    SELECT 'part', CAST(c.table_name AS text), concat(c.compressed_chunk_id, '/', c.status),
           to_timestamp(greatest(s.range_start, -10000000000000) / 1e6),
           to_timestamp(least(s.range_end, 253402300799000000) / 1e6)
    FROM _timescaledb_catalog.hypertable h
    JOIN _timescaledb_catalog.dimension d ON d.hypertable_id = h.id
    JOIN _timescaledb_catalog.dimension_slice s ON s.dimension_id = d.id
    JOIN _timescaledb_catalog.chunk_constraint cc ON cc.dimension_slice_id = s.id
    JOIN _timescaledb_catalog.chunk c ON c.id = cc.chunk_id
    JOIN pg_namespace n ON n.nspname = c.schema_name
    JOIN pg_class k ON k.relnamespace = n.oid AND k.relname = c.table_name
    WHERE {tables}
      AND s.range_end > CAST(extract(epoch FROM :first) * 1000000 AS bigint)
      AND s.range_start < CAST(extract(epoch FROM :last) * 1000000 AS bigint)
"""
_BORDERS = """
    SELECT 'border', CAST(h.table_name AS text), '',
           to_timestamp(least(greatest(w.watermark, -10000000000000), 253402300799000000) / 1e6), NULL
    FROM _timescaledb_catalog.hypertable h
    JOIN _timescaledb_catalog.continuous_aggs_watermark w ON w.mat_hypertable_id = h.id
    WHERE {tables}
"""
_HYPERTABLES = {"trades": TRADES, "candles": CANDLES}


def chunks_and_borders(stored: Sequence[Table]) -> str:
    """A SELECT of the chunks of minutes and of the tables behind aggregates, and how far these are stored.

    Its columns are those of ``Backend.unversioned_parts``.
    """
    aggregates = [f"(h.schema_name = '{table.schema}' AND h.table_name = '{table.name}')" for table in stored]
    minutes = "(h.schema_name = current_schema() AND h.table_name = 'candles')"
    selects = [_PARTS.format(tables=_any_of([minutes, *aggregates]))]
    if aggregates:
        selects.append(_BORDERS.format(tables=_any_of(aggregates)))
    return " UNION ALL ".join(selects)


def _any_of(conditions: Sequence[str]) -> str:
    return f"({' OR '.join(conditions)})"


class TimescaleChunks:
    """The chunks of ``trades`` and ``candles``. ``finest``: the table behind the shortest aggregate."""

    def __init__(self, finest: Table) -> None:
        self._finest = finest

    async def existing(
        self, connection: AsyncConnection, table: str, start: datetime, end: datetime
    ) -> Sequence[TimeRange]:
        return intersection(await ranges_between(connection, table, start, end), [(start, end)])

    async def made(
        self, connection: AsyncConnection, tables: Collection[TableName], since: str
    ) -> ChunksMade | None:
        rows = await new_chunks(connection, tables, since)
        if not rows:
            return None
        ours: dict[TableName, Sequence[TimeRange]] = {}
        for table in sorted(tables):
            own = [row for row in rows if row.is_ours and row.parent == table]
            if own:
                names = {"schemas": [row.nspname for row in own], "names": [row.relname for row in own]}
                found = await connection.execute(text(_RANGES_OF), names)
                ours[table] = sorted((start, end) for start, end in found)
        return ChunksMade(ours)

    async def aggregated(
        self, connection: AsyncConnection, ranges: Sequence[TimeRange]
    ) -> Sequence[tuple[str, TimeRange]]:
        c = self._finest.c
        found: list[tuple[str, TimeRange]] = []
        for start, end in ranges:
            rows = await connection.execute(
                select(c.symbol, func.min(c.timestamp), func.max(c.timestamp))
                .where(c.timestamp >= floor_to_interval(start, FINEST_AGGREGATE), c.timestamp < end)
                .group_by(c.symbol)
            )
            found += [
                (symbol, (max(first, start), min(last + interval_length(FINEST_AGGREGATE), end)))
                for symbol, first, last in rows
            ]
        return found

    async def aggregated_of(
        self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]
    ) -> Sequence[TimeRange]:
        c = self._finest.c
        length = interval_length(FINEST_AGGREGATE)
        found: list[TimeRange] = []
        for start, end in ranges:
            rows = await connection.scalars(
                select(c.timestamp).where(
                    c.symbol == symbol,
                    c.timestamp >= floor_to_interval(start, FINEST_AGGREGATE),
                    c.timestamp < end,
                )
            )
            found += [(max(opens_at, start), min(opens_at + length, end)) for opens_at in rows]
        return found

    async def aggregated_days(
        self, connection: AsyncConnection, ranges: Sequence[TimeRange]
    ) -> Mapping[str, Sequence[TimeRange]]:
        c = self._finest.c
        day = func.date_trunc("day", c.timestamp, "UTC")
        found: dict[str, list[TimeRange]] = {}
        for start, end in union(whole_candles(ranges, DAY)):
            rows = await connection.execute(
                select(c.symbol, day).where(c.timestamp >= start, c.timestamp < end).distinct()
            )
            for symbol, opens_at in rows:
                found.setdefault(symbol, []).append((opens_at, opens_at + interval_length(DAY)))
        return found


class TimescaleCompression:
    """Chunks are compressed as a whole."""

    async def due(self, connection: AsyncConnection, table: TableName, before: datetime) -> Sequence[OldRows]:
        return await old_chunks(connection, table, before, unpacked=True)

    async def compress(self, connection: AsyncConnection, rows: OldRows) -> None:
        chunk = {"table": rows.table, "start": rows.start, "end": rows.end}
        await connection.execute(_COMPRESS, chunk)
        if (await connection.execute(_UNPACK_PARTLY_COMPRESSED, chunk)).all():
            await connection.execute(_COMPRESS, chunk)


async def old_chunks(
    connection: AsyncConnection, table: TableName, before: datetime, *, unpacked: bool = False
) -> list[OldRows]:
    """The chunks that end before a moment; ``unpacked``: only those that are not compressed."""
    wanted = {"table": table, "before": before, "unpacked": unpacked}
    return [OldRows(table, None, *row) for row in await connection.execute(_OLD_CHUNKS, wanted)]


async def drop_chunk(connection: AsyncConnection, rows: OldRows) -> int:
    """Drop a chunk; returns how many rows it had."""
    moment = _HYPERTABLES[rows.table].c.timestamp
    found = select(func.count()).where(moment >= rows.start, moment < rows.end)
    count: int = await connection.scalar(found) or 0
    await connection.execute(_DROP, {"table": rows.table, "start": rows.start, "end": rows.end})
    return count


async def new_chunks(
    connection: AsyncConnection, tables: Collection[TableName], since: str
) -> Sequence[Row[Any]]:
    """``parent``, ``nspname``, ``relname`` and ``is_ours`` of the chunks that a snapshot does not see."""
    return (await connection.execute(_NEW, {"tables": sorted(tables), "since": since})).all()


async def ranges_between(
    connection: AsyncConnection, table: str, start: datetime, end: datetime
) -> list[TimeRange]:
    """The times for which there are chunks, as far as they overlap ``[start, end)``."""
    found = await connection.execute(text(_RANGES_BETWEEN), {"table": table, "start": start, "end": end})
    return union([(first, last) for first, last in found])


async def ranges_behind(
    connection: AsyncConnection, tables: Collection[Table], start: datetime, end: datetime
) -> list[TimeRange]:
    """The same of the tables behind aggregates, of all of them together."""
    wanted = {
        "schemas": [table.schema for table in tables],
        "names": [table.name for table in tables],
        "start": start,
        "end": end,
    }
    found = await connection.execute(text(_RANGES_BEHIND), wanted)
    return union([(first, last) for first, last in found])

"""What the tables take on disk, from the catalogs of either kind of database. No row is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.models import CANDLES, Base
from kraken_db.policies import TABLES
from kraken_db.timeseries.base import TableStorage

# Whatever tables the higher intervals are kept in, they are tables of candles.
_HIGHER = [
    table.name
    for table in Base.metadata.tables.values()
    if table is not CANDLES and set(CANDLES.c.keys()) <= set(table.c.keys())
]
_POSTGRES = text("""
    SELECT CASE WHEN c.relname IN ('trades', 'candles') THEN c.relname ELSE 'higher intervals' END,
           CAST(sum(pg_total_relation_size(c.oid)) AS bigint)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema() AND c.relkind = 'r'
      AND (c.relname IN ('trades', 'candles') OR c.relname = ANY(CAST(:higher AS text[])))
    GROUP BY 1 ORDER BY min(CASE c.relname WHEN 'trades' THEN 1 WHEN 'candles' THEN 2 ELSE 3 END)
""")
_TIMESCALE = text("""
    SELECT t.name, CAST(hypertable_size(t.behind) AS bigint), COALESCE(s.total_chunks, 0),
           COALESCE(s.number_compressed_chunks, 0),
           CAST(COALESCE(s.before_compression_total_bytes, 0) AS bigint),
           CAST(COALESCE(s.after_compression_total_bytes, 0) AS bigint), c.kept_from
    FROM (VALUES ('trades', CAST('trades' AS regclass)), ('candles', CAST('candles' AS regclass)))
         AS t (name, behind)
    LEFT JOIN LATERAL hypertable_compression_stats(t.behind) s ON true
    LEFT JOIN (
        SELECT hypertable_name, min(range_start) AS kept_from FROM timescaledb_information.chunks
        WHERE hypertable_schema = current_schema() AND hypertable_name IN ('trades', 'candles')
        GROUP BY hypertable_name
    ) c ON c.hypertable_name = t.name
    UNION ALL
    SELECT 'higher intervals', CAST(sum(hypertable_size(CAST(format(
               '%I.%I', materialization_hypertable_schema, materialization_hypertable_name) AS regclass)))
           AS bigint), 0, 0, 0, 0, NULL
    FROM timescaledb_information.continuous_aggregates WHERE view_schema = current_schema()
""")
_NEVER = datetime.max.replace(tzinfo=UTC)


async def database_size(connection: AsyncConnection) -> int:
    """Bytes on disk of everything in the database, whoever made it."""
    size: int = await connection.scalar(text("SELECT pg_database_size(current_database())"))
    return size


async def postgres_storage(connection: AsyncConnection) -> Sequence[TableStorage]:
    rows = await connection.execute(_POSTGRES, {"higher": _HIGHER})
    return [TableStorage(name, size, 0, 0, 0, 0) for name, size in rows]


async def timescale_storage(connection: AsyncConnection) -> Sequence[TableStorage]:
    found: list[TableStorage] = []
    for name, size, parts, packed, before, after, kept_from in await connection.execute(_TIMESCALE):
        if name in TABLES and kept_from is None:
            kept_from = _NEVER  # a table without any part holds nothing
        found.append(TableStorage(name, size, parts, packed, before, after, kept_from))
    return found

"""What the tables take on disk, from the catalogs of either kind of database. No row is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.base import Node, TableStorage
from kraken_db.data_types import TABLES
from kraken_db.models import CANDLES, Base

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
# Not by hypertable_size: ten calls of it take more than all the rest of a status. Chunks are children of
# their table; what has been compressed is kept beside them. TimescaleDB notes how large it became, and does
# not note that rows were written to it, or unpacked, later: so the files themselves are asked.
_TIMESCALE = text("""
    WITH tables AS (
        SELECT relation AS name, CAST(relation AS regclass) AS behind, true AS may_be_packed
        FROM unnest(CAST('{trades,candles}' AS text[])) AS relation
        UNION ALL
        SELECT 'higher intervals', CAST(format('%I.%I', materialization_hypertable_schema,
                                               materialization_hypertable_name) AS regclass),
               compression_enabled
        FROM timescaledb_information.continuous_aggregates WHERE view_schema = current_schema()
    ),
    oldest AS (
        SELECT hypertable_name AS name, min(range_start) AS kept_from
        FROM timescaledb_information.chunks
        WHERE hypertable_schema = current_schema() AND hypertable_name IN ('trades', 'candles')
        GROUP BY hypertable_name
    )
    SELECT t.name,
           CAST(sum(pg_total_relation_size(t.behind) + c.size + c.packed_size) AS bigint),
           CAST(sum(c.chunks) AS bigint), CAST(sum(c.packed - c.partly) AS bigint),
           CAST(sum(c.partly) AS bigint), CAST(COALESCE(sum(p.before), 0) AS bigint),
           CAST(sum(c.packed_size + c.unpacked_size) AS bigint), min(o.kept_from)
    FROM tables t
    CROSS JOIN LATERAL (
        SELECT count(*) AS chunks,
               count(*) FILTER (WHERE k.status & 1 <> 0) AS packed,
               count(*) FILTER (WHERE k.status & 1 <> 0 AND k.status & 10 <> 0) AS partly,
               COALESCE(sum(pg_total_relation_size(n.oid)), 0) AS size,
               COALESCE(sum(pg_total_relation_size(b.oid)), 0) AS packed_size,
               -- The empty indexes of a chunk that is compressed as a whole are no rows.
               COALESCE(sum(pg_total_relation_size(n.oid))
                        FILTER (WHERE k.status & 1 <> 0 AND pg_relation_size(n.oid) > 0), 0) AS unpacked_size
        FROM pg_inherits i
        JOIN pg_class n ON n.oid = i.inhrelid
        JOIN pg_namespace m ON m.oid = n.relnamespace
        LEFT JOIN _timescaledb_catalog.chunk k ON k.schema_name = m.nspname AND k.table_name = n.relname
        LEFT JOIN _timescaledb_catalog.chunk d ON d.id = k.compressed_chunk_id
        LEFT JOIN pg_namespace s ON s.nspname = d.schema_name
        LEFT JOIN pg_class b ON b.relname = d.table_name AND b.relnamespace = s.oid
        WHERE i.inhparent = t.behind
    ) c
    LEFT JOIN LATERAL (
        SELECT before_compression_total_bytes AS before
        FROM hypertable_compression_stats(t.behind) WHERE t.may_be_packed
    ) p ON true
    LEFT JOIN oldest o ON o.name = t.name
    GROUP BY t.name
    ORDER BY min(CASE t.name WHEN 'trades' THEN 1 WHEN 'candles' THEN 2 ELSE 3 END)
""")
_CITUS = text("""
    SELECT CASE WHEN name IN ('trades', 'candles') THEN name ELSE 'higher intervals' END,
           CAST(sum(size) AS bigint)
    FROM (SELECT CAST(table_name AS text) AS name, shard_size AS size FROM citus_shards) shards
    WHERE name IN ('trades', 'candles') OR name = ANY(CAST(:higher AS text[]))
    GROUP BY 1 ORDER BY min(CASE name WHEN 'trades' THEN 1 WHEN 'candles' THEN 2 ELSE 3 END)
""")
# All tables are cut in the same way: what lies between the same two hashes moves as one.
_SHARDS = text("""
    SELECT nodename, nodeport, array_agg(size ORDER BY size) FROM (
        SELECT s.nodename, s.nodeport, CAST(sum(s.shard_size) AS bigint) AS size
        FROM citus_shards s JOIN pg_dist_shard d ON d.shardid = s.shardid
        GROUP BY s.nodename, s.nodeport, s.colocation_id, d.shardminvalue
    ) parts
    GROUP BY nodename, nodeport
""")
_NODES = text("""
    SELECT n.nodename, n.nodeport, n.shouldhaveshards, CAST(r.result AS bigint)
    FROM run_command_on_all_nodes('SELECT pg_database_size(current_database())') r
    JOIN pg_dist_node n ON n.nodeid = r.nodeid AND r.success
    ORDER BY n.nodename, n.nodeport
""")
_NEVER = datetime.max.replace(tzinfo=UTC)


async def database_size(connection: AsyncConnection) -> int:
    """Bytes on disk of everything in the database, whoever made it."""
    size: int = await connection.scalar(text("SELECT pg_database_size(current_database())"))
    return size


async def most_wal(connection: AsyncConnection) -> int:
    """Bytes that the server lets its log of changes grow to, about, before it writes a checkpoint."""
    size: int = await connection.scalar(text("SELECT pg_size_bytes(current_setting('max_wal_size'))"))
    return size


async def postgres_storage(connection: AsyncConnection) -> Sequence[TableStorage]:
    rows = await connection.execute(_POSTGRES, {"higher": _HIGHER})
    return [TableStorage(name, size) for name, size in rows]


async def timescale_storage(connection: AsyncConnection) -> Sequence[TableStorage]:
    found: list[TableStorage] = []
    for name, size, chunks, packed, partly, before, after, kept_from in await connection.execute(_TIMESCALE):
        if name in TABLES and kept_from is None:
            kept_from = _NEVER  # a table without any chunk holds nothing
        found.append(TableStorage(name, size, chunks, packed, partly, before, after, kept_from))
    return found


async def citus_storage(connection: AsyncConnection) -> Sequence[TableStorage]:
    rows = await connection.execute(_CITUS, {"higher": _HIGHER})
    return [TableStorage(name, size) for name, size in rows]


async def citus_nodes(connection: AsyncConnection) -> Sequence[Node]:
    shards = {(name, port): sizes for name, port, sizes in await connection.execute(_SHARDS)}
    return [
        Node(f"{name}:{port}", shards.get((name, port), ()), size, has_shards)
        for name, port, has_shards, size in await connection.execute(_NODES)
    ]

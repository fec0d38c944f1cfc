"""What TimescaleDB adds: hypertables, compression, candles of the higher intervals, retention.

Revision: 1002
Revises: 1001

Only where the server has TimescaleDB under its community licence. Any other PostgreSQL gets its higher
intervals from the next revision, with the same names, columns, sources and meaning:

- open is the first, close the last by time; nothing is taken from prices of another interval;
- vwap is the mean of the parts, weighted by volume; it is NULL if a part that has volume lacks it;
- quote_volume is NULL as soon as one part lacks it, since a sum of the rest would be too small;
- prices and volumes are as wide as in the tables: functions such as max and sum would lose the width.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "1002"
down_revision = "1001"
branch_labels = None
depends_on = None

log = logging.getLogger("alembic.kraken_db")
# Older servers refuse inserts into compressed chunks that have a primary key.
OLDEST_VERSION = (2, 11)
CHUNKS = {"trades": "1 day", "candles": "7 days"}
# table: segment by, order by, compress after
COMPRESSION = {
    # With the segment, the order holds every column of the primary key.
    "trades": ("symbol", "timestamp DESC, id DESC", "7 days"),
    "candles": ("symbol, interval_minutes", "timestamp DESC", "30 days"),
}
# view: minutes, source, bucket, refresh: start offset, end offset, schedule.
# The start offsets stay below every sensible retention of the source, and leave two buckets to each
# policy, which TimescaleDB asks for. The end offsets keep a bucket that still grows out of the policy:
# it is read from its source in real time.
VIEWS = {
    "candles_5m": (5, "candles", "5 minutes", "3 days", "5 minutes", "5 minutes"),
    "candles_15m": (15, "candles", "15 minutes", "3 days", "15 minutes", "15 minutes"),
    "candles_30m": (30, "candles", "30 minutes", "3 days", "30 minutes", "30 minutes"),
    "candles_1h": (60, "candles", "1 hour", "3 days", "1 hour", "1 hour"),
    "candles_4h": (240, "candles_1h", "4 hours", "7 days", "4 hours", "4 hours"),
    "candles_12h": (720, "candles_1h", "12 hours", "7 days", "12 hours", "12 hours"),
    "candles_1d": (1440, "candles_1h", "1 day", "14 days", "1 day", "1 day"),
    "candles_1w": (10080, "candles_1d", "7 days", "35 days", "7 days", "7 days"),
}
PRICE, AMOUNT = "numeric(20,10)", "numeric(38,10)"
# The aggregates have none: they outlive their minutes.
RETENTION = {"trades": "90 days", "candles": "365 days"}
NEWEST_FIRST = sa.text("timestamp DESC")
# table: primary key, index and its columns, for the way back
KEYS = {
    "trades": (
        ["timestamp", "symbol", "id"],
        "ix_trades_symbol_timestamp",
        ["symbol", NEWEST_FIRST],
    ),
    "candles": (
        ["timestamp", "symbol", "interval_minutes"],
        "ix_candles_symbol_interval_minutes_timestamp",
        ["symbol", "interval_minutes", NEWEST_FIRST],
    ),
}


def upgrade() -> None:
    if not _has_timescaledb():
        return
    for table, chunk in CHUNKS.items():
        # The default index on time alone would be a second copy of the primary key's first column.
        op.execute(
            f"SELECT create_hypertable('{table}', 'timestamp',"
            f" chunk_time_interval => INTERVAL '{chunk}', create_default_indexes => false)"
        )
    for table, (segment, order, after) in COMPRESSION.items():
        op.execute(
            f"ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_segmentby = '{segment}',"
            f" timescaledb.compress_orderby = '{order}')"
        )
        op.execute(f"SELECT add_compression_policy('{table}', INTERVAL '{after}')")
    for view in VIEWS:
        _create_aggregate(view)
    for table, period in RETENTION.items():
        op.execute(f"SELECT add_retention_policy('{table}', INTERVAL '{period}')")


def downgrade() -> None:
    if not _is_hypertable("candles"):
        return
    for table in RETENTION:
        op.execute(f"SELECT remove_retention_policy('{table}', if_exists => true)")
    # An aggregate goes before the one that it comes from.
    for view in reversed(VIEWS):
        op.execute(f"DROP MATERIALIZED VIEW {view}")
    for table in COMPRESSION:
        op.execute(f"SELECT remove_compression_policy('{table}', if_exists => true)")
        op.execute(
            "SELECT decompress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass, true)"
            " FROM timescaledb_information.chunks WHERE is_compressed"
            f" AND hypertable_schema = current_schema() AND hypertable_name = '{table}'"
        )
        op.execute(f"ALTER TABLE {table} SET (timescaledb.compress = false)")
    for table in CHUNKS:
        _turn_into_plain_table(table)


# --- candles of the higher intervals ---


def _create_aggregate(view: str) -> None:
    minutes, source, bucket, start, end, schedule = VIEWS[view]
    op.execute(
        f"CREATE MATERIALIZED VIEW {view}"
        " WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS"
        f" {_candles(minutes, source, bucket)} WITH NO DATA"
    )
    op.execute(
        f"SELECT add_continuous_aggregate_policy('{view}', start_offset => INTERVAL '{start}',"
        f" end_offset => INTERVAL '{end}', schedule_interval => INTERVAL '{schedule}')"
    )


def _candles(minutes: int, source: str, bucket: str) -> str:
    # The bucket is grouped by its expression: the name alone would mean the column of the source.
    opens_at = f"time_bucket(INTERVAL '{bucket}', timestamp)"
    # A table may hold files of other intervals too; the aggregates know their own.
    only_minutes = " WHERE interval_minutes = 1" if source == "candles" else ""
    return (
        f"SELECT symbol, {opens_at} AS timestamp, CAST({minutes} AS smallint) AS interval_minutes,"
        f" CAST(first(open, timestamp) AS {PRICE}) AS open,"
        f" CAST(max(high) AS {PRICE}) AS high, CAST(min(low) AS {PRICE}) AS low,"
        f" CAST(last(close, timestamp) AS {PRICE}) AS close, CAST(sum(volume) AS {AMOUNT}) AS volume,"
        " CAST(CASE WHEN count(quote_volume) = count(*) THEN sum(quote_volume) END"
        f" AS {AMOUNT}) AS quote_volume, CAST(sum(trade_count) AS integer) AS trade_count,"
        " CAST(CASE WHEN count(*) FILTER (WHERE volume > 0 AND vwap IS NULL) = 0"
        f" THEN sum(vwap * volume) / NULLIF(sum(volume), 0) END AS {PRICE}) AS vwap"
        f" FROM {source}{only_minutes} GROUP BY symbol, {opens_at}"
    )


# --- the way back ---


def _is_hypertable(table: str) -> bool:
    if _version() is None:
        return False
    return bool(
        op.get_bind().scalar(
            sa.text(
                "SELECT 1 FROM timescaledb_information.hypertables"
                " WHERE hypertable_schema = current_schema() AND hypertable_name = :table"
            ),
            {"table": table},
        )
    )


def _turn_into_plain_table(table: str) -> None:
    """TimescaleDB has no way back from a hypertable but a copy."""
    op.execute(f"CREATE TABLE {table}_plain (LIKE {table} INCLUDING DEFAULTS)")
    op.execute(f"INSERT INTO {table}_plain SELECT * FROM {table}")
    if table == "trades":
        op.execute("ALTER SEQUENCE trades_id_seq OWNED BY trades_plain.id")
    op.drop_table(table)
    op.rename_table(f"{table}_plain", table)
    key, index, columns = KEYS[table]
    op.create_primary_key(f"pk_{table}", table, key)
    op.create_index(index, table, columns)


# --- is there TimescaleDB? ---


def _has_timescaledb() -> bool:
    connection = op.get_bind()
    version = _version()
    if version is None and _is_loaded():
        _create_extension()
        version = _version()
    if version is None:
        return False
    if connection.scalar(sa.text("SELECT current_setting('timescaledb.license', true)")) != "timescale":
        log.warning(
            "TimescaleDB runs under the Apache licence, without aggregates, compression and policies:"
            " it is used as a plain PostgreSQL"
        )
        return False
    if tuple(int(part) for part in version.split("-")[0].split(".")[:2]) < OLDEST_VERSION:
        raise CommandError(
            f"TimescaleDB {version} is too old: 2.11 is the first that can be used; update it with"
            " ALTER EXTENSION timescaledb UPDATE, or use a database without it"
        )
    return True


def _version() -> str | None:
    statement = sa.text("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    version: str | None = op.get_bind().scalar(statement)
    return version


def _is_loaded() -> bool:
    """CREATE EXTENSION ends the connection where the library was not preloaded: look first.

    An ordinary role may not read shared_preload_libraries; the loader's own settings it can see.
    """
    return bool(
        op.get_bind().scalar(
            sa.text(
                "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"
                " AND EXISTS (SELECT 1 FROM pg_settings WHERE name LIKE 'timescaledb.%'"
                " OR (name = 'shared_preload_libraries' AND setting LIKE '%timescaledb%'))"
            )
        )
    )


def _create_extension() -> None:
    connection = op.get_bind()
    try:
        with connection.begin_nested():
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    except sa.exc.DBAPIError as error:
        log.warning(
            "TimescaleDB is on the server, but this role may not use it (%s): the store is made for plain"
            " PostgreSQL; to have TimescaleDB, let an administrator run CREATE EXTENSION timescaledb in an"
            " empty database first",
            str(error.orig).splitlines()[0],
        )

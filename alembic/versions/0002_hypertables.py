"""Hypertables, where the server has TimescaleDB under its community licence.

Revision: 0002
Revises: 0001

On any other PostgreSQL the tables stay as they are.
"""

from __future__ import annotations

import logging

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

log = logging.getLogger("alembic.kraken_db")
# Older servers refuse inserts into compressed chunks that have a primary key.
OLDEST_VERSION = (2, 11)
CHUNKS = {"trades": "1 day", "candles": "7 days"}
NEWEST_FIRST = sa.text("timestamp DESC")
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


def downgrade() -> None:
    connection = op.get_bind()
    if not connection.scalar(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")):
        return
    for table in CHUNKS:
        is_hypertable = connection.scalar(
            sa.text(
                "SELECT 1 FROM timescaledb_information.hypertables"
                " WHERE hypertable_schema = current_schema() AND hypertable_name = :table"
            ),
            {"table": table},
        )
        if is_hypertable:
            _turn_into_plain_table(table)


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
                " AND EXISTS (SELECT FROM pg_settings WHERE name LIKE 'timescaledb.%'"
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

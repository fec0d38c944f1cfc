"""Compression of old chunks, on TimescaleDB.

Revision: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# table: segment by, order by, compress after
COMPRESSION = {
    # Servers up to 2.10 refuse an order that lacks a column of the primary key.
    "trades": ("symbol", "timestamp DESC, id DESC", "7 days"),
    "candles": ("symbol, interval_minutes", "timestamp DESC", "30 days"),
}


def upgrade() -> None:
    for table, (segment, order, after) in COMPRESSION.items():
        if not _is_hypertable(table):
            continue
        op.execute(
            f"ALTER TABLE {table} SET (timescaledb.compress, timescaledb.compress_segmentby = '{segment}',"
            f" timescaledb.compress_orderby = '{order}')"
        )
        op.execute(f"SELECT add_compression_policy('{table}', INTERVAL '{after}')")


def downgrade() -> None:
    for table in COMPRESSION:
        if not _is_hypertable(table):
            continue
        op.execute(f"SELECT remove_compression_policy('{table}', if_exists => true)")
        op.execute(
            "SELECT decompress_chunk(format('%I.%I', chunk_schema, chunk_name)::regclass, true)"
            " FROM timescaledb_information.chunks WHERE is_compressed"
            f" AND hypertable_schema = current_schema() AND hypertable_name = '{table}'"
        )
        op.execute(f"ALTER TABLE {table} SET (timescaledb.compress = false)")


def _is_hypertable(table: str) -> bool:
    connection = op.get_bind()
    if not connection.scalar(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")):
        return False
    return bool(
        connection.scalar(
            sa.text(
                "SELECT 1 FROM timescaledb_information.hypertables"
                " WHERE hypertable_schema = current_schema() AND hypertable_name = :table"
            ),
            {"table": table},
        )
    )

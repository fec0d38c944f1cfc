"""Retention, on TimescaleDB: 90 days of trades, 365 days of minutes. Aggregates are kept.

Revision: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

RETENTION = {"trades": "90 days", "candles": "365 days"}


def upgrade() -> None:
    for table, period in RETENTION.items():
        if _is_hypertable(table):
            op.execute(f"SELECT add_retention_policy('{table}', INTERVAL '{period}')")


def downgrade() -> None:
    for table in RETENTION:
        if _is_hypertable(table):
            op.execute(f"SELECT remove_retention_policy('{table}', if_exists => true)")


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

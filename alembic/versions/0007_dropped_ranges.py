"""What was stored and dropped, the retention jobs that wait, and how far a refresh has come.

Revision: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dropped_ranges",
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("data_type", sa.String(20), nullable=False),
        sa.Column("dropped", TSTZMULTIRANGE, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "data_type", name="pk_dropped_ranges"),
    )
    op.create_table(
        "paused_jobs",
        sa.Column("job_id", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_paused_jobs"),
    )
    op.create_table(
        "unproven_ranges",
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("data_type", sa.String(20), nullable=False),
        sa.Column("unproven", TSTZMULTIRANGE, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "data_type", name="pk_unproven_ranges"),
    )
    op.drop_column("pending_refresh", "replaced")
    op.add_column("pending_refresh", sa.Column("refreshed_at", sa.TIMESTAMP(timezone=True)))


def downgrade() -> None:
    op.drop_column("pending_refresh", "refreshed_at")
    op.add_column(
        "pending_refresh",
        sa.Column("replaced", sa.Boolean, server_default=sa.text("false"), nullable=False),
    )
    op.drop_table("unproven_ranges")
    op.drop_table("paused_jobs")
    op.drop_table("dropped_ranges")

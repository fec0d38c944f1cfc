"""What retention has dropped, and the retention jobs that wait for a refresh.

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


def downgrade() -> None:
    op.drop_table("paused_jobs")
    op.drop_table("dropped_ranges")

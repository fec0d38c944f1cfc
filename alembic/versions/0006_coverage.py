"""Coverage, and the list of ranges that wait for their refresh.

Revision: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE, TSTZRANGE

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "data_coverage",
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("data_type", sa.String(20), nullable=False),
        sa.Column("source", sa.String(20), nullable=False),
        sa.Column("covered", TSTZMULTIRANGE, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "data_type", "source", name="pk_data_coverage"),
    )
    op.create_table(
        "pending_refresh",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("stale", TSTZRANGE, nullable=False),
        sa.Column("replaced", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_pending_refresh"),
    )


def downgrade() -> None:
    op.drop_table("pending_refresh")
    op.drop_table("data_coverage")

"""How far each live writer's records are stored: what makes a flush happen exactly once.

Revision: 0010
Revises: 0008

A connection can be lost in the very moment of a COMMIT, and then nobody knows whether it was done. Trades
with an id may be written again; of one without, a second copy would be another trade. So each flush commits,
with its rows, the number of its last record.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0010"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "flush_positions",
        sa.Column("stream", sa.Uuid, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("flushed_at", TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_flush_positions"),
    )


def downgrade() -> None:
    op.drop_table("flush_positions")

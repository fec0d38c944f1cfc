"""The tables of trades, candles and sync status.

Revision: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

AMOUNT = sa.Numeric(20, 10)
TIME = TIMESTAMP(timezone=True)


def upgrade() -> None:
    # Trades without an id of Kraken's get a negative one: in order, and never in the way of a real one.
    op.execute(
        "CREATE SEQUENCE trades_id_seq AS bigint INCREMENT BY 1"
        " MINVALUE -9223372036854775808 MAXVALUE -1 START WITH -9223372036854775808"
    )
    op.create_table(
        "trades",
        sa.Column("id", sa.BigInteger, server_default=sa.text("nextval('trades_id_seq')"), nullable=False),
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("price", AMOUNT, nullable=False),
        sa.Column("volume", AMOUNT, nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("order_type", sa.String(10)),
        sa.Column("misc", sa.String(50)),
        sa.PrimaryKeyConstraint("timestamp", "symbol", "id", name="pk_trades"),
    )
    op.execute("ALTER SEQUENCE trades_id_seq OWNED BY trades.id")
    op.create_table(
        "candles",
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("interval_minutes", sa.SmallInteger, nullable=False),
        sa.Column("open", AMOUNT, nullable=False),
        sa.Column("high", AMOUNT, nullable=False),
        sa.Column("low", AMOUNT, nullable=False),
        sa.Column("close", AMOUNT, nullable=False),
        sa.Column("volume", AMOUNT, nullable=False),
        sa.Column("quote_volume", AMOUNT),
        sa.Column("trade_count", sa.Integer),
        sa.Column("vwap", AMOUNT),
        sa.PrimaryKeyConstraint("timestamp", "symbol", "interval_minutes", name="pk_candles"),
    )
    op.create_table(
        "data_sync_status",
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("data_type", sa.String(20), nullable=False),
        sa.Column("oldest_timestamp", TIME),
        sa.Column("newest_timestamp", TIME),
        sa.Column("last_sync_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("last_kraken_since", sa.BigInteger),
        sa.Column("total_records", sa.BigInteger, server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("symbol", "data_type", name="pk_data_sync_status"),
    )
    op.create_index(
        "ix_candles_symbol_interval_minutes_timestamp",
        "candles",
        ["symbol", "interval_minutes", sa.text("timestamp DESC")],
    )
    op.create_index("ix_trades_symbol_timestamp", "trades", ["symbol", sa.text("timestamp DESC")])


def downgrade() -> None:
    op.drop_table("data_sync_status")
    op.drop_table("candles")
    op.drop_table("trades")

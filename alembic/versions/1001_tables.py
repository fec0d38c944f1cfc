"""The tables, which every database has.

Revision: 1001
Revises:

Prices are NUMERIC(20,10), volumes NUMERIC(38,10): a single trade can be of more than 10^10 units of a coin.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP, TSTZMULTIRANGE, TSTZRANGE

revision = "1001"
down_revision = None
branch_labels = None
depends_on = None

PRICE = sa.Numeric(20, 10)
AMOUNT = sa.Numeric(38, 10)
TIME = TIMESTAMP(timezone=True)
TABLES = (
    "trades",
    "candles",
    "rolled_candles",
    "data_sync_status",
    "data_coverage",
    "unproven_ranges",
    "dropped_ranges",
    "pending_refresh",
    "retention_periods",
    "paused_jobs",
    "flush_positions",
    "running_jobs",
)


def upgrade() -> None:
    _create_trades()
    _create_candles()
    _create_what_is_known()
    _create_what_is_to_do()


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table)


def _create_trades() -> None:
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
        sa.Column("price", PRICE, nullable=False),
        sa.Column("volume", AMOUNT, nullable=False),
        sa.Column("side", sa.String(4), nullable=False),
        sa.Column("order_type", sa.String(10)),
        sa.Column("misc", sa.String(50)),
        sa.PrimaryKeyConstraint("timestamp", "symbol", "id", name="pk_trades"),
    )
    op.execute("ALTER SEQUENCE trades_id_seq OWNED BY trades.id")
    op.create_index("ix_trades_symbol_timestamp", "trades", ["symbol", sa.text("timestamp DESC")])


def _create_candles() -> None:
    """The minutes, and what plain PostgreSQL stores of the higher intervals."""
    op.create_table(
        "candles",
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        sa.Column("interval_minutes", sa.SmallInteger, nullable=False),
        *_values(),
        sa.PrimaryKeyConstraint("timestamp", "symbol", "interval_minutes", name="pk_candles"),
    )
    op.create_index(
        "ix_candles_symbol_interval_minutes_timestamp",
        "candles",
        ["symbol", "interval_minutes", sa.text("timestamp DESC")],
    )
    op.create_table(
        "rolled_candles",
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("interval_minutes", sa.SmallInteger, nullable=False),
        sa.Column("timestamp", TIME, nullable=False),
        *_values(),
        sa.Column("kept", sa.Boolean, server_default=sa.text("false"), nullable=False),
        sa.PrimaryKeyConstraint("symbol", "interval_minutes", "timestamp", name="pk_rolled_candles"),
    )


def _values() -> list[sa.Column[Any]]:
    return [
        *(sa.Column(name, PRICE, nullable=False) for name in ("open", "high", "low", "close")),
        sa.Column("volume", AMOUNT, nullable=False),
        sa.Column("quote_volume", AMOUNT),
        sa.Column("trade_count", sa.Integer),
        sa.Column("vwap", PRICE),
    ]


def _create_what_is_known() -> None:
    """What is stored of each symbol and data type, and which ranges are complete, unproven, dropped."""
    op.create_table(
        "data_sync_status",
        *_symbol_and_type(),
        sa.Column("oldest_timestamp", TIME),
        sa.Column("newest_timestamp", TIME),
        sa.Column("last_sync_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("last_kraken_since", sa.BigInteger),
        sa.Column("total_records", sa.BigInteger, server_default=sa.text("0"), nullable=False),
        sa.Column("ended_at", TIME),
        sa.PrimaryKeyConstraint("symbol", "data_type", name="pk_data_sync_status"),
    )
    op.create_table(
        "data_coverage",
        *_symbol_and_type(),
        sa.Column("source", sa.String(20), nullable=False),
        sa.Column("covered", TSTZMULTIRANGE, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "data_type", "source", name="pk_data_coverage"),
    )
    for table, ranges in (("unproven_ranges", "unproven"), ("dropped_ranges", "dropped")):
        op.create_table(
            table,
            *_symbol_and_type(),
            sa.Column(ranges, TSTZMULTIRANGE, nullable=False),
            sa.PrimaryKeyConstraint("symbol", "data_type", name=f"pk_{table}"),
        )


def _symbol_and_type() -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.String(20), nullable=False) for name in ("symbol", "data_type")]


def _create_what_is_to_do() -> None:
    """Ranges that wait for their refresh, how long rows are kept, jobs that wait, writers' positions."""
    op.create_table(
        "pending_refresh",
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("stale", TSTZRANGE, nullable=False),
        sa.Column("refreshed_at", TIME),
        sa.PrimaryKeyConstraint("symbol", "id", name="pk_pending_refresh"),
    )
    op.create_table(
        "retention_periods",
        sa.Column("table_name", sa.String(20), nullable=False),
        sa.Column("kept_for", sa.Interval, nullable=False),
        sa.PrimaryKeyConstraint("table_name", name="pk_retention_periods"),
    )
    op.create_table(
        "paused_jobs",
        # The number is TimescaleDB's.
        sa.Column("job_id", sa.Integer, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_paused_jobs"),
    )
    op.create_table(
        "flush_positions",
        sa.Column("stream", sa.Uuid, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("flushed_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("stream", name="pk_flush_positions"),
    )
    op.create_table(
        "running_jobs",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("symbols", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("behind", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("heard_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("ended_at", TIME),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_running_jobs"),
    )

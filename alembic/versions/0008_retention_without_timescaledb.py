"""Retention without TimescaleDB: how long rows are kept, and the candles that outlive their minutes.

Revision: 0008
Revises: 0007

On plain PostgreSQL 5m, 15m, 30m and 1h were views over the minutes alone: whoever dropped minutes dropped
them too. From here on they are what ``rolled_candles`` holds, and the minutes' own wherever it holds
nothing. 4h, 12h, 1d and 1w stay views over these. On TimescaleDB, whose aggregates are stored anyway and
whose jobs know their periods, both tables stay empty.

Down again, what only ``rolled_candles`` holds is lost: the older schema has no place for it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

AMOUNT = sa.Numeric(20, 10)
# view: minutes, bucket; all of them come from the minutes.
VIEWS = {
    "candles_5m": (5, "5 minutes"),
    "candles_15m": (15, "15 minutes"),
    "candles_30m": (30, "30 minutes"),
    "candles_1h": (60, "1 hour"),
}
# A Monday: as in 0004.
ORIGIN = "TIMESTAMPTZ '2000-01-03 00:00:00+00'"
COLUMNS = (
    "symbol, timestamp, interval_minutes, open, high, low, close, volume, quote_volume, trade_count, vwap"
)


def upgrade() -> None:
    op.create_table(
        "retention_periods",
        sa.Column("table_name", sa.String(20), nullable=False),
        sa.Column("kept_for", sa.Interval, nullable=False),
        sa.PrimaryKeyConstraint("table_name", name="pk_retention_periods"),
    )
    op.create_table(
        "rolled_candles",
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("interval_minutes", sa.SmallInteger, nullable=False),
        sa.Column("timestamp", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("open", AMOUNT, nullable=False),
        sa.Column("high", AMOUNT, nullable=False),
        sa.Column("low", AMOUNT, nullable=False),
        sa.Column("close", AMOUNT, nullable=False),
        # Not cut to the width of a minute's column: an hour may hold more than fits there.
        sa.Column("volume", sa.Numeric, nullable=False),
        sa.Column("quote_volume", sa.Numeric),
        sa.Column("trade_count", sa.Integer),
        sa.Column("vwap", AMOUNT),
        sa.PrimaryKeyConstraint("symbol", "interval_minutes", "timestamp", name="pk_rolled_candles"),
    )
    if _is_hypertable("candles"):
        return
    for view, (minutes, bucket) in VIEWS.items():
        # Not an anti-join, which takes the square of its rows in time where statistics are missing.
        op.execute(
            f"CREATE OR REPLACE VIEW {view} AS SELECT DISTINCT ON (symbol, timestamp) {COLUMNS} FROM ("
            f"SELECT {COLUMNS}, 0 AS rank FROM rolled_candles WHERE interval_minutes = {minutes} UNION ALL"
            f" SELECT {COLUMNS}, 1 AS rank FROM ({_of_minutes(minutes, bucket)}) computed"
            ") candle ORDER BY symbol, timestamp, rank"
        )


def downgrade() -> None:
    if not _is_hypertable("candles"):
        for view, (minutes, bucket) in VIEWS.items():
            op.execute(f"CREATE OR REPLACE VIEW {view} AS {_of_minutes(minutes, bucket)}")
    op.drop_table("rolled_candles")
    op.drop_table("retention_periods")


def _of_minutes(minutes: int, bucket: str) -> str:
    """As 0004 has it."""
    opens_at = f"date_bin(INTERVAL '{bucket}', timestamp, {ORIGIN})"
    return (
        f"SELECT symbol, {opens_at} AS timestamp, CAST({minutes} AS smallint) AS interval_minutes,"
        " (array_agg(open ORDER BY timestamp))[1] AS open, max(high) AS high, min(low) AS low,"
        " (array_agg(close ORDER BY timestamp))[count(*)] AS close, sum(volume) AS volume,"
        " CASE WHEN count(quote_volume) = count(*) THEN sum(quote_volume) END AS quote_volume,"
        " CAST(sum(trade_count) AS integer) AS trade_count,"
        " CAST(sum(vwap * volume) FILTER (WHERE vwap IS NOT NULL)"
        " / NULLIF(sum(volume) FILTER (WHERE vwap IS NOT NULL), 0) AS numeric(20,10)) AS vwap"
        f" FROM candles WHERE interval_minutes = 1 GROUP BY symbol, {opens_at}"
    )


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

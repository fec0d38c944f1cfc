"""Candles of the higher intervals: continuous aggregates with their policies, or views.

Revision: 0004
Revises: 0003

Both have the same names, columns, sources and meaning:

- open is the first, close the last by time; nothing is taken from prices of another interval;
- vwap is the mean of the parts that have one, weighted by volume, and NULL if none has;
- quote_volume is NULL as soon as one part lacks it, since a sum of the rest would be too small;
- volumes are not cut to the width of a minute's column: a week may hold more than fits there.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# view: minutes, source, bucket, refresh: start offset, end offset, schedule.
# The start offsets stay below every sensible retention of the source, and leave two buckets to each
# policy, which TimescaleDB asks for. The end offsets keep a bucket that still grows out of the policy:
# it is read from its source in real time.
VIEWS = {
    "candles_5m": (5, "candles", "5 minutes", "3 days", "5 minutes", "5 minutes"),
    "candles_15m": (15, "candles", "15 minutes", "3 days", "15 minutes", "15 minutes"),
    "candles_30m": (30, "candles", "30 minutes", "3 days", "30 minutes", "30 minutes"),
    "candles_1h": (60, "candles", "1 hour", "3 days", "1 hour", "1 hour"),
    "candles_4h": (240, "candles_1h", "4 hours", "7 days", "4 hours", "4 hours"),
    "candles_12h": (720, "candles_1h", "12 hours", "7 days", "12 hours", "12 hours"),
    "candles_1d": (1440, "candles_1h", "1 day", "14 days", "1 day", "1 day"),
    "candles_1w": (10080, "candles_1d", "7 days", "35 days", "7 days", "7 days"),
}
# A Monday: weeks start there, and every shorter bucket divides a day.
ORIGIN = "TIMESTAMPTZ '2000-01-03 00:00:00+00'"


def upgrade() -> None:
    aggregated = _is_hypertable("candles")
    for view, (minutes, source, bucket, start, end, schedule) in VIEWS.items():
        if aggregated:
            opens_at = f"time_bucket(INTERVAL '{bucket}', timestamp)"
            op.execute(
                f"CREATE MATERIALIZED VIEW {view}"
                " WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS"
                f" {_candles(minutes, source, opens_at, True)}"
                " WITH NO DATA"
            )
            op.execute(
                f"SELECT add_continuous_aggregate_policy('{view}', start_offset => INTERVAL '{start}',"
                f" end_offset => INTERVAL '{end}', schedule_interval => INTERVAL '{schedule}')"
            )
        else:
            opens_at = f"date_bin(INTERVAL '{bucket}', timestamp, {ORIGIN})"
            op.execute(f"CREATE VIEW {view} AS {_candles(minutes, source, opens_at, False)}")


def downgrade() -> None:
    kind = "MATERIALIZED VIEW" if _is_hypertable("candles") else "VIEW"
    for view in reversed(VIEWS):
        op.execute(f"DROP {kind} {view}")


def _candles(minutes: int, source: str, bucket: str, aggregated: bool) -> str:
    if aggregated:
        first, last = "first(open, timestamp)", "last(close, timestamp)"
    else:
        first = "(array_agg(open ORDER BY timestamp))[1]"
        last = "(array_agg(close ORDER BY timestamp))[count(*)]"
    # A table may hold files of other intervals too; the views know their own.
    only_minutes = " WHERE interval_minutes = 1" if source == "candles" else ""
    # The bucket is grouped by its expression: the name alone would mean the column of the source.
    return (
        f"SELECT symbol, {bucket} AS timestamp, CAST({minutes} AS smallint) AS interval_minutes,"
        f" {first} AS open, max(high) AS high, min(low) AS low, {last} AS close,"
        " sum(volume) AS volume,"
        " CASE WHEN count(quote_volume) = count(*) THEN sum(quote_volume) END AS quote_volume,"
        " CAST(sum(trade_count) AS integer) AS trade_count,"
        " CAST(sum(vwap * volume) FILTER (WHERE vwap IS NOT NULL)"
        " / NULLIF(sum(volume) FILTER (WHERE vwap IS NOT NULL), 0) AS numeric(20,10)) AS vwap"
        f" FROM {source}{only_minutes} GROUP BY symbol, {bucket}"
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

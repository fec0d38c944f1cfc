"""Candles of the higher intervals without TimescaleDB: views over what is rolled up, and over minutes.

Revision: 1003
Revises: 1002

A refresh stores 1h to 1w in ``rolled_candles``. What makes the views right at any moment, whoever wrote, in
every transaction's own eyes:

- Whatever changes a minute leaves, in the same transaction, a row in ``pending_refresh``: triggers do it.
- A candle that no such row touches is as ``rolled_candles`` has it. Every other one is computed from minutes.
- A refresh stores candles and takes their row off in one transaction.

5m, 15m and 30m are computed from minutes, hour by hour: to store them takes as long as to store minutes.

A candle whose minutes retention has dropped is ``kept``: while they are missing it is not computed anew.
Weeks and days are spelled in minutes, for a day of the session's time zone may have 23 hours.

Nothing is rolled up here: whatever is stored counts as written just now, and the next refresh rolls it up.
The way back leaves the rows of candles that are kept; the others can be rolled up again.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1003"
down_revision = "1002"
branch_labels = None
depends_on = None

FROM_MINUTES = {"candles_5m": 5, "candles_15m": 15, "candles_30m": 30, "candles_1h": 60}
FROM_HOURS = {"candles_4h": 240, "candles_12h": 720, "candles_1d": 1440}
FROM_DAYS = {"candles_1w": 10080}
WEEK, DAY, HOUR = 10080, 1440, 60
# A Monday: weeks start there, and every shorter bucket divides a day.
ORIGIN = "TIMESTAMPTZ '2000-01-03 00:00:00+00'"
PRICE, AMOUNT = "numeric(20,10)", "numeric(38,10)"
VALUES = "open, high, low, close, volume, quote_volume, trade_count, vwap"
COLUMNS = f"symbol, timestamp, interval_minutes, {VALUES}"


def upgrade() -> None:
    if _is_hypertable("candles"):
        return
    _create_notes()
    op.execute(CANDLE_TIMES)
    op.execute(ALL_IS_STALE)
    op.execute("ANALYZE pending_refresh")
    for view, minutes in FROM_MINUTES.items():
        op.execute(f"CREATE VIEW {view} AS {_from_minutes(minutes)}")
    for view, minutes in FROM_HOURS.items():
        computed = _of_parts(HOUR, minutes, _of_minutes("part.opens_at", HOUR), "bucket.opens_at")
        op.execute(f"CREATE VIEW {view} AS {_stored_or(computed, minutes)}")
    day = _of_parts(HOUR, DAY, _of_minutes("part.opens_at", HOUR), "day.opens_at")
    for view, minutes in FROM_DAYS.items():
        computed = _of_parts(DAY, minutes, day, "bucket.opens_at", name="day")
        op.execute(f"CREATE VIEW {view} AS {_stored_or(computed, minutes)}")


def downgrade() -> None:
    if _is_hypertable("candles"):
        return
    for view in (*FROM_DAYS, *FROM_HOURS, *FROM_MINUTES):
        op.execute(f"DROP VIEW {view}")
    for name in (*ROW_TRIGGERS, "note_truncated_minutes"):
        op.execute(f"DROP TRIGGER {name} ON candles")
    op.execute("DROP TRIGGER note_dropped_minutes ON dropped_ranges")
    # Some of them are a plain store's, some a distributed one's, whose shards keep some triggers.
    for function in (*FUNCTIONS, *FUNCTIONS_ON_SHARDS):
        op.execute(f"DROP FUNCTION IF EXISTS {function} CASCADE")
    op.execute("DELETE FROM rolled_candles WHERE NOT kept")


# --- what is stale ---

ROW_TRIGGERS = {
    "note_inserted_minutes": "AFTER INSERT ON candles REFERENCING NEW TABLE AS changed",
    "note_updated_minutes": "AFTER UPDATE ON candles REFERENCING NEW TABLE AS changed",
    "note_replaced_minutes": "AFTER UPDATE ON candles REFERENCING OLD TABLE AS changed",
    "note_deleted_minutes": "AFTER DELETE ON candles REFERENCING OLD TABLE AS changed",
}
FUNCTIONS = (
    "candle_times(timestamptz, timestamptz, interval)",
    "note_dropped_minutes()",
    "note_changed_minutes()",
    "note_truncated_minutes()",
    "note_stale_minutes(varchar, tstzrange)",
)
FUNCTIONS_ON_SHARDS = ("note_stale_minutes(text, varchar, tstzrange)", "shard_beside(text, text)")
# Retention has stored the candles of what it deletes.
UNLESS_RETENTION = "WHEN (current_setting('kraken_db.retention', true) IS DISTINCT FROM 'on')"
# Touching ranges become one, or a download of years would leave thousands. The row is a new one: a refresh
# that is at work on the old one has not seen this. What others hold is theirs; nobody waits for anybody.
# In the stricter isolations a row that was changed is an error.
NOTE_RANGE = """
    CREATE FUNCTION note_stale_minutes(of_symbol varchar, changed tstzrange) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
    BEGIN
        IF current_setting('transaction_isolation') = 'read committed' THEN
            WITH touching AS MATERIALIZED (
                SELECT id, stale FROM pending_refresh
                WHERE symbol = of_symbol AND refreshed_at IS NULL
                  AND (stale && changed OR stale -|- changed)
                FOR UPDATE SKIP LOCKED
            ), gone AS (
                DELETE FROM pending_refresh WHERE symbol = of_symbol AND id IN (SELECT id FROM touching)
            )
            INSERT INTO pending_refresh (symbol, stale)
            SELECT of_symbol, tstzrange(least(lower(changed), min(lower(stale))),
                                        greatest(upper(changed), max(upper(stale))))
            FROM touching;
        ELSE
            INSERT INTO pending_refresh (symbol, stale) VALUES (of_symbol, changed);
        END IF;
    END $$
"""
# One range for weeks that follow each other: two minutes that lie years apart do not make the years stale.
# Who writes a million rows and knows their span says so: they need not be looked through.
NOTE_CHANGED = f"""
    CREATE FUNCTION note_changed_minutes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {{schema}}, pg_temp AS $$
    BEGIN
        IF current_setting('kraken_db.span', true) <> '' THEN
            PERFORM note_stale_minutes(CAST(current_setting('kraken_db.symbol') AS varchar),
                                       CAST(current_setting('kraken_db.span') AS tstzrange))
            WHERE EXISTS (SELECT 1 FROM changed);
            RETURN NULL;
        END IF;
        PERFORM note_stale_minutes(symbol, tstzrange(min(first), max(last) + INTERVAL '1 minute'))
        FROM (
            SELECT symbol, first, last,
                   week - row_number() OVER (PARTITION BY symbol ORDER BY week) * INTERVAL '{WEEK} minutes'
            FROM (
                SELECT symbol, date_bin(INTERVAL '{WEEK} minutes', timestamp, {ORIGIN}),
                       min(timestamp), max(timestamp)
                FROM changed WHERE interval_minutes = 1 AND isfinite(timestamp) GROUP BY 1, 2
            ) weeks(symbol, week, first, last)
        ) runs(symbol, first, last, run)
        GROUP BY symbol, run;
        RETURN NULL;
    END $$
"""
NOTE_TRUNCATED = """
    CREATE FUNCTION note_truncated_minutes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
    BEGIN
        PERFORM note_stale_minutes(symbol, tstzrange(min(timestamp), max(timestamp) + INTERVAL '1 hour'))
        FROM rolled_candles WHERE interval_minutes = 60 GROUP BY symbol;
        RETURN NULL;
    END $$
"""
# Where minutes are no longer missing, a candle that was kept gives way to what they say, if only nothing.
NOTE_DROPPED = """
    CREATE FUNCTION note_dropped_minutes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
    DECLARE
        before tstzmultirange := CASE WHEN TG_OP = 'INSERT' THEN '{}' ELSE OLD.dropped END;
        now tstzmultirange := CASE WHEN TG_OP = 'DELETE' THEN '{}' ELSE NEW.dropped END;
        changed tstzmultirange := (before - now) + (now - before);
        of_symbol varchar := CASE WHEN TG_OP = 'DELETE' THEN OLD.symbol ELSE NEW.symbol END;
        of_type varchar := CASE WHEN TG_OP = 'DELETE' THEN OLD.data_type ELSE NEW.data_type END;
    BEGIN
        IF of_type = 'candles_1m' AND NOT isempty(changed) THEN
            PERFORM note_stale_minutes(of_symbol, range_merge(changed));
        END IF;
        RETURN NULL;
    END $$
"""
# From symbol to symbol by the index, without a look at every row.
ALL_IS_STALE = """
    WITH RECURSIVE symbols(symbol) AS (
        SELECT min(symbol) FROM candles
        UNION ALL
        SELECT (SELECT min(c.symbol) FROM candles c WHERE c.symbol > s.symbol)
        FROM symbols s WHERE s.symbol IS NOT NULL
    ), stored(symbol, first, last) AS (
        SELECT symbol,
               (SELECT min(c.timestamp) FROM candles c
                WHERE c.symbol = s.symbol AND c.interval_minutes = 1),
               (SELECT max(c.timestamp) FROM candles c
                WHERE c.symbol = s.symbol AND c.interval_minutes = 1)
        FROM symbols s WHERE s.symbol IS NOT NULL
        UNION ALL
        SELECT symbol, min(timestamp), max(timestamp) + INTERVAL '59 minutes'
        FROM rolled_candles WHERE interval_minutes = 60 GROUP BY symbol
    )
    INSERT INTO pending_refresh (symbol, stale)
    SELECT symbol, tstzrange(min(first), max(last) + INTERVAL '1 minute')
    FROM stored WHERE first IS NOT NULL GROUP BY symbol
"""
# Its cost is told small, since next to nothing waits at most times. Otherwise the planner, which believes in
# a thousand rows, compiles the views' every query (jit) for longer than it runs. STRICT keeps it a function.
CANDLE_TIMES = """
    CREATE FUNCTION candle_times(first timestamptz, last timestamptz, length interval)
    RETURNS SETOF timestamptz LANGUAGE sql STABLE STRICT PARALLEL SAFE ROWS 1
    BEGIN ATOMIC SELECT generate_series(first, last, length); END
"""


def _create_notes() -> None:
    # Whoever may write minutes, with whatever search path, can write the note.
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    for function in (NOTE_RANGE, NOTE_CHANGED, NOTE_TRUNCATED, NOTE_DROPPED):
        op.execute(function.replace("{schema}", schema))
    op.execute("REVOKE EXECUTE ON FUNCTION note_stale_minutes(varchar, tstzrange) FROM PUBLIC")
    for name, event in ROW_TRIGGERS.items():
        op.execute(
            f"CREATE TRIGGER {name} {event} FOR EACH STATEMENT {UNLESS_RETENTION}"
            " EXECUTE FUNCTION note_changed_minutes()"
        )
    op.execute(
        "CREATE TRIGGER note_truncated_minutes AFTER TRUNCATE ON candles FOR EACH STATEMENT"
        " EXECUTE FUNCTION note_truncated_minutes()"
    )
    op.execute(
        "CREATE TRIGGER note_dropped_minutes AFTER INSERT OR UPDATE OR DELETE ON dropped_ranges"
        f" FOR EACH ROW {UNLESS_RETENTION} EXECUTE FUNCTION note_dropped_minutes()"
    )


def _lifetime(opens_at: str, minutes: int) -> str:
    return f"tstzrange({opens_at}, {opens_at} + INTERVAL '{minutes} minutes')"


def _rolled(minutes: int) -> str:
    """Of ``rolled_candles``, what no change has touched since."""
    # All notes of a symbol as one: hundreds of them cost no more than one does. A condition on the symbol
    # of a candle becomes one on the symbol of the notes.
    return (
        "FROM rolled_candles r LEFT JOIN ("
        "SELECT p.symbol, range_agg(p.stale) AS stale FROM pending_refresh p GROUP BY p.symbol"
        f") noted ON noted.symbol = r.symbol WHERE r.interval_minutes = {minutes}"
        f" AND (noted.stale IS NULL OR NOT noted.stale && {_lifetime('r.timestamp', minutes)})"
    )


def _stale(minutes: int) -> str:
    """Symbol and open time of every candle that a change has touched."""
    length = f"INTERVAL '{minutes} minutes'"
    return (
        "SELECT DISTINCT p.symbol, waiting.opens_at FROM pending_refresh p, LATERAL candle_times("
        f"date_bin({length}, lower(p.stale), {ORIGIN}), upper(p.stale) - INTERVAL '1 microsecond', {length})"
        " waiting(opens_at)"
    )


# --- candles ---


def _from_minutes(minutes: int) -> str:
    if minutes == HOUR:
        return _stored_or(_of_minutes("bucket.opens_at", HOUR), HOUR)
    opens_at = f"hour.opens_at + part.number * INTERVAL '{minutes} minutes'"
    return (
        "SELECT bucket.symbol, bucket.opens_at AS timestamp,"
        f" CAST({minutes} AS smallint) AS interval_minutes, {_prefixed('candle')}"
        f" FROM (SELECT hour.symbol, {opens_at} AS opens_at FROM ("
        f"SELECT r.symbol, r.timestamp AS opens_at {_rolled(HOUR)} UNION ALL {_stale(HOUR)}) hour,"
        f" generate_series(0, {HOUR // minutes - 1}) part(number)) bucket,"
        f" LATERAL ({_of_minutes('bucket.opens_at', minutes)}) candle"
    )


def _stored_or(computed: str, minutes: int) -> str:
    """The candles of an interval; ``computed`` gives that of ``bucket``."""
    return (
        f"SELECT {_prefixed('r', COLUMNS)} {_rolled(minutes)} UNION ALL"
        f" SELECT bucket.symbol, bucket.opens_at, CAST({minutes} AS smallint), {_prefixed('candle')}"
        f" FROM ({_stale(minutes)}) bucket, LATERAL ({computed}) candle"
    )


def _of_minutes(opens_at: str, minutes: int) -> str:
    """One candle of the symbol of ``bucket``, or none: the kept one while its minutes are missing."""
    kept = (
        f"FROM rolled_candles k WHERE k.symbol = bucket.symbol AND k.interval_minutes = {minutes}"
        f" AND k.timestamp = {opens_at} AND k.kept AND EXISTS (SELECT 1 FROM dropped_ranges d"
        f" WHERE d.symbol = bucket.symbol AND d.data_type = 'candles_1m'"
        f" AND d.dropped && {_lifetime(opens_at, minutes)})"
    )
    return (
        f"SELECT {_prefixed('k')} {kept} UNION ALL SELECT {_aggregates('m')} FROM candles m"
        f" WHERE m.symbol = bucket.symbol AND m.interval_minutes = 1 AND m.timestamp >= {opens_at}"
        f" AND m.timestamp < {opens_at} + INTERVAL '{minutes} minutes' AND NOT EXISTS (SELECT 1 {kept})"
        " HAVING count(*) > 0"
    )


def _of_parts(length: int, minutes: int, of_part: str, opens_at: str, name: str = "part") -> str:
    """One candle of the symbol of ``bucket``, or none, from parts that are computed one by one."""
    last = f"{opens_at} + INTERVAL '{minutes - length} minutes'"
    return (
        f"SELECT {_aggregates('c')} FROM (SELECT {name}.opens_at AS timestamp, {_prefixed('candle')} FROM"
        f" candle_times({opens_at}, {last}, INTERVAL '{length} minutes') {name}(opens_at),"
        f" LATERAL ({of_part}) candle) c HAVING count(*) > 0"
    )


def _prefixed(table: str, columns: str = VALUES) -> str:
    return ", ".join(f"{table}.{name}" for name in columns.split(", "))


def _aggregates(source: str) -> str:
    """The meaning of each column is that of the revision before."""
    s = source
    return (
        f"CAST((array_agg({s}.open ORDER BY {s}.timestamp))[1] AS {PRICE}) AS open,"
        f" CAST(max({s}.high) AS {PRICE}) AS high, CAST(min({s}.low) AS {PRICE}) AS low,"
        f" CAST((array_agg({s}.close ORDER BY {s}.timestamp))[count(*)] AS {PRICE}) AS close,"
        f" CAST(sum({s}.volume) AS {AMOUNT}) AS volume,"
        f" CAST(CASE WHEN count({s}.quote_volume) = count(*) THEN sum({s}.quote_volume) END"
        f" AS {AMOUNT}) AS quote_volume, CAST(sum({s}.trade_count) AS integer) AS trade_count,"
        f" CAST(CASE WHEN count(*) FILTER (WHERE {s}.volume > 0 AND {s}.vwap IS NULL) = 0"
        f" THEN sum({s}.vwap * {s}.volume) / NULLIF(sum({s}.volume), 0) END AS {PRICE}) AS vwap"
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

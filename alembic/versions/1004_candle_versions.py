"""A version of the candles of each symbol and month, for those who keep copies of them.

Revision: 1004
Revises: 1003

Whatever changes what can be read of a symbol's candles puts, in the same transaction, a row with a new random
number into ``candle_versions``: triggers do it, whoever writes. So two readers that see the same rows of a
symbol and month see the same candles, and a number never comes back, not even in a restored database.

- Rows are only added, and replaced by those who need not wait for it: writers of one symbol and month don't
  wait for each other, and cannot deadlock. Most of the time there is one row of each symbol and month.
- ``month`` is when a month begins, in UTC. ``-infinity`` stands for all months of a symbol, and an empty
  symbol for all symbols. The row of all symbols that is made here names this store.
- Whoever knows the span of a million new rows says so (see the revision before): they are not looked through.
- TimescaleDB has no transition tables for deleted rows, and none at all before 2.18: triggers on rows then.
- Chunks that are dropped, and the time up to which an aggregate is stored, are in TimescaleDB's own catalog:
  readers look at them there.
"""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TIMESTAMP

revision = "1004"
down_revision = "1003"
branch_labels = None
depends_on = None

ANY_MONTH = "TIMESTAMPTZ '-infinity'"
VIEWS = (
    "candles_5m",
    "candles_15m",
    "candles_30m",
    "candles_1h",
    "candles_4h",
    "candles_12h",
    "candles_1d",
    "candles_1w",
)
TRANSITION_TABLES_FROM = (2, 18)
MOST_MONTHS = 1200

# A transaction that has renewed a version need not do so again. What others hold is theirs; nobody waits for
# anybody. In the stricter isolations a row that was changed is an error. In SERIALIZABLE a read ties two
# writers together, and one of them fails: nothing is looked up there.
RENEW = """
    CREATE FUNCTION renew_candle_versions(of_symbol varchar, of_months timestamptz[]) RETURNS void
    LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('transaction_isolation') = 'read committed' THEN
            WITH fresh AS MATERIALIZED (
                SELECT m.month FROM unnest(of_months) m(month)
                WHERE NOT EXISTS (SELECT 1 FROM candle_versions own WHERE own.symbol = of_symbol
                                  AND own.month = m.month AND own.xmin = CAST(pg_current_xact_id() AS xid))
            ), old AS MATERIALIZED (
                SELECT v.month, v.version FROM candle_versions v
                WHERE v.symbol = of_symbol AND v.month IN (SELECT month FROM fresh)
                FOR UPDATE SKIP LOCKED
            ), gone AS (
                DELETE FROM candle_versions v USING old
                WHERE v.symbol = of_symbol AND v.month = old.month AND v.version = old.version
            )
            INSERT INTO candle_versions (symbol, month, version)
            SELECT of_symbol, month, gen_random_uuid() FROM fresh;
        ELSIF current_setting('transaction_isolation') = 'serializable' THEN
            INSERT INTO candle_versions (symbol, month, version)
            SELECT of_symbol, m.month, gen_random_uuid() FROM unnest(of_months) m(month);
        ELSE
            INSERT INTO candle_versions (symbol, month, version)
            SELECT of_symbol, m.month, gen_random_uuid() FROM unnest(of_months) m(month)
            WHERE NOT EXISTS (SELECT 1 FROM candle_versions own WHERE own.symbol = of_symbol
                              AND own.month = m.month AND own.xmin = CAST(pg_current_xact_id() AS xid));
        END IF;
    END $$
"""
# Of a span without an end, or of centuries: all months at once.
RENEW_SPAN = f"""
    CREATE FUNCTION renew_candle_span(of_symbol varchar, span tstzrange) RETURNS void
    LANGUAGE plpgsql AS $$
    DECLARE
        first timestamptz := date_trunc('month', lower(span), 'UTC');
        last timestamptz := date_trunc('month', upper(span) - INTERVAL '1 microsecond', 'UTC');
    BEGIN
        IF isempty(span) THEN
            RETURN;
        END IF;
        IF isfinite(first) IS NOT TRUE OR isfinite(last) IS NOT TRUE
           OR last - first > INTERVAL '{MOST_MONTHS * 31} days' THEN
            PERFORM renew_candle_versions(of_symbol, ARRAY[{ANY_MONTH}]);
        ELSE
            PERFORM renew_candle_versions(of_symbol, ARRAY(
                SELECT m AT TIME ZONE 'UTC' FROM generate_series(
                    first AT TIME ZONE 'UTC', last AT TIME ZONE 'UTC', INTERVAL '1 month') m));
        END IF;
    END $$
"""
CHANGED = """
    CREATE FUNCTION renew_changed_candles() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
    BEGIN
        IF TG_OP = 'INSERT' AND current_setting('kraken_db.span', true) <> '' THEN
            PERFORM renew_candle_span(CAST(current_setting('kraken_db.symbol') AS varchar),
                                      CAST(current_setting('kraken_db.span') AS tstzrange))
            WHERE EXISTS (SELECT 1 FROM changed);
            RETURN NULL;
        END IF;
        PERFORM renew_candle_versions(symbol, array_agg(month))
        FROM (SELECT DISTINCT symbol, date_trunc('month', timestamp, 'UTC')
              FROM changed WHERE isfinite(timestamp)) months(symbol, month)
        GROUP BY symbol;
        RETURN NULL;
    END $$
"""
# Row after row of one month: only the first of them has something to do.
CHANGED_ROW = """
    CREATE FUNCTION renew_changed_candle() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
    DECLARE
        month timestamptz;
        done text;
    BEGIN
        IF TG_OP <> 'INSERT' AND isfinite(OLD.timestamp) THEN
            month := date_trunc('month', OLD.timestamp, 'UTC');
            done := format('%s %s %s', pg_current_xact_id(), OLD.symbol, extract(epoch FROM month));
            IF current_setting('kraken_db.renewed', true) IS DISTINCT FROM done THEN
                PERFORM renew_candle_versions(OLD.symbol, ARRAY[month]);
                PERFORM set_config('kraken_db.renewed', done, true);
            END IF;
        END IF;
        IF TG_OP <> 'DELETE' AND isfinite(NEW.timestamp) THEN
            month := date_trunc('month', NEW.timestamp, 'UTC');
            done := format('%s %s %s', pg_current_xact_id(), NEW.symbol, extract(epoch FROM month));
            IF current_setting('kraken_db.renewed', true) IS DISTINCT FROM done THEN
                PERFORM renew_candle_versions(NEW.symbol, ARRAY[month]);
                PERFORM set_config('kraken_db.renewed', done, true);
            END IF;
        END IF;
        RETURN NULL;
    END $$
"""
TRUNCATED = f"""
    CREATE FUNCTION renew_truncated_candles() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {{schema}}, pg_temp AS $$
    BEGIN
        PERFORM renew_candle_versions(CAST('' AS varchar), ARRAY[{ANY_MONTH}]);
        RETURN NULL;
    END $$
"""
# Where minutes are missing, candles that were kept count.
DROPPED = """
    CREATE FUNCTION renew_dropped_candles() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
    DECLARE
        before tstzmultirange := CASE WHEN TG_OP = 'INSERT' THEN '{}' ELSE OLD.dropped END;
        now tstzmultirange := CASE WHEN TG_OP = 'DELETE' THEN '{}' ELSE NEW.dropped END;
        changed tstzmultirange := (before - now) + (now - before);
    BEGIN
        IF TG_OP = 'UPDATE' AND (OLD.symbol <> NEW.symbol OR OLD.data_type <> NEW.data_type) THEN
            changed := before + now;
        END IF;
        IF TG_OP <> 'INSERT' THEN
            PERFORM renew_candle_span(OLD.symbol, range_merge(changed));
        END IF;
        IF TG_OP <> 'DELETE' THEN
            PERFORM renew_candle_span(NEW.symbol, range_merge(changed));
        END IF;
        RETURN NULL;
    END $$
"""
# A candle that a note touches is computed, and not read as it is stored. Notes of changed minutes come with
# the change; whoever adds or takes one off by itself is the other case.
NOTED = """
    CREATE FUNCTION renew_noted_candles() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            PERFORM renew_candle_span(OLD.symbol, OLD.stale);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            PERFORM renew_candle_span(NEW.symbol, NEW.stale);
        END IF;
        RETURN NULL;
    END $$
"""
FUNCTIONS = {
    "renew_candle_versions(varchar, timestamptz[])": RENEW,
    "renew_candle_span(varchar, tstzrange)": RENEW_SPAN,
    "renew_changed_candles()": CHANGED,
    "renew_changed_candle()": CHANGED_ROW,
    "renew_truncated_candles()": TRUNCATED,
}
# What a distributed store has instead, whose shards keep some triggers.
FUNCTIONS_ON_SHARDS = (
    "renew_candle_versions(text, varchar, timestamptz[])",
    "renew_candle_span(text, varchar, tstzrange)",
    "candle_store()",
)
PLAIN_FUNCTIONS = {"renew_dropped_candles()": DROPPED, "renew_noted_candles()": NOTED}
BY_STATEMENT = {
    "renew_inserted_candles": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS changed",
    "renew_updated_candles": "AFTER UPDATE ON {table} REFERENCING NEW TABLE AS changed",
    "renew_replaced_candles": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS changed",
    "renew_deleted_candles": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS changed",
}
BY_ROW = {
    "renew_inserted_candles": "AFTER INSERT ON {table}",
    "renew_updated_candles": "AFTER UPDATE ON {table}",
    "renew_deleted_candles": "AFTER DELETE ON {table}",
}
# What plain PostgreSQL reads higher intervals from, beside the candles that it stores.
NOTES = {"dropped_ranges": "renew_dropped_candles", "pending_refresh": "renew_noted_candles"}


def upgrade() -> None:
    op.create_table(
        "candle_versions",
        sa.Column("symbol", sa.String(20), nullable=False),
        sa.Column("month", TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.Uuid, nullable=False),
        sa.PrimaryKeyConstraint("symbol", "month", "version", name="pk_candle_versions"),
    )
    op.execute(f"INSERT INTO candle_versions VALUES ('', {ANY_MONTH}, gen_random_uuid())")
    # Whoever may write candles, with whatever search path, can renew their version: the triggers are the
    # owner, with a search path of ours. What they call needs neither, and costs less without.
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    aggregates = _aggregates()
    for function in _functions(aggregates).values():
        op.execute(function.replace("{schema}", schema))
    for signature in list(FUNCTIONS)[:2]:
        op.execute(f"REVOKE EXECUTE ON FUNCTION {signature} FROM PUBLIC")
    for _, trigger in _triggers(aggregates):
        op.execute(f"CREATE TRIGGER {trigger}")


def downgrade() -> None:
    aggregates = _aggregates()
    for table, trigger in _triggers(aggregates):
        op.execute(f"DROP TRIGGER IF EXISTS {trigger.split()[0]} ON {table}")
    for signature in (*reversed(_functions(aggregates)), *FUNCTIONS_ON_SHARDS):
        op.execute(f"DROP FUNCTION IF EXISTS {signature} CASCADE")
    op.drop_table("candle_versions")


def _functions(aggregates: list[str]) -> dict[str, str]:
    return FUNCTIONS if aggregates else {**FUNCTIONS, **PLAIN_FUNCTIONS}


def _triggers(aggregates: list[str]) -> Iterator[tuple[str, str]]:
    """Each table with each of its triggers: a name and what it does."""
    by_statement, by_row = _events(is_hypertable=bool(aggregates))
    stored = ["candles", *(aggregates or ["rolled_candles"])]
    for table in stored:
        for name, event in by_statement.items():
            does = "FOR EACH STATEMENT EXECUTE FUNCTION renew_changed_candles()"
            yield table, f"{name} {event.format(table=table)} {does}"
        for name, event in by_row.items():
            yield (
                table,
                f"{name} {event.format(table=table)} FOR EACH ROW EXECUTE FUNCTION renew_changed_candle()",
            )
    notes = {} if aggregates else NOTES
    for table in (*stored, *notes):
        does = "FOR EACH STATEMENT EXECUTE FUNCTION renew_truncated_candles()"
        yield table, f"renew_truncated_candles AFTER TRUNCATE ON {table} {does}"
    for table, name in notes.items():
        # Deeper down, the triggers on minutes are at work.
        does = f"FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION {name}()"
        yield table, f"{name} AFTER INSERT OR UPDATE OR DELETE ON {table} {does}"


def _events(*, is_hypertable: bool) -> tuple[dict[str, str], dict[str, str]]:
    """The triggers on statements, and those on rows."""
    if not is_hypertable:
        return BY_STATEMENT, {}
    version = op.get_bind().scalar(
        sa.text("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    )
    if tuple(int(part) for part in version.split("-")[0].split(".")[:2]) < TRANSITION_TABLES_FROM:
        return {}, BY_ROW
    deleted = "renew_deleted_candles"
    by_statement = {name: event for name, event in BY_STATEMENT.items() if name != deleted}
    return by_statement, {deleted: BY_ROW[deleted]}


def _aggregates() -> list[str]:
    """The tables behind the aggregates; none on plain PostgreSQL."""
    connection = op.get_bind()
    if not connection.scalar(sa.text("SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'")):
        return []
    rows = connection.scalars(
        sa.text(
            "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
            " FROM timescaledb_information.continuous_aggregates"
            " WHERE view_schema = current_schema() AND view_name = ANY(:views) ORDER BY 1"
        ),
        {"views": list(VIEWS)},
    )
    return list(rows)

"""The versions of candles on a distributed store: renewed by triggers on the shards.

What a version says is as on plain PostgreSQL (revision 1004). Three things differ:

- A version lies beside the candles that it vouches for, and so does its trigger: both change on one node, in
  one transaction of it, and who reads one symbol there sees both in one snapshot.
- Nothing on one node can say something of all symbols. So each symbol that has candles has a version, and a
  TRUNCATE renews one of every symbol. The name of the store is a function.
- Whoever knows the span of a million new rows notes it as stale afterwards: that note renews the versions.
"""

from __future__ import annotations

ANY_MONTH = "TIMESTAMPTZ '-infinity'"
_MOST_MONTHS = 1200
NAME_SYMBOLS = f"""
    INSERT INTO candle_versions (symbol, month, version)
    SELECT symbol, {ANY_MONTH}, gen_random_uuid()
    FROM (SELECT symbol FROM candles UNION SELECT symbol FROM rolled_candles) stored
"""
"""Run before the tables are distributed: their rows move without a trigger."""

_NAME = """
    CREATE FUNCTION candle_store() RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT '{name}' $$
"""
# In the stricter isolations a row that was changed is an error, and in SERIALIZABLE a read ties two writers
# together: rows are only added there.
_RENEW = """
    CREATE FUNCTION renew_candle_versions(shard text, of_symbol varchar, of_months timestamptz[]) RETURNS void
    {as_owner}
    DECLARE
        versions text := shard_beside(shard, 'candle_versions');
    BEGIN
        IF current_setting('transaction_isolation') = 'read committed' THEN
            EXECUTE format($renew$
                WITH fresh AS MATERIALIZED (
                    SELECT m.month FROM unnest($2) m(month)
                    WHERE NOT EXISTS (SELECT 1 FROM %1$s own WHERE own.symbol = $1 AND own.month = m.month
                                      AND own.xmin = CAST(pg_current_xact_id() AS xid))
                ), old AS MATERIALIZED (
                    SELECT v.month, v.version FROM %1$s v
                    WHERE v.symbol = $1 AND v.month IN (SELECT month FROM fresh)
                    FOR UPDATE SKIP LOCKED
                ), gone AS (
                    DELETE FROM %1$s v USING old
                    WHERE v.symbol = $1 AND v.month = old.month AND v.version = old.version
                )
                INSERT INTO %1$s (symbol, month, version) SELECT $1, month, gen_random_uuid() FROM fresh
            $renew$, versions) USING of_symbol, of_months;
        ELSE
            EXECUTE format('INSERT INTO %s (symbol, month, version)'
                           ' SELECT $1, m.month, gen_random_uuid() FROM unnest($2) m(month)', versions)
            USING of_symbol, of_months;
        END IF;
    END $$
"""
# Of a span without an end, or of centuries: all months at once.
_RENEW_SPAN = f"""
    CREATE FUNCTION renew_candle_span(shard text, of_symbol varchar, span tstzrange) RETURNS void
    {{as_owner}}
    DECLARE
        first timestamptz := date_trunc('month', lower(span), 'UTC');
        last timestamptz := date_trunc('month', upper(span) - INTERVAL '1 microsecond', 'UTC');
    BEGIN
        IF isempty(span) THEN
            RETURN;
        END IF;
        PERFORM renew_candle_versions(shard, of_symbol, CASE
            WHEN isfinite(first) IS NOT TRUE OR isfinite(last) IS NOT TRUE
                 OR last - first > INTERVAL '{_MOST_MONTHS * 31} days' THEN ARRAY[{ANY_MONTH}]
            ELSE ARRAY(SELECT m AT TIME ZONE 'UTC' FROM generate_series(
                first AT TIME ZONE 'UTC', last AT TIME ZONE 'UTC', INTERVAL '1 month') m)
        END);
    END $$
"""
_CHANGED = """
    CREATE FUNCTION renew_changed_candles() RETURNS trigger
    {as_owner}
    BEGIN
        PERFORM renew_candle_versions(TG_TABLE_NAME, symbol, array_agg(month))
        FROM (SELECT DISTINCT symbol, date_trunc('month', timestamp, 'UTC')
              FROM changed WHERE isfinite(timestamp)) months(symbol, month)
        GROUP BY symbol;
        RETURN NULL;
    END $$
"""
# No shard has a trigger of this kind: a TRUNCATE is told to the table, on the coordinator.
_TRUNCATED = f"""
    CREATE FUNCTION renew_truncated_candles() RETURNS trigger
    {{as_owner}}
    BEGIN
        INSERT INTO candle_versions (symbol, month, version)
        SELECT symbol, {ANY_MONTH}, gen_random_uuid() FROM candle_versions GROUP BY symbol;
        RETURN NULL;
    END $$
"""
_DROPPED = """
    CREATE FUNCTION renew_dropped_candles() RETURNS trigger
    {as_owner}
    DECLARE
        before tstzmultirange := CASE WHEN TG_OP = 'INSERT' THEN '{}' ELSE OLD.dropped END;
        now tstzmultirange := CASE WHEN TG_OP = 'DELETE' THEN '{}' ELSE NEW.dropped END;
        changed tstzmultirange := (before - now) + (now - before);
    BEGIN
        IF TG_OP = 'UPDATE' AND OLD.data_type <> NEW.data_type THEN
            changed := before + now;
        END IF;
        PERFORM renew_candle_span(
            TG_TABLE_NAME, CASE WHEN TG_OP = 'DELETE' THEN OLD.symbol ELSE NEW.symbol END,
            range_merge(changed));
        RETURN NULL;
    END $$
"""
_NOTED = """
    CREATE FUNCTION renew_noted_candles() RETURNS trigger
    {as_owner}
    BEGIN
        IF TG_OP <> 'INSERT' THEN
            PERFORM renew_candle_span(TG_TABLE_NAME, OLD.symbol, OLD.stale);
        END IF;
        IF TG_OP <> 'DELETE' THEN
            PERFORM renew_candle_span(TG_TABLE_NAME, NEW.symbol, NEW.stale);
        END IF;
        RETURN NULL;
    END $$
"""
FUNCTIONS = (_NAME, _RENEW, _RENEW_SPAN, _CHANGED, _TRUNCATED, _DROPPED, _NOTED)
_BY_STATEMENT = {
    "renew_inserted_candles": "AFTER INSERT ON {table} REFERENCING NEW TABLE AS changed",
    "renew_updated_candles": "AFTER UPDATE ON {table} REFERENCING NEW TABLE AS changed",
    "renew_replaced_candles": "AFTER UPDATE ON {table} REFERENCING OLD TABLE AS changed",
    "renew_deleted_candles": "AFTER DELETE ON {table} REFERENCING OLD TABLE AS changed",
}
_BY_ROW = {"dropped_ranges": "renew_dropped_candles", "pending_refresh": "renew_noted_candles"}


def triggers(unless_noted: str) -> list[str]:
    """The statements that make them; ``unless_noted``: the condition for rows whose note follows."""
    made = []
    for table in ("candles", "rolled_candles"):
        for name, event in _BY_STATEMENT.items():
            when = unless_noted if name == "renew_inserted_candles" and table == "candles" else ""
            does = f"FOR EACH STATEMENT {when} EXECUTE FUNCTION renew_changed_candles()"
            made.append(f"CREATE TRIGGER {name} {event.format(table=table)} {does}")
    for table in ("candles", "rolled_candles", *_BY_ROW):
        does = "FOR EACH STATEMENT EXECUTE FUNCTION renew_truncated_candles()"
        made.append(f"CREATE TRIGGER renew_truncated_candles AFTER TRUNCATE ON {table} {does}")
    for table, name in _BY_ROW.items():
        # Deeper down, the triggers on minutes are at work.
        does = f"FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION {name}()"
        made.append(f"CREATE TRIGGER {name} AFTER INSERT OR UPDATE OR DELETE ON {table} {does}")
    return made

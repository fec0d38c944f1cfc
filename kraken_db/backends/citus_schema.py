"""A schema made into that of a distributed store: Citus has the rows of each symbol on one of its nodes.

Every table of rows is distributed by symbol, and all of them alike: what belongs to one symbol lies on one
node, where statements about it run as on plain PostgreSQL. What is of the store as a whole (policies, running
jobs, positions of writers, the revision) stays a table of the coordinator.

Two things of the schema are other ones there. The views of the higher intervals are those of
``citus_candles``. And triggers are on the shards: one cannot write into a table, but into the shard of that
table which lies beside its own (``shard_beside``). Whoever knows what becomes stale says that it is noted
(``kraken_db.noted``). The versions of candles are renewed likewise: ``citus_versions``.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import citus_versions
from kraken_db.backends.citus_candles import VIEWS, view_query
from kraken_db.db.engine import Database
from kraken_db.db.migrations import is_distributed
from kraken_db.errors import ConfigurationError
from kraken_db.intervals import GRID_ORIGIN_EPOCH

TABLES = (
    "trades",
    "candles",
    "rolled_candles",
    "data_sync_status",
    "data_coverage",
    "unproven_ranges",
    "dropped_ranges",
    "pending_refresh",
    "candle_versions",
)
"""The tables that are distributed; the first one decides where a symbol is."""
_EXTENSIONS = text("SELECT extname FROM pg_extension WHERE extname IN ('citus', 'timescaledb')")
# On all nodes. What a node expects of the higher intervals is large enough to have their statements compiled:
# 0.4 s for each, where 0.05 s would do. Who does not own the database cannot set it.
_NO_JIT = """
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET jit TO off', current_database());
    EXCEPTION WHEN insufficient_privilege THEN NULL;
    END $$
"""
_IS_AVAILABLE = text("SELECT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'citus')")
_NODES = text("SELECT count(*) FROM pg_dist_node WHERE isactive AND shouldhaveshards")
_SHARDS = text("SELECT count(*) FROM pg_dist_shard WHERE logicalrelid = 'trades'::regclass")


@dataclass(frozen=True, slots=True)
class Distribution:
    """How many shards a distributed store has, on how many nodes; ``is_new``: they were made just now."""

    shards: int
    nodes: int
    is_new: bool


async def require_citus(url: str) -> None:
    """Raise ConfigurationError where the database at ``url`` cannot be distributed: see ``distribute``."""
    database = await Database.open(url, pool_max_size=0)
    try:
        async with database.read() as connection:
            if "timescaledb" in set(await connection.scalars(_EXTENSIONS)):
                raise ConfigurationError(
                    "a database with TimescaleDB cannot be distributed",
                    hint="use a database of its own for Citus, and fill it: kraken-db db copy FROM TO",
                )
            if not await connection.scalar(_IS_AVAILABLE):
                raise ConfigurationError(
                    "this server has no Citus", hint="connect to the coordinator of a cluster of Citus"
                )
    finally:
        await database.close()


async def distribute(url: str) -> Distribution:
    """Distribute the tables of the store at ``url``, whose schema is the newest one, with all their rows.

    In one transaction: whole or not at all; where it is done already, nothing happens. Raises
    ConfigurationError where Citus is not there, and on TimescaleDB; and PermissionDeniedError.
    """
    await require_citus(url)
    database = await Database.open(url, pool_max_size=0)
    try:
        async with database.begin() as connection:
            is_new = await _distribute(connection)
        async with database.read() as connection:
            shards, nodes = [await connection.scalar(one) or 0 for one in (_SHARDS, _NODES)]
        return Distribution(shards, nodes, is_new)
    finally:
        await database.close()


async def _distribute(connection: AsyncConnection) -> bool:
    if "citus" not in set(await connection.scalars(_EXTENSIONS)):
        await connection.execute(text("CREATE EXTENSION citus"))
    await connection.exec_driver_sql(_NO_JIT)
    if await is_distributed(connection):
        return False
    # Each shard would be made on a connection of its own otherwise, which do not see each other's work.
    await connection.execute(text("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'"))
    views = (f"CREATE VIEW {view} AS {view_query(view)}" for view in VIEWS)
    schema = await connection.scalar(text("SELECT quote_ident(current_schema())"))
    made = (*await _gone(connection), citus_versions.NAME_SYMBOLS, *_distributed(), *views, *_notes(schema))
    for statement in made:
        await connection.exec_driver_sql(statement)
    return True


# --- what plain PostgreSQL has instead ---

_ROW_TRIGGERS = {
    "note_inserted_minutes": "AFTER INSERT ON candles REFERENCING NEW TABLE AS changed",
    "note_updated_minutes": "AFTER UPDATE ON candles REFERENCING NEW TABLE AS changed",
    "note_replaced_minutes": "AFTER UPDATE ON candles REFERENCING OLD TABLE AS changed",
    "note_deleted_minutes": "AFTER DELETE ON candles REFERENCING OLD TABLE AS changed",
}
# Those of every revision, and of a dump of a distributed store, which is restored as a plain one. What they
# do is done by those of the shards.
_FIND_TRIGGERS = text("""
    SELECT format('DROP TRIGGER %I ON %s', tgname, CAST(tgrelid AS regclass)) FROM pg_trigger
    WHERE NOT tgisinternal
      AND tgrelid = ANY(SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) name)
""")
_FIND_FUNCTIONS = text("""
    SELECT format('DROP FUNCTION %s', CAST(oid AS regprocedure)) FROM pg_proc
    WHERE pronamespace = CAST(quote_ident(current_schema()) AS regnamespace)
      AND proname ~ '^(note_.*_minutes|renew_.*_candles?|renew_candle_.*|candle_times|candle_store'
                    '|shard_beside)$'
""")


async def _gone(connection: AsyncConnection) -> list[str]:
    views = [f"DROP VIEW IF EXISTS {view}" for view in reversed(VIEWS)]
    triggers = await connection.scalars(_FIND_TRIGGERS, {"tables": list(TABLES)})
    functions = await connection.scalars(_FIND_FUNCTIONS)
    return [*views, *triggers, *functions]


# --- the tables ---


def _distributed() -> list[str]:
    statements = []
    for table in TABLES:
        beside = "none" if table == TABLES[0] else TABLES[0]
        statements += [
            f"SELECT create_distributed_table('{table}', 'symbol', colocate_with => '{beside}')",
            # What was stored on the coordinator has been copied.
            f"SELECT truncate_local_data_after_distributing_table('{table}')",
        ]
    return statements


# --- what is stale, on the shards ---

# Whoever may write minutes, with whatever search path, can write the note.
_AS_OWNER = "LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, {schema}, pg_temp AS $$"
# Of a table that is not distributed, as after a dump was restored, it is the table itself.
_BESIDE = """
    CREATE FUNCTION shard_beside(shard text, relation text) RETURNS text
    {as_owner}
    BEGIN
        RETURN format('%s.%I', '{schema}', relation || COALESCE((
            SELECT '_' || there.shardid
            FROM pg_dist_shard here JOIN pg_dist_shard there ON there.shardminvalue = here.shardminvalue
            WHERE here.shardid = CAST(substring(shard FROM '_([0-9]+)$') AS bigint)
              AND there.logicalrelid = CAST(relation AS regclass)
        ), ''));
    END $$
"""
# In the stricter isolations a row that was changed is an error. A shard has no numbers of its own.
_NOTE = """
    CREATE FUNCTION note_stale_minutes(shard text, of_symbol varchar, changed tstzrange) RETURNS void
    {as_owner}
    DECLARE
        notes text := shard_beside(shard, 'pending_refresh');
        number bigint := nextval(pg_get_serial_sequence('pending_refresh', 'id'));
    BEGIN
        IF current_setting('transaction_isolation') = 'read committed' THEN
            EXECUTE format($note$
                WITH touching AS MATERIALIZED (
                    SELECT id, stale FROM %1$s
                    WHERE symbol = $1 AND refreshed_at IS NULL AND (stale && $2 OR stale -|- $2)
                    FOR UPDATE SKIP LOCKED
                ), gone AS (
                    DELETE FROM %1$s WHERE symbol = $1 AND id IN (SELECT id FROM touching)
                )
                INSERT INTO %1$s (symbol, id, stale) OVERRIDING SYSTEM VALUE
                SELECT $1, $3, tstzrange(least(lower($2), min(lower(stale))),
                                         greatest(upper($2), max(upper(stale))))
                FROM touching
            $note$, notes) USING of_symbol, changed, number;
        ELSE
            EXECUTE format('INSERT INTO %s (symbol, id, stale) OVERRIDING SYSTEM VALUE'
                           ' VALUES ($1, $3, $2)', notes)
            USING of_symbol, changed, number;
        END IF;
    END $$
"""
_CHANGED = """
    CREATE FUNCTION note_changed_minutes() RETURNS trigger
    {as_owner}
    BEGIN
        PERFORM note_stale_minutes(
            TG_TABLE_NAME, symbol, tstzrange(min(first), max(last) + INTERVAL '1 minute'))
        FROM (
            SELECT symbol, first, last,
                   week - row_number() OVER (PARTITION BY symbol ORDER BY week) * INTERVAL '{week} minutes'
            FROM (
                SELECT symbol, date_bin(INTERVAL '{week} minutes', timestamp, {origin}),
                       min(timestamp), max(timestamp)
                FROM changed WHERE interval_minutes = 1 AND isfinite(timestamp) GROUP BY 1, 2
            ) weeks(symbol, week, first, last)
        ) runs(symbol, first, last, run)
        GROUP BY symbol, run;
        RETURN NULL;
    END $$
"""
# No shard has a trigger of this kind: a TRUNCATE is told to the table, on the coordinator.
_TRUNCATED = """
    CREATE FUNCTION note_truncated_minutes() RETURNS trigger
    {as_owner}
    BEGIN
        INSERT INTO pending_refresh (symbol, stale)
        SELECT symbol, tstzrange(min(timestamp), max(timestamp) + INTERVAL '1 hour')
        FROM rolled_candles WHERE interval_minutes = 60 GROUP BY symbol;
        RETURN NULL;
    END $$
"""
_DROPPED = """
    CREATE FUNCTION note_dropped_minutes() RETURNS trigger
    {as_owner}
    DECLARE
        before tstzmultirange := CASE WHEN TG_OP = 'INSERT' THEN '{}' ELSE OLD.dropped END;
        now tstzmultirange := CASE WHEN TG_OP = 'DELETE' THEN '{}' ELSE NEW.dropped END;
        changed tstzmultirange := (before - now) + (now - before);
        of_symbol varchar := CASE WHEN TG_OP = 'DELETE' THEN OLD.symbol ELSE NEW.symbol END;
        of_type varchar := CASE WHEN TG_OP = 'DELETE' THEN OLD.data_type ELSE NEW.data_type END;
    BEGIN
        IF of_type = 'candles_1m' AND NOT isempty(changed) THEN
            PERFORM note_stale_minutes(TG_TABLE_NAME, of_symbol, range_merge(changed));
        END IF;
        RETURN NULL;
    END $$
"""
# Retention has stored the candles of what it deletes, and who writes a million rows knows their span.
_UNLESS_NOTED = "WHEN (current_setting('kraken_db.noted', true) IS DISTINCT FROM 'on')"


def _notes(schema: str) -> list[str]:
    words = {
        "{as_owner}": _AS_OWNER,
        "{schema}": schema,
        "{week}": "10080",
        "{origin}": f"to_timestamp({GRID_ORIGIN_EPOCH})",
        "{name}": str(uuid4()),
    }
    functions = [_BESIDE, _NOTE, _CHANGED, _TRUNCATED, _DROPPED, *citus_versions.FUNCTIONS]
    for word, meaning in words.items():
        functions = [function.replace(word, meaning) for function in functions]
    triggers = [
        f"CREATE TRIGGER {name} {event} FOR EACH STATEMENT {_UNLESS_NOTED}"
        " EXECUTE FUNCTION note_changed_minutes()"
        for name, event in _ROW_TRIGGERS.items()
    ]
    return [
        *functions,
        "SET LOCAL citus.enable_unsafe_triggers TO on",
        *triggers,
        "CREATE TRIGGER note_truncated_minutes AFTER TRUNCATE ON candles FOR EACH STATEMENT"
        " EXECUTE FUNCTION note_truncated_minutes()",
        "CREATE TRIGGER note_dropped_minutes AFTER INSERT OR UPDATE OR DELETE ON dropped_ranges"
        f" FOR EACH ROW {_UNLESS_NOTED} EXECUTE FUNCTION note_dropped_minutes()",
        *citus_versions.triggers(_UNLESS_NOTED),
    ]

"""The revisions on both lanes: up, down, up again, and what Alembic itself says of the models."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from kraken_db.db import migrations
from kraken_db.errors import SchemaError
from kraken_db.intervals import INTERVAL_VIEWS
from kraken_db.models import Base
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.store import Store
from tests.support.archives import as_kraken_rows, import_file, minutes, query, read_candles, write
from tests.support.lanes import Lane
from tests.support.shell import run
from tests.support.stores import opened

ROOT = Path(__file__).parents[3]
REVISIONS = ["1001", "1002", "1003", "1004"]
HEAD = REVISIONS[-1]


def alembic(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url},
        capture_output=True,
        text=True,
        check=False,
    )


async def relations(url: str) -> set[str]:
    rows = await query(
        url,
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace"
        " AND c.relkind IN ('r', 'v', 'm', 'p', 'S')"
        " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')",
    )
    return {row[0] for row in rows}


def test_the_newest_revision_is_the_one_alembic_finds() -> None:
    config = Config(ROOT / "alembic.ini")
    assert (
        migrations.head_revision() == ScriptDirectory.from_config(config).get_current_head() == REVISIONS[-1]
    )


async def test_up_down_to_base_and_up_again(empty_url: str) -> None:
    before = await relations(empty_url)
    await migrations.upgrade(empty_url)
    all_of_it = await relations(empty_url)
    assert {*Base.metadata.tables, *INTERVAL_VIEWS.values(), "trades_id_seq", "alembic_version"} <= all_of_it
    await migrations.downgrade(empty_url, "base")
    assert await relations(empty_url) - before == {"alembic_version"}
    await migrations.upgrade(empty_url)
    assert await relations(empty_url) == all_of_it


@pytest.mark.one_server("a distributed store does not go back to an older schema")
async def test_every_step_down_keeps_the_rows(db_url: str, tmp_path: Path) -> None:
    """Down to bare tables, one revision at a time, with rows in them and, on TimescaleDB, packed chunks."""
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(3 * 1440)))
    await import_file(db_url, write(tmp_path, "XBTUSD.csv", "1672531200,100.5,1\n1672531200,100.5,1\n"))
    if await query(db_url, "SELECT 1 FROM pg_extension WHERE extname = 'timescaledb'"):
        await query(db_url, "SELECT compress_chunk(c) FROM show_chunks('candles') c")
    rows = await query(db_url, "SELECT * FROM candles ORDER BY timestamp")
    trades = await query(db_url, "SELECT id, timestamp, price FROM trades ORDER BY id")
    for revision in reversed(REVISIONS[:-1]):
        await migrations.downgrade(db_url, revision)
        assert await query(db_url, "SELECT version_num FROM alembic_version") == [(revision,)]
    assert await query(db_url, "SELECT * FROM candles ORDER BY timestamp") == rows
    assert await query(db_url, "SELECT id, timestamp, price FROM trades ORDER BY id") == trades
    ((next_id,),) = await query(db_url, "SELECT nextval('trades_id_seq')")
    assert next_id > trades[-1][0]


WIDTHS = {
    **dict.fromkeys(("price", "open", "high", "low", "close", "vwap"), "numeric(20,10)"),
    **dict.fromkeys(("volume", "quote_volume"), "numeric(38,10)"),
}


async def test_prices_and_volumes_have_their_width_in_every_table_and_view(db_url: str) -> None:
    columns = await query(
        db_url,
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a"
        " JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')"
        " AND a.atttypid = 'numeric'::regtype",
    )
    of_candles = {name for name in WIDTHS if name != "price"}
    assert {(table, name, WIDTHS[name]) for table, name, _ in columns} == {tuple(row) for row in columns}
    assert {(table, name) for table, name, _ in columns} == {
        ("trades", "price"),
        ("trades", "volume"),
        *((table, name) for table in (*INTERVAL_VIEWS.values(), "rolled_candles") for name in of_candles),
    }


async def test_keys_hold_the_symbol_wherever_there_is_one(db_url: str) -> None:
    keys = await query(
        db_url,
        "SELECT c.relname, string_agg(a.attname, ' ' ORDER BY k.place) FROM pg_constraint p"
        " JOIN pg_class c ON c.oid = p.conrelid"
        " CROSS JOIN unnest(p.conkey) WITH ORDINALITY k(number, place)"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number"
        " WHERE p.contype = 'p' AND c.relnamespace = 'public'::regnamespace GROUP BY c.relname",
    )
    assert dict(keys) == {
        "alembic_version": "version_num",
        "candle_versions": "symbol month version",
        "candles": "timestamp symbol interval_minutes",
        "data_coverage": "symbol data_type source",
        "data_sync_status": "symbol data_type",
        "dropped_ranges": "symbol data_type",
        "flush_positions": "stream",
        "paused_jobs": "job_id",
        "pending_refresh": "symbol id",
        "retention_periods": "table_name",
        "running_jobs": "id",
        "rolled_candles": "symbol interval_minutes timestamp",
        "trades": "timestamp symbol id",
        "unproven_ranges": "symbol data_type",
    }
    sequences = await query(
        db_url, "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' ORDER BY 1"
    )
    assert sequences == [("pending_refresh_id_seq",), ("trades_id_seq",)]


async def test_both_tables_are_hypertables(timescale_empty_url: str) -> None:
    await migrations.upgrade(timescale_empty_url)
    names = (
        "SELECT hypertable_name FROM timescaledb_information.hypertables WHERE hypertable_schema = 'public'"
    )
    assert {row[0] for row in await query(timescale_empty_url, names)} >= {"trades", "candles"}


async def test_policies_are_those_of_the_specification(timescale_url: str) -> None:
    rows = await query(
        timescale_url,
        "SELECT proc_name, hypertable_name, COALESCE(config ->> 'drop_after', config ->> 'compress_after')"
        " FROM timescaledb_information.jobs WHERE proc_name IN ('policy_retention', 'policy_compression')"
        " ORDER BY 1, 2",
    )
    assert rows == [
        ("policy_compression", "candles", "30 days"),
        ("policy_compression", "trades", "7 days"),
        ("policy_retention", "candles", "365 days"),
        ("policy_retention", "trades", "90 days"),
    ]
    schedules = await query(
        timescale_url,
        "SELECT a.view_name, j.schedule_interval::text, a.materialized_only"
        " FROM timescaledb_information.jobs j JOIN timescaledb_information.continuous_aggregates a"
        " ON a.materialization_hypertable_name"
        " = '_materialized_hypertable_' || (j.config ->> 'mat_hypertable_id')"
        " WHERE j.proc_name = 'policy_refresh_continuous_aggregate' ORDER BY j.schedule_interval",
    )
    assert schedules == [
        ("candles_5m", "00:05:00", False),
        ("candles_15m", "00:15:00", False),
        ("candles_30m", "00:30:00", False),
        ("candles_1h", "01:00:00", False),
        ("candles_4h", "04:00:00", False),
        ("candles_12h", "12:00:00", False),
        ("candles_1d", "1 day", False),
        ("candles_1w", "7 days", False),
    ]
    chunks = await query(
        timescale_url,
        "SELECT hypertable_name, time_interval::text FROM timescaledb_information.dimensions"
        " WHERE hypertable_schema = 'public' ORDER BY 1",
    )
    assert chunks == [("candles", "7 days"), ("trades", "1 day")]


def test_alembic_from_the_checkout(empty_url: str) -> None:
    up = alembic(empty_url, "upgrade", "head")
    assert up.returncode == 0, up.stderr
    check = alembic(empty_url, "check")
    assert check.returncode == 0, check.stdout + check.stderr
    assert "No new upgrade operations detected" in check.stdout
    down = alembic(empty_url, "downgrade", "base")
    assert down.returncode == 0, down.stderr


async def test_services_migrate_an_empty_database_at_once(plain_empty_url: str) -> None:
    await asyncio.gather(*(migrations.upgrade(plain_empty_url) for _ in range(4)))
    assert await query(plain_empty_url, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]


async def test_programs_migrate_an_empty_database_at_once(plain_empty_url: str) -> None:
    runs = (asyncio.to_thread(alembic, plain_empty_url, "upgrade", "head") for _ in range(3))
    done = await asyncio.gather(*runs)
    assert [run.returncode for run in done] == [0, 0, 0], [run.stderr for run in done]
    assert await query(plain_empty_url, "SELECT version_num FROM alembic_version") == [(REVISIONS[-1],)]


async def test_a_migration_that_fails_leaves_nothing(plain_empty_url: str) -> None:
    await query(plain_empty_url, "CREATE TABLE candles_1w (taken int)")
    with pytest.raises(Exception, match="candles_1w"):
        await migrations.upgrade(plain_empty_url)
    assert await relations(plain_empty_url) == {"candles_1w"}


async def test_a_role_without_rights_but_its_own_schema(plain_empty_url: str, tmp_path: Path) -> None:
    """What a managed service gives: a role that owns a schema and nothing else."""
    role = f"app_{os.getpid()}"
    await query(
        plain_empty_url, f"CREATE ROLE {role} LOGIN PASSWORD 'secret' NOSUPERUSER NOCREATEDB NOCREATEROLE"
    )
    try:
        await query(plain_empty_url, f"CREATE SCHEMA market AUTHORIZATION {role}")
        await query(plain_empty_url, f"ALTER ROLE {role} SET search_path = market")
        await query(plain_empty_url, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
        prefix, _, rest = plain_empty_url.partition("//")
        url = f"{prefix}//{role}:secret@{rest.rpartition('@')[2]}"
        await migrations.upgrade(url)
        done = await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(1440)))
        assert (done.new, done.error) == (1440, None)
        assert len(as_kraken_rows(await read_candles(url, "BTC/USD", 60))) == 24
        assert alembic(url, "check").returncode == 0
        await migrations.downgrade(url, "base")
    finally:
        await query(plain_empty_url, f"DROP OWNED BY {role} CASCADE")
        await query(plain_empty_url, f"DROP ROLE {role}")


async def test_schema_missing_too_old_and_too_new(lane: Lane, empty_url: str) -> None:
    with pytest.raises(SchemaError, match=r"no kraken-db tables yet.*kraken-db db upgrade"):
        await Store.open(empty_url)
    await migrations.upgrade(empty_url, "1002")
    with pytest.raises(SchemaError, match=rf"too old: revision 1002, needed is {HEAD}.*kraken-db db upgrade"):
        await Store.open(empty_url)
    await query(empty_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaError, match=rf"too new: revision 9999, .* up to {HEAD}.*pip install --upgrade"):
        await Store.open(empty_url)


@pytest.mark.parametrize("revision", ["0004", "0010"])
async def test_a_store_of_a_development_version_is_not_taken_for_a_current_one(
    plain_url: str, revision: str
) -> None:
    """The revisions before the first release had other contents: no way leads on from them."""
    await query(plain_url, "UPDATE alembic_version SET version_num = :revision", revision=revision)
    told = rf"made by a development version of kraken-db: its revision is {revision}.*export it"
    with pytest.raises(SchemaError, match=told):
        await Store.open(plain_url)
    for change in (migrations.upgrade(plain_url), migrations.downgrade(plain_url, "base")):
        with pytest.raises(SchemaError, match=told):
            await change
    assert await query(plain_url, "SELECT version_num FROM alembic_version") == [(revision,)]
    from_the_checkout = alembic(plain_url, "upgrade", "head")
    assert from_the_checkout.returncode != 0
    assert f"Can't locate revision identified by '{revision}'" in from_the_checkout.stdout


async def test_tables_of_another_program_are_named_as_that(plain_empty_url: str) -> None:
    own = r"give kraken-db a database of its own"
    await query(plain_empty_url, "CREATE TABLE candles (time bigint)")
    with pytest.raises(SchemaError, match=rf"has a name that kraken-db needs: .*candles.*{own}"):
        await migrations.upgrade(plain_empty_url)
    await query(plain_empty_url, "CREATE TABLE alembic_version (version_num text)")
    await query(plain_empty_url, "INSERT INTO alembic_version VALUES ('1975ea83b712')")
    with pytest.raises(SchemaError, match=rf"another program's: its revision is 1975ea83b712.*{own}"):
        await Store.open(plain_empty_url)


async def test_a_changed_table_is_named_as_that(plain_url: str) -> None:
    await query(plain_url, "ALTER TABLE data_coverage RENAME covered TO known")
    changed = r"not kraken-db's, or were changed: column .*covered.* does not exist.*a database of its own"
    with pytest.raises(SchemaError, match=changed):
        await coverage_of_everything(plain_url)
    await query(plain_url, "DROP TABLE data_coverage")
    with pytest.raises(SchemaError, match=r"or were changed: relation .*data_coverage.* does not exist"):
        await coverage_of_everything(plain_url)


async def coverage_of_everything(url: str) -> None:
    async with opened(url) as store, store.database.read() as connection:
        await CoverageRepository(connection).all()


async def test_a_store_that_lacks_a_table_does_not_fit(plain_url: str) -> None:
    async with opened(plain_url) as store:
        assert await store.database.reading(migrations.missing_tables) == []
    await query(plain_url, "DROP TABLE running_jobs")
    done = await asyncio.to_thread(run, plain_url, "db", "current")
    assert done.stdout == f"{HEAD}, but it was changed: there is no table running_jobs\n"
    shown = await asyncio.to_thread(run, plain_url, "db", "current", "--json")
    assert json.loads(shown.stdout) == {
        "revision": HEAD,
        "needed": HEAD,
        "fits": False,
        "missing_tables": ["running_jobs"],
    }

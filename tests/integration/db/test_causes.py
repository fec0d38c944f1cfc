"""What a real server refuses, told as what it is: the cause, what to do next, in one line."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from kraken_db import retry
from kraken_db.db import migrations, sessions
from kraken_db.db.engine import Database
from kraken_db.db.urls import parse_url
from kraken_db.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailableError,
    DuplicateRowError,
    KrakenDBError,
    PermissionDeniedError,
    ReadOnlyDatabaseError,
    RefreshInProgressError,
    SchemaError,
    ServerMemoryError,
    ServerStartingError,
    StatementCancelledError,
    TransactionConflictError,
)
from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.store import Store
from tests.support.archives import query
from tests.support.disturbed_reads import DEADLOCK, LOST, UPDATED, disturb_reads
from tests.support.slow_start import refusal, slow_start
from tests.support.stores import with_user

STARTING = refusal("57P03", "the database system is starting up")
SHUTTING_DOWN = refusal("57P03", "the database system is shutting down")


@pytest.fixture
async def database(plain_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(plain_url)
    yield opened
    await opened.close()


async def refused(database: Database, *statements: str) -> KrakenDBError:
    with pytest.raises(KrakenDBError) as found:
        async with database.begin() as connection:
            for statement in statements:
                await connection.execute(text(statement))
    return found.value


def with_options(url: str, options: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{options}"


async def test_a_statement_that_takes_too_long(database: Database) -> None:
    error = await refused(database, "SET LOCAL statement_timeout = '50ms'", "SELECT pg_sleep(9)")
    assert isinstance(error, StatementCancelledError)
    assert "took longer than the server allows" in error.message
    assert "statement_timeout" in str(error.hint)
    assert "lock" not in str(error)


async def test_a_lock_that_is_waited_for_too_long(database: Database) -> None:
    async with database.begin() as holder:
        await holder.execute(text("LOCK TABLE trades"))
        error = await refused(database, "SET LOCAL lock_timeout = '50ms'", "SELECT count(*) FROM trades")
    assert isinstance(error, TransactionConflictError)
    assert "another session holds a lock" in error.message


async def test_a_statement_that_somebody_cancels(database: Database) -> None:
    error = await refused(database, "SELECT pg_cancel_backend(pg_backend_pid())", "SELECT pg_sleep(9)")
    assert isinstance(error, StatementCancelledError)
    assert "somebody cancelled a statement" in error.message


async def test_a_concurrent_refresh(database: Database) -> None:
    error = await refused(
        database,
        "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '55P03', MESSAGE ="
        " 'could not refresh continuous aggregate \"candles_1h\" due to a concurrent refresh'; END $$",
    )
    assert isinstance(error, RefreshInProgressError)


async def test_no_room_for_locks(database: Database) -> None:
    error = await refused(
        database, "SELECT count(pg_advisory_xact_lock(i)) FROM generate_series(1, 1000000) AS i"
    )
    assert isinstance(error, ServerMemoryError)
    assert "max_locks_per_transaction" in str(error.hint)


async def test_what_is_not_known_has_its_first_line_and_code(database: Database) -> None:
    error = await refused(database, "SELEC 1")
    assert type(error) is DatabaseError
    assert error.message.endswith('syntax error at or near "SELEC" (SQLSTATE 42601)')
    assert "\n" not in str(error)
    assert isinstance(error.__cause__, DBAPIError)


async def test_a_row_that_is_there(database: Database) -> None:
    row = "INSERT INTO data_sync_status (symbol, data_type) VALUES ('BTC/USD', 'trades')"
    assert isinstance(await refused(database, row, row), DuplicateRowError)


async def test_a_role_without_rights(plain_url: str) -> None:
    await query(plain_url, "DROP ROLE IF EXISTS stranger")
    await query(plain_url, "CREATE ROLE stranger LOGIN PASSWORD 'secret'")
    try:
        with pytest.raises(PermissionDeniedError, match="permission denied for table alembic_version"):
            await Store.open(with_user(plain_url, "stranger"))
    finally:
        await query(plain_url, "DROP ROLE stranger")


async def set_for_all(url: str, setting: str) -> None:
    name = urlsplit(url).path[1:]
    await query(url, f'ALTER DATABASE "{name}" SET {setting}')


async def test_a_database_that_takes_no_writes(plain_empty_url: str) -> None:
    await set_for_all(plain_empty_url, "default_transaction_read_only = on")
    with pytest.raises(ReadOnlyDatabaseError, match="takes no writes") as found:
        await migrations.upgrade(plain_empty_url)
    assert "primary" in str(found.value.hint)


async def test_no_schema_in_the_search_path(plain_empty_url: str) -> None:
    await set_for_all(plain_empty_url, "search_path = nowhere")
    with pytest.raises(SchemaError, match="search_path names no schema") as found:
        await migrations.upgrade(plain_empty_url)
    assert "SET search_path" in str(found.value.hint)


async def test_a_parameter_that_the_server_does_not_know(plain_url: str) -> None:
    with pytest.raises(ConfigurationError, match='unrecognized configuration parameter "pool_mode"'):
        await Store.open(with_options(plain_url, "pool_mode=session"))


@pytest.mark.parametrize("name", ["require_auth", "hostaddr"])
def test_a_parameter_that_is_not_understood(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot do what {name} .*take {name} out"):
        parse_url(f"postgresql://db.example/kraken?{name}=x")


def test_a_server_of_a_kind_that_there_is_not() -> None:
    with pytest.raises(
        ConfigurationError, match=r"target_session_attrs is one of any, primary, .* not 'master'"
    ):
        parse_url("postgresql://db.example/kraken?target_session_attrs=master")


async def test_no_server_of_that_kind(plain_url: str) -> None:
    with pytest.raises(
        DatabaseUnavailableError, match="no server there is what target_session_attrs"
    ) as found:
        await Store.open(with_options(plain_url, "target_session_attrs=standby"))
    assert "name other hosts" in str(found.value.hint)


async def test_what_other_drivers_write_into_addresses(plain_url: str) -> None:
    options = (
        "sslmode=prefer&channel_binding=prefer&gssencmode=disable&load_balance_hosts=random&pgbouncer=false"
    )
    store = await Store.open(with_options(plain_url, f"{options}&connection_limit=5&sslcertmode=disable"))
    await store.close()


async def test_a_server_that_is_too_old(plain_empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "OLDEST_SERVER", (99, 0))
    for opening in (Store.open(plain_empty_url), migrations.upgrade(plain_empty_url)):
        with pytest.raises(
            ConfigurationError, match=r"PostgreSQL \d+\.\d+ is too old .*needs PostgreSQL 99 or newer"
        ):
            await opening


async def test_a_role_that_may_only_read(plain_empty_url: str) -> None:
    await query(plain_empty_url, "DROP ROLE IF EXISTS reader")
    await query(plain_empty_url, "CREATE ROLE reader LOGIN PASSWORD 'secret'")
    await query(plain_empty_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")  # as from PostgreSQL 15 on
    try:
        with pytest.raises(PermissionDeniedError, match="permission denied for schema public") as found:
            await migrations.upgrade(with_user(plain_empty_url, "reader"))
        assert "\n" not in str(found.value)
    finally:
        await query(plain_empty_url, "DROP ROLE reader")


async def test_tls_that_the_server_does_not_speak(plain_url: str) -> None:
    with pytest.raises(ConfigurationError, match="does not speak TLS"):
        await Store.open(with_options(plain_url, "sslmode=require"))


@pytest.mark.parametrize("parameter", ["sslrootcert", "sslcert", "sslkey"])
async def test_a_certificate_that_is_not_there(parameter: str, plain_url: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    with pytest.raises(ConfigurationError, match=f"{parameter} .* does not exist: .*missing.pem"):
        await Store.open(with_options(plain_url, f"sslmode=verify-full&{parameter}={missing}"))


@pytest.mark.parametrize(
    "password", ["hunter2@x", "hunter2/x", "hunter2#x", "hunter2?x", "12/hunter2", "12#hunter2"]
)
def test_a_password_that_needs_encoding(password: str) -> None:
    with pytest.raises(ConfigurationError, match="%-encoding") as found:
        parse_url(f"postgresql://trader:{password}@db.example/kraken")
    assert "hunter2" not in f"{found.value} {found.value!r}"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://trader:a%40b%2Fc%23d@db.example/kraken",
        "postgresql://db.example/kraken?user=me@tenant&password=x",
        "postgresql://me%40tenant:x@db.example/kraken?options=-c%20a%3Db@c",
        "postgresql:///kraken?host=/run/postgresql",
    ],
)
def test_addresses_with_special_characters_in_their_places(url: str) -> None:
    assert parse_url(url).dsn


# --- our sessions ---


async def test_a_batch_may_take_as_long_as_it_takes(plain_url: str) -> None:
    for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        await set_for_all(plain_url, f"{setting} = '3s'")
    await set_for_all(plain_url, "timezone = 'Asia/Tokyo'")
    database = await Database.open(plain_url)
    names = "statement_timeout lock_timeout idle_in_transaction_session_timeout timezone jit application_name"
    async with database.read() as connection:
        shown = [await connection.scalar(text(f"SHOW {name}")) for name in names.split()]
    await database.close()
    assert shown == ["0", "0", "0", "UTC", "off", "kraken-db"]


async def test_nothing_is_asked_for_at_the_start_of_a_session(plain_url: str) -> None:
    """PgBouncer refuses the connection for every parameter that it does not know."""
    async with slow_start(plain_url) as (url, server):
        store = await Store.open(with_options(url, "application_name=mine"))
        await store.close()
    assert {name for asked in server.started_with for name in asked} == {
        "user",
        "database",
        "client_encoding",
    }


# --- a server that starts ---


async def test_a_starting_server_is_waited_for(plain_url: str) -> None:
    async with slow_start(plain_url, STARTING, STARTING, STARTING) as (url, server):
        store = await Store.open(url)
        await store.close()
    assert server.answers == []


async def test_who_waits_for_long_is_told_why(plain_url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="kraken_db.notices")
    async with slow_start(plain_url, *[STARTING] * 6) as (url, _):
        store = await Store.open(url)
        await store.close()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "kraken_db.notices"]
    assert "the database system is starting up; waiting for it" in line


async def test_one_that_does_not_come_up_is_an_error(plain_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "STARTING", replace(retry.STARTING, seconds=0.5))
    async with slow_start(plain_url, *[STARTING] * 99) as (url, _):
        with pytest.raises(ServerStartingError, match="the database system is starting up"):
            await Store.open(url)


async def test_one_that_shuts_down_is_not_waited_for(plain_url: str) -> None:
    async with slow_start(plain_url, SHUTTING_DOWN) as (url, server):
        with pytest.raises(DatabaseUnavailableError, match="the database system is shutting down"):
            await Store.open(url)
    assert server.answers == []
    assert len(server.started_with) == 1


# --- reads are tried again ---


@pytest.mark.parametrize("what", [DEADLOCK, UPDATED, LOST])
async def test_a_read_is_tried_again(plain_url: str, what: str) -> None:
    await query(plain_url, "INSERT INTO data_sync_status (symbol, data_type) VALUES ('BTC/USD', 'trades')")
    await disturb_reads(plain_url, "data_sync_status", 2, what)
    async with HistoricalDataProvider(plain_url) as provider:
        assert await provider.get_symbols() == ["BTC/USD"]
    assert await query(plain_url, "SELECT last_value FROM disturbed") == [(3,)]


@pytest.mark.one_server("the fault counts in a sequence, which each node has for itself")
@pytest.mark.parametrize("what", [DEADLOCK, UPDATED, LOST])
@pytest.mark.parametrize("kind", ["list", "frame"])
async def test_rows_are_read_again_and_none_twice(plain_url: str, kind: str, what: str) -> None:
    start, end = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    await query(
        plain_url,
        "INSERT INTO trades (symbol, timestamp, id, price, volume, side, order_type, misc) SELECT 'BTC/USD',"
        " TIMESTAMPTZ '2024-01-01 00:00+00' + i * INTERVAL '1 s', i, 100, 1, 'buy', 'limit', ''"
        " FROM generate_series(1, 500) AS i",
    )
    await disturb_reads(plain_url, "trades", 1, what)
    async with HistoricalDataProvider(plain_url) as provider:
        read = provider.get_trades if kind == "list" else provider.get_trades_frame
        assert len(await read("BTC/USD", start, end)) == 500
    assert await query(plain_url, "SELECT last_value FROM disturbed") == [(2,)]


async def test_what_goes_on_is_told_after_three_attempts(plain_url: str) -> None:
    await disturb_reads(plain_url, "data_sync_status", 99, DEADLOCK)
    async with HistoricalDataProvider(plain_url) as provider:
        with pytest.raises(TransactionConflictError, match="deadlock detected"):
            await provider.get_symbols()
    assert await query(plain_url, "SELECT last_value FROM disturbed") == [(3,)]


async def test_an_error_that_does_not_pass_is_told_at_once(plain_url: str) -> None:
    await disturb_reads(plain_url, "data_sync_status", 99, "RAISE EXCEPTION 'no'")
    async with HistoricalDataProvider(plain_url) as provider:
        with pytest.raises(KrakenDBError, match="no"):
            await provider.get_symbols()
    assert await query(plain_url, "SELECT last_value FROM disturbed") == [(1,)]

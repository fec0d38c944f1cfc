"""The databases of the tests are what the tests take them for."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import asyncpg
import pytest

from tests.support.lanes import Lane
from tests.support.stores import connected

START = datetime(2023, 1, 1, tzinfo=UTC)


async def public_tables(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return [row["tablename"] for row in rows]


@pytest.mark.parametrize("_repeat", [1, 2])
async def test_each_test_gets_an_empty_database(empty_url: str, _repeat: int) -> None:
    async with connected(empty_url) as connection:
        assert await public_tables(connection) == []
        await connection.execute("CREATE TABLE left_behind (i int)")


@pytest.mark.parametrize("_repeat", [1, 2])
async def test_each_test_gets_a_migrated_database(db_url: str, _repeat: int) -> None:
    async with connected(db_url) as connection:
        assert {"candles", "trades"} <= set(await public_tables(connection))
        assert await connection.fetchval("SELECT count(*) FROM candles") == 0
        await connection.execute("DROP TABLE data_sync_status")


async def looks(connection: asyncpg.Connection) -> list[object]:
    """What a database shows of itself: its relations with their sizes, its settings, and some rows."""
    return [
        await connection.fetch("SELECT oid, relname, pg_relation_size(oid) FROM pg_class ORDER BY 1"),
        await connection.fetch("SELECT name, setting FROM pg_settings WHERE source = 'session' ORDER BY 1"),
        await connection.fetch("SELECT * FROM candle_versions"),
    ]


async def test_a_copy_knows_nothing_of_what_was_done_in_the_one_before(lane: Lane) -> None:
    """The WASM server uses its backends again."""
    first: list[object] = []
    for _ in range(5):
        with lane.migrated_database() as url:
            async with connected(url) as connection:
                found = await looks(connection)
                first = first or found
                assert found == first
                await connection.execute("SET work_mem = '13MB'; CREATE TEMP TABLE scratch (i int)")
                await connection.execute("CREATE TABLE large AS SELECT g FROM generate_series(1, 200000) g")
                await connection.execute(
                    "INSERT INTO candles (timestamp, symbol, interval_minutes,"
                    " open, high, low, close, volume)"
                    " SELECT CAST($1 AS timestamptz) + g * INTERVAL '1 day', 'BTC/USD', 1, 1, 1, 1, 1, 1"
                    " FROM generate_series(1, 60) g",
                    START,
                )
                with pytest.raises(asyncpg.DivisionByZeroError):
                    await connection.execute("BEGIN; DROP TABLE trades CASCADE; SELECT 1 / 0")


FILLED: list[str] = []


async def fill(url: str) -> None:
    FILLED.append(url)
    async with connected(url) as connection:
        await connection.execute("CREATE TABLE filled AS SELECT 1 AS number")


async def test_a_filled_database_is_filled_once_and_copied(lane: Lane) -> None:
    FILLED.clear()
    for _ in range(2):
        with lane.filled_database(fill) as url:
            async with connected(url) as connection:
                assert {"candles", "filled"} <= set(await public_tables(connection))
                assert await connection.fetchval("SELECT count(*) FROM filled") == 1
                await connection.execute("DELETE FROM filled")
            assert [url not in FILLED, len(FILLED)] == [True, 1]


async def test_the_timescale_lane_has_timescaledb(timescale_empty_url: str) -> None:
    async with connected(timescale_empty_url) as connection:
        await connection.execute("CREATE TABLE points (at timestamptz NOT NULL, value numeric(20,10))")
        await connection.execute("SELECT create_hypertable('points', 'at', create_default_indexes => false)")
        await connection.executemany(
            "INSERT INTO points VALUES ($1, $2)", [(START + timedelta(days=n), Decimal(n)) for n in range(30)]
        )
        assert await connection.fetchval("SELECT count(*) FROM show_chunks('points')") == 5


async def test_the_copy_of_a_migrated_database_takes_rows(timescale_url: str) -> None:
    """A hypertable refuses rows if its library is not loaded, as in a copy it might not be."""
    async with connected(timescale_url) as connection:
        await connection.execute(
            "INSERT INTO candles (timestamp, symbol, interval_minutes, open, high, low, close, volume)"
            " VALUES ($1, 'BTC/USD', 1, 1, 1, 1, 1, 1)",
            START,
        )
        assert await connection.fetchval("SELECT count(*) FROM show_chunks('candles')") == 1


@pytest.mark.one_server("a coordinator may have TimescaleDB for its other databases")
async def test_the_plain_lane_has_no_timescaledb(plain_empty_url: str) -> None:
    async with connected(plain_empty_url) as connection:
        found = await connection.fetchval(
            "SELECT count(*) FROM pg_available_extensions WHERE name = 'timescaledb'"
        )
        assert found == 0


async def test_copy_in_and_out(empty_url: str) -> None:
    rows = [(n, Decimal(n) / 8, START + timedelta(seconds=n)) for n in range(5000)]
    async with connected(empty_url) as connection:
        await connection.execute("CREATE TABLE copied (i int PRIMARY KEY, v numeric(20,10), at timestamptz)")
        assert await connection.copy_records_to_table("copied", records=rows) == "COPY 5000"
        text = io.BytesIO()
        await connection.copy_from_query("SELECT * FROM copied ORDER BY i", output=text, format="csv")
        await connection.execute("TRUNCATE copied")
        text.seek(0)
        assert await connection.copy_to_table("copied", source=text, format="csv") == "COPY 5000"
        assert [tuple(row) for row in await connection.fetch("SELECT * FROM copied ORDER BY i")] == rows


async def test_a_failed_copy_leaves_the_connection_usable(empty_url: str) -> None:
    async with connected(empty_url) as connection:
        await connection.execute("CREATE TABLE copied (i int)")
        with pytest.raises(asyncpg.InvalidTextRepresentationError):
            await connection.copy_to_table("copied", source=io.BytesIO(b"1\nx\n"))
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.copy_to_table("missing", source=io.BytesIO(b"1\n"))
        assert await connection.fetchval("SELECT count(*) FROM copied") == 0


async def test_an_error_in_a_pipeline_undoes_all_of_it(empty_url: str) -> None:
    async with connected(empty_url) as connection:
        await connection.execute("CREATE TABLE numbers (i int PRIMARY KEY)")
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.executemany("INSERT INTO numbers VALUES ($1)", [(1,), (2,), (1,), (3,)])
        assert await connection.fetchval("SELECT count(*) FROM numbers") == 0


async def test_two_connections_see_what_the_other_has_committed(empty_url: str) -> None:
    async with connected(empty_url) as one, connected(empty_url) as two:
        await one.execute("CREATE TABLE numbers (i int)")
        transaction = one.transaction()
        await transaction.start()
        await one.execute("INSERT INTO numbers VALUES (1)")
        counting = asyncio.create_task(two.fetchval("SELECT count(*) FROM numbers"))
        await asyncio.sleep(0.05)  # plain PostgreSQL answers now; the WASM server when the transaction ends
        await transaction.rollback()
        assert await counting == 0
        await one.execute("INSERT INTO numbers VALUES (2)")
        assert await two.fetchval("SELECT i FROM numbers") == 2


async def test_two_connections_prepare_under_the_same_name(empty_url: str) -> None:
    async with connected(empty_url) as one, connected(empty_url) as two:
        first = await one.prepare("SELECT $1::int + 1")
        second = await two.prepare("SELECT $1::int + 2")
        assert [await first.fetchval(1), await second.fetchval(1), await first.fetchval(1)] == [2, 3, 2]


async def test_a_pool_gives_clean_connections_back(empty_url: str) -> None:
    """RESET ALL, which a pool sends, must not take the search path away."""
    async with asyncpg.create_pool(empty_url, min_size=1, max_size=2) as pool:
        async with pool.acquire() as connection:
            await connection.execute("CREATE TABLE numbers (i int)")
            await connection.execute("SET search_path = pg_catalog")
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT count(*) FROM numbers") == 0


async def test_notifications_reach_the_other_connection(empty_url: str) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()

    def listener(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        heard.put_nowait(payload)

    async with connected(empty_url) as one, connected(empty_url) as two:
        await one.add_listener("news", listener)
        await two.execute("UNLISTEN *")  # stops two, not one
        await two.execute("NOTIFY news, 'hello'")
        assert await asyncio.wait_for(heard.get(), 5) == "hello"
        await one.remove_listener("news", listener)


async def test_a_client_that_vanishes_leaves_no_transaction(empty_url: str) -> None:
    async with connected(empty_url) as one:
        await one.execute("CREATE TABLE numbers (i int)")
        lost = await asyncpg.connect(empty_url)
        await lost.execute("BEGIN; INSERT INTO numbers VALUES (1)")
        lost.terminate()
        assert await one.fetchval("SELECT count(*) FROM numbers", timeout=10) == 0


async def test_an_unknown_database_is_refused(lane: Lane, empty_url: str) -> None:
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(empty_url + "_not_there")

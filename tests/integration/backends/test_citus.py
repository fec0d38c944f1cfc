"""A distributed store beside a plain one: the same rows, whoever brought them and whatever breaks."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from sqlalchemy import text

from kraken_db.backends import CitusBackend, PostgresBackend
from kraken_db.backends.citus_candles import VIEWS
from kraken_db.backends.citus_schema import distribute
from kraken_db.db.migrations import downgrade, upgrade
from kraken_db.errors import ConfigurationError, ReadOnlyDatabaseError, SchemaError, StorageFullError
from kraken_db.intervals import INTERVAL_VIEWS
from kraken_db.models import Base
from kraken_db.simulator import Market, SimulatedExchange, archive_url
from tests.support.archive_making import archived_markets
from tests.support.archives import START as ARCHIVE_START
from tests.support.archives import import_file, import_paths, minutes, query, write
from tests.support.copies import everything_of, fill_four
from tests.support.downloading import assert_is_truth, download_one
from tests.support.lanes import Lane
from tests.support.processes import (
    backfill_in_small_batches,
    backfilling,
    ended,
    requests_reach,
    run_backfill,
    running,
)
from tests.support.recording import (
    MINUTE,
    START,
    all_is_there,
    assert_candles,
    assert_recorded,
    exchange_of,
    has_come_to,
    is_live,
    market,
    recorder_of,
    recording,
    until,
)
from tests.support.stores import opened


@pytest.fixture
def citus_url(lanes: dict[str, Lane]) -> Iterator[str]:
    with lanes["citus"].migrated_database() as url:
        yield url


@pytest.fixture
def other_url(lanes: dict[str, Lane]) -> Iterator[str]:
    with lanes["postgres"].migrated_database() as url:
        yield url


# When something was done, and numbers that each server draws by itself.
_NOT_COMPARED = {"last_sync_at", "heard_at", "started_at", "flushed_at"}


async def contents(url: str) -> dict[str, list[str]]:
    """All rows of what is stored, and what the views say of it."""
    found: dict[str, list[str]] = {}
    for name in ("trades", "candles", "rolled_candles", "data_sync_status", "data_coverage"):
        columns = [c.name for c in Base.metadata.tables[name].columns if c.name not in _NOT_COMPARED]
        found[name] = sorted(map(str, await query(url, f"SELECT {', '.join(columns)} FROM {name}")))
    for minutes_, view in INTERVAL_VIEWS.items():
        if minutes_ > 1:
            found[view] = sorted(map(str, await query(url, f"SELECT * FROM {view}")))
    return found


async def assert_equal(url: str, other: str) -> None:
    ours, theirs = await contents(url), await contents(other)
    for name, rows in theirs.items():
        assert ours[name] == rows, name
    assert ours["candles"] and ours["candles_1w"]


# --- the schema ---


async def test_a_store_is_what_its_schema_was_made_as(lanes: dict[str, Lane]) -> None:
    with lanes["citus"].empty_database() as url:
        await upgrade(url)
        async with opened(url) as store:
            assert type(store.backend) is PostgresBackend
        assert (await distribute(url)).is_new
        async with opened(url) as store, store.database.read() as connection:
            assert type(store.backend) is CitusBackend
            hides = await connection.scalar(text("SHOW citus.override_table_visibility"))
            assert hides == "off", "each connection would take a second and more to learn a type"
        assert await query(url, "SHOW jit") == [("off",)]
        workers = "SELECT result FROM run_command_on_workers('SHOW jit')"
        assert await query(url, workers) == [("off",), ("off",)]
        again = await distribute(url)
        assert (again.is_new, again.nodes) == (False, 2)
        await upgrade(url)


async def test_where_there_is_no_citus(other_url: str) -> None:
    with pytest.raises(ConfigurationError, match="has no Citus"):
        await distribute(other_url)


async def test_what_is_stored_is_distributed_with_it(lanes: dict[str, Lane], tmp_path: Path) -> None:
    path = write(tmp_path, "XBTUSD_1.csv", minutes(5_000))
    with lanes["citus"].empty_database() as url, lanes["postgres"].migrated_database() as other:
        await upgrade(url)
        for one in (url, other):
            await import_file(one, path)
        await distribute(url)
        await assert_equal(url, other)
        assert await query(url, "SELECT count(*) FROM ONLY candles") == [(5_000,)]
        for one in (url, other):
            await query(one, "DELETE FROM candles WHERE timestamp < '2023-01-01 05:00+00'")
        ours, theirs = await contents(url), await contents(other)
        assert ours["candles_1d"] == theirs["candles_1d"]


async def test_a_shard_that_has_moved_notes_what_is_stale(citus_url: str, tmp_path: Path) -> None:
    await import_file(citus_url, write(tmp_path, "XBTUSD_1.csv", minutes(200)))
    shard, here = (
        await query(
            citus_url,
            "SELECT shardid, nodeport FROM citus_shards WHERE table_name = 'candles'::regclass AND shardid ="
            " get_shard_id_for_distribution_column('candles', 'BTC/USD')",
        )
    )[0]
    nodes = await query(citus_url, "SELECT nodename, nodeport FROM pg_dist_node WHERE shouldhaveshards")
    (source,), (target,) = ([node for node in nodes if (node[1] == here) is same] for same in (True, False))
    move = f"SELECT citus_move_shard_placement({shard}, $1, $2, $3, $4, 'block_writes')"
    connection = await asyncpg.connect(citus_url)
    try:
        await connection.execute(move, *source, *target)
    finally:
        await connection.close()
    assert await query(citus_url, "SELECT * FROM pending_refresh") == []
    await query(citus_url, "DELETE FROM candles WHERE symbol = 'BTC/USD'")
    assert len(await query(citus_url, "SELECT * FROM pending_refresh")) == 1
    assert await query(citus_url, "SELECT * FROM candles_1h") == []


async def test_a_truncate_notes_what_is_stale(citus_url: str, tmp_path: Path) -> None:
    for name in ("XBTUSD_1.csv", "ETHUSD_1.csv"):
        await import_file(citus_url, write(tmp_path, name, minutes(200)))
    of_all_months = "SELECT symbol FROM candle_versions WHERE symbol <> '' AND month = '-infinity' ORDER BY 1"
    assert await query(citus_url, of_all_months) == []
    assert len(await query(citus_url, "SELECT * FROM candles_1h")) == 8
    await query(citus_url, "TRUNCATE candles")
    assert await query(citus_url, "SELECT * FROM candles_1h") == []
    assert await query(citus_url, of_all_months) == [("BTC/USD",), ("ETH/USD",)]


async def test_a_dump_is_restored_and_distributed_again(lanes: dict[str, Lane], tmp_path: Path) -> None:
    """As a plain store at first, whose triggers note what is stale all the same."""
    with lanes["citus"].migrated_database() as url, lanes["citus"].empty_database() as restored:
        await import_file(url, write(tmp_path, "XBTUSD_1.csv", minutes(200)))
        before = await contents(url)
        for words in (("dump", "--db-url", url), ("restore", "--db-url", restored)):
            command = (
                sys.executable,
                "-m",
                "kraken_db",
                "db",
                words[0],
                str(tmp_path / "a.dump"),
                *words[1:],
            )
            async with running(*command) as process:
                done = await ended(process)
            assert done.code == 0, done.err
        await query(restored, "UPDATE candles SET volume = volume WHERE symbol = 'BTC/USD'")
        assert len(await query(restored, "SELECT * FROM pending_refresh")) == 1
        assert (await distribute(restored)).is_new
        assert await contents(restored) == before
        async with opened(restored) as store:
            assert type(store.backend) is CitusBackend


async def test_a_distributed_store_goes_back_as_a_whole_only(lanes: dict[str, Lane], tmp_path: Path) -> None:
    path = write(tmp_path, "XBTUSD_1.csv", minutes(200))
    with lanes["citus"].migrated_database() as url:
        await import_file(url, path)
        before = await contents(url)
        for revision in ("1003", "1001", "-1"):
            with pytest.raises(SchemaError, match=r"cannot go back to an older schema.*db dump"):
                await downgrade(url, revision)
        assert await contents(url) == before
        await query(url, "DELETE FROM candles")
        assert len(await query(url, "SELECT * FROM pending_refresh")) == 1
        await downgrade(url, "base")
        assert await query(url, "SELECT relname FROM pg_class WHERE relname ~ 'candles|trades'") == []
        await upgrade(url)
        assert (await distribute(url)).is_new
        await import_file(url, path)
        assert await contents(url) == before


async def test_status_tells_the_nodes(citus_url: str, tmp_path: Path) -> None:
    await import_file(citus_url, write(tmp_path, "XBTUSD_1.csv", minutes(200)))
    async with opened(citus_url) as store, store.database.read() as connection:
        assert store.backend.shards is not None
        nodes = await store.backend.shards.nodes(connection)
        tables = {table.table: table.size for table in await store.backend.storage(connection)}
    assert [node.takes_shards for node in nodes].count(True) == 2
    assert sum(len(node.shards) for node in nodes) >= 8
    assert tables["candles"] > 0 and sum(node.stored for node in nodes) >= sum(tables.values())


# --- the same rows ---


async def test_minutes_again(citus_url: str, tmp_path: Path) -> None:
    """Their digest tells that nothing is new; values that have changed places are not the same."""
    first, second = "100.5,102,99.5,101,2.5,7\n", "100.5,102,99.5,101.25,3.5,7\n"
    before, after = f"{ARCHIVE_START},", f"{ARCHIVE_START + 60},"
    one = await import_file(citus_url, write(tmp_path, "XBTUSD_1.csv", before + first + after + second))
    assert (one.new, one.unchanged) == (2, 0)
    again = await import_file(citus_url, write(tmp_path, "XBTUSD_1.csv", before + first + after + second))
    assert (again.new, again.changed, again.unchanged, again.differing) == (0, 0, 2, 0)
    swapped = await import_file(citus_url, write(tmp_path, "XBTUSD_1.csv", before + second + after + first))
    assert (swapped.changed, swapped.unchanged, swapped.differing) == (0, 2, 2)
    better = before + first + after + second.replace(",7", ",8")
    done = await import_file(citus_url, write(tmp_path, "XBTUSD_1.csv", better))
    assert (done.new, done.changed, done.unchanged) == (0, 1, 1)
    knows_more = (
        "timestamp,open,high,low,close,volume,trades,vwap\n"
        + before + first.replace(",7", ",7,100.75")
    )  # fmt: skip
    done = await import_file(citus_url, write(tmp_path, "XBTUSD_1.csv", knows_more))
    assert (done.new, done.changed, done.unchanged) == (0, 1, 0)


async def test_trades_again(citus_url: str, tmp_path: Path) -> None:
    def rows(*prices: str) -> str:
        return "".join(f"{ARCHIVE_START + n},{price},0.5,b,l,,{n + 1}\n" for n, price in enumerate(prices))

    one = await import_file(citus_url, write(tmp_path, "XBTUSD.csv", rows("100", "101", "102")))
    assert one.new == 3
    again = await import_file(citus_url, write(tmp_path, "XBTUSD.csv", rows("100", "101", "102")))
    assert (again.new, again.changed, again.unchanged, again.error) == (0, 0, 3, None)
    swapped = write(tmp_path, "XBTUSD.csv", rows("101", "100", "102"))
    done = (await import_paths(citus_url, swapped)).files[0]
    assert "is stored as" in str(done.error)
    longer = await import_file(citus_url, write(tmp_path, "XBTUSD.csv", rows("100", "101", "102", "103")))
    assert (longer.new, longer.unchanged) == (1, 3)


async def test_archives_and_rest(citus_url: str, other_url: str, tmp_path: Path) -> None:
    made = archived_markets()
    made.write(tmp_path / "archives")
    async with made.exchange(tmp_path / "archives").serve() as base_url:
        for url in (citus_url, other_url):
            environment = {
                "DATABASE_URL": url,
                "KRAKEN_BASE_URL": base_url,
                "KRAKEN_ARCHIVE_URL": archive_url(base_url),
            }
            arguments = ("--symbols", *(one.symbol for one in made.all), "--rate-limit", "0")
            done = await run_backfill(
                *arguments, environment=environment, program=backfill_in_small_batches()
            )
            assert done.code == 0, done.err
    await assert_equal(citus_url, other_url)


async def test_downloaded_and_recorded(citus_url: str, other_url: str, tmp_path: Path) -> None:
    """Stamps of live trades may be some microseconds apart; what is made of them is not."""
    wanted = market(trades=1_500)
    for at, url in enumerate((citus_url, other_url)):
        folder = tmp_path / str(at)
        folder.mkdir()
        await record(url, wanted, folder)
        found = await assert_recorded(url, wanted, 1)
        assert_candles(found, wanted, since=START, until=START + 3 * MINUTE)
    for what in (
        "SELECT id, price, volume, side, order_type, misc FROM trades ORDER BY id",
        *(f"SELECT * FROM {view} ORDER BY timestamp" for view in ("candles", *VIEWS)),
    ):
        ours, theirs = await query(citus_url, what), await query(other_url, what)
        assert ours and ours == theirs, what


async def record(
    url: str, wanted: Market, folder: Path, disturb: Callable[[int], Awaitable[None]] | None = None
) -> None:
    """Download the beginning of a market, and record the rest; ``disturb`` is called now and then."""
    await download_one(url, wanted, end_timestamp=START + MINUTE / 2)
    exchange, clock = exchange_of(wanted)
    async with exchange.serve() as base_url:
        recorder = recorder_of(url, base_url, clock, [wanted.symbol], folder)
        async with recording(recorder) as running_:
            await until(recorder, is_live, running_)
            clock.go()
            for reached in (750, 950, 1_200):
                await until(recorder, has_come_to(reached + 1), running_)
                if disturb is not None:
                    await disturb(reached)
            await until(recorder, all_is_there(wanted), running_)
            await asyncio.sleep(3)  # the last minute is closed by then


# --- a node is lost ---


async def crash(url: str, number: int) -> None:
    """Kill -9 one process of a worker: all its sessions end, and it recovers."""
    connection = await asyncpg.connect(url)
    try:
        workers = await connection.fetch(
            "SELECT nodename, nodeport FROM pg_dist_node WHERE groupid <> 0 ORDER BY nodeport"
        )
    finally:
        await connection.close()
    host, port = workers[number % len(workers)]
    user = urlsplit(url).netloc.rpartition("@")[0]
    worker = urlunsplit(urlsplit(url)._replace(netloc=f"{user}@{host}:{port}"))
    there = await connected(worker)
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        pid = await there.fetchval("SELECT pg_backend_pid()")
        await there.execute(f"COPY (SELECT 1) TO PROGRAM 'kill -9 {pid}'")
    there.terminate()


async def connected(url: str) -> asyncpg.Connection:
    """Once it has recovered from the last time."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await asyncpg.connect(url)
            except (asyncpg.CannotConnectNowError, OSError):
                await asyncio.sleep(0.2)


async def test_lost_in_a_backfill(citus_url: str, other_url: str) -> None:
    wanted = [Market(symbol, seed=3, trades=60_000) for symbol in ("BTC/USD", "ETH/USD")]
    exchange = SimulatedExchange(wanted, delay=0.05)
    arguments = ("--symbols", *exchange.markets, "--rate-limit", "0")
    async with exchange.serve() as base_url:
        environment = {"DATABASE_URL": citus_url, "KRAKEN_BASE_URL": base_url}
        async with backfilling(*arguments, environment=environment) as process:
            for number in range(4):
                exchange.requests.clear()
                await requests_reach(exchange, 8, process)
                assert process.returncode is None, "it was over before: take a larger market"
                await crash(citus_url, number)
            done = await ended(process)
        assert done.code == 0, done.err
    for one in wanted:
        await download_one(other_url, one)
        await assert_is_truth(citus_url, one)
    await assert_equal(citus_url, other_url)
    assert await query(citus_url, "SELECT result FROM run_command_on_workers("
                       "'SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()')"
                       ) == [("0",), ("0",)]  # fmt: skip


@pytest.mark.parametrize("kind", ["minutes", "trades"])
async def test_lost_in_an_import(citus_url: str, other_url: str, tmp_path: Path, kind: str) -> None:
    """In what it does first, in the middle, and in the refresh at its end."""
    if kind == "minutes":
        path = write(tmp_path, "XBTUSD_1.csv", minutes(900_000))
    else:
        rows = (f"{ARCHIVE_START + n},100.{n % 97:02},0.5,b,l,,{n + 1}\n" for n in range(200_000))
        path = write(tmp_path, "XBTUSD.csv", "".join(rows))
    command = (sys.executable, "-m", "kraken_db", "import-csv", str(path))
    crashes = 0
    async with running(*command, environment={"DATABASE_URL": citus_url}) as process:
        while crashes < 6:
            await asyncio.sleep(1.5)
            if process.returncode is not None:
                break
            await crash(citus_url, crashes)
            crashes += 1
        done = await ended(process)
    assert done.code == 0, done.err
    assert crashes > 1, "it was over before: take a larger file"
    assert "trying again" in done.err
    await import_file(other_url, path)
    await assert_equal_rows(citus_url, other_url)


@pytest.mark.parametrize("way", ["to", "from"])
async def test_lost_in_a_copy(citus_url: str, other_url: str, tmp_path: Path, way: str) -> None:
    """The pair that was on its way is copied anew, and no row is there twice."""
    source, target = (other_url, citus_url) if way == "to" else (citus_url, other_url)
    before = await fill_four(source, tmp_path)
    crashes = 0
    async with running(sys.executable, "-m", "kraken_db", "db", "copy", source, target) as process:
        while crashes < 4:
            await asyncio.sleep(1.5)
            if process.returncode is not None:
                break
            await crash(citus_url, crashes)
            crashes += 1
        done = await ended(process)
    assert (done.code, "Copied 4 pairs" in done.out) == (0, True), done.err
    assert crashes > 1, "it was over before: take more rows"
    assert await everything_of(target) == before


async def assert_equal_rows(url: str, other: str) -> None:
    for view in ("trades", "candles", "candles_1h", "candles_1d", "candles_1w"):
        digest = f"SELECT count(*), sum(hashtextextended(CAST(c AS text), 0)) FROM {view} c"
        assert await query(url, digest) == await query(other, digest), view


async def test_a_full_worker_is_told(citus_url: str, tmp_path: Path) -> None:
    """The coordinator tells of a COPY what the worker said, without its code."""
    full = "'could not extend file \"base/5/7\": No space left on device' USING ERRCODE = 'disk_full'"
    connection = await asyncpg.connect(citus_url)
    try:
        await connection.execute(
            "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION {full}; END $$"
        )
        await connection.execute("SET citus.enable_unsafe_triggers TO on")
        await connection.execute(
            "CREATE TRIGGER fill BEFORE INSERT ON candles FOR EACH ROW EXECUTE FUNCTION fill()"
        )
    finally:
        await connection.close()
    report = await import_paths(citus_url, write(tmp_path, "XBTUSD_1.csv", minutes(2_000)))
    (error,) = [done.error for done in report.files]
    assert isinstance(error, StorageFullError)
    assert error.message.endswith("the disk of the database is full (on a node of the cluster)")
    assert await query(citus_url, "SELECT count(*) FROM candles") == [(0,)]


async def test_a_worker_that_takes_no_writes_is_told(citus_url: str, tmp_path: Path) -> None:
    workers = "SELECT result FROM run_command_on_workers($cmd$ {} $cmd$)"
    read_only = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only TO on',"
    await query(citus_url, workers.format(f"{read_only} current_database()); END $$"))
    report = await import_paths(citus_url, write(tmp_path, "XBTUSD_1.csv", minutes(2_000)))
    (error,) = [done.error for done in report.files]
    assert isinstance(error, ReadOnlyDatabaseError)
    assert " in a read-only transaction (on node " in error.message
    assert "citus_update_node" in (error.hint or "")


async def test_lost_in_a_recording(citus_url: str, tmp_path: Path) -> None:
    wanted = market(trades=1_500)

    async def disturb(reached: int) -> None:
        await crash(citus_url, reached // 100)

    await record(citus_url, wanted, tmp_path, disturb)
    await assert_recorded(citus_url, wanted, 1)

"""A pooler between us and the server, which gives each transaction another session: every command works."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from kraken_db.db.engine import Database
from kraken_db.db.locks import JobLock, held_alone
from kraken_db.errors import ConfigurationError, DatabaseUnavailableError, JobRunningError
from kraken_db.simulator import Market, Scenario, SimulatedExchange, feed_url
from kraken_db.store import Store
from tests.support.archives import minutes, query, write
from tests.support.downloading import assert_is_truth
from tests.support.pgbouncer import pooled
from tests.support.processes import Ended, backfilling, run_backfill
from tests.support.shell import STRICT, forked
from tests.support.stores import opened_database

NAMES = ("timezone", "statement_timeout", "jit", "application_name")
MODES = pytest.mark.parametrize("mode", ["session", "transaction"])

LIMIT = "500ms"  # less, and the first statement of a transaction can be too slow on a busy machine


@contextlib.asynccontextmanager
async def neighbour(url: str) -> AsyncIterator[list[str]]:
    """Another program in the same pool, which spoils the session that it is given, again and again.

    It finds the time zone of the sessions: the server's own, unless somebody else has spoilt them.
    """
    found: list[str] = []

    async def live() -> None:
        connection = await asyncpg.connect(url, statement_cache_size=0)
        try:
            while True:
                async with connection.transaction():
                    found.append(await connection.fetchval("SHOW statement_timeout"))
                    # It would end what takes longer, and shift times by nine hours.
                    await connection.execute(
                        f"SET statement_timeout = '{LIMIT}'; SET timezone = 'Asia/Tokyo'"
                    )
                await asyncio.sleep(0.01)
        finally:
            connection.terminate()

    living = asyncio.create_task(live())
    try:
        yield found
    finally:
        living.cancel()
        await asyncio.gather(living, return_exceptions=True)


async def run(*arguments: str, environment: Mapping[str, str]) -> Ended:
    done = await run_backfill(*arguments, environment=environment, program=forked())
    assert "Traceback" not in done.err
    assert done.code == 0, f"{arguments}: {done.err}"
    return done


@MODES
async def test_every_command(plain_empty_url: str, mode: str, tmp_path: Path) -> None:
    past = Market("BTC/USD", seed=50, trades=2_500)
    began = datetime.now(UTC) - timedelta(hours=2)
    now = Market("ETH/USD", seed=3, start=began, scenario=Scenario.CALM, trades_per_minute=60)
    with pooled(plain_empty_url, mode) as url:
        async with (
            SimulatedExchange([past, now]).serve() as base_url,
            neighbour(url) if mode == "transaction" else contextlib.nullcontext(),
        ):
            addresses = {
                "DATABASE_URL": url,
                "KRAKEN_BASE_URL": base_url,
                "KRAKEN_WS_URL": feed_url(base_url),
            }
            write(tmp_path, "XRPUSD_1.csv", minutes(3_000))
            for arguments in (
                ("db", "upgrade"),
                ("import-csv", str(tmp_path)),
                ("backfill", "--symbols", "BTC/USD", "--rate-limit", "0"),
                ("gaps", "fill", "--symbols", "ETH/USD", "--window", "1h", "--rate-limit", "0"),
            ):
                await run(*arguments, environment=addresses)
            await record("ETH/USD", tmp_path / "journal", addresses)
            for command in (
                ("status",),
                ("verify", "--offline"),
                ("gaps", "list", "--symbols", "ETH/USD", "--min-gap", "120"),
                ("candles", "BTC/USD", "--interval", "1h", "--last", "3"),
                ("export", "BTC/USD", "--out", str(tmp_path / "out"), "--format", "csv"),
                ("policies", "show"),
                ("db", "maintain"),
            ):
                await run(*command, environment=addresses)
    await assert_is_truth(plain_empty_url, past)
    bounds = "SELECT min(timestamp), max(timestamp) FROM candles WHERE symbol = 'XRP/USD'"
    first, last = datetime(2023, 1, 1, tzinfo=UTC), datetime(2023, 1, 3, 1, 59, tzinfo=UTC)
    assert await query(plain_empty_url, bounds) == [(first, last)]


async def record(symbol: str, journal: Path, addresses: Mapping[str, str]) -> None:
    """Record until the pair is live, and end in peace."""
    arguments = ("record", "--symbols", symbol, "--every", "0.3", "--json", "--journal-dir", str(journal))
    async with backfilling(*arguments, environment=addresses, program=STRICT) as process:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while b'"live"' not in await process.stdout.readline():
                assert process.returncode is None
        process.terminate()
        _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")


async def test_settings_are_those_of_a_transaction(plain_url: str) -> None:
    with pooled(plain_url, "transaction", most=1) as url:
        async with neighbour(url) as found, opened_database(url) as database:
            for _ in range(20):
                async with database.read() as connection:
                    shown = [await connection.scalar(text(f"SHOW {name}")) for name in NAMES]
                assert shown == ["UTC", "0", "off", "kraken-db"]
    assert set(found[1:]) == {LIMIT}, "what a neighbour has set is as it was"


@MODES
async def test_locks_are_held_between_transactions(plain_url: str, mode: str) -> None:
    with pooled(plain_url, mode, most=4) as url:
        async with opened_database(url, pool_max_size=1) as one, opened_database(plain_url) as other:
            async with JobLock(one, "test", "BTC/USD", "ETH/USD"):
                for _ in range(5):
                    async with one.begin() as connection:
                        await connection.execute(text("SELECT 1"))
                with pytest.raises(JobRunningError, match="another test of ETH/USD is running"):
                    await JobLock(other, "test", "ADA/USD", "ETH/USD").__aenter__()
                async with held_alone(one, "test", waiting=""), JobLock(other, "test", "ADA/USD"):
                    pass
            async with JobLock(other, "test", "BTC/USD", "ETH/USD"):
                pass


@pytest.mark.parametrize("said", ["pgbouncer=true", "statement_cache_size=0"])
async def test_an_address_that_says_so(plain_url: str, said: str) -> None:
    async with opened_database(f"{plain_url}?{said}") as database:
        for _ in range(2):
            async with database.begin() as connection:
                await connection.execute(text("SELECT 1"))
                assert await connection.scalar(text("SELECT count(*) FROM pg_prepared_statements")) == 0
                assert await connection.scalar(text("SHOW timezone")) == "UTC"


async def test_statement_mode_is_refused(plain_url: str) -> None:
    with (
        pooled(plain_url, "statement") as url,
        pytest.raises(ConfigurationError, match=r"statement mode, .*transaction mode") as found,
    ):
        await Store.open(url)
    assert "\n" not in str(found.value)


async def test_what_the_pooler_says_is_told(plain_url: str) -> None:
    with pooled(plain_url, "transaction") as url:
        with pytest.raises(DatabaseUnavailableError, match=r'pooler there refuses .*"nowhere".* not exist'):
            await Store.open(f"{url.rpartition('/')[0]}/nowhere")
        with pytest.raises(ConfigurationError, match="unsupported startup parameter: search_path"):
            await Store.open(f"{url}?search_path=public")


async def test_a_pool_that_is_full_is_waited_for(plain_url: str) -> None:
    """Eight transactions, and one session for all of them: who is sent away comes again."""

    async def work(database: Database) -> None:
        async with database.begin() as connection:
            await connection.execute(text("SELECT pg_sleep(0.3)"))

    with pooled(plain_url, "transaction", most=2, settings="query_wait_timeout = 1") as url:
        async with (
            opened_database(url) as one,
            opened_database(url) as other,
            JobLock(one, "test", "BTC/USD"),
        ):
            await asyncio.gather(*(work(database) for database in (one, other) for _ in range(4)))

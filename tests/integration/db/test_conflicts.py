"""Transactions that PostgreSQL ends so that another session can go on: they are run again, whole."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from kraken_db import retry
from kraken_db.db.engine import Database
from kraken_db.errors import TransactionConflictError
from kraken_db.retry import CONFLICT
from kraken_db.simulator import Market
from tests.support.archives import import_file, is_cluster, minutes, query, write
from tests.support.downloading import assert_is_truth, download_one
from tests.support.stores import opened_database


async def fail_at_first(url: str, table: str, times: int) -> None:
    """The first writes into a table end in a deadlock. A sequence counts them, also where they are undone.

    On a cluster it is the node with the pair that fails, and that counts.
    """
    await query(url, "CREATE SEQUENCE attempts")
    if await is_cluster(url):
        await query(url, "SELECT run_command_on_workers('CREATE SEQUENCE attempts')")
    await query(
        url,
        "CREATE FUNCTION disturb() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF nextval('attempts') <= {times} THEN"
        " RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF; RETURN NULL; END $$",
    )
    async with opened_database(url) as database, database.begin() as connection:
        await connection.exec_driver_sql("SET LOCAL citus.enable_unsafe_triggers TO on")
        await connection.exec_driver_sql(
            f"CREATE TRIGGER disturb AFTER INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION disturb()"
        )


async def attempts_of(url: str) -> int:
    last = "SELECT last_value FROM attempts WHERE is_called"
    if await is_cluster(url):
        last = f"SELECT result FROM run_command_on_workers('{last}') WHERE result <> ''"
    ((found,),) = await query(url, last)
    return int(found)


async def test_two_sessions_in_each_others_way(plain_url: str) -> None:
    """A real deadlock: each holds one lock and wants the other's. Both get through."""
    database = await Database.open(plain_url)
    have_one = asyncio.Barrier(2)
    attempts: list[int] = []

    async def lock(first: int, second: int) -> int:
        async def attempt() -> int:
            attempts.append(first)
            async with database.begin() as connection:
                await connection.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
                take = text("SELECT pg_advisory_xact_lock(:key)")
                await connection.execute(take, {"key": first})
                if len(attempts) <= 2:
                    await have_one.wait()
                await connection.execute(take, {"key": second})
            return first

        return await CONFLICT.run(attempt)

    try:
        async with asyncio.timeout(30):
            assert list(await asyncio.gather(lock(1, 2), lock(2, 1))) == [1, 2]
    finally:
        await database.close()
    assert len(attempts) == 3


async def test_a_download_goes_on(plain_url: str) -> None:
    market = Market("BTC/USD", seed=31, trades=2_500)
    await fail_at_first(plain_url, "trades", 2)
    report = await download_one(plain_url, market)
    assert report.new == 2_500
    await assert_is_truth(plain_url, market)


async def test_an_import_begins_its_file_again(plain_url: str, tmp_path: Path) -> None:
    await fail_at_first(plain_url, "candles", 2)
    report = await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(5)))
    assert (report.new, report.error) == (5, None)
    assert await query(plain_url, "SELECT count(*) FROM candles") == [(5,)]


async def test_what_never_gets_through_is_told(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "CONFLICT", replace(CONFLICT, pause=0.01, jitter=0.0))
    await fail_at_first(plain_url, "candles", 1_000)
    report = await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", minutes(5)))
    assert isinstance(report.error, TransactionConflictError)
    assert "another session was in the way: deadlock detected" in str(report.error)
    assert await attempts_of(plain_url) == CONFLICT.attempts
    assert report.new == 0

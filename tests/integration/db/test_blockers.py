"""A lock that a stopped process holds: who waits for it is told who that is, and since when."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db import blockers
from kraken_db.db.engine import Database
from kraken_db.db.locks import JobLock, held_alone, held_shared, lock_for_writing, lock_job
from kraken_db.errors import JobRunningError
from tests.support.stores import opened_database

HELD_SINCE = r"kraken-db.*, server process {pid}, {state} since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(blockers, "PATIENT_SECONDS", 0.2)
    monkeypatch.setattr(blockers, "AGAIN_SECONDS", 60.0)
    caplog.set_level(logging.INFO, "kraken_db.notices")
    return caplog


def notices(caplog: pytest.LogCaptureFixture) -> list[str]:
    """But for what the driver of an earlier test has left to the event loop."""
    return [record.getMessage() for record in caplog.records if record.name != "asyncio"]


async def until_told(caplog: pytest.LogCaptureFixture) -> str:
    async with asyncio.timeout(20):
        while not notices(caplog):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return notices(caplog)[0]


@asynccontextmanager
async def holding(url: str, key: str, *, session: bool = False) -> AsyncIterator[int]:
    """Another process that does nothing any more; gives the number of its session."""
    connection = await asyncpg.connect(url, server_settings={"application_name": "kraken-db"})
    try:
        if not session:
            await connection.execute("BEGIN")
        kind = "pg_advisory_lock" if session else "pg_advisory_xact_lock"
        await connection.execute(f"SELECT {kind}(hashtextextended('{key}', 0))")
        yield connection.get_server_pid()
    finally:
        await connection.close()


def matches(message: str, pid: int, state: str) -> bool:
    return re.search(HELD_SINCE.format(pid=pid, state=state), message) is not None


@pytest.mark.parametrize("way", ["job", "writing"])
async def test_a_transaction_that_waits(plain_url: str, told: pytest.LogCaptureFixture, way: str) -> None:
    async with opened_database(plain_url) as database:

        async def work() -> None:
            async with database.begin() as connection:
                if way == "job":
                    await lock_job(connection, "roll", of="BTC/USD")
                else:
                    await lock_for_writing(connection, ["trades:BTC/USD"], {"jit": "off"})

        key = "kraken-db:roll:BTC/USD" if way == "job" else "kraken-db:trades:BTC/USD"
        async with holding(plain_url, key) as pid:
            waiting = asyncio.create_task(work())
            assert matches(await until_told(told), pid, "idle in transaction")
            assert not waiting.done()
        await asyncio.wait_for(waiting, 10)
        assert len(notices(told)) == 1


async def test_who_does_not_wait_hears_nothing_and_leaves_nothing(
    plain_url: str, told: pytest.LogCaptureFixture
) -> None:
    async with opened_database(plain_url) as database, database.begin() as connection:
        await lock_job(connection, "roll", of="BTC/USD")
        async with blockers.telling_who_blocks(connection):
            await connection.execute(text("SELECT pg_sleep(0.6)"))  # slow, and blocked by nobody
    assert not notices(told)
    assert not [task for task in asyncio.all_tasks() if "_watch" in repr(task)]


@pytest.mark.parametrize("way", ["alone", "shared"])
async def test_a_store_that_is_held(plain_url: str, told: pytest.LogCaptureFixture, way: str) -> None:
    async def work(database: Database) -> None:
        if way == "alone":
            async with held_alone(database, "refresh", waiting="waiting for another refresh"):
                pass
        else:
            async with held_shared(database, "kraken-db:refresh:public"):
                pass

    async with opened_database(plain_url) as database:
        async with holding(plain_url, "kraken-db:refresh:public", session=True) as pid:
            waiting = asyncio.create_task(work(database))
            assert matches(await until_told(told), pid, "idle")
        await asyncio.wait_for(waiting, 10)


async def test_a_job_that_is_refused(plain_url: str) -> None:
    async with (
        opened_database(plain_url) as database,
        holding(plain_url, "kraken-db:backfill:BTC/USD", session=True) as pid,
    ):
        with pytest.raises(JobRunningError, match="another backfill of BTC/USD is running") as refused:
            async with JobLock(database, "backfill", "BTC/USD"):
                pass
    assert matches(refused.value.message, pid, "idle")


@pytest.mark.parametrize("way", ["ALTER TABLE", "a row"])
async def test_locks_of_tables_and_rows(plain_url: str, told: pytest.LogCaptureFixture, way: str) -> None:
    """Anybody may hold them: a session that has changed a table, or a row, and then does nothing."""
    async with opened_database(plain_url) as database:
        async with database.begin() as connection:
            await connection.execute(text("CREATE TABLE thing (id int)"))
            await connection.execute(text("INSERT INTO thing VALUES (1)"))
        other = await asyncpg.connect(plain_url, server_settings={"application_name": "kraken-db"})
        try:
            await other.execute("BEGIN")
            held = "ALTER TABLE thing ADD n int" if way == "ALTER TABLE" else "UPDATE thing SET id = 2"
            await other.execute(held)

            async def work(connection: AsyncConnection) -> None:
                wanted = "SELECT * FROM thing" if way == "ALTER TABLE" else "UPDATE thing SET id = 3"
                await connection.execute(text(wanted))

            waiting = asyncio.create_task(database.reading(work))
            assert matches(await until_told(told), other.get_server_pid(), "idle in transaction")
            assert not waiting.done()
        finally:
            await other.close()
        await asyncio.wait_for(waiting, 10)
        assert len(notices(told)) == 1

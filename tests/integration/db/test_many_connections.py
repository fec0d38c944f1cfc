"""Fewer connections than are wanted: they are waited for. Locks: all of a process in one session."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from sqlalchemy import text

from kraken_db import retry
from kraken_db.db import engine
from kraken_db.db.engine import Database
from kraken_db.db.locks import JobLock, held_shared
from kraken_db.errors import JobRunningError, TooManyConnectionsError
from tests.support.archives import query
from tests.support.stores import opened_database, with_user

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'crowded'"


async def limit(url: str, count: int) -> str:
    """The address for a role that has so many connections."""
    await query(url, "DROP ROLE IF EXISTS crowded")
    await query(url, f"CREATE ROLE crowded LOGIN PASSWORD 'secret' CONNECTION LIMIT {count}")
    return with_user(url, "crowded")


@pytest.fixture
async def few_url(plain_url: str) -> AsyncIterator[str]:
    yield await limit(plain_url, 3)
    await query(plain_url, "DROP ROLE crowded")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(engine, "_NOT_USED_SECONDS", 0.5)
    yield


async def work(database: Database, seconds: float = 0.05) -> int:
    async with database.begin() as connection:
        return int(await connection.scalar(text(f"SELECT 1 + count(pg_sleep({seconds}))")) or 0)


async def test_a_server_with_fewer_than_the_pool(few_url: str) -> None:
    async with opened_database(few_url, pool_max_size=20) as database, asyncio.timeout(60):
        assert sum(await asyncio.gather(*(work(database) for _ in range(60)))) == 120
        assert sum(await asyncio.gather(*(work(database) for _ in range(20)))) == 40


async def test_a_pool_that_is_full_is_no_error(plain_url: str) -> None:
    async with opened_database(plain_url, pool_max_size=2) as database, asyncio.timeout(60):
        assert sum(await asyncio.gather(*(work(database, 0.01) for _ in range(200)))) == 400


async def test_others_have_all_of_them(
    few_url: str, plain_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A pool keeps its connections, so who has none waits until the other ends; a line says so."""
    caplog.set_level(logging.INFO, logger="kraken_db.notices")
    monkeypatch.setattr(engine, "_SLOW_START", 0.5)
    async with opened_database(few_url) as waiting:
        async with opened_database(few_url) as full:
            await asyncio.gather(*(work(full, 0.3) for _ in range(3)))
            assert await query(plain_url, SESSIONS) == [(3,)]
            lock = JobLock(waiting, "test", "BTC/USD")
            tasks = [asyncio.create_task(work(waiting)), asyncio.create_task(lock.hold())]
            await asyncio.sleep(2)
            assert not any(task.done() for task in tasks)
        async with asyncio.timeout(30):
            await asyncio.gather(*tasks)
    lines = {record.getMessage() for record in caplog.records if record.name == "kraken_db.notices"}
    assert len(lines) == 1
    assert "too many connections for role" in lines.pop()


async def test_it_is_not_waited_for_without_end(few_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "CROWDED", replace(retry.CROWDED, seconds=0.5))
    async with opened_database(few_url) as full, opened_database(few_url) as waiting:
        await asyncio.gather(*(work(full, 0.3) for _ in range(3)))
        with pytest.raises(TooManyConnectionsError, match="too many connections for role") as found:
            await work(waiting)
    assert "fewer jobs" in str(found.value.hint)


# --- locks ---


async def test_many_locks_take_one_connection_and_no_place(plain_url: str) -> None:
    connections = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type = 'client backend'"
        " AND application_name NOT LIKE 'citus%'"  # those of the other nodes
    )
    async with opened_database(plain_url, pool_max_size=1) as database:
        locks = [JobLock(database, "test", f"P{number}/USD") for number in range(300)]
        await asyncio.gather(*(lock.hold() for lock in locks))
        async with database.read() as connection:
            assert await connection.scalar(text(connections)) == 2
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            assert await connection.scalar(text(held)) == 300
            await asyncio.gather(*(lock.__aexit__(None, None, None) for lock in locks))
            assert await connection.scalar(text(held)) == 0


async def test_a_second_run_is_refused_in_the_same_process_too(plain_url: str) -> None:
    async with opened_database(plain_url) as one, opened_database(plain_url) as other:
        async with JobLock(one, "test", "BTC/USD") as lock:
            for database in (one, other):
                with pytest.raises(JobRunningError, match="another test of BTC/USD is running"):
                    await JobLock(database, "test", "ADA/USD", "BTC/USD").__aenter__()
            await lock.hold()
            async with JobLock(other, "test", "ADA/USD"):
                pass
        async with JobLock(other, "test", "BTC/USD"):
            pass


async def test_one_key_is_shared_by_many(plain_url: str) -> None:
    taken = "SELECT pg_try_advisory_lock(hashtextextended('some key', 0))"
    async with opened_database(plain_url) as one, opened_database(plain_url) as other:
        async with held_shared(one, "some key"):
            async with held_shared(one, "some key"), held_shared(other, "some key"):
                pass
            assert await query(plain_url, taken) == [(False,)]
        assert await query(plain_url, taken) == [(True,)]


async def test_all_locks_are_taken_anew_when_the_session_was_lost(
    plain_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One of them another process has got meanwhile: its owner is told, the others go on."""
    async with opened_database(plain_url) as one, opened_database(plain_url) as other:
        locks = {name: JobLock(one, "test", name) for name in ("ADA/USD", "BTC/USD", "ETH/USD")}
        for lock in locks.values():
            await lock.hold()
        await query(
            plain_url,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks JOIN pg_database d ON d.oid = database"
            " WHERE locktype = 'advisory' AND datname = current_database() GROUP BY pid",
        )
        async with JobLock(other, "test", "BTC/USD"):
            await locks["ADA/USD"].hold()  # whoever asks first
            assert "has taken kraken-db:test:BTC/USD meanwhile" in caplog.text
            with pytest.raises(JobRunningError, match="another test of ETH/USD"):
                await JobLock(other, "test", "ETH/USD").__aenter__()
            await locks["ETH/USD"].hold()
            with pytest.raises(JobRunningError, match="another test of BTC/USD"):
                await locks["BTC/USD"].hold()
        await locks["BTC/USD"].hold()


async def test_who_is_cancelled_leaves_no_lock(plain_url: str) -> None:
    async with (
        opened_database(plain_url) as one,
        opened_database(plain_url) as other,
        JobLock(one, "test", "ADA/USD"),
    ):
        for turns in range(30):
            entering = asyncio.create_task(JobLock(one, "test", "BTC/USD").__aenter__())
            for _ in range(turns):
                await asyncio.sleep(0)
            entering.cancel()
            if isinstance((await asyncio.gather(entering, return_exceptions=True))[0], JobLock):
                await one.locks.release(entering.result())
            async with JobLock(other, "test", "BTC/USD"):
                pass
        with pytest.raises(JobRunningError):
            await JobLock(other, "test", "ADA/USD").__aenter__()


async def test_a_machine_without_power_holds_no_lock_for_two_hours(plain_url: str) -> None:
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
    async with opened_database(plain_url) as database, database.read() as connection:
        shown = [await connection.scalar(text(f"SHOW {name}")) for name in names]
    assert shown == ["60", "10", "6", "300000"]

"""Refreshes of one store take turns, and wait for what the database itself refreshes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from kraken_db.backends import timescale_refresh
from kraken_db.bulk_csv_importer import BulkCSVImporter
from kraken_db.db import blockers, locks
from kraken_db.retry import REFRESH
from kraken_db.store import Store
from kraken_db.times import utc_now
from tests.support.archives import at, import_file, minutes, query, read_candles, write

MONDAY = 1672617600  # 2023-01-02
HOURS = 69


@pytest.fixture
async def concurrent_url(timescale_url: str) -> str:
    """A TimescaleDB that has more than one session, and refuses refreshes that overlap."""
    one, other = await asyncpg.connect(timescale_url), await asyncpg.connect(timescale_url)
    try:
        pids = [await connection.fetchval("SELECT pg_backend_pid()") for connection in (one, other)]
        version = await one.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    finally:
        await one.close()
        await other.close()
    if pids[0] == pids[1]:
        pytest.skip("this server has one session")
    if tuple(map(int, version.split(".")[:2])) < (2, 27):
        pytest.skip(f"TimescaleDB {version} queues refreshes by itself")
    # Its own jobs would be in the way at moments of their own.
    await query(
        timescale_url,
        "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs"
        " WHERE proc_name = 'policy_refresh_continuous_aggregate'",
    )
    return timescale_url


async def hours(url: str) -> dict[str, int]:
    return dict(await query(url, "SELECT symbol, count(*) FROM candles_1h GROUP BY symbol"))


async def waiting(url: str) -> int:
    ((count,),) = await query(url, "SELECT count(*) FROM pending_refresh WHERE refreshed_at IS NULL")
    return int(count)


async def test_two_imports_at_once(concurrent_url: str, tmp_path: Path) -> None:
    """Two runs, as of two processes: each ends well, and every hour of both pairs is there."""
    for round_ in range(5):
        start = MONDAY + round_ * 7 * 86_400
        paths = [
            write(tmp_path / str(round_), f"{name}_1.csv", minutes(HOURS * 60, start=start))
            for name in ("XBTUSD", "ETHUSD")
        ]
        reports = await asyncio.gather(*(import_file(concurrent_url, path) for path in paths))
        assert [report.new for report in reports] == [HOURS * 60] * 2
        assert await hours(concurrent_url) == {
            "BTC/USD": HOURS * (round_ + 1),
            "ETH/USD": HOURS * (round_ + 1),
        }
        assert await waiting(concurrent_url) == 0


async def until(is_so: Callable[[], Awaitable[Any]]) -> None:
    while not await is_so():  # noqa: ASYNC110 - another session's doing is no event here
        await asyncio.sleep(0.05)


@asynccontextmanager
async def refreshing_elsewhere(url: str) -> AsyncIterator[asyncio.Task[Any]]:
    """A refresh of candles_5m by another session, which does not get on until the block ends.

    Half an hour, one batch. Its table is locked: so it has begun, and waits before it writes.
    """
    await query(url, "UPDATE candles SET volume = volume + 1 WHERE timestamp = :moment", moment=at(MONDAY))
    async with asyncio.timeout(60):
        holder, refresher = await asyncpg.connect(url), await asyncpg.connect(url)
        (table,) = await holder.fetchrow(
            "SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)"
            " FROM timescaledb_information.continuous_aggregates WHERE view_name = 'candles_5m'"
        )
        transaction = holder.transaction()
        await transaction.start()
        await holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        window = "'2023-01-02 00:00+00', '2023-01-02 00:30+00'"
        task = asyncio.create_task(
            refresher.execute(f"CALL refresh_continuous_aggregate('candles_5m', {window})")
        )
        blocked = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1"
        await until(lambda: holder.fetchval(blocked, refresher.get_server_pid()))
        try:
            yield task
        finally:
            await transaction.rollback()
            await task
            await holder.close()
            await refresher.close()


async def test_a_refresh_of_the_database_is_waited_for(
    concurrent_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = concurrent_url
    await import_file(url, write(tmp_path, "ETHUSD_1.csv", minutes(60, start=MONDAY)))
    monkeypatch.setattr(timescale_refresh, "REFRESH", replace(REFRESH, pause=0.1))
    path = write(tmp_path, "XBTUSD_1.csv", minutes(HOURS * 60, start=MONDAY))
    with caplog.at_level(logging.INFO, "kraken_db"):
        async with refreshing_elsewhere(url):
            importing = asyncio.create_task(import_file(url, path))
            while not any("another session refreshes" in message for message in caplog.messages):
                assert not importing.done()
                await asyncio.sleep(0.05)
    report = await importing
    assert report.error is None
    assert (await hours(url))["BTC/USD"] == HOURS
    assert await waiting(url) == 0


async def test_a_refresh_that_is_given_up_is_an_error_and_its_ranges_stay(
    concurrent_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = concurrent_url
    await import_file(url, write(tmp_path, "ETHUSD_1.csv", minutes(60, start=MONDAY)))
    monkeypatch.setattr(timescale_refresh, "REFRESH", replace(REFRESH, seconds=0.0))
    path = write(tmp_path, "XBTUSD_1.csv", minutes(HOURS * 60, start=MONDAY))
    async with refreshing_elsewhere(url), BulkCSVImporter(url, workers=1) as importer:
        report = await importer.run(importer.plan([path]))
    assert "another session refreshes the same interval" in str(report.refresh_error)
    assert (report.failures, report.files[0].new) == ([], HOURS * 60)
    assert await waiting(url) == 1
    store = await Store.open(url)
    try:
        await store.refresh_pending()
    finally:
        await store.close()
    assert (await hours(url))["BTC/USD"] == HOURS
    assert await waiting(url) == 0


async def test_a_second_refresh_of_ours_waits_and_says_so_once(
    concurrent_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url = concurrent_url
    monkeypatch.setattr(locks, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(blockers, "PATIENT_SECONDS", 0.2)
    await query(
        url,
        "INSERT INTO pending_refresh (symbol, stale) VALUES"
        " ('BTC/USD', '[2023-01-06 00:00+00,2023-01-06 00:01+00)')",
    )
    one, other = await Store.open(url), await Store.open(url)
    try:
        with caplog.at_level(logging.INFO, "kraken_db"):
            async with locks.held_alone(one.database, "refresh", waiting=""):
                refreshing = asyncio.create_task(other.refresh_pending())
                await asyncio.sleep(1)
                assert not refreshing.done()
            await asyncio.wait_for(refreshing, 20)
        (told,) = [line for line in caplog.messages if "waiting for another refresh" in line]
        assert told.startswith("waiting for another refresh of this store: ")
        assert "server process " in told
        assert await waiting(url) == 0
    finally:
        await one.close()
        await other.close()


# --- years without rows ---


async def test_a_minute_of_a_wrong_year_costs_nothing(db_url: str, tmp_path: Path) -> None:
    """As one that another program wrote: all the years up to it are stale in one range."""
    await import_file(db_url, write(tmp_path, "XBTUSD_1.csv", minutes(120, start=MONDAY)))
    await query(
        db_url,
        "INSERT INTO candles VALUES ('BTC/USD', '9998-01-01 00:00+00', 1, 10, 11, 9, 10, 2, NULL, 3, NULL)",
    )
    await query(db_url, "UPDATE candles SET trade_count = 8 WHERE timestamp = :moment", moment=at(MONDAY))
    await query(
        db_url,
        "INSERT INTO pending_refresh (symbol, stale) VALUES"
        " ('BTC/USD', '[2013-01-01 00:00+00,9998-01-01 00:01+00)')",
    )
    began = utc_now()
    store = await Store.open(db_url, pool_max_size=2)
    try:
        await asyncio.wait_for(store.refresh_pending(), 60)
        ((unrefreshed,),) = await query(
            db_url, "SELECT count(*) FROM pending_refresh WHERE refreshed_at IS NULL"
        )
        assert unrefreshed == 0
        ((left,),) = await query(db_url, "SELECT count(*) FROM pending_refresh")
        assert left <= 1
        await asyncio.wait_for(store.refresh_pending(), 60)
    finally:
        await store.close()
    assert utc_now() - began < timedelta(seconds=60)
    found = await read_candles(db_url, "BTC/USD", 60)
    assert [(candle.timestamp, candle.trade_count) for candle in found[:2]] == [
        (datetime(2023, 1, 2, 0, tzinfo=UTC), 7 * 59 + 8),
        (datetime(2023, 1, 2, 1, tzinfo=UTC), 7 * 60),
    ]

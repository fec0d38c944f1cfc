"""Retention waits while old rows are written, and runs again afterwards."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import PostgresBackend, RetentionJob
from kraken_db.bulk_csv_importer import BulkCSVImporter
from kraken_db.cli.status import _read
from kraken_db.errors import DatabaseError, PermissionDeniedError
from kraken_db.ingest.write_unit import Ingest
from kraken_db.policies import BackgroundJob
from kraken_db.retention import RetentionPause
from kraken_db.store import Store
from tests.support.archives import (
    as_kraken_rows,
    minutes,
    query,
    read_candles,
    run_outside_transaction,
    write,
)

DAY = 24 * 60
MONDAY = 1672617600  # 2023-01-02
ON = {"candles": True, "trades": True}


async def scheduled(url: str) -> dict[str, bool]:
    rows = await query(
        url,
        "SELECT hypertable_name, scheduled FROM timescaledb_information.jobs"
        " WHERE proc_name = 'policy_retention'",
    )
    return dict(rows)


async def job_of(url: str, table: str) -> int:
    ((job,),) = await query(
        url,
        "SELECT job_id FROM timescaledb_information.jobs"
        " WHERE proc_name = 'policy_retention' AND hypertable_name = :table",
        table=table,
    )
    return int(job)


async def run(url: str, path: Path, refresh: Callable[[Store], Awaitable[None]] | None = None) -> Any:
    """An import; ``refresh`` takes the place of the refresh at its end."""
    async with BulkCSVImporter(url, workers=1) as importer:
        store = importer._connected()
        if refresh is not None:
            store.refresh_pending = lambda also=(): refresh(store)  # type: ignore[method-assign,assignment,return-value]
        return await importer.run(importer.plan([path]))


async def killed(_store: Store) -> None:
    raise KeyboardInterrupt


async def test_paused_from_the_first_old_row_to_the_end_of_the_refresh(
    timescale_url: str, tmp_path: Path
) -> None:
    url, seen = timescale_url, []

    async def look(store: Store) -> None:
        seen.append(await scheduled(url))
        await Store.refresh_pending(store)
        seen.append(await scheduled(url))

    assert await scheduled(url) == ON
    await run(url, write(tmp_path, "XBTUSD_1.csv", minutes(60, start=MONDAY)), look)
    assert seen == [{"candles": False, "trades": True}] * 2
    assert await scheduled(url) == ON
    await run(url, write(tmp_path, "XBTUSD.csv", f"100.5,1,{MONDAY}.5,b,l,,1\n"), look)
    # The minutes that a trade enters or leaves are built anew with it.
    assert seen[2:] == [{"candles": False, "trades": False}] * 2
    assert await scheduled(url) == ON
    assert await query(url, "SELECT * FROM paused_jobs") == []


async def test_a_killed_run_leaves_it_paused_for_the_next(timescale_url: str, tmp_path: Path) -> None:
    """What it wrote is not aggregated: retention must not drop it before it is."""
    url = timescale_url
    with contextlib.suppress(KeyboardInterrupt):
        await run(url, write(tmp_path, "XBTUSD_1.csv", minutes(DAY, start=MONDAY)), killed)
    assert await scheduled(url) == {"candles": False, "trades": True}
    assert await query(url, "SELECT job_id FROM paused_jobs") == [(await job_of(url, "candles"),)]
    _, told = await _read(url, None)
    assert (told.retention_paused, told.pending_refreshes) == (True, 1)
    recent = int((datetime.now(UTC) - timedelta(days=2)).timestamp()) // 60 * 60
    await run(url, write(tmp_path, "ETHUSD_1.csv", minutes(60, start=recent)))
    _, told = await _read(url, None)
    assert (told.retention_paused, told.pending_refreshes) == (False, 0)
    assert await scheduled(url) == ON
    assert await query(url, "SELECT * FROM paused_jobs") == []
    await run_outside_transaction(url, f"CALL run_job({await job_of(url, 'candles')})")
    assert await query(url, "SELECT min(timestamp) > '2024-01-01' FROM candles") == [(True,)]
    for interval in (5, 60, 1440):
        rows = as_kraken_rows(await read_candles(url, "BTC/USD", interval))
        assert [row[6] for row in rows] == [7 * interval] * (DAY // interval)


async def test_a_refresh_that_fails_leaves_it_paused(
    timescale_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_store: Store) -> None:
        raise DatabaseError("no room")

    with caplog.at_level(logging.WARNING):
        report = await run(timescale_url, write(tmp_path, "XBTUSD_1.csv", minutes(60, start=MONDAY)), fail)
    assert report.refresh_error is not None
    assert await scheduled(timescale_url) == {"candles": False, "trades": True}
    assert "retention stays paused" in caplog.text


async def test_recent_rows_touch_no_job(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    recent = int((datetime.now(UTC) - timedelta(days=30)).timestamp()) // 60 * 60
    with contextlib.suppress(KeyboardInterrupt):
        await run(url, write(tmp_path, "XBTUSD_1.csv", minutes(60, start=recent)), killed)
    assert await scheduled(url) == ON
    assert await query(url, "SELECT * FROM paused_jobs") == []


async def test_what_the_user_had_turned_off_stays_off(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url
    await query(url, "SELECT alter_job(:job, scheduled => false)", job=await job_of(url, "candles"))
    await run(url, write(tmp_path, "XBTUSD_1.csv", minutes(60, start=MONDAY)))
    assert await scheduled(url) == {"candles": False, "trades": True}
    assert await query(url, "SELECT * FROM paused_jobs") == []


async def test_a_policy_that_was_removed_meanwhile_is_no_error(timescale_url: str, tmp_path: Path) -> None:
    url = timescale_url

    async def remove(store: Store) -> None:
        await query(url, "SELECT remove_retention_policy('candles')")
        await Store.refresh_pending(store)

    report = await run(url, write(tmp_path, "XBTUSD_1.csv", minutes(60, start=MONDAY)), remove)
    assert not report.failures
    assert await query(url, "SELECT * FROM paused_jobs") == []


class Scheduler:
    """Retention jobs as a database of several sessions would have them. Job 1: candles, 2: trades."""

    def __init__(self) -> None:
        self.on = {1: True, 2: True}
        self.still_running = 0
        self.refused = False

    async def all(self, connection: AsyncConnection) -> Sequence[BackgroundJob]:
        return ()

    async def retention(self, connection: AsyncConnection, table: str) -> RetentionJob | None:
        period = timedelta(days=365 if table == "candles" else 90)
        return RetentionJob(1 if table == "candles" else 2, period, timedelta(days=7))

    async def schedule(self, connection: AsyncConnection, job_id: int, *, on: bool) -> bool:
        if self.refused:
            raise PermissionDeniedError("insufficient permissions to alter job 1")
        before, self.on[job_id] = self.on[job_id], on
        return before != on

    async def is_running(self, connection: AsyncConnection, job_id: int) -> bool:
        self.still_running -= 1
        return self.still_running >= 0


NOW = datetime(2025, 6, 1, tzinfo=UTC)


@contextlib.asynccontextmanager
async def opened(url: str, jobs: Scheduler) -> Any:
    store = await Store.open(url, pool_max_size=2, clock=lambda: NOW)
    store.backend = PostgresBackend()
    store.backend.jobs = jobs
    try:
        yield store
    finally:
        await store.close()


async def test_the_last_of_several_writers_lets_it_run_again(plain_url: str) -> None:
    jobs, old = Scheduler(), NOW - timedelta(days=400)
    async with opened(plain_url, jobs) as one, opened(plain_url, jobs) as other:
        async with Ingest(one) as first:
            await first.prepare(["candles"], old)
            async with Ingest(other) as second:
                await second.prepare(["candles"], old)
                await second.prepare(["trades"], old)
                assert jobs.on == {1: False, 2: False}
            assert jobs.on == {1: False, 2: False}
            assert not await other.release_retention()
        assert jobs.on == {1: True, 2: True}
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    assert await query(plain_url, held) == [(0,)]
    assert await query(plain_url, "SELECT * FROM paused_jobs") == []


async def test_it_waits_for_a_job_that_is_at_work(plain_url: str) -> None:
    jobs, naps = Scheduler(), []
    jobs.still_running = 3

    async def sleep(seconds: float) -> None:
        naps.append(seconds)

    async with opened(plain_url, jobs) as store:
        pause = RetentionPause(store.database, store.backend, store.clock, sleep)
        await pause.before_writing("candles", NOW - timedelta(days=400))
        assert len(naps) == 3
        await pause.before_writing("candles", NOW - timedelta(days=500))
        assert len(naps) == 3
        await pause.end()
    assert jobs.on == {1: True, 2: True}


async def test_the_period_and_a_part_decide_what_is_old(plain_url: str) -> None:
    jobs = Scheduler()
    async with opened(plain_url, jobs) as store, Ingest(store) as ingest:
        await ingest.prepare(["candles"], NOW - timedelta(days=358))
        assert jobs.on == {1: True, 2: True}
        await ingest.prepare(["candles"], NOW - timedelta(days=358, seconds=1))
        assert jobs.on == {1: False, 2: True}


async def test_a_role_without_the_right_is_warned(plain_url: str, caplog: pytest.LogCaptureFixture) -> None:
    jobs = Scheduler()
    jobs.refused = True
    async with opened(plain_url, jobs) as store:
        with caplog.at_level(logging.WARNING):
            async with Ingest(store) as ingest:
                await ingest.prepare(["candles"], NOW - timedelta(days=400))
    assert "retention of candles cannot be paused" in caplog.text
    assert await query(plain_url, "SELECT * FROM paused_jobs") == []

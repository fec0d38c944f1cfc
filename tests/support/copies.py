"""A store that has everything a copy has to carry, and everything of a store, to compare."""

from __future__ import annotations

import asyncio
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kraken_db.intervals import INTERVAL_VIEWS
from kraken_db.store_copy import CopyReport, StoreCopy
from tests.support.archives import import_file, minutes, query, write
from tests.support.retention import DAY, MONDAY, WEEK, keep, maintain, trades
from tests.support.shell import Shell

TABLES = (
    "trades",
    "candles",
    "rolled_candles",
    "data_sync_status",
    "data_coverage",
    "unproven_ranges",
    "dropped_ranges",
    "retention_periods",
)
OF_ROWS = ("trades", "candles", "data_sync_status", "data_coverage", "unproven_ranges", "dropped_ranges")
NOW = datetime.fromtimestamp(MONDAY, UTC) + timedelta(days=30)


async def fill(url: str, folder: Path) -> None:
    """BTC/USD with three weeks of minutes, hours of a file, trades with and without ids, and quiet days."""
    row = "100.5,110.25,90.125,105.0000000001,12.3456789012,7"
    for week in range(4):
        rows = minutes(300, start=MONDAY + week * 60 * WEEK, row=row)
        await import_file(url, write(folder, "XBTUSD_1.csv", rows))
    await import_file(url, write(folder, "XBTUSD_60.csv", f"{MONDAY},1,2,0.5,1.5,10,3\n"))
    await import_file(url, write(folder, "XBTUSD.csv", trades(MONDAY + 60 * (3 * WEEK + 6 * 60), 100)))
    # BTC/USD makes the chunk of a day that is known, and quiet.
    apart = [trades(MONDAY + 60 * (3 * WEEK + days * DAY), 1, first_id=at) for at, days in ((1, -2), (2, 2))]
    await import_file(url, write(folder, "ADAUSD.csv", "".join(apart)))
    without_ids = "".join(f"{MONDAY + 60 * DAY * n},{10 + n}.5,0.00000001\n" for n in range(5))
    await import_file(url, write(folder, "ETHUSD.csv", without_ids))
    await query(url, "INSERT INTO unproven_ranges VALUES ('BTC/USD', 'trades', '{[2021-01-01, 2021-01-02)}')")
    await query(
        url, "UPDATE data_sync_status SET last_kraken_since = 1672617600123456789, ended_at = '2023-02-01'"
    )


async def drop_old(url: str) -> None:
    """Retention takes the first week of the minutes, and so much of the trades."""
    await keep(url, candles=timedelta(days=20), trades=timedelta(days=27))
    report = await maintain(url, NOW)
    assert [table.dropped_rows > 0 for table in report.tables] == [True, True]


async def everything_of(url: str, *tables: str, views: bool = True) -> dict[str, Any]:
    """All rows of tables and views, in an order of their own."""
    names = [*(tables or TABLES), *(INTERVAL_VIEWS.values() if views else ())]
    return {name: sorted(await query(url, f"SELECT CAST(r AS text) FROM {name} r")) for name in names}


async def copied(source: str, target: str, *symbols: str, **options: Any) -> CopyReport:
    async with StoreCopy(source, target, clock=lambda: NOW) as service:
        report = await service.run(list(symbols) or None, **options)
    assert report.refresh_error is None
    return report


async def fill_four(url: str, folder: Path) -> dict[str, Any]:
    """Four pairs that take a while to copy; returns everything of the store."""
    for name in ("XBTUSD", "ETHUSD", "ADAUSD", "SOLUSD"):
        await import_file(url, write(folder, f"{name}_1.csv", minutes(20_000, start=MONDAY)))
        await import_file(url, write(folder, f"{name}.csv", trades(MONDAY, 20_000)))
    return await everything_of(url)


async def killed_on_the_way(source: str, target: str, folder: Path, *, kills: int) -> None:
    """Copy, killed so often; then to the end. Asserts that only whole pairs are there after each kill."""
    counted = "SELECT symbol, count(*) FROM trades GROUP BY symbol"
    whole = await query(source, counted)
    shell, dice = Shell(folder), random.Random(17)
    for _ in range(kills):
        process = shell.start("db", "copy", source, target)
        await asyncio.sleep(dice.uniform(0.8, 4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        if await query(target, "SELECT 1 WHERE to_regclass('trades') IS NOT NULL"):
            assert set(await query(target, counted)) <= set(whole)
    # The server may hold the locks of the last one for a moment.
    for _ in range(20):
        if not (await copied(source, target)).failed:
            break
        await asyncio.sleep(0.5)

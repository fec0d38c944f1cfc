"""Stores whose old rows go: policies set, a run of the upkeep, what is left of every interval."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from kraken_db.data_types import TABLES, TableName
from kraken_db.intervals import INTERVAL_VIEWS
from kraken_db.maintenance import Maintenance, MaintenanceReport, Periods, change_policies
from tests.support.archives import (
    query,
    read_candles,
)
from tests.support.stores import opened

HOUR, DAY, WEEK = 60, 24 * 60, 7 * 24 * 60


MONDAY = 1672617600  # 2023-01-02


HIGHER = [interval for interval in INTERVAL_VIEWS if interval > 1]


VALUES = (
    "symbol, timestamp, interval_minutes, open, high, low, close, volume, quote_volume, trade_count, vwap"
)


async def keep(url: str, **periods: timedelta | None) -> None:
    """Set retentions by table."""
    changes: dict[TableName, Periods] = {
        table: {"retention": periods[table]} for table in TABLES if table in periods
    }
    assert len(changes) == len(periods)
    async with opened(url) as store:
        await change_policies(store, changes)


async def maintain(url: str, now: datetime, *, dry_run: bool = False) -> MaintenanceReport:
    async with Maintenance(url, clock=lambda: now) as service:
        return await service.run(dry_run=dry_run)


async def views(url: str) -> dict[int, list[Any]]:
    """Every candle of the higher intervals, as SQL sees it: every column."""
    return {
        interval: await query(
            url, f"SELECT {VALUES} FROM {INTERVAL_VIEWS[interval]} ORDER BY symbol, timestamp"
        )
        for interval in HIGHER
    }


async def everything(url: str, symbol: str) -> dict[int, Any]:
    return {interval: await read_candles(url, symbol, interval) for interval in HIGHER}


def trades(start: int, count: int, *, every: int = 20, first_id: int = 1) -> str:
    """Trades with ids: prices rise by one, a volume of 0.5 each."""
    return "".join(f"{100 + n}.0,0.5,{start + every * n}.5,b,m,,{first_id + n}\n" for n in range(count))


async def drop_minutes(url: str, before: str) -> None:
    dropped = await query(
        url, "SELECT drop_chunks('candles', CAST(CAST(:before AS text) AS timestamptz))", before=before
    )
    assert dropped

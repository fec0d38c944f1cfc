"""Puts the state of a store together, out of what every write keeps and of the database's catalogs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.intervals import INTERVAL_NAMES
from kraken_db.repositories.coverage_summary import (
    CoverageSummary,
    CoverageSummaryRepository,
    MonthCoverage,
)
from kraken_db.repositories.paused_jobs import PausedJobRepository
from kraken_db.repositories.pending_refresh import PendingRefreshRepository
from kraken_db.repositories.sync_status import SyncStatus, SyncStatusRepository
from kraken_db.status.model import DataStatus, Month, MonthState, StoreStatus
from kraken_db.timeseries import StaleRange, TimeSeries
from kraken_db.timeseries.storage import database_size

MOST_RANGES = 100
"""Of a symbol with more ranges than these, only their number is read."""
RUN_IS_DEAD_AFTER = timedelta(hours=1)
"""A run that writes says so in the time of the sync; one that has not for so long has ended."""

_TABLE_OF = {"trades": "trades", "candles_1m": "candles"}


async def read_status(
    connection: AsyncConnection, timeseries: TimeSeries, now: datetime, symbols: Sequence[str] | None = None
) -> StoreStatus:
    """The state of a store, of all symbols or of some, in time that does not depend on its rows."""
    records = await SyncStatusRepository(connection).all()
    summaries = CoverageSummaryRepository(connection, symbols)
    covered = {(item.symbol, item.data_type): item for item in await summaries.all(MOST_RANGES)}
    months: dict[tuple[str, str], list[MonthCoverage]] = {}
    for month in await summaries.by_month():
        months.setdefault((month.symbol, month.data_type), []).append(month)
    _, stale = await PendingRefreshRepository(connection).all()
    # The others wait for their candles to close, not for anybody.
    pending = [item for item in stale if item.refreshed_at is None]
    tables = await timeseries.storage(connection)
    kept_from: dict[str | None, datetime | None] = {table.table: table.kept_from for table in tables}
    data = [
        _data_status(
            record,
            covered.get((record.symbol, record.data_type)),
            months.get((record.symbol, record.data_type), ()),
            kept_from.get(_TABLE_OF.get(record.data_type)),
            now,
        )
        for record in records
        if symbols is None or record.symbol in symbols
    ]
    return StoreStatus(
        now=now,
        data=sorted(data, key=lambda item: (item.symbol, _order(item.data_type))),
        tables=tables,
        database_size=await database_size(connection),
        jobs=await timeseries.jobs(connection),
        pending_refreshes=len(pending),
        pending_from=min((item.start for item in pending), default=None),
        stalled_refreshes=_stalled(pending, records, now),
        retention_paused=bool(await PausedJobRepository(connection).all()),
        last_sync=max((record.last_sync for record in records), default=None),
    )


def _data_status(
    record: SyncStatus,
    covered: CoverageSummary | None,
    months: Sequence[MonthCoverage],
    kept_from: datetime | None,
    now: datetime,
) -> DataStatus:
    known = max([moment for moment in (record.newest, covered and covered.end) if moment], default=None)
    return DataStatus(
        symbol=record.symbol,
        data_type=record.data_type,
        rows=record.total_records,
        oldest=record.oldest,
        newest=record.newest,
        last_sync=record.last_sync,
        sources=covered.sources if covered else (),
        ranges=covered.ranges if covered else 0,
        covered=covered.covered if covered else (),
        gaps=covered.gaps if covered else None,
        lag=max(now - known, timedelta(0)) if known else None,
        months=month_states(covered, months, kept_from, now) if covered else (),
    )


def month_states(
    summary: CoverageSummary, months: Sequence[MonthCoverage], kept_from: datetime | None, now: datetime
) -> list[Month]:
    """Every month from the first that is covered to the running one (or to the last that is covered)."""
    found = {item.month: item for item in months}
    states: list[Month] = []
    month = summary.start.astimezone(UTC).date().replace(day=1)
    last = max(now, summary.end).astimezone(UTC).date()
    while month <= last:
        states.append(Month(month, _state(summary, found.get(month), month, kept_from, now)))
        month = _next(month)
    return states


def _state(
    summary: CoverageSummary,
    covered: MonthCoverage | None,
    month: date,
    kept_from: datetime | None,
    now: datetime,
) -> MonthState:
    if covered is None:
        return "none"
    start, end = (datetime(day.year, day.month, 1, tzinfo=UTC) for day in (month, _next(month)))
    if covered.dropped >= covered.covered or (kept_from is not None and end <= kept_from):
        return "dropped"
    past = min(end, summary.end) if end > now else end
    wanted = past - max(start, summary.start)
    return "full" if covered.covered >= wanted else "part"


def _next(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _stalled(pending: Sequence[StaleRange], records: Sequence[SyncStatus], now: datetime) -> int:
    newest: Mapping[str, datetime] = {
        record.symbol: record.last_sync for record in sorted(records, key=lambda record: record.last_sync)
    }
    return sum(item.symbol not in newest or newest[item.symbol] < now - RUN_IS_DEAD_AFTER for item in pending)


def _order(data_type: str) -> int:
    """Candles by the length of their interval, behind everything else."""
    names = list(INTERVAL_NAMES.values())
    name = data_type.removeprefix("candles_")
    return names.index(name) + 1 if name in names else 0

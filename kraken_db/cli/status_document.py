"""The state of a store as a document: what ``kraken-db status --json`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from kraken_db.intervals import INTERVAL_NAMES
from kraken_db.policies import BackgroundJob, job_fails, job_state
from kraken_db.status import DataStatus, StoreStatus
from kraken_db.timeseries import TableStorage

_CANDLES = "candles_"
_MINUTES = "candles_1m"


def status_document(database: Mapping[str, Any], status: StoreStatus) -> dict[str, Any]:
    """``database``: which one it is. Times are UTC, sizes bytes, periods seconds."""
    symbols: dict[str, dict[str, Any]] = {}
    for item in status.data:
        entry = symbols.setdefault(item.symbol, {"symbol": item.symbol, "intervals": [], "data": []})
        entry["intervals"] = intervals_of(entry["intervals"], item.data_type)
        entry["data"].append(_data(item))
    return {
        "database": {
            **database,
            "drops_by_itself": status.drops_by_itself,
            "retention_paused": status.retention_paused,
            "size": status.database_size,
            "tables": [_table(table) for table in status.tables],
            "jobs": [_job(job, status.now) for job in status.jobs],
        },
        "pending_refresh": {
            "ranges": status.pending_refreshes,
            "oldest": status.pending_from,
        },
        "stalled_refreshes": status.stalled_refreshes,
        "symbols": list(symbols.values()),
    }


def intervals_of(known: Sequence[str], data_type: str) -> list[str]:
    """The intervals that can be read, in order of length: minutes give all of them."""
    if data_type == _MINUTES:
        return list(INTERVAL_NAMES.values())
    names = {*known, data_type.removeprefix(_CANDLES)}
    return [name for name in INTERVAL_NAMES.values() if name in names]


def _data(item: DataStatus) -> dict[str, Any]:
    return {
        "data_type": item.data_type,
        "rows": item.rows,
        "oldest": item.oldest,
        "newest": item.newest,
        "gaps": item.gaps,
        "lag_seconds": item.lag,
        "covered_ranges": item.ranges,
        "covered": item.covered,
        "months": {f"{month.first_day:%Y-%m}": month.state for month in item.months},
        "sources": item.sources,
        "last_sync": item.last_sync,
    }


def _table(table: TableStorage) -> dict[str, Any]:
    ratio = table.compression_ratio
    return {
        "table": table.table,
        "size": table.size,
        "chunks": table.parts,
        "compressed_chunks": table.compressed_parts,
        "size_before_compression": table.size_before,
        "size_after_compression": table.size_after,
        "compression_ratio": None if ratio is None else round(ratio, 2),
    }


def _job(job: BackgroundJob, now: datetime) -> dict[str, Any]:
    document = asdict(job)
    periods = {f"{name}_seconds": document.pop(name) for name in ("after", "every")}
    return {
        **document,
        **periods,
        "state": job_state(job, now),
        "fails": job_fails(job, now),
    }

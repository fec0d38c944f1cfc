"""What a store holds, who works on it and what is missing, as documents: for ``--json`` and for HTTP.

Their values are what ``json_values`` writes: aware times, exact numbers, periods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kraken_db.data_types import DataType
from kraken_db.intervals import INTERVAL_NAMES
from kraken_db.policies import BackgroundJob, job_fails, job_state

if TYPE_CHECKING:
    from kraken_db.backends import Node, TableStorage
    from kraken_db.db.disk import DiskRoom
    from kraken_db.gap_filler import SymbolGaps
    from kraken_db.repositories.running_jobs import RunningJob
    from kraken_db.status import DataStatus, StoreStatus

_CANDLES = "candles_"
_MINUTES = DataType.CANDLES_1M


def status_document(database: Mapping[str, Any], status: StoreStatus) -> dict[str, Any]:
    """``database``: which one it is. Times are UTC, sizes bytes, periods seconds."""
    symbols: dict[str, dict[str, Any]] = {}
    for item in status.data:
        entry = symbols.setdefault(
            item.symbol,
            {
                "symbol": item.symbol,
                "last_price": status.last_prices.get(item.symbol),
                "intervals": [],
                "data": [],
            },
        )
        entry["intervals"] = intervals_of(entry["intervals"], item.data_type)
        entry["data"].append(_data(item))
    return {
        "database": {
            **database,
            "drops_by_itself": status.drops_by_itself,
            "retention_paused": status.retention_paused,
            "size": status.database_size,
            "disk": _disk(status.disk),
            "tables": [_table(table) for table in status.tables],
            "nodes": [_node(node) for node in status.nodes],
            "jobs": [_job(job, status.now) for job in status.jobs],
        },
        "running": [job_document(job) for job in status.running],
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
        "ended_at": item.ended_at,
        "covered_ranges": item.ranges,
        "covered": item.covered,
        "months": {f"{month.first_day:%Y-%m}": month.state for month in item.months},
        "sources": item.sources,
        "last_sync": item.last_sync,
        "watched_until": item.watched_until,
    }


def _disk(disk: DiskRoom | None) -> dict[str, int] | None:
    """Bytes, as they are now; None where nothing is known of the disk."""
    return None if disk is None else {"free": disk.free, "reserve": disk.reserve}


def _node(node: Node) -> dict[str, Any]:
    return {"name": node.name, "shards": len(node.shards), "stored": node.stored, "size": node.size}


def _table(table: TableStorage) -> dict[str, Any]:
    ratio = table.compression_ratio
    return {
        "table": table.table,
        "size": table.size,
        "chunks": table.chunks,
        "compressed_chunks": table.compressed_chunks,
        "partly_compressed_chunks": table.partly_compressed_chunks,
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


def job_document(job: RunningJob) -> dict[str, Any]:
    """``life`` is ``alive``, ``killed`` or ``ended``."""
    return {
        "id": str(job.id),
        "kind": job.kind,
        "life": life_of(job),
        "symbols": job.symbols,
        "behind": job.behind,
        "host": job.host,
        "pid": job.pid,
        "started_at": job.started_at,
        "heard_at": job.heard_at,
        "silence_seconds": job.silence,
        "ended_at": job.ended_at,
        "state": job.state,
        "last_error": job.last_error,
    }


def life_of(job: RunningJob) -> str:
    """``alive``, ``killed`` or ``ended``."""
    if job.ended_at is not None:
        return "ended"
    return "killed" if job.is_dead else "alive"


GAP_REASONS = {
    "no data": "nothing stored",
    "end": "up to now",
    "inside": "within",
    "ids": "missing ids",
    "not built": "candles not built",
}
"""What is shown of each kind of gap."""


def gaps_document(symbol: SymbolGaps) -> dict[str, Any]:
    """``kind`` of a gap: see ``GapKind``."""
    return {
        "symbol": symbol.symbol,
        "has_data": symbol.has_data,
        "known_from": symbol.known[0] if symbol.known else None,
        "known_to": symbol.known[1] if symbol.known else None,
        "kept_from": dict(symbol.kept_from),
        "ended_at": symbol.ended_at,
        "gaps": [
            {
                "data_type": found.gap.data_type,
                "start": found.gap.start_time,
                "end": found.gap.end_time,
                "seconds": found.gap.duration,
                "kind": found.kind,
            }
            for found in symbol.found
        ],
    }

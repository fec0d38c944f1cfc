"""What differs between databases: one class for each behind one protocol, chosen once. See ``base``."""

from __future__ import annotations

import logging

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.base import (
    Backend,
    Chunks,
    Compression,
    Jobs,
    MinutesWritten,
    Node,
    OldRows,
    RetentionJob,
    Shards,
    StaleRange,
    TableStorage,
    kept_for,
)
from kraken_db.backends.citus import CitusBackend
from kraken_db.backends.pending_refresh import PendingRefresh
from kraken_db.backends.postgres import PostgresBackend
from kraken_db.backends.rollup import materialized_relations
from kraken_db.backends.timescale import TimescaleBackend
from kraken_db.db.migrations import is_distributed

__all__ = [
    "Backend",
    "Chunks",
    "CitusBackend",
    "Compression",
    "Jobs",
    "MinutesWritten",
    "Node",
    "OldRows",
    "PendingRefresh",
    "PostgresBackend",
    "RetentionJob",
    "Shards",
    "StaleRange",
    "TableStorage",
    "TimescaleBackend",
    "detect",
    "kept_for",
]

log = logging.getLogger(__name__)


async def detect(connection: AsyncConnection) -> Backend:
    """The class for this store, by what its schema was made of, not by what the server could do."""
    version: str | None = await connection.scalar(
        text("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    )
    if version is None:
        return CitusBackend() if await is_distributed(connection) else PostgresBackend()
    aggregated = await connection.scalar(
        text(
            "SELECT count(*) FROM timescaledb_information.continuous_aggregates"
            " WHERE view_schema = current_schema() AND view_name = 'candles_1h'"
        )
    )
    if not aggregated:
        log.info("TimescaleDB is there, but this store was made without it: used as plain PostgreSQL")
        return PostgresBackend()
    major, minor = version.split("-")[0].split(".")[:2]
    return TimescaleBackend((int(major), int(minor)), await materialized_relations(connection))

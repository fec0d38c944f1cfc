"""Small archives for tests, and what is read back from a store to compare it with them."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sqlalchemy import text

from kraken_db.bulk_csv_importer import BulkCSVImporter, FileReport, ImportReport
from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.types import Candle
from tests.support.stores import opened_database

START = 1672531200
"""2023-01-01 00:00 UTC."""
ROW = "100.5,102,99.5,101,2.5,7"
EVER = (datetime(2010, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
KrakenRow = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal, int]


def at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def minutes(count: int, *, start: int = START, row: str = ROW, every: int = 1) -> str:
    """A file of so many minutes one after another, all alike; with ``every`` there are quiet ones between."""
    return "".join(f"{start + 60 * every * number},{row}\n" for number in range(count))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


async def import_paths(
    url: str,
    *paths: Path,
    replace: bool = False,
    build_candles: bool = True,
    keeps_trades: bool = True,
    **options: Any,
) -> ImportReport:
    """Run an import. One worker: the WASM server has a single session."""
    async with BulkCSVImporter(url, workers=1) as importer:
        plan = importer.plan(list(paths), **options)
        return await importer.run(
            plan, replace=replace, build_candles=build_candles, keeps_trades=keeps_trades
        )


async def import_file(
    url: str, path: Path, *, replace: bool = False, build_candles: bool = True
) -> FileReport:
    report = await import_paths(url, path, only_1m=False, replace=replace, build_candles=build_candles)
    assert not report.plan.refused, report.plan.refused
    assert report.refresh_error is None, report.refresh_error
    (done,) = report.files
    return done


async def import_texts(url: str, files: Mapping[str, str]) -> None:
    """Import files by their names and contents, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            await import_file(url, write(Path(folder), name, content))


def kraken_rows(path: Path) -> list[KrakenRow]:
    """What one of Kraken's own candle files says, read independently of the code under test."""
    rows: list[KrakenRow] = []
    with path.open() as lines:
        for opens_at, *numbers, count in csv.reader(lines):
            first, high, low, last, volume = map(Decimal, numbers)
            rows.append((int(opens_at), first, high, low, last, volume, int(count)))
    return rows


def as_kraken_rows(candles: Iterable[Candle]) -> list[KrakenRow]:
    return [
        (int(c.timestamp.timestamp()), c.open, c.high, c.low, c.close, c.volume, c.trade_count)
        for c in candles
    ]


async def read_candles(url: str, symbol: str, interval: int) -> list[Candle]:
    async with HistoricalDataProvider(url) as provider:
        return await provider.get_candles(symbol, interval, *EVER)


async def query(url: str, statement: str, **parameters: Any) -> list[Any]:
    """Rows of a statement, committed."""
    async with opened_database(url, pool_max_size=0) as database, database.begin() as connection:
        result = await connection.execute(text(statement), parameters)
        return [tuple(row) for row in result] if result.returns_rows else []


async def is_cluster(url: str) -> bool:
    """Whether it is a database of Citus, which has nodes."""
    return await query(url, "SELECT 1 WHERE to_regclass('pg_dist_node') IS NOT NULL") != []


def moved(column: str, later: timedelta) -> str:
    """SQL: a time, so much later.

    A time plus an interval follows the session's zone, and so a cluster refuses it where rows change.
    """
    return f"to_timestamp(date_part('epoch', {column} - to_timestamp(0)) + {later.total_seconds()})"


async def run_outside_transaction(url: str, statement: str) -> None:
    async with opened_database(url, pool_max_size=0) as database, database.autocommit() as connection:
        await connection.execute(text(statement))


async def checksums(url: str) -> dict[str, str]:
    """A checksum over all rows and columns of everything that an import writes, times of syncs aside."""
    statements = {
        "candles": "SELECT * FROM candles",
        "trades": "SELECT * FROM trades",
        "data_coverage": "SELECT * FROM data_coverage",
        "data_sync_status": "SELECT symbol, data_type, oldest_timestamp, newest_timestamp, last_kraken_since,"
        " total_records, ended_at FROM data_sync_status",
        **{f"candles_{name}": f"SELECT * FROM candles_{name}" for name in ("5m", "1h", "12h", "1d", "1w")},
    }
    sums: dict[str, str] = {}
    for name, rows in statements.items():
        found = await query(url, f"SELECT md5(string_agg(r::text, E'\\n' ORDER BY r::text)) FROM ({rows}) r")
        sums[name] = str(found[0][0])
    return sums


NEW_YEAR = 1704067200  # 2024-01-01 00:00 UTC
OVER_TWO_YEARS = "".join(
    f"{NEW_YEAR + 60 * m},{100 + m / 10:.1f},{100 + m / 10:.1f},9.5,{100 + m / 10:.1f},1.5,{m + 11}\n"
    for m in range(-10, 10)
)

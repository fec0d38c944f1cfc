"""Stores that are exported again and again, what readers see of it, and runs as processes of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import polars as pl

from kraken_db.exporting import Exporter, ExportReport, scan
from tests.support.archives import NEW_YEAR, at, import_texts, minutes, query
from tests.support.shell import forked

_DAY = 1440
# Three months of one pair, and a second pair: a run writes several files.
MONTHS = [NEW_YEAR, NEW_YEAR + 31 * _DAY * 60, NEW_YEAR + 60 * _DAY * 60]
COLUMNS = ["timestamp", "open", "high", "low", "close", "volume", "trade_count", "vwap", "quote_volume"]
MAIN = """
import kraken_db.cli.progress as progress
import kraken_db.exporting.states as states
progress.SECONDS_BETWEEN_LINES = 600  # a slow machine tells no more than a fast one
states.LEASE = 1.0
from kraken_db.cli import main
main()
"""


async def fill(url: str) -> None:
    text = "".join(minutes(5, start=start) for start in MONTHS)
    await import_texts(url, {"XBTUSD_1.csv": text, "ETHUSD_1.csv": minutes(3, start=NEW_YEAR)})


async def export(url: str, out: str | Path, *symbols: str, **options: Any) -> ExportReport:
    async with Exporter(url) as exporter:
        return await exporter.export(symbols or ["BTC/USD", "ETH/USD"], out, **options)


async def change(url: str, step: int) -> None:
    """One row of each file, so that a mix of two states is told by its volumes."""
    changed = "UPDATE candles SET volume = :volume WHERE timestamp = ANY(:moments)"
    await query(url, changed, volume=1000 + step, moments=list(map(at, MONTHS)))


async def stored(url: str) -> list[tuple[Any, ...]]:
    rows = await query(
        url, f"SELECT symbol, {', '.join(COLUMNS)} FROM candles WHERE interval_minutes = 1 ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


def seen(out: str | Path) -> list[tuple[Any, ...]]:
    frame = scan(out).filter(pl.col("interval") == "1m").select("pair", *COLUMNS).collect()
    return frame.sort("pair", "timestamp").rows()


def start(url: str, address: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*forked(), "-c", MAIN, "export", "BTC/USD", "ETH/USD", "--out", address],
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(url: str, address: str) -> subprocess.CompletedProcess[str]:
    process = start(url, address)
    said, told = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, said, told)

"""Bytes per trade and per minute, and how long a scan takes: in a database, and in Parquet files of it.

    .venv/bin/python scripts/measure_sizes.py --url postgresql://... --rows 10_000_000

By hand: it needs an empty database that ``kraken-db db upgrade`` has made (with ``--distribute``: Citus).
The rows are drawn at random: prices walk, volumes have eight decimals, ten pairs have 25,000 trades a day.
What is in the database and in ``--out`` afterwards stays there. docs/how-far.md has the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import numpy as np
import polars as pl

from kraken_db import HistoricalDataProvider
from kraken_db.exporting import Exporter, scan

PAIRS = [f"X{number}/USD" for number in range(10)]
BEGIN = datetime(2022, 1, 1, tzinfo=UTC)
TRADES_A_DAY = 25_000
TABLES = {
    "trades": ["id", "symbol", "timestamp", "price", "volume", "side", "order_type"],
    "candles": [
        *("symbol", "timestamp", "interval_minutes", "open", "high", "low", "close", "volume"),
        *("trade_count", "vwap", "quote_volume"),
    ],
}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--rows", type=int, default=10_000_000, help="trades, and as many minutes")
    parser.add_argument("--out", type=Path, help="a folder for Parquet files of the same rows")
    options = parser.parse_args()
    database = await asyncpg.connect(options.url)
    each = options.rows // len(PAIRS)
    for table, columns in TABLES.items():
        with took(f"{table}: COPY of {options.rows:,} rows"), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.csv"
            for number, pair in enumerate(PAIRS):
                draw(table, pair, each, number).select(columns).write_csv(path, include_header=False)
                await database.copy_to_table(table, source=path, columns=columns, format="csv")
        await sizes(database, table, options.rows, "as written")
    if await database.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'"):
        for table in TABLES:
            with took(f"{table}: compression"):
                for name in await database.fetch("SELECT show_chunks($1::regclass)::text", table):
                    await database.execute("SELECT compress_chunk($1::text::regclass)", name[0])
            await sizes(database, table, options.rows, "compressed")
    await reads(database, options.url)
    if options.out is not None:
        await lake(options.url, options.out, options.rows)
    await database.close()


def draw(table: str, pair: str, rows: int, seed: int) -> pl.DataFrame:
    """Rows of one pair, as text of the table's columns."""
    drawn = np.random.default_rng(seed)
    price = np.round(100 * np.exp(np.cumsum(drawn.normal(0, 2e-4, rows))), 2)
    volume = np.round(drawn.lognormal(-2, 1.5, rows) + 1e-8, 8)
    if table == "trades":
        gaps = drawn.exponential(86_400e6 / TRADES_A_DAY, rows).astype(np.int64)
        frame = pl.DataFrame(
            {
                "id": np.arange(1, rows + 1),
                "timestamp": np.cumsum(gaps),
                "price": price,
                "volume": volume,
                "side": drawn.choice(["buy", "sell"], rows),
                "order_type": drawn.choice(["limit", "market"], rows),
            }
        )
    else:
        open_ = np.concatenate([price[:1], price[:-1]])
        high, low = np.maximum(open_, price), np.minimum(open_, price)
        vwap = np.round((high + low + price) / 3, 6)
        count = drawn.integers(1, 60, rows)
        frame = pl.DataFrame(
            {
                "timestamp": np.arange(rows) * 60_000_000,
                "open": open_,
                "high": np.round(high + drawn.exponential(0.02, rows), 2),
                "low": np.round(low - drawn.exponential(0.02, rows), 2),
                "close": price,
                "volume": np.round(volume * count, 8),
                "trade_count": count,
                "vwap": vwap,
                "quote_volume": np.round(vwap * volume * count, 10),
                "interval_minutes": np.ones(rows, dtype=np.int64),
            }
        )
    begin = pl.lit(BEGIN).dt.cast_time_unit("us")
    return frame.with_columns(symbol=pl.lit(pair), timestamp=begin + pl.duration(microseconds="timestamp"))


async def sizes(database: asyncpg.Connection, table: str, rows: int, state: str) -> None:
    names = {row[0] for row in await database.fetch("SELECT extname FROM pg_extension")}
    function = "pg_total_relation_size"
    if "timescaledb" in names:
        function = "hypertable_size"
    elif "citus" in names:
        function = "citus_total_relation_size"
    size = await database.fetchval(f"SELECT {function}($1::text::regclass)", table)
    print(f"{table}, {state}: {size / rows:.1f} bytes a row, {size / 1e6:,.0f} MB", flush=True)


async def reads(database: asyncpg.Connection, url: str) -> None:
    async with HistoricalDataProvider(url) as provider:
        for _ in range(3):
            with took("latest candle"):
                await provider.get_latest_candles(PAIRS[3], 1, 1)
        for _ in range(3):
            with took("a year of minutes to a frame"):
                await provider.get_candles_frame(PAIRS[3], 1, BEGIN, BEGIN + timedelta(days=365))
    for _ in range(3):
        with took("sum over all trades, by pair"):
            await database.fetch("SELECT symbol, sum(volume), count(*) FROM trades GROUP BY symbol")


async def lake(url: str, out: Path, rows: int) -> None:
    async with Exporter(url) as exporter:
        for what in TABLES:
            with took(f"{what}: export to Parquet"):
                report = await exporter.export(PAIRS, out / what, what=what)  # type: ignore[arg-type]
            size = sum(file.size for file in report.files)
            print(f"{what}, Parquet: {size / rows:.1f} bytes a row, {size / 1e6:,.0f} MB", flush=True)
    wanted = (pl.col("pair") == PAIRS[3], pl.col("timestamp") < BEGIN + timedelta(days=365))
    for _ in range(3):
        with took("Parquet: a year of minutes to a frame"):
            scan(out / "candles").filter(*wanted).collect()
        with took("Parquet: sum over all trades, by pair"):
            scan(out / "trades").group_by("pair").agg(pl.col("volume").sum(), pl.len()).collect()


@contextmanager
def took(title: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    print(f"{title}: {time.monotonic() - began:.3f} s", flush=True)


if __name__ == "__main__":
    asyncio.run(main())

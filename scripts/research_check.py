"""Every recipe of docs/research.md against the store: all rows, every digit. Run by hand.

    .venv/bin/python scripts/research_check.py --rows 5_000_000 --engines polars duckdb dask spark ray

Makes a store of a pair of small volumes and one of volumes above 10**10, exports it, and compares what each
engine computes with what the store has: minutes from trades, hours and days. Spark (pyspark, and a Java
runtime) and Ray are not among the development packages: pip install pyspark ray.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from kraken_db.exporting import Exporter, files, scan
from kraken_db.exporting.exact import COLUMNS, DUCKDB, candles_of_trades, longer_candles

sys.path.insert(0, str(Path(__file__).parents[1]))
PAIRS = ("BTC/USD", "SHIB/USD")
START = "TIMESTAMPTZ '2014-01-01 00:00+00'"
# Numbers with all their digits, by sums of primes: SHIB's trades and minutes have 10**10 units and more.
PRICES = {
    "BTC/USD": "20000 + (n * 7919 % 400000007) / 10000.0",
    "SHIB/USD": "(1000 + n * 7919 % 99991) / 1e9",
}
VOLUMES = {
    "BTC/USD": "(1 + n * 104729 % 500000003) / 1e8",
    "SHIB/USD": "10000000000 + (n * 104729 % 900000000007) + (n % 99991) / 1e5",
}
_MINUTES = """
    INSERT INTO candles (symbol, timestamp, interval_minutes, open, high, low, close, volume, trade_count,
                         vwap, quote_volume)
    SELECT :pair, {start} + n * INTERVAL '1 minute', 1, price, price + 1, price / 2, price, volume,
           n % 100 + 1, price * 0.9999 + 0.0000000001 * (n % 10), volume * price
    FROM (SELECT n, CAST({price} AS numeric(20,10)), CAST({volume} AS numeric(38,10))
          FROM generate_series(CAST(0 AS bigint), :rows - 1) n) drawn(n, price, volume)
"""
_TRADES = """
    COPY (SELECT concat_ws(',', CAST(extract(epoch FROM {start}) AS bigint) + n * 3 + 0.000123,
                           CAST({price} AS numeric(20,10)), CAST({volume} AS numeric(38,10)),
                           'b', 'l', '', n + 1)
          FROM generate_series(CAST(0 AS bigint), {rows} - 1) n) TO STDOUT
"""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000, help="minutes, and as many trades")
    parser.add_argument("--engines", nargs="+", default=["polars", "duckdb", "dask"], choices=list(ENGINES))
    parser.add_argument("--keep", type=Path, help="a folder for the export; used again if it is there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if not (folder / "ready").exists():
            await make(folder, options.rows)
        wanted = {name: expected(folder, name) for name in ("1m", "1h", "1d")}
        of_trades = expected(folder, "1m", "candles_of_trades")
        for name in options.engines:
            for title, compute, right in (
                ("minutes from trades", "minutes", of_trades),
                ("hours from minutes", "1h", wanted["1h"]),
                ("days from hours", "1d", wanted["1d"]),
            ):
                began = time.monotonic()
                found = ENGINES[name](folder, compute)
                took = time.monotonic() - began
                print(f"{name:8} {title:20} {compare(found, right)}   {took:6.1f} s", flush=True)


def compare(found: pl.DataFrame, right: pl.DataFrame) -> str:
    """How many rows are equal in all columns. The last minutes of trades are not closed, nor in the store."""
    kinds = right.schema
    found = found.select([pl.col(name).cast(kinds[name]) for name in COLUMNS]).sort("pair", "timestamp")
    found = found.join(right.select("pair", "timestamp"), on=["pair", "timestamp"], how="semi")
    equal = found.join(right, on=list(COLUMNS), how="semi", nulls_equal=True).height
    return f"{equal:>9,} of {right.height:>9,} rows equal{'' if equal == right.height else '   WRONG'}"


def expected(folder: Path, interval: str, name: str = "candles") -> pl.DataFrame:
    frame = scan(folder / name).filter(pl.col("interval") == interval)
    return frame.select(COLUMNS).sort("pair", "timestamp").collect()


# --- the store ---


async def make(folder: Path, rows: int) -> None:
    from kraken_db.store import Store
    from tests.support.archives import import_file, query
    from tests.support.lanes import Lane, start_postgres

    lane = Lane("postgres", start_postgres)
    try:
        with lane.migrated_database() as url:
            for pair in PAIRS:
                statement = _MINUTES.format(start=START, price=PRICES[pair], volume=VOLUMES[pair])
                await query(url, statement, pair=pair, rows=rows // len(PAIRS))
                note = (
                    "INSERT INTO data_sync_status (symbol, data_type, oldest_timestamp, newest_timestamp, "
                    "total_records) SELECT min(symbol), 'candles_1m', min(timestamp), max(timestamp),"
                    " count(*) FROM candles WHERE symbol = :pair"
                )
                await query(url, note, pair=pair)
            store = await Store.open(url)
            await store.refresh_pending()
            await store.close()
            async with Exporter(url) as exporter:
                await exporter.export(PAIRS, folder / "candles", intervals=[1, 60, 1440])
        with lane.migrated_database() as url:
            for pair, name in zip(PAIRS, ("XBTUSD", "SHIBUSD"), strict=True):
                lines = _TRADES.format(
                    start=START, price=PRICES[pair], volume=VOLUMES[pair], rows=rows // len(PAIRS)
                )
                path = folder / f"{name}.csv"
                await copy_to(url, lines, path)
                await import_file(url, path)
                path.unlink()
            async with Exporter(url) as exporter:
                await exporter.export(PAIRS, folder / "trades", what="trades")
                await exporter.export(PAIRS, folder / "candles_of_trades")
    finally:
        lane.stop()
    (folder / "ready").touch()


async def copy_to(url: str, statement: str, path: Path) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    try:
        with path.open("wb") as file:
            file.write(b"timestamp,price,volume,type,order_type,misc,trade_id\n")
            query = statement.strip().removeprefix("COPY (").removesuffix(") TO STDOUT")
            await connection.copy_from_query(query, output=file, format="text")
    finally:
        await connection.close()


# --- the engines ---


def source(folder: Path, what: str) -> list[str]:
    if what == "minutes":
        return files(folder / "trades")
    part = {"1h": "interval=1m", "1d": "interval=1h"}[what]
    return [name for name in files(folder / "candles") if part in name]


def one_file(name: str, what: str) -> pl.DataFrame:
    """What a task does of one file: no candle lies in two of them but weeks."""
    frame = pl.scan_parquet(name, hive_partitioning=False)
    return (candles_of_trades(frame) if what == "minutes" else longer_candles(frame, what)).collect()


def in_polars(folder: Path, what: str) -> pl.DataFrame:
    if what == "minutes":
        return candles_of_trades(scan(folder / "trades")).collect()
    part = {"1h": "1m", "1d": "1h"}[what]
    return longer_candles(scan(folder / "candles").filter(pl.col("interval") == part), what).collect()


def in_duckdb(folder: Path, what: str) -> pl.DataFrame:
    import duckdb

    connection = duckdb.connect()
    connection.execute(DUCKDB)
    connection.execute("SET TimeZone = 'Asia/Kathmandu'")
    width = {"minutes": "1 MINUTE", "1h": "1 HOUR", "1d": "1 DAY"}[what]
    price, mean, count, quote = (
        ("price", "price", "count(*)", "quote_of(sum(turnover(price, volume)))")
        if what == "minutes"
        else ("", "vwap", "CAST(sum(trade_count) AS BIGINT)", "sum(quote_volume)")
    )
    order = "timestamp, id" if what == "minutes" else "timestamp"
    found = connection.sql(
        f"""
        SELECT pair, opens_at(INTERVAL {width}, timestamp) AS opens,
               first({price or "open"} ORDER BY {order}), max({price or "high"}), min({price or "low"}),
               last({price or "close"} ORDER BY {order}), sum(volume), {count},
               mean_of(sum(turnover({mean}, volume)), sum(volume)), {quote}
        FROM read_parquet($names) GROUP BY ALL
        """,
        params={"names": source(folder, what)},
    )
    return _named(found.to_arrow_table())


def in_dask(folder: Path, what: str) -> pl.DataFrame:
    dask: Any = importlib.import_module("dask")
    tasks = [dask.delayed(one_file)(name, what) for name in source(folder, what)]
    frames: list[pl.DataFrame] = dask.compute(*tasks, scheduler="threads")
    return pl.concat(frames)


def in_ray(folder: Path, what: str) -> pl.DataFrame:
    ray: Any = importlib.import_module("ray")
    ray.init(num_cpus=2, include_dashboard=False, ignore_reinit_error=True, log_to_driver=False)
    task = ray.remote(one_file)
    frames: list[pl.DataFrame] = ray.get([task.remote(name, what) for name in source(folder, what)])
    return pl.concat(frames)


def in_spark(folder: Path, what: str) -> pl.DataFrame:
    sql: Any = importlib.import_module("pyspark.sql")
    session = (
        sql.SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "6g")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .getOrCreate()
    )
    session.sparkContext.setLogLevel("ERROR")
    session.read.parquet(*source(folder, what)).createOrReplaceTempView("rows")
    out = folder / f"spark-{what}"
    session.sql(SPARK[what]).write.mode("overwrite").parquet(str(out))
    return _named(pl.read_parquet(out / "*.parquet").to_arrow())


def _named(table: Any) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    frame = frame.rename(dict(zip(frame.columns, COLUMNS, strict=True)))
    return frame.with_columns(pl.col("timestamp").dt.convert_time_zone("UTC").dt.cast_time_unit("us"))


# A product of decimal(20,10) and decimal(38,10) has 38 digits in Spark, of which few are decimals. As whole
# numbers nothing is lost: the largest volume is 10**16 units. What does not fit is an error.
_WHOLE = "CAST(CAST({0} AS decimal(26,10)) * 10000000000BD AS decimal(26,0))"
_VALUE = f"sum(CAST({_WHOLE} * {_WHOLE.replace('{0}', '{1}')} AS decimal(38,0)))"
# A quotient of two whole numbers has six decimals: none is lost where nothing is left over. With 27 digits, a
# product with 10**-10 keeps ten decimals.
_QUOTIENT = "CAST(({0} - {0} % {1}) / {1} AS decimal(27,0)) * 0.0000000001BD"


def _spark(price: str, order: str, count: str, width: str, has_quote: bool) -> str:
    value = _VALUE.format(price or "vwap", "volume")
    first, high, low, last = (price or name for name in ("open", "high", "low", "close"))
    mean = _QUOTIENT.format("(2 * value + whole)", "(2 * whole)")
    sum_of_quotes = ", CAST(sum(CAST(quote_volume AS decimal(28,10))) AS decimal(38,10)) AS quote"
    quote = _QUOTIENT.format("(value + 5000000000BD)", "10000000000BD")
    return f"""
        SELECT pair, opens, first, high, low, last, volume, trades,
               CAST({mean} AS decimal(20,10)), {"quote" if has_quote else quote}
        FROM (
            SELECT pair, date_trunc('{width}', timestamp) AS opens, min_by({first}, {order}) AS first,
                   max({high}) AS high, min({low}) AS low, max_by({last}, {order}) AS last,
                   CAST(sum(CAST(volume AS decimal(28,10))) AS decimal(38,10)) AS volume,
                   sum({_WHOLE.format("volume")}) AS whole, {count} AS trades, {value} AS value
                   {sum_of_quotes if has_quote else ""}
            FROM rows GROUP BY pair, date_trunc('{width}', timestamp)
        )
    """


SPARK = {
    "minutes": _spark("price", "struct(timestamp, id)", "count(*)", "minute", has_quote=False),
    "1h": _spark("", "timestamp", "sum(trade_count)", "hour", has_quote=True),
    "1d": _spark("", "timestamp", "sum(trade_count)", "day", has_quote=True),
}
ENGINES: dict[str, Callable[[Path, str], pl.DataFrame]] = {
    "polars": in_polars,
    "duckdb": in_duckdb,
    "dask": in_dask,
    "spark": in_spark,
    "ray": in_ray,
}

if __name__ == "__main__":
    asyncio.run(main())

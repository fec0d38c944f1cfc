"""A distributed store beside a plain one, with the same programs in turns: who has which advantage.

    .venv/bin/python scripts/compare_citus.py --plain postgresql://... --citus postgresql://... --rows 400000

By hand: it needs two empty databases, the second one on the coordinator of a cluster of Citus, best on
machines like that of the first. What is in them afterwards stays there.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from argparse import ArgumentParser, RawTextHelpFormatter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import _bench as bench
import asyncpg
from bench_archive import COMMAND, TABLES, import_csv, write_trades

from kraken_db import HistoricalDataProvider
from kraken_db.simulator import Market, SimulatedExchange

SYMBOLS = [f"X{number}/USD" for number in range(8)]
TRADE_COLUMNS = "id, symbol, timestamp, price, volume, side, order_type"
BEGIN = datetime(2020, 1, 1, tzinfo=UTC)
Measure = Callable[[str], Awaitable[float]]


async def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    for name in ("plain", "citus"):
        parser.add_argument(f"--{name}", required=True, metavar="URL")
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for url, words in ((options.plain, []), (options.citus, ["--distribute"])):
        bench.run([COMMAND, "db", "upgrade", "--db-url", url, *words], {})
    with tempfile.TemporaryDirectory() as folder:
        measures = prepare(Path(folder), options.rows)
        bench.print_machine()
        print(f"{options.rows:,} rows, median of {options.repeats}: seconds")
        for name, measure in measures.items():
            taken: list[list[float]] = [[], []]
            for _ in range(options.repeats):
                for at, url in enumerate((options.plain, options.citus)):
                    taken[at].append(await measure(url))
            plain, citus = map(statistics.median, taken)
            print(f"{name:<38} plain {plain:8.3f}  citus {citus:8.3f}  {plain / citus:5.2f} x", flush=True)


def prepare(folder: Path, rows: int) -> dict[str, Measure]:
    """In an order in which each finds what it reads."""
    trades, minutes, layout = folder / "XBTUSD.csv", folder / "ETHUSD_1.csv", folder / "layout.csv"
    bench.say("writing files ...")
    write_trades(trades, rows)
    bench.write_archive(minutes, rows)
    write_layout(layout, rows)

    async def again(url: str, path: Path) -> float:
        return import_csv(url, path).seconds

    async def fresh(url: str, path: Path) -> float:
        bench.sql(url, f"TRUNCATE {TABLES}")
        return await again(url, path)

    async def copy(url: str) -> float:
        bench.sql(url, f"TRUNCATE {TABLES}")
        into = f"\\copy trades ({TRADE_COLUMNS}) from '{layout}' csv"
        return bench.run([bench.psql(), "-Xq", "-d", url, "-c", into], {}).seconds

    return {
        "minutes of one pair, import-csv": lambda url: fresh(url, minutes),
        "the same again": lambda url: again(url, minutes),
        "trades of one pair, import-csv": lambda url: fresh(url, trades),
        "their file again": lambda url: again(url, trades),
        "latest candle of 1h, of a long history": latest,
        "a day of trades of one pair": lambda url: sql(
            url,
            "SELECT * FROM trades WHERE symbol = 'BTC/USD' AND timestamp >= '2015-01-02+00'"
            " AND timestamp < '2015-01-03+00'",
        ),
        "backfill of two pairs by REST": lambda url: backfill(url, rows // 8),
        "COPY of trades of 8 pairs": copy,
        "sum over all of them": lambda url: sql(
            url, "SELECT symbol, sum(price * volume) FROM trades GROUP BY symbol"
        ),
    }


def write_layout(path: Path, rows: int) -> None:
    with path.open("w") as out:
        for number in range(rows):
            stamp = BEGIN + timedelta(seconds=number)
            out.write(f"{number + 1},{SYMBOLS[number % 8]},{stamp},{100 + number % 977},0.5,buy,limit\n")


async def sql(url: str, statement: str, times: int = 5) -> float:
    connection = await asyncpg.connect(url)
    try:
        taken = []
        for _ in range(times):
            began = time.perf_counter()
            await connection.fetch(statement)
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)
    finally:
        await connection.close()


async def latest(url: str) -> float:
    taken = []
    async with HistoricalDataProvider(url) as provider:
        for _ in range(50):
            began = time.perf_counter()
            assert await provider.get_latest_candles("BTC/USD", 60, 1)
            taken.append(time.perf_counter() - began)
    return statistics.median(taken)


async def backfill(url: str, trades: int) -> float:
    bench.sql(url, f"TRUNCATE {TABLES}")
    exchange = SimulatedExchange([Market(symbol, seed=1, trades=trades) for symbol in ("BTC/USD", "ETH/USD")])
    async with exchange.serve() as base_url:
        command = [COMMAND, "backfill", "--symbols", *exchange.markets, "--rate-limit", "0"]
        environment = {"DATABASE_URL": url, "KRAKEN_BASE_URL": base_url}
        return (await asyncio.to_thread(bench.run, command, environment)).seconds


if __name__ == "__main__":
    asyncio.run(main())

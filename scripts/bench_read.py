"""Reading from a store of ten symbols with a year of minutes each, on the embedded server.

Each figure stands beside the bare driver: asyncpg fetching the same candles with the best statement for
them, without building any object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import _bench as bench
import asyncpg

from kraken_db import HistoricalDataProvider
from kraken_db.db.migrations import upgrade

SYMBOLS = [f"{base}/USD" for base in ("ADA", "BTC", "DOGE", "DOT", "ETH", "LINK", "LTC", "SOL", "TRX", "XRP")]
SYMBOL = "ETH/USD"
START = datetime(2024, 1, 1, tzinfo=UTC)
END = START + timedelta(days=365)
MIDDLE = START + timedelta(days=180)
Read = Callable[[], Awaitable[object]]
NEWEST = "(SELECT max(timestamp) FROM candles WHERE symbol = $1 AND interval_minutes = 1)"
LATEST = f"timestamp > {NEWEST} - $2::interval"
FIVE = """
    SELECT date_bin('5 min', timestamp, 'epoch') AS opens, (array_agg(open ORDER BY timestamp))[1], max(high),
           min(low), (array_agg(close ORDER BY timestamp))[count(*)], sum(volume), sum(trade_count)
    FROM candles WHERE symbol = $1 AND interval_minutes = 1 AND {where} GROUP BY 1 ORDER BY 1 DESC
"""
ONE = """
    SELECT timestamp, open, high, low, close, volume, trade_count, vwap FROM candles
    WHERE symbol = $1 AND interval_minutes = 1 AND timestamp >= $2 AND timestamp < $3 ORDER BY timestamp
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options, _ = parser.parse_known_args()
    with bench.server() as (server, _folder):
        figures = asyncio.run(measure(server.url(), options.repeats))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


async def measure(url: str, repeats: int) -> dict[str, float]:
    bench.say("filling a store: ten symbols, a year of minutes each ...")
    await upgrade(url)
    driver = await asyncpg.connect(url)
    await fill(driver)
    figures: dict[str, float] = {}
    async with HistoricalDataProvider(url) as provider:
        thousand = MIDDLE + timedelta(minutes=1000)
        five_thousand = MIDDLE + timedelta(minutes=5000)
        pairs: dict[str, tuple[Read, Read]] = {
            "latest 200 of 5m": (
                lambda: provider.get_latest_candles(SYMBOL, 5, 200),
                lambda: driver.fetch(FIVE.format(where=LATEST), SYMBOL, timedelta(minutes=1000)),
            ),
            "1,000 of 1m by range": (
                lambda: provider.get_candles(SYMBOL, 1, MIDDLE, thousand),
                lambda: driver.fetch(ONE, SYMBOL, MIDDLE, thousand),
            ),
            "1,000 of 5m by range": (
                lambda: provider.get_candles(SYMBOL, 5, MIDDLE, five_thousand),
                lambda: driver.fetch(
                    FIVE.format(where="timestamp >= $2 AND timestamp < $3"), SYMBOL, MIDDLE, five_thousand
                ),
            ),
            "five timeframes of 100": (
                lambda: provider.get_multi_timeframe_candles(SYMBOL, END),
                lambda: driver.fetch(ONE, SYMBOL, END - timedelta(minutes=240 * 100), END),
            ),
        }
        bench.print_machine()
        print(f"5,256,000 candles of ten symbols, median of {repeats}; bare asyncpg beside it")
        for name, (ours, bare) in pairs.items():
            mine, theirs = await compare(ours, bare, repeats)
            figures[name] = mine
            ratio = mine / theirs
            print(f"{name:<26} {mine:7.2f} ms   bare driver {theirs:7.2f} ms   ratio {ratio:.2f}")
    await driver.close()
    return figures


async def fill(driver: asyncpg.Connection[asyncpg.Record]) -> None:
    await driver.execute(
        "INSERT INTO candles SELECT s, m, 1, 100 + random(), 102, 99, 100 + random(), 1.5, NULL, 3, NULL"
        " FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 min', interval '1 min') m,"
        " unnest($3::text[]) s",
        START,
        END,
        SYMBOLS,
    )
    await driver.execute("ANALYZE candles")


async def compare(ours: Read, bare: Read, repeats: int) -> tuple[float, float]:
    """Medians in milliseconds, taken in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for read, seconds in zip((ours, bare), times, strict=True):
            began = time.perf_counter()
            await read()
            seconds.append(time.perf_counter() - began)
    return statistics.median(times[0]) * 1000, statistics.median(times[1]) * 1000


if __name__ == "__main__":
    main()

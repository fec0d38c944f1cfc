"""Higher intervals over five years: 1h to 1w from 2,628,000 minutes, on the embedded server.

By the views, as psql shows the time of a statement, its rows to the end; and by HistoricalDataProvider,
with a ``Candle`` for each row. Beside them the same roll-up from the minutes by a plain GROUP BY. Then once
more while a minute waits for its refresh, and while everything does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import _bench as bench
import asyncpg

from kraken_db import HistoricalDataProvider
from kraken_db.db.migrations import upgrade
from kraken_db.store import Store

SYMBOL = "ETH/USD"
START = datetime(2019, 1, 1, tzinfo=UTC)
MINUTES = 5 * 365 * 1440
END = START + timedelta(minutes=MINUTES)
# Name, view, minutes, from when on.
READS = [
    ("1d, five years", "candles_1d", 1440, START),
    ("1w, five years", "candles_1w", 10080, START),
    ("12h, five years", "candles_12h", 720, START),
    ("4h, five years", "candles_4h", 240, START),
    ("1h, five years", "candles_1h", 60, START),
    ("5m, the last day", "candles_5m", 5, END - timedelta(days=1)),
]
GROUPED = f"""
    SELECT date_bin('1440 min', timestamp, '2000-01-03+00'), (array_agg(open ORDER BY timestamp))[1],
           max(high), min(low), (array_agg(close ORDER BY timestamp))[count(*)], sum(volume), sum(trade_count)
    FROM candles WHERE symbol = '{SYMBOL}' AND interval_minutes = 1 GROUP BY 1 ORDER BY 1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--plans", action="store_true", help="show how the views are read")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options, _ = parser.parse_known_args()
    with bench.server() as (server, _folder):
        figures = asyncio.run(measure(server.url(), options.repeats, options.plans))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


async def measure(url: str, repeats: int, plans: bool) -> dict[str, float]:
    bench.say(f"filling a store: {MINUTES:,} minutes of one symbol ...")
    await upgrade(url)
    driver = await asyncpg.connect(url)
    await fill(driver)
    bench.print_machine()
    print(f"{MINUTES:,} minutes, median of {repeats}, by the view in psql and by the provider")
    figures = {"refresh_seconds": await refresh(url)}
    print(f"{'refresh of all of it':<34} {figures['refresh_seconds']:9.1f} s")
    figures["grouped_ms"] = timed(url, GROUPED, 3)
    print(f"{'1d by GROUP BY of the minutes':<34} {figures['grouped_ms']:9.1f} ms")
    for name, view, interval, start in READS:
        figures |= await compare(url, name, view, interval, start, repeats)
    await write_minute(driver)
    figures |= await compare(url, "1d, while a minute waits", "candles_1d", 1440, START, repeats)
    await driver.execute(
        "INSERT INTO pending_refresh (symbol, stale) SELECT $1, tstzrange($2, $3)", SYMBOL, START, END
    )
    figures |= await compare(url, "1d, while everything waits", "candles_1d", 1440, START, 3)
    if plans:
        for _, view, _, start in READS:
            found = await driver.fetch(f"EXPLAIN ANALYZE {of_view(view, start)}")
            print(view, *(row[0] for row in found), sep="\n")
    await driver.close()
    return figures


async def fill(driver: asyncpg.Connection[asyncpg.Record]) -> None:
    await driver.execute(
        "INSERT INTO candles SELECT $3, m, 1, 100 + random(), 102, 99, 100 + random(), 1.5, NULL, 3, NULL"
        " FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 min', interval '1 min') m",
        START,
        END,
        SYMBOL,
    )
    await driver.execute("ANALYZE candles")


async def refresh(url: str) -> float:
    store = await Store.open(url)
    began = time.perf_counter()
    await store.refresh_pending()
    seconds = time.perf_counter() - began
    await store.close()
    return seconds


async def write_minute(driver: asyncpg.Connection[asyncpg.Record]) -> None:
    await driver.execute(
        "INSERT INTO candles VALUES ($1, $2, 1, 100, 102, 99, 100, 1.5, NULL, 3, NULL)", SYMBOL, END
    )


async def compare(
    url: str, name: str, view: str, interval: int, start: datetime, repeats: int
) -> dict[str, float]:
    of_psql = timed(url, of_view(view, start), repeats)
    async with HistoricalDataProvider(url) as provider:
        seconds = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            found = await provider.get_candles(SYMBOL, interval, start, END)
            seconds.append(time.perf_counter() - began)
    of_provider = statistics.median(seconds[1:]) * 1000
    print(f"{name:<26} {len(found):>7,} psql {of_psql:9.1f} ms   provider {of_provider:9.1f} ms")
    return {f"{name}, psql": of_psql, f"{name}, provider": of_provider}


def of_view(view: str, start: datetime) -> str:
    return (
        f"SELECT * FROM {view} WHERE symbol = '{SYMBOL}' AND timestamp >= '{start.isoformat()}'"
        f" AND timestamp < '{END.isoformat()}' ORDER BY timestamp"
    )


def timed(url: str, statement: str, repeats: int) -> float:
    """Median of what psql says that a statement took, in milliseconds; not of the first run."""
    told = "".join(["\\timing on\n", *[f"{' '.join(statement.split())};\n"] * (repeats + 1)])
    done = subprocess.run(
        [bench.psql(), "-Xq", "-v", "ON_ERROR_STOP=1", "-d", url],
        input=told,
        capture_output=True,
        text=True,
        check=True,
    )
    return statistics.median([float(ms) for ms in re.findall(r"^Time: ([\d.]+) ms", done.stdout, re.M)][1:])


if __name__ == "__main__":
    main()

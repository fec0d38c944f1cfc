"""Higher intervals over five years: 1d and others from 2,628,000 minutes, on the embedded server.

By the views, as psql shows the time of a statement, its rows to the end; and by HistoricalDataProvider,
with a ``Candle`` for each row. Beside them the same roll-up from the minutes by a plain GROUP BY. Then once
more while a minute waits for its refresh, and while everything does.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import subprocess
import time
from datetime import UTC, datetime, timedelta

import _bench as bench
import asyncpg

from kraken_db import HistoricalDataProvider
from kraken_db.db.migrations import upgrade
from kraken_db.store import Store

SYMBOL = "ETH/USD"
START = datetime(2019, 1, 1, tzinfo=UTC)
# Name, view, minutes.
READS = [
    ("1d, all", "candles_1d", 1440),
    ("1w, all", "candles_1w", 10080),
    ("12h, all", "candles_12h", 720),
    ("4h, all", "candles_4h", 240),
    ("1h, all", "candles_1h", 60),
    ("5m, the last day", "candles_5m", 5),
]
GROUPED = f"""
    SELECT date_bin('1440 min', timestamp, '2000-01-03+00'), (array_agg(open ORDER BY timestamp))[1],
           max(high), min(low), (array_agg(close ORDER BY timestamp))[count(*)], sum(volume), sum(trade_count)
    FROM candles WHERE symbol = '{SYMBOL}' AND interval_minutes = 1 GROUP BY 1 ORDER BY 1
"""


def main() -> None:
    parser = bench.options(__doc__, quick={"days": 60, "repeats": 2}, days=5 * 365, repeats=20)
    parser.add_argument("--plans", action="store_true", help="show how the views are read")
    options, _ = parser.parse_known_args()
    with bench.server() as (server, _folder):
        end = START + timedelta(days=options.days)
        figures = asyncio.run(measure(server.url(), end, options.repeats, options.plans))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


async def measure(url: str, end: datetime, repeats: int, plans: bool) -> dict[str, float]:
    minutes = (end - START) // timedelta(minutes=1)
    bench.say(f"filling a store: {minutes:,} minutes of one symbol ...")
    await upgrade(url)
    driver = await asyncpg.connect(url)
    await fill(driver, end)
    bench.print_machine()
    print(f"{minutes:,} minutes, median of {repeats}, by the view in psql and by the provider")
    figures = {"refresh_seconds": await refresh(url)}
    print(f"{'refresh of all of it':<34} {figures['refresh_seconds']:9.1f} s")
    figures["grouped_ms"] = timed(url, GROUPED, 3)
    print(f"{'1d by GROUP BY of the minutes':<34} {figures['grouped_ms']:9.1f} ms")
    for name, view, interval in READS:
        start = end - timedelta(days=1) if interval == 5 else START
        figures |= await compare(url, name, view, interval, (start, end), repeats)
        if plans:
            found = await driver.fetch(f"EXPLAIN ANALYZE {of_view(view, start, end)}")
            print(*(row[0] for row in found), sep="\n")
    await driver.execute(
        "INSERT INTO candles VALUES ($1, $2, 1, 100, 102, 99, 100, 1.5, NULL, 3, NULL)", SYMBOL, end
    )
    everything = (START, end)
    figures |= await compare(url, "1d, while a minute waits", "candles_1d", 1440, everything, repeats)
    await driver.execute(
        "INSERT INTO pending_refresh (symbol, stale) SELECT $1, tstzrange($2, $3)", SYMBOL, START, end
    )
    figures |= await compare(url, "1d, while everything waits", "candles_1d", 1440, everything, 3)
    await driver.close()
    return figures


async def fill(driver: asyncpg.Connection[asyncpg.Record], end: datetime) -> None:
    await driver.execute(
        "INSERT INTO candles SELECT $3, m, 1, 100 + random(), 102, 99, 100 + random(), 1.5, NULL, 3, NULL"
        " FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 min', interval '1 min') m",
        START,
        end,
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


async def compare(
    url: str, name: str, view: str, interval: int, span: tuple[datetime, datetime], repeats: int
) -> dict[str, float]:
    of_psql = timed(url, of_view(view, *span), repeats)
    async with HistoricalDataProvider(url) as provider:
        seconds = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            found = await provider.get_candles(SYMBOL, interval, *span)
            seconds.append(time.perf_counter() - began)
    of_provider = statistics.median(seconds[1:]) * 1000
    print(f"{name:<26} {len(found):>7,} psql {of_psql:9.1f} ms   provider {of_provider:9.1f} ms")
    return {f"{name}, psql": of_psql, f"{name}, provider": of_provider}


def of_view(view: str, start: datetime, end: datetime) -> str:
    return (
        f"SELECT * FROM {view} WHERE symbol = '{SYMBOL}' AND timestamp >= '{start.isoformat()}'"
        f" AND timestamp < '{end.isoformat()}' ORDER BY timestamp"
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

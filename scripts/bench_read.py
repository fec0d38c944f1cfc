"""Reading: objects, frames and short lists, from a store of ten symbols with a year of minutes each.

Beside each figure is something anyone can run: asyncpg with the best statement for the same candles, with
a text codec for numeric and garbage collection paused, building the same objects; SQLAlchemy's ORM; COPY
read by polars; connectorx; pandas.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import _bench as bench
import asyncpg
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

import kraken_db
from kraken_db import HistoricalDataProvider
from kraken_db.db.migrations import upgrade
from kraken_db.models import CandleRow
from kraken_db.store import Store
from kraken_db.types import Candle

SYMBOLS = [f"{base}/USD" for base in ("ADA", "BTC", "DOGE", "DOT", "ETH", "LINK", "LTC", "SOL", "TRX", "XRP")]
SYMBOL = "ETH/USD"
START = datetime(2024, 1, 1, tzinfo=UTC)
MIDDLE = START + timedelta(days=180)
Read = Callable[[], Awaitable[object]]
WHERE = "FROM candles WHERE symbol = $1 AND interval_minutes = 1 AND timestamp >= $2 AND timestamp < $3"
NUMBERS = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
ALL = f"SELECT symbol, timestamp, interval_minutes, {', '.join(NUMBERS)} {WHERE} ORDER BY timestamp"
ONE = f"SELECT timestamp, {', '.join(NUMBERS)} {WHERE} ORDER BY timestamp"
COPIED = ONE.replace("SELECT timestamp", "SELECT (date_part('epoch', timestamp) * 1000000)::bigint")
FIVE = """
    SELECT date_bin('5 min', timestamp, 'epoch') AS opens, (array_agg(open ORDER BY timestamp))[1], max(high),
           min(low), (array_agg(close ORDER BY timestamp))[count(*)], sum(volume), sum(trade_count)
    FROM candles WHERE symbol = $1 AND interval_minutes = 1 AND {where} GROUP BY 1 ORDER BY 1 DESC
"""
NEWEST = "(SELECT max(timestamp) FROM candles WHERE symbol = $1 AND interval_minutes = 1)"
REPLAY = """
import asyncio, json, sys, time
from datetime import datetime
from kraken_db import HistoricalDataProvider
async def main():
    url, start, end = sys.argv[1], *map(datetime.fromisoformat, sys.argv[2:])
    async with HistoricalDataProvider(url) as provider:
        began, first, count = time.perf_counter(), 0.0, 0
        async for candle in provider.replay_candles("ETH/USD", 1, start, end, speed=0):
            first = first or time.perf_counter() - began
            count += 1
        # Not ru_maxrss, which begins with the memory of whoever started the process.
        (peak,) = (int(line.split()[1]) / 1024 for line in open("/proc/self/status") if "VmHWM" in line)
        print(json.dumps([first, time.perf_counter() - began, peak, count]))
asyncio.run(main())
"""


def main() -> None:
    quick = {"days": 200, "repeats": 2, "short_repeats": 20, "seconds": 2}
    parser = bench.options(__doc__, quick=quick, days=365, repeats=5, short_repeats=200, seconds=30)
    options, _ = parser.parse_known_args()
    end = START + timedelta(days=options.days)
    bench.print_machine()
    print(f"{options.days * 1440 * len(SYMBOLS):,} candles of {len(SYMBOLS)} symbols")
    with bench.server() as (server, _folder):
        figures = asyncio.run(
            measure(server.url(), end, options.repeats, options.short_repeats, options.seconds)
        )
    if options.json:
        options.json.write_text(json.dumps([figure.to_json() for figure in figures], indent=2) + "\n")


async def measure(url: str, end: datetime, repeats: int, short: int, seconds: int) -> list[bench.Figure]:
    bench.say("filling a store ...")
    await upgrade(url)
    driver = await asyncpg.connect(url)
    await fill(url, driver, end)
    figures: list[bench.Figure] = []
    async with HistoricalDataProvider(url) as provider:
        parts: list[Callable[[], Awaitable[list[bench.Figure]]]] = [
            lambda: objects(provider, url, end, repeats),
            lambda: frames(provider, url, end, repeats),
            lambda: short_lists(provider, driver, end, short),
            lambda: replay(provider, url, end, repeats),
            lambda: many_readers(provider, seconds),
        ]
        for part in parts:
            found = await part()
            bench.print_figures(found)
            figures += found
    await driver.close()
    return figures


async def fill(url: str, driver: asyncpg.Connection[asyncpg.Record], end: datetime) -> None:
    await driver.execute(
        "INSERT INTO candles"
        " SELECT s, m, 1, 100 + random(), 102, 99, 100 + random(), 1.5, NULL, 3, 100 + random()"
        " FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 min', interval '1 min') m,"
        " unnest($3::text[]) s",
        START,
        end,
        SYMBOLS,
    )
    await driver.execute("VACUUM ANALYZE candles")
    store = await Store.open(url)
    await store.refresh_pending()
    await store.close()


def timed(read: Read) -> Callable[[], Awaitable[float]]:
    async def measured() -> float:
        began = time.perf_counter()
        found = await read()
        seconds = time.perf_counter() - began
        del found
        return seconds

    return measured


async def objects(
    provider: HistoricalDataProvider, url: str, end: datetime, repeats: int
) -> list[bench.Figure]:
    driver = await asyncpg.connect(url, server_settings={"jit": "off"})
    await driver.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=Decimal, format="text")
    engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(url))

    async def bare() -> object:
        gc.disable()
        try:
            return [Candle(*row) for row in await driver.fetch(ALL, SYMBOL, START, end)]
        finally:
            gc.enable()

    async def orm() -> object:
        c = CandleRow
        wanted = select(c).where(
            c.symbol == SYMBOL, c.interval_minutes == 1, c.timestamp >= START, c.timestamp < end
        )
        async with AsyncSession(engine) as session:
            return list(await session.scalars(wanted.order_by(c.timestamp)))

    assert await bare() == await provider.get_candles(SYMBOL, 1, START, end)
    ours, theirs, mapped = await bench.rounds(
        repeats, timed(lambda: provider.get_candles(SYMBOL, 1, START, end)), timed(bare), timed(orm)
    )
    await driver.close()
    await engine.dispose()
    return [
        bench.Figure("get_candles of a year", ours, "asyncpg, same objects", theirs, asked="at most 1.1"),
        bench.Figure("get_candles of a year", ours, "SQLAlchemy ORM", mapped, asked="at most 0.25"),
    ]


async def frames(
    provider: HistoricalDataProvider, url: str, end: datetime, repeats: int
) -> list[bench.Figure]:
    import connectorx
    import pandas
    import polars as pl

    driver = await asyncpg.connect(url, server_settings={"jit": "off"})
    literal = ONE.replace("$1", f"'{SYMBOL}'").replace("$2", f"'{START}'").replace("$3", f"'{end}'")
    as_float = literal
    for number in ("open", "high", "low", "close", "volume", "vwap"):
        as_float = as_float.replace(f" {number}", f" {number}::float8", 1)
    schema: dict[str, Any] = {
        "timestamp": pl.Int64,
        **dict.fromkeys(NUMBERS, pl.Decimal(38, 10)),
        "trade_count": pl.Int64,
    }
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

    async def copied() -> object:
        text = io.BytesIO()
        await driver.copy_from_query(COPIED, SYMBOL, START, end, output=text, format="csv")
        found = pl.read_csv(text.getvalue(), has_header=False, schema=schema)
        return found.with_columns(pl.col("timestamp").cast(pl.Datetime("us", "UTC")))

    async def by_connectorx() -> object:
        return connectorx.read_sql(with_host(url), as_float, return_type="polars")

    async def by_pandas() -> object:
        return pandas.read_sql(literal, engine)

    def ours(**how: str) -> Callable[[], Awaitable[float]]:
        return timed(lambda: provider.get_candles_frame(SYMBOL, 1, START, end, **how))  # type: ignore[arg-type]

    async def by_load() -> object:
        return await asyncio.to_thread(kraken_db.load, SYMBOL, "1m", START, end, db_url=url)

    exact, floats, in_pandas, loaded, as_load, copy, foreign, sql = await bench.rounds(
        repeats,
        ours(),
        ours(numbers="float"),
        ours(backend="pandas"),
        timed(by_load),
        ours(backend="pandas", numbers="float"),
        timed(copied),
        timed(by_connectorx),
        timed(by_pandas),
    )
    await driver.close()
    engine.dispose()
    frame = "get_candles_frame of a year"
    return [
        bench.Figure(f"{frame}, decimal", exact, "COPY into polars, decimal", copy, asked="at most 1.2"),
        bench.Figure(f"{frame}, decimal", exact, "connectorx, float64", foreign, asked="below 1"),
        bench.Figure(f"{frame}, float", floats, "connectorx, float64", foreign),
        bench.Figure("load of a year", loaded, f"{frame}, pandas, float", as_load, asked="at most 1.15"),
        bench.Figure(f"{frame}, pandas, decimal", in_pandas, "pandas.read_sql, psycopg", sql),
    ]


def with_host(url: str) -> str:
    """The address of the embedded server's socket as connectorx reads it."""
    parts = urlsplit(url)
    found = parse_qs(parts.query)
    return f"postgresql://{parts.username}@{quote(found['host'][0], safe='')}:{found['port'][0]}{parts.path}"


async def short_lists(
    provider: HistoricalDataProvider, driver: asyncpg.Connection[asyncpg.Record], end: datetime, repeats: int
) -> list[bench.Figure]:
    thousand, day = MIDDLE + timedelta(minutes=1000), timedelta(minutes=240 * 100)
    pairs: dict[str, tuple[Read, Read, str]] = {
        "latest 200 of 5m": (
            lambda: provider.get_latest_candles(SYMBOL, 5, 200),
            lambda: driver.fetch(
                FIVE.format(where=f"timestamp > {NEWEST} - $2::interval"), SYMBOL, timedelta(minutes=1000)
            ),
            "below 5 ms",
        ),
        "1,000 of 1m by range": (
            lambda: provider.get_candles(SYMBOL, 1, MIDDLE, thousand),
            lambda: driver.fetch(ONE, SYMBOL, MIDDLE, thousand),
            "below 10 ms",
        ),
        "five timeframes of 100": (
            lambda: provider.get_multi_timeframe_candles(SYMBOL, end),
            lambda: driver.fetch(ONE, SYMBOL, end - day, end),
            "below 25 ms",
        ),
    }
    figures = []
    for name, (ours, bare, asked) in pairs.items():
        for _ in range(10):
            await ours()
            await bare()
        mine, theirs = [], []
        for _ in range(repeats):
            mine.append(await timed(ours)() * 1000)
            theirs.append(await timed(bare)() * 1000)
        figures.append(bench.Figure(name, mine, "asyncpg, rows from minutes", theirs, "ms", asked))
    return figures


async def replay(
    provider: HistoricalDataProvider, url: str, end: datetime, repeats: int
) -> list[bench.Figure]:
    """In a process of its own, whose memory is that of nothing else."""
    runs, lists = [], []
    command = [sys.executable, "-c", REPLAY, url, START.isoformat(), end.isoformat()]
    for _ in range(repeats):
        done = await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True, text=True)
        runs.append(json.loads(done.stdout))
        lists += (await bench.rounds(1, timed(lambda: provider.get_candles(SYMBOL, 1, START, end))))[0]
    assert {run[3] for run in runs} == {(end - START) // timedelta(minutes=1)}
    return [
        bench.Figure("replay of a year", [r[1] for r in runs], "get_candles", lists, asked="at most 1.3"),
        *(
            bench.Figure(name, [run[at] * scale for run in runs], "what is asked", [most] * repeats, unit)
            for name, at, scale, most, unit in (
                ("its first candle", 0, 1000, 100.0, "ms"),
                ("memory of its process", 2, 1, 200.0, "MiB"),
            )
        ),
    ]


async def many_readers(provider: HistoricalDataProvider, seconds: int) -> list[bench.Figure]:
    async def loop(until: float) -> int:
        count = 0
        while time.perf_counter() < until:
            assert len(await provider.get_latest_candles(SYMBOLS[count % len(SYMBOLS)], 5, 200)) == 200
            count += 1
        return count

    async def throughput(readers: int) -> float:
        until = time.perf_counter() + seconds
        return sum(await asyncio.gather(*(loop(until) for _ in range(readers)))) / seconds

    one, eight = await throughput(1), await throughput(8)
    return [bench.Figure("8 readers at once", [eight], "1 reader", [one], "/s", "at least 1, no error")]


if __name__ == "__main__":
    main()

"""The cache of repeated reads: what readers gain, and what writers pay.

Readers: a year of minutes, again and again, beside the same read without the cache. Writers: single inserts,
and a million minutes as an import writes them, with the triggers of the cache and without them, in turns.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import _bench as bench
import asyncpg

from kraken_db import HistoricalDataProvider
from kraken_db.db.migrations import upgrade

START, END = datetime(2023, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
MINUTES = """
    INSERT INTO candles SELECT 'BTC/USD', g, 1, p, p + 5, p - 5, p + 1.5, v, NULL, 10, p + 0.1234567
    FROM generate_series($1::timestamptz, $2::timestamptz - INTERVAL '1 minute', INTERVAL '1 minute') g,
    LATERAL (SELECT round((20000 + 2000 * sin(extract(epoch FROM g) / 1e6) + random() * 50)::numeric, 1) AS p,
             round((random() * 20)::numeric, 8) AS v) x
"""
ONE = "INSERT INTO candles VALUES ('ONE/USD', $1, 1, 1, 1, 1, 1, 1, NULL, 1, NULL)"
Timed = Callable[[], Awaitable[object]]


async def median_ms(work: Timed, count: int) -> float:
    took = []
    for _ in range(count):
        began = time.perf_counter()
        await work()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


async def readers(url: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Milliseconds with the cache and without it, by read."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        async with (
            HistoricalDataProvider(url, cache=folder) as cached,
            HistoricalDataProvider(url) as direct,
        ):

            def frame(history: HistoricalDataProvider, interval: str, **options: Any) -> Timed:
                return lambda: history.get_candles_frame("BTC/USD", interval, START, END, **options)

            def objects(history: HistoricalDataProvider) -> Timed:
                return lambda: history.get_candles("BTC/USD", "1m", START, END)

            def several(history: HistoricalDataProvider) -> Timed:
                moment = datetime(2023, 6, 7, 11, 13, tzinfo=UTC)
                return lambda: history.get_multi_timeframe_candles("BTC/USD", moment)

            floats = {"backend": "pandas", "numbers": "float"}
            reads: dict[str, tuple[Timed, Timed]] = {
                "1m, polars, exact": (frame(cached, "1m"), frame(direct, "1m")),
                "1m, pandas, floats": (frame(cached, "1m", **floats), frame(direct, "1m", **floats)),
                "1h, polars, exact": (frame(cached, "1h"), frame(direct, "1h")),
                "7m, polars, exact": (frame(cached, "7m"), frame(direct, "7m")),
                "1m, objects": (objects(cached), objects(direct)),
                "five intervals, 100 candles each": (several(cached), several(direct)),
            }
            for name, (fast, slow) in reads.items():
                for _ in range(2):
                    await fast()
                found[name] = await median_ms(fast, 3 * rounds), await median_ms(slow, rounds)
    return found


async def writers(url: str, rounds: int, rows: int) -> dict[str, tuple[float, float]]:
    """Milliseconds with the triggers and without them: of one insert, and of an import."""
    connection = await asyncpg.connect(url)
    tables = [
        row[0]
        for row in await connection.fetch(
            "SELECT DISTINCT c.oid::regclass::text FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid"
            " WHERE t.tgname LIKE 'renew%' AND NOT t.tgisinternal"
        )
    ]
    definitions = [
        tuple(row)
        for row in await connection.fetch(
            "SELECT t.tgname, c.oid::regclass::text, pg_get_triggerdef(t.oid) FROM pg_trigger t"
            " JOIN pg_class c ON c.oid = t.tgrelid WHERE t.tgname LIKE 'renew%' AND NOT t.tgisinternal"
            " AND NOT EXISTS (SELECT 1 FROM pg_inherits i WHERE i.inhrelid = c.oid)"
        )
    ]
    assert tables
    assert definitions
    took: dict[tuple[str, bool], list[float]] = {}
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    archive = Path(tempfile.mkdtemp()) / "XBTUSD_1.csv"
    archive.write_text(
        "".join(f"{1_577_836_800 + 60 * n},100.5,102,99.5,101,2.5,7\n" for n in range(rows)), encoding="utf-8"
    )
    for number in range(2 * rounds):
        has_triggers = number % 2 == 0
        for name, table, definition in definitions:
            await connection.execute(definition if has_triggers and number else "SELECT 1")
            if not has_triggers:
                await connection.execute(f"DROP TRIGGER {name} ON {table}")
        await connection.execute("TRUNCATE candles, rolled_candles, pending_refresh, data_sync_status")
        await connection.execute("TRUNCATE data_coverage, candle_versions")
        singles = []
        for _ in range(300):
            moment += timedelta(minutes=1)
            began = time.perf_counter()
            await connection.execute(ONE, moment)
            singles.append((time.perf_counter() - began) * 1000)
        took.setdefault(("one insert", has_triggers), []).append(statistics.median(singles))
        began = time.perf_counter()
        await asyncio.to_thread(
            bench.run, [sys.executable, "-m", "kraken_db", "import-csv", str(archive)], {"DATABASE_URL": url}
        )
        took.setdefault((f"import of {rows:,} candles", has_triggers), []).append(
            (time.perf_counter() - began) * 1000
        )
    await connection.close()
    names = dict.fromkeys(name for name, _ in took)
    return {
        name: (statistics.median(took[name, True]), statistics.median(took[name, False])) for name in names
    }


async def measure(url: str, options: Any) -> dict[str, Any]:
    await upgrade(url)
    connection = await asyncpg.connect(url)
    await connection.execute(MINUTES, START, START + timedelta(days=options.days))
    await connection.execute("ANALYZE candles")
    await connection.close()
    figures: dict[str, Any] = {"readers": await readers(url, options.repeats)}
    for name, (fast, slow) in figures["readers"].items():
        print(f"{name:36} {fast:9.1f} ms with the cache, {slow:9.1f} ms without: {slow / fast:6.1f} x")
    figures["writers"] = await writers(url, options.repeats, options.rows)
    for name, (taxed, free) in figures["writers"].items():
        print(f"{name:36} {taxed:9.2f} ms with versions, {free:9.2f} ms without: {taxed / free - 1:+6.1%}")
    return figures


def main() -> None:
    parser = bench.options(
        __doc__, days=365, rows=1_000_000, repeats=5, quick={"days": 20, "rows": 20_000, "repeats": 1}
    )
    options, _ = parser.parse_known_args()
    bench.print_machine()
    with bench.server() as (server, _):
        figures = asyncio.run(measure(server.url(), options))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

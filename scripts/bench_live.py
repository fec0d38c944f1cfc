"""The live writer against an embedded database: what a call costs, what it sustains, how soon it is readable.

Everything runs in one process, as beside a strategy: the calls, the flushes and, where the delay is measured,
the reader. Then the server is stopped three times while trades come in, and every row is looked at after
that. ``scripts/bench_live.py --soak 15`` runs the same load for minutes, and looks at what the process holds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import _bench as bench
import asyncpg

from kraken_db import DatabaseWriter, TradeRecord
from kraken_db.db.embedded import EmbeddedServer
from kraken_db.db.migrations import upgrade

RATE = 5_000
BASES = ["BTC", "ETH", "SOL", "XRP", "ADA", "DOT", "LTC", "LINK", "DOGE", "ATOM"]
TABLES = (
    "trades, candles, data_coverage, data_sync_status, pending_refresh, unproven_ranges, dropped_ranges,"
    " flush_positions"
)


def main() -> None:
    quick = {"live_seconds": 3, "outages": 2}
    # Seconds of each load and of each outage, trades a second, minutes of the soak.
    parser = bench.options(__doc__, quick=quick, live_seconds=15, live_rate=30_000, outages=10, soak=0)
    options, _ = parser.parse_known_args()
    bench.print_machine()
    with bench.server() as (server, folder):
        asyncio.run(upgrade(server.url()))
        figures = asyncio.run(measure(server, folder, options))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


async def measure(server: EmbeddedServer, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    figures = await measure_calls(server, folder)
    for pairs in (1, 10):
        figures |= await measure_sustained(server, folder, options.live_rate, options.live_seconds, pairs)
    for interval in (5.0, 0.1):
        figures |= await measure_delay(server, folder, options.live_seconds, interval)
    if options.outages:
        figures |= await measure_outages(server, folder, options.outages)
    if options.soak:
        figures |= await measure_soak(server, folder, options.soak * 60)
    return figures


class Market:
    """Makes trades as they happen, one after the other, in several pairs by turns."""

    def __init__(self, pairs: int = 1) -> None:
        self.symbols = [f"{name}/USD" for name in BASES[:pairs]]
        self.count = 0
        self._prices = [Decimal(60_000) + Decimal(step) / 10 for step in range(97)]
        self._volume = Decimal("0.01250000")

    def next(self) -> TradeRecord:
        number = self.count
        self.count += 1
        return TradeRecord(
            self.symbols[number % len(self.symbols)],
            datetime.now(UTC),
            self._prices[number % 97],
            self._volume,
            "buy" if number % 2 else "sell",
            number // len(self.symbols) + 1,
            "limit",
        )


@asynccontextmanager
async def writing(server: EmbeddedServer, folder: Path, **options: Any) -> AsyncIterator[DatabaseWriter]:
    await sql(server, f"TRUNCATE {TABLES}")
    async with DatabaseWriter(server.url(), journal_dir=folder / "journal", **options) as writer:
        yield writer


async def sql(server: EmbeddedServer, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(server.url())
    try:
        rows: list[asyncpg.Record] = await connection.fetch(statement)
        return rows
    finally:
        await connection.close()


async def feed(writer: DatabaseWriter, market: Market, rate: float, seconds: float) -> int:
    """Write at a steady rate; returns how much memory held at most."""
    began, first, most = time.perf_counter(), market.count, 0
    while (passed := time.perf_counter() - began) < seconds:
        while market.count - first < passed * rate:
            await writer.write_trade(market.next())
        most = max(most, writer.get_stats()["trade_buffer_size"])
        await asyncio.sleep(0.002)
    return most


async def measure_calls(server: EmbeddedServer, folder: Path) -> dict[str, float]:
    market, costs = Market(), []
    for _ in range(5):
        async with writing(server, folder, trade_buffer_size=DatabaseWriter.MAX_TRADE_BUFFER_SIZE) as writer:
            trades = [market.next() for _ in range(writer.MAX_TRADE_BUFFER_SIZE)]
            began = time.perf_counter()
            for trade in trades:
                await writer.write_trade(trade)
            costs.append((time.perf_counter() - began) / len(trades))
    calls = 1 / statistics.median(costs)
    print(f"write_trade until the buffer is full: {calls:,.0f} calls/s (median of 5)")
    return {"calls_per_second": calls}


async def measure_sustained(
    server: EmbeddedServer, folder: Path, rate: int, seconds: float, pairs: int
) -> dict[str, float]:
    market = Market(pairs)
    async with writing(server, folder) as writer:
        bench.say(f"{rate:,} trades/s in {pairs} pairs for {seconds:.0f} s ...")
        most = await feed(writer, market, rate, seconds)
        began = time.perf_counter()
        await writer.flush()
        rest = time.perf_counter() - began
        overflow = writer.get_stats()["overflow_count"]
        await check(server, market)
    market = Market(pairs)
    async with writing(server, folder) as writer:
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            while writer.get_stats()["trade_buffer_size"] < writer.MAX_TRADE_BUFFER_SIZE // 2:
                for _ in range(100):
                    await writer.write_trade(market.next())
            await asyncio.sleep(0.001)
        await writer.flush()
        fastest = market.count / (time.perf_counter() - began)
    print(
        f"{rate:,} trades/s in {pairs} pairs for {seconds:.0f} s: {overflow:,} overflowed, at most {most:,}"
        f" in memory, {rest * 1000:.0f} ms to flush the rest; as fast as it goes: {fastest:,.0f} trades/s"
    )
    return {f"overflow_{pairs}": overflow, f"most_in_memory_{pairs}": most, f"fastest_{pairs}": fastest}


async def measure_delay(
    server: EmbeddedServer, folder: Path, seconds: float, interval: float
) -> dict[str, float]:
    market, rate = Market(), 1_000
    delays: list[float] = []
    written: list[float] = []
    async with writing(server, folder, trade_flush_interval=interval) as writer:
        reading = asyncio.create_task(read(server, written, delays))
        began = time.perf_counter()
        while (passed := time.perf_counter() - began) < seconds:
            while market.count < passed * rate:
                written.append(time.perf_counter())
                await writer.write_trade(market.next())
            await asyncio.sleep(0.001)
        await writer.flush()
        await asyncio.sleep(0.1)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    ordered = sorted(delays)
    median, late = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    print(
        f"{rate:,} trades/s, trade_flush_interval {interval} s: readable after {median * 1000:.0f} ms"
        f" (median), {late * 1000:.0f} ms (99th percentile), {ordered[-1] * 1000:.0f} ms (worst)"
    )
    return {f"delay_{interval}": median, f"delay_99_{interval}": late}


async def read(server: EmbeddedServer, written: list[float], delays: list[float]) -> None:
    """Another session that asks all the time for the newest trade."""
    connection = await asyncpg.connect(server.url())
    try:
        newest = "SELECT id FROM trades WHERE symbol = 'BTC/USD' ORDER BY timestamp DESC, id DESC LIMIT 1"
        while True:
            seen = await connection.fetchval(newest) or 0
            now = time.perf_counter()
            delays += [now - moment for moment in written[len(delays) : seen]]
            await asyncio.sleep(0.002)
    finally:
        await connection.close()


async def measure_outages(server: EmbeddedServer, folder: Path, seconds: float) -> dict[str, float]:
    market, peak = Market(), 0.0
    async with writing(server, folder) as writer:
        await feed(writer, market, RATE, 2)
        before = memory()
        for number in range(3):
            bench.say(f"outage {number + 1} of {seconds:.0f} s ...")
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            await feed(writer, market, RATE, seconds)
            await stopping
            peak = max(peak, memory())
            size = writer.get_stats()["journal_bytes"]
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            await feed(writer, market, RATE, 5)
            await starting
        began = time.perf_counter()
        await writer.flush()
        catching_up = time.perf_counter() - began
        told = writer.get_stats()
        await check(server, market)
        rows = await sql(server, "SELECT id FROM trades ORDER BY ctid")
        in_order = [row["id"] for row in rows] == list(range(1, market.count + 1))
    files = [path for path in (folder / "journal").rglob("*") if path.is_file()]
    print(
        f"3 outages of {seconds:.0f} s at {RATE:,} trades/s: {market.count:,} trades, none lost or twice"
        f", order {'kept' if in_order else 'BROKEN'}; {told['overflow_count']:,} through the journal (at most"
        f" {size / 2**20:.1f} MiB), which has {len(files)} files left; memory {before:.0f} MiB, at most"
        f" {peak:.0f}; {catching_up:.1f} s to catch up at the end"
    )
    return {"outage_memory_mib": peak - before, "outage_trades": market.count, "order_kept": float(in_order)}


async def measure_soak(server: EmbeddedServer, folder: Path, seconds: float) -> dict[str, float]:
    market, seen = Market(10), []
    async with writing(server, folder) as writer:
        for minute in range(int(seconds // 60) or 1):
            await feed(writer, market, RATE, min(60, seconds))
            gc.collect()
            handles, tasks = len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())  # noqa: PTH208
            sessions = await sql(
                server, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'kraken%'"
            )
            seen.append((memory(), tasks, handles, sessions[0][0]))
            bench.say(f"minute {minute + 1}: {seen[-1][0]:.0f} MiB, tasks/handles/sessions {seen[-1][1:]}")
        await writer.flush()
        await check(server, market)
    (first, *_), (last, *_) = seen[0], seen[-1]
    print(
        f"{seconds / 60:.0f} minutes at {RATE:,} trades/s in 10 pairs: memory {first:.0f} -> {last:.0f} MiB,"
    )
    print(f"  tasks, handles and sessions {seen[0][1:]} -> {seen[-1][1:]}")
    return {"soak_growth_mib": last - first}


async def check(server: EmbeddedServer, market: Market) -> None:
    """Every trade is there, once, and is known to be."""
    for at, symbol in enumerate(market.symbols):
        expected = (market.count - at + len(market.symbols) - 1) // len(market.symbols)
        (row,) = await sql(
            server, f"SELECT count(*), count(DISTINCT id), max(id) FROM trades WHERE symbol = '{symbol}'"
        )
        (claimed,) = await sql(
            server,
            "SELECT upper(covered) - lower(covered) AS length,"
            " (SELECT count(*) FROM unnest(covered)) AS pieces,"
            f" (SELECT max(timestamp) - min(timestamp) FROM trades WHERE symbol = '{symbol}') AS whole"
            f" FROM data_coverage WHERE symbol = '{symbol}' AND data_type = 'trades'",
        )
        is_claimed = claimed["pieces"] == 1 and claimed["whole"] - claimed["length"] <= timedelta(
            microseconds=1
        )
        if tuple(row) != (expected, expected, expected) or not is_claimed:
            raise SystemExit(f"{symbol}: {expected} expected, {tuple(row)} found; {claimed}")


def memory() -> float:
    """MiB that this process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()

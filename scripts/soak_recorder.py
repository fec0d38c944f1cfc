"""Let ``kraken-db record`` run for a while against a simulated exchange, and watch what it holds on to.

Memory, open files, threads, tasks and connections to the database are sampled; they must not grow. The
connection is cut, frames are lost and subscriptions fall silent all the while. Usage, in the virtual
environment that scripts/test makes:

    .venv/bin/python scripts/soak_recorder.py --minutes 15
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import _bench as bench
from sqlalchemy import text

from kraken_db.db.engine import Database
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.kraken.websocket import KrakenWebSocketClient, ReconnectLimits
from kraken_db.kraken.websocket_subscriptions import Watch
from kraken_db.recorder import Recorder
from kraken_db.simulator import feed_url

SYMBOLS = ("BTC/USD", "ETH/USD", "XRP/USD", "SOL/USD", "ADA/USD")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--per-second", type=float, default=40, help="trades of each of five pairs")
    parser.add_argument("--every", type=float, default=10, help="seconds between two samples")
    options = parser.parse_args()
    with bench.server() as (_, folder):
        sys.exit(asyncio.run(run(options, folder)))


async def run(options: argparse.Namespace, folder: Path) -> int:
    """The exchange is a process of its own: what is measured is the recorder alone."""
    url = f"embedded://{folder}/store"
    exchange, base_url = await exchange_process(options)
    samples: list[tuple[float, int, int, int, int]] = []
    try:
        feed = KrakenWebSocketClient(
            feed_url(base_url),
            limits=ReconnectLimits(at_once=10**9, most=10**9),
            watch=Watch(quiet_after=10.0, refused_again_after=1.0),
        )
        client = KrakenRestClient(base_url, rate_limit_delay=0.1)
        async with (
            Recorder(url, SYMBOLS, client=client, feed=feed, journal_dir=folder / "journal") as recorder,
            looking_at(url) as database,
        ):
            running = asyncio.create_task(recorder.run())
            ends = time.monotonic() + 60 * options.minutes
            while time.monotonic() < ends and not running.done():
                await asyncio.sleep(min(options.every, max(0.1, ends - time.monotonic())))
                samples.append(await sample(database))
                status = recorder.status()
                _, memory, files, tasks, connections = samples[-1]
                print(
                    f"{status.time:%H:%M:%S} {memory / 1e6:.1f} MB, {files} files, {tasks} tasks,"
                    f" {connections} connections; {status.received:,} trades, {status.reconnects} reconnects,"
                    f" {status.repaired:,} repaired, buffer {status.buffer}",
                    flush=True,
                )
            recorder.request_stop()
            await running
    finally:
        exchange.terminate()
        await exchange.wait()
    return report(samples)


async def exchange_process(options: argparse.Namespace) -> tuple[asyncio.subprocess.Process, str]:
    start = datetime.now(UTC) - timedelta(minutes=1)
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("kraken-db")),
        *("simulate", "--port", "0", "--live", "--pairs", *SYMBOLS, "--start", start.isoformat()),
        *("--pace", str(options.per_second), "--feed-fault", "cut=2000", "--feed-fault", "lost=0.001"),
        *("--feed-fault", "mute=0.0005", "--feed-fault", "silence=0.0001", "--feed-fault", "duplicates=5"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode().strip()
    return process, line.partition("=")[2]


@asynccontextmanager
async def looking_at(url: str) -> AsyncIterator[Database]:
    """One for all samples: an engine for each of them would itself cost memory."""
    database = await Database.open(url, pool_max_size=1)
    try:
        yield database
    finally:
        await database.close()


async def sample(database: Database) -> tuple[float, int, int, int, int]:
    """When, bytes of memory, open files, tasks, and connections to the database."""
    gc.collect()
    memory, files = process_figures()
    tasks = len(asyncio.all_tasks())
    async with database.read() as connection:
        found = await connection.scalar(
            text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
        )
    return time.monotonic(), memory, files, tasks, int(found or 0)


def process_figures() -> tuple[int, int]:
    """Bytes in memory and open files of this process."""
    status = Path("/proc/self/status").read_text()
    memory = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    return memory, len(list(Path("/proc/self/fd").iterdir()))


def report(samples: list[tuple[float, int, int, int, int]]) -> int:
    """The second half beside the first, from its middle on: what was warmed up does not count."""
    if len(samples) < 4:
        print("too few samples to compare")
        return 0
    early, late = samples[len(samples) // 4 : len(samples) // 2], samples[-len(samples) // 4 :]
    grown = 0
    for name, at, slack in (("memory", 1, 5e6), ("files", 2, 3), ("tasks", 3, 3), ("connections", 4, 2)):
        before = sum(one[at] for one in early) / len(early)
        after = sum(one[at] for one in late) / len(late)
        grows = after > before * 1.05 + slack
        grown += grows
        told = ": GROWS" if grows else ""
        print(f"{name}: {before:,.1f} in the second quarter, {after:,.1f} in the last{told}")
    return 1 if grown else 0


if __name__ == "__main__":
    main()

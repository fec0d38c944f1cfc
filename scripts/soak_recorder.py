"""Let a recorder run for a while against a simulated exchange of many pairs, and compare the tables with it.

Connections are cut, fall silent or only answer, frames are lost, subscriptions are refused, too many frames
are too many, pairs are listed and delisted, and for a part of the time trades come in a burst. In the end
every stored trade and every finished candle is compared with the exchange's truth, and memory, open files,
tasks and connections of the second half with those of the first. With ``--disturb`` sessions of the database
are cut every ten seconds, the server is restarted and killed, the disk is full for 30 seconds (name a small
one with TMPDIR), and the clock goes back by two hours for a minute (where libfaketime is preloaded and reads
FAKETIME_TIMESTAMP_FILE). Usage, in the virtual environment that scripts/test makes:

    .venv/bin/python scripts/soak_recorder.py --minutes 15
    TMPDIR=/mnt/small .venv/bin/python scripts/soak_recorder.py --minutes 20 --disturb --burst 300
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import _bench as bench
from _disturbances import Disturbances
from _soak_exchange import SoakPlan
from _truth import StoredRows, candle_row, same
from sqlalchemy import text

from kraken_db.db.embedded import EmbeddedServer
from kraken_db.db.engine import Database
from kraken_db.errors import KrakenDBError
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.kraken.websocket import KrakenWebSocketClient
from kraken_db.recorder import Recorder, RecorderStatus
from kraken_db.simulator import Market, feed_url
from kraken_db.simulator.truth import true_candles

_SECOND = 1_000_000_000
_MINUTE = timedelta(minutes=1)
_TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--pairs", type=int, default=1_635)
    parser.add_argument("--per-second", type=float, default=300, help="trades of all pairs together")
    parser.add_argument("--burst", type=float, default=5_000, help="trades a second in the burst")
    parser.add_argument("--burst-seconds", type=float, default=60)
    parser.add_argument("--every", type=float, default=10, help="seconds between two samples")
    parser.add_argument("--without-faults", action="store_true")
    parser.add_argument("--disturb", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    # What the exchange counts must be written while the disk of the store is full.
    with bench.server() as (server, folder), tempfile.TemporaryDirectory(dir="/var/tmp") as counted:
        soak = Soak(options, server, folder, Path(counted, "counts.json"), Disturbances(server, folder))
        sys.exit(asyncio.run(soak.run()))


def plan_of(options: argparse.Namespace, counts: Path) -> SoakPlan:
    """The burst comes after half of the time, the listings after a third."""
    now, whole = time.time_ns(), int(60 * options.minutes * _SECOND)
    burst_at = (now + whole // 2) // _SECOND * _SECOND
    return SoakPlan(
        pairs=options.pairs,
        per_second=options.per_second,
        start=(now // _SECOND - 60) * _SECOND,
        burst_at=burst_at,
        burst_until=burst_at + int(options.burst_seconds * _SECOND),
        burst_factor=max(1, round(options.burst / options.per_second)),
        listings_at=(now + whole // 3) // _SECOND * _SECOND,
        counts=str(counts),
        has_faults=not options.without_faults,
    )


@dataclass(frozen=True)
class Sample:
    at: float
    memory: int
    files: int
    tasks: int
    connections: int
    recorder_cpu: float
    """Seconds, since the process began; so is the other."""
    database_cpu: float
    counts: dict[str, Any]


@dataclass
class Soak:
    options: argparse.Namespace
    server: EmbeddedServer
    folder: Path
    counted: Path
    """What the exchange writes its counts to."""
    disturbances: Disturbances
    samples: list[Sample] = field(default_factory=list)
    subscribed_at: int = 0
    """When all pairs were, ns since 1970: a new pair's recording begins with that."""

    async def run(self) -> int:
        """The exchange is a process of its own: what is measured is the recorder alone."""
        plan = plan_of(self.options, self.counted)
        url = f"embedded://{self.folder}/store"
        exchange, base_url = await exchange_process(plan)
        try:
            await self.record(url, base_url, plan, exchange)
            ends = time.time_ns()
            print("once more, of pairs that are stored:")
            await self.record_again(url, base_url)
        finally:
            if exchange.returncode is None:
                exchange.kill()
            await exchange.wait()
        wrong = await compare_all(url, plan, self.subscribed_at, ends)
        return max(self.report(plan), int(bool(wrong)))

    def recorder(self, url: str, base_url: str, *symbols: str, stored: bool = False) -> Recorder:
        return Recorder(
            url,
            symbols,
            stored=stored,
            listings_every=20.0,
            client=KrakenRestClient(base_url, rate_limit_delay=0.1),
            feed=KrakenWebSocketClient(feed_url(base_url)),
            journal_dir=self.folder / "journal",
        )

    async def record(
        self, url: str, base_url: str, plan: SoakPlan, exchange: asyncio.subprocess.Process
    ) -> None:
        async with self.recorder(url, base_url, "C*/USD") as recorder, looking_at(url) as database:
            running = asyncio.create_task(recorder.run())
            starting = asyncio.create_task(self.tell_start(recorder, plan.pairs))
            seconds = 60 * self.options.minutes
            ends = time.monotonic() + seconds
            disturbing = asyncio.create_task(self.disturb(seconds, database))
            while time.monotonic() < ends and not running.done():
                await asyncio.sleep(min(self.options.every, max(0.1, ends - time.monotonic())))
                with suppress(KrakenDBError):
                    self.samples.append(await self.sample(database))
                    self.show(recorder.status())
            await disturbing
            assert exchange.stdin is not None
            exchange.stdin.write(b"calm\n")
            await settled(recorder, running, plan)
            starting.cancel()
            recorder.request_stop()
            await running

    async def disturb(self, seconds: float, database: Database) -> None:
        if self.options.disturb:
            await self.disturbances.run(seconds, database)

    async def record_again(self, url: str, base_url: str) -> None:
        before = self.counts()
        async with self.recorder(url, base_url, stored=True) as recorder:
            running = asyncio.create_task(recorder.run())
            await asyncio.sleep(0.5)
            await self.tell_start(recorder, len(recorder.status().pairs))
            await asyncio.sleep(0.6)
            asked = self.counts()["trades_requests"] - before["trades_requests"]
            print(f"{asked} requests to REST for {len(recorder.status().pairs):,} pairs")
            recorder.request_stop()
            await running

    async def tell_start(self, recorder: Recorder, pairs: int) -> None:
        """Print when all pairs are subscribed to, and when all are live."""
        began = time.monotonic()
        await until(recorder, lambda status: sum(pair.is_subscribed for pair in status.pairs) >= pairs)
        self.subscribed_at = self.subscribed_at or time.time_ns()
        print(f"all {pairs:,} pairs subscribed after {time.monotonic() - began:.1f} s", flush=True)
        await until(recorder, lambda status: sum(pair.state == "live" for pair in status.pairs) >= pairs)
        print(f"all {pairs:,} pairs live after {time.monotonic() - began:.1f} s", flush=True)

    async def sample(self, database: Database) -> Sample:
        gc.collect()
        memory, files = process_figures()
        async with database.read() as connection:
            found = await connection.scalar(
                text("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
            )
        return Sample(
            time.monotonic(),
            memory,
            files,
            len(asyncio.all_tasks()),
            int(found or 0),
            time.process_time(),
            database_cpu(self.server.status().pid),
            self.counts(),
        )

    def counts(self) -> dict[str, Any]:
        counts: dict[str, Any] = json.loads(self.counted.read_text())
        return counts

    def show(self, status: RecorderStatus) -> None:
        live = sum(pair.state == "live" for pair in status.pairs)
        last = self.samples[-1]
        before = self.samples[-2] if len(self.samples) > 1 else None
        rates = ""
        if before is not None:
            span = last.at - before.at
            rates = (
                f", recorder {100 * (last.recorder_cpu - before.recorder_cpu) / span:.0f} %,"
                f" database {100 * (last.database_cpu - before.database_cpu) / span:.0f} %,"
                f" {(last.counts['heard'] - before.counts['heard']) / span:.2f} frames/s"
            )
        print(
            f"{status.time:%H:%M:%S} {last.memory / 1e6:.0f} MB{rates}; {live:,} live,"
            f" {status.trades_per_second:,.0f} trades/s, {status.received:,} received,"
            f" {status.reconnects} reconnects, {status.repaired:,} repaired, lag {status.lag or 0:.1f} s,"
            f" buffer {status.buffer:,}, journal {status.journal:,}, {last.tasks} tasks",
            flush=True,
        )

    def report(self, plan: SoakPlan) -> int:
        """The quiet rate, and the second half beside the first: what was warmed up does not count."""
        print(f"what happened: {self.samples[-1].counts}")
        offset = time.time() - time.monotonic()
        burst = [moment / _SECOND - offset for moment in (plan.burst_at, plan.burst_until)]
        quiet: list[tuple[float, float, float]] = []
        for before, after in zip(self.samples[3:], self.samples[4:], strict=False):
            span = after.at - before.at
            is_burst = after.at > burst[0] and before.at < burst[1] + 30
            if not is_burst:
                quiet.append(
                    (
                        (after.recorder_cpu - before.recorder_cpu) / span,
                        (after.database_cpu - before.database_cpu) / span,
                        (after.counts["heard"] - before.counts["heard"]) / span,
                    )
                )
        if quiet:
            recorder, database, frames = (statistics.median(one) for one in zip(*quiet, strict=True))
            print(
                f"at the quiet rate: recorder {recorder:.2f} cores, database {database:.2f},"
                f" together {recorder + database:.2f}; {frames:.2f} frames/s to the exchange"
            )
        print(f"memory at most {max(one.memory for one in self.samples) / 1e6:.0f} MB")
        return grown(self.samples)


async def exchange_process(plan: SoakPlan) -> tuple[asyncio.subprocess.Process, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(Path(__file__).with_name("_soak_exchange.py")),
        json.dumps(asdict(plan)),
        env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    return process, (await process.stdout.readline()).decode().strip()


async def until(recorder: Recorder, is_done: Callable[[RecorderStatus], bool], seconds: float = 600) -> bool:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if is_done(recorder.status()):
            return True
        await asyncio.sleep(0.2)
    return False


async def settled(recorder: Recorder, running: asyncio.Task[RecorderStatus], plan: SoakPlan) -> None:
    """Until all that has happened by now is there, and the minute of it is closed."""
    while not plan.happened.exists():  # noqa: ASYNC110 (another process writes it)
        await asyncio.sleep(0.2)
    wanted: dict[str, int] = json.loads(plan.happened.read_text())

    def is_there(status: RecorderStatus) -> bool:
        return running.done() or all(
            (pair.last_id or 0) >= wanted.get(pair.symbol, 0) for pair in status.pairs
        )

    began = time.monotonic()
    done = await until(recorder, is_there, 300)
    print(f"{'settled' if done else 'NOT SETTLED'} after {time.monotonic() - began:.1f} s", flush=True)
    await asyncio.sleep(65)


@asynccontextmanager
async def looking_at(url: str) -> AsyncIterator[Database]:
    """One for all samples: an engine for each of them would itself cost memory."""
    database = await Database.open(url, pool_max_size=1)
    try:
        yield database
    finally:
        await database.close()


def process_figures() -> tuple[int, int]:
    """Bytes in memory and open files of this process."""
    status = Path("/proc/self/status").read_text()
    memory = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))
    return memory, len(list(Path("/proc/self/fd").iterdir()))


def database_cpu(postmaster: int | None) -> float:
    """Seconds of the server's processes, those that have ended included."""
    total = 0
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        user, system, child_user, child_system = map(int, fields[11:15])
        if int(folder.name) == postmaster:
            total += user + system + child_user + child_system
        elif int(fields[1]) == postmaster:
            total += user + system
    return total / _TICKS


def grown(samples: Sequence[Sample]) -> int:
    if len(samples) < 8:
        print("too few samples to compare")
        return 0
    early, late = samples[len(samples) // 4 : len(samples) // 2], samples[-len(samples) // 4 :]
    found = 0
    for name, slack in (("memory", 5e6), ("files", 3), ("tasks", 3), ("connections", 2)):
        before = statistics.mean(getattr(one, name) for one in early)
        after = statistics.mean(getattr(one, name) for one in late)
        grows = after > before * 1.05 + slack
        found += grows
        told = ": GROWS" if grows else ""
        print(f"{name}: {before:,.1f} in the second quarter, {after:,.1f} in the last{told}")
    return 1 if found else 0


async def compare_all(url: str, plan: SoakPlan, begun: int, ended: int) -> int:
    """How many rows are not as the truth has them, over all pairs."""
    wrong = rows = candles = 0
    async with looking_at(url) as database:
        for symbol in (*plan.symbols, *plan.new_symbols):
            is_new = symbol in plan.new_symbols
            market = plan.new_market(symbol) if is_new else plan.market(symbol)
            bad, trades, minutes = await compare(
                database, market, begun, ended, is_delisted=symbol in plan.delisted
            )
            if bad:
                print(f"{symbol}: {bad} rows are wrong or missing")
            wrong, rows, candles = wrong + bad, rows + trades, candles + minutes
    print(f"{rows:,} trades and {candles:,} candles compared, {wrong} wrong or missing")
    return wrong


async def compare(
    database: Database, market: Market, begun: int, ended: int, *, is_delisted: bool
) -> tuple[int, int, int]:
    stored = await StoredRows.read(database, market.symbol)
    rows = stored.trades
    first = rows[0][0] if rows else 1
    last_wanted = market.count_at(ended - 65 * _SECOND)
    last = rows[-1][0] if rows else 0
    wrong = 0 if is_delisted else max(0, last_wanted - last) + max(0, first - 1 - market.count_at(begun))
    until = datetime.fromtimestamp(market.stamp(max(last, 1)) // _SECOND + 1, UTC)
    truth = [trade for trade in market.truth_trades(until) if first <= (trade.id or 0) <= last]
    unlike = [(row, true) for row, true in zip(rows, truth, strict=False) if not same(row, true)]
    wrong += len(unlike)
    wrong += abs(len(rows) - len(truth))
    # Minutes that were recorded as a whole, and were over.
    begins = truth[0].timestamp if truth else datetime.min.replace(tzinfo=UTC)
    closed = datetime.fromtimestamp(ended // _SECOND, UTC) - timedelta(seconds=125)
    expected = [candle_row(one) for one in true_candles(truth) if begins <= one.timestamp < closed]
    found = [row for row in stored.candles if begins <= row[0] < closed]
    differing = set() if is_delisted else set(expected) ^ set(found)
    wrong += len(differing)
    for what in (*unlike[:1], *sorted(differing)[:2]):
        print(f"{market.symbol}: {what}")
    return wrong, len(rows), len(found)


if __name__ == "__main__":
    main()

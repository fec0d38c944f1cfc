"""All commands at work on one store while everything fails, as a seed says; in the end every row is compared.

A recording, two backfills, imports of archives, a gap filler, upkeep and readers run side by side, each as a
process that is started again when it ends. The exchange, its feed and its archives answer with faults; the
processes are killed and stopped, sessions are cut, the server is killed and restarted, clocks jump, and the
disk is full for a while (only a small one is filled: name it with TMPDIR). At the end all of it is calm, what
is missing is fetched, and trades, candles, coverage and counters are compared with the markets' truth. The
same seed does the same things at the same moments; what they meet is a matter of the machine.

Usage: scripts/storm --seed 7 --minutes 10
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import _bench as bench
from _disturbances import can_fill, cut_sessions, end_server, fill_disk
from _storm_exchange import StormPlan
from _truth import StoredRows, candle_row, same

from kraken_db.data_types import DataType
from kraken_db.db.embedded import EmbeddedServer
from kraken_db.db.engine import Database
from kraken_db.errors import KrakenDBError
from kraken_db.intervals import floor_to_interval
from kraken_db.repositories import CoverageRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.simulator.truth import true_candles

_WORKER = Path(__file__).with_name("_storm_worker.py")
_EXCHANGE = Path(__file__).with_name("_storm_exchange.py")
_INTERNAL_ERROR, _INTERRUPTED = 70, 130
# A signal in the first moments of Python itself leaves a traceback too, without a line of ours.
_BUG = re.compile(r'.*internal error.*|^Traceback .*\n(?:  .*\n)*?  File "[^"]*/kraken_db/.*', re.MULTILINE)
_FINAL_ATTEMPTS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--pause", type=float, default=5.0, help="at most so many seconds between two blows")
    options = parser.parse_args()
    # What is noted must be written while the disk of the store is full.
    with bench.server() as (server, folder), tempfile.TemporaryDirectory(dir="/var/tmp") as notes:
        storm = Storm(options.seed, 60 * options.minutes, options.pause, server, folder, Path(notes))
        sys.exit(asyncio.run(storm.run()))


@dataclass
class Worker:
    """A command that runs again and again."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    folder: Path
    endings: Counter[int] = field(default_factory=Counter)
    process: asyncio.subprocess.Process | None = None
    is_wanted: bool = True

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def reports(self) -> int:
        """How often a recorder has said how it stands."""
        return self.log.read_bytes().count(b"trades/s") if self.log.exists() else 0

    async def run(self, random: Random) -> None:
        """Until ``is_wanted`` is taken away and the process has ended."""
        while self.is_wanted:
            self.endings[await self.once()] += 1
            await asyncio.sleep(random.uniform(0.2, 3.0))

    async def once(self, *more: str) -> int:
        """Its exit code."""
        command = (sys.executable, str(_WORKER), str(self.folder / "offset"), *self.command, *more)
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *command, env=os.environ | self.environment, stdout=log, stderr=log
            )
            return await self.process.wait()

    def send(self, number: signal.Signals) -> bool:
        """Whether there was a process to get the signal."""
        if self.process is None or self.process.returncode is not None:
            return False
        with suppress(ProcessLookupError):
            self.process.send_signal(number)
        return True


@dataclass
class Storm:
    seed: int
    seconds: float
    pause: float
    server: EmbeddedServer
    folder: Path
    notes: Path
    """For logs, and for what sets the clocks."""
    done: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    workers: list[Worker] = field(default_factory=list)
    exchange: asyncio.subprocess.Process | None = None

    async def run(self) -> int:
        begun = datetime.now(UTC).replace(microsecond=0)
        plan = StormPlan(self.seed, begun.isoformat(), str(self.folder))
        self.exchange = await asyncio.create_subprocess_exec(
            sys.executable,
            str(_EXCHANGE),
            json.dumps(asdict(plan)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert self.exchange.stdout is not None
            line = (await self.exchange.stdout.readline()).decode()
            addresses = dict(part.split("=", 1) for part in line.split())
            self.workers = self.make_workers(plan, addresses)
            await self.blow()
            await self.settle(plan)
        finally:
            for worker in self.workers:
                worker.send(signal.SIGKILL)
            self.exchange.kill()
            await self.exchange.wait()
        return self.report()

    def make_workers(self, plan: StormPlan, addresses: dict[str, str]) -> list[Worker]:
        environment = addresses | {
            "DATABASE_URL": f"embedded://{self.folder}/store",
            "XDG_STATE_HOME": str(self.folder / "state"),
        }
        (self.notes / "offset").write_text("0")
        symbols = [market.symbol for market in plan.markets]
        archives = sorted(str(path) for path in Path(plan.folder, "archives").glob("Kraken_*_2*.zip"))
        commands: dict[str, Sequence[str]] = {
            "record": ("record", "--symbols", *symbols, "--rate-limit", "0", "--every", "10"),
            "backfill-1": ("backfill", "--symbols", *symbols, "--rate-limit", "0"),
            "backfill-2": ("backfill", "--symbols", *symbols, "--rate-limit", "0", "--source", "rest"),
            "import": ("import-csv", *archives),
            "gaps": ("gaps", "fill", "--stored", "--rate-limit", "0"),
            "maintain": ("db", "maintain"),
            "candles": ("candles", symbols[0], "--interval", "1h", "--last", "48"),
            "status": ("status",),
            "export": ("export", symbols[1], "--out", str(self.folder / "exported")),
        }
        return [Worker(name, words, environment, self.notes) for name, words in commands.items()]

    # --- while it blows ---

    async def blow(self) -> None:
        """Everything at once, for the time that was asked for."""
        running = [
            asyncio.create_task(worker.run(Random(f"{self.seed} {worker.name}"))) for worker in self.workers
        ]
        random = Random(f"storm {self.seed}")
        ends = self.began + self.seconds
        pending: list[asyncio.Task[None]] = []
        while (now := time.monotonic()) < ends:
            await asyncio.sleep(min(random.uniform(0.1, 1.0) * self.pause, ends - now))
            pending.append(asyncio.create_task(self.draw(random)()))
        await asyncio.gather(*pending)
        self.say("calm")
        await self.tell_exchange("online", "calm")
        (self.notes / "offset").write_text("0")
        for worker in self.workers:
            worker.is_wanted = False
            worker.send(signal.SIGCONT)
            if worker.name == "record":
                worker.send(signal.SIGINT)
        async with asyncio.timeout(600):
            await asyncio.gather(*running)

    def draw(self, random: Random) -> Callable[[], Coroutine[Any, Any, None]]:
        """What happens next; all that is random is drawn here, so that it is the same for a seed."""
        worker = random.choice(self.workers)
        seconds = random.uniform(0.2, 3.0) * self.pause
        offset = random.choice((-7200.0, -30.0, 30.0, 7200.0))
        number = random.choice((signal.SIGKILL, signal.SIGINT))
        kinds: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (8, partial(self.signal_worker, worker, signal.SIGKILL)),
            (3, partial(self.signal_worker, worker, signal.SIGINT)),
            (4, partial(self.stop_worker, worker, seconds)),
            (4, self.cut_sessions),
            (2, partial(self.end_server, number)),
            (2, partial(self.shift_clock, offset, seconds)),
            (3, partial(self.tell_exchange, "cut")),
            (1, partial(self.maintenance, seconds)),
            (1, partial(self.fill_disk, seconds)),
        ]
        return random.choices([do for _, do in kinds], [weight for weight, _ in kinds])[0]

    async def signal_worker(self, worker: Worker, number: signal.Signals) -> None:
        if worker.send(number):
            self.say(f"{number.name} to {worker.name}", number.name)

    async def stop_worker(self, worker: Worker, seconds: float) -> None:
        if not worker.send(signal.SIGSTOP):
            return
        self.say(f"{worker.name} stands still for {seconds:.0f} s", "SIGSTOP")
        await asyncio.sleep(seconds)
        worker.send(signal.SIGCONT)

    async def cut_sessions(self) -> None:
        with suppress(KrakenDBError):
            database = await Database.open(f"embedded://{self.folder}/store", pool_max_size=1)
            try:
                if await cut_sessions(database):
                    self.say("all sessions are cut", "sessions cut")
            finally:
                await database.close()

    async def end_server(self, number: signal.Signals) -> None:
        if end_server(self.server, number):
            self.say(f"{number.name} to the server", f"server {number.name}")

    async def shift_clock(self, offset: float, seconds: float) -> None:
        self.say(f"the clock is off by {offset:+.0f} s for {seconds:.0f} s", "clock shifted")
        (self.notes / "offset").write_text(str(offset))
        await asyncio.sleep(seconds)
        (self.notes / "offset").write_text("0")

    async def tell_exchange(self, *words: str) -> None:
        assert self.exchange is not None and self.exchange.stdin is not None
        for word in words:
            self.done[f"exchange {word}"] += 1
            self.exchange.stdin.write(f"{word}\n".encode())
        await self.exchange.stdin.drain()

    async def maintenance(self, seconds: float) -> None:
        self.say(f"the exchange is in maintenance for {seconds:.0f} s")
        await self.tell_exchange("maintenance")
        await asyncio.sleep(seconds)
        await self.tell_exchange("online")

    async def fill_disk(self, seconds: float) -> None:
        if can_fill(self.folder):
            self.say(f"the disk is full for {seconds:.0f} s", "disk full")
            await fill_disk(self.folder, seconds)

    # --- when it is over ---

    async def settle(self, plan: StormPlan) -> None:
        """Bring what is missing, then compare."""
        by_name = {worker.name: worker for worker in self.workers}
        until = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
        await self.succeed(by_name["backfill-1"], "--until", f"{until:%Y-%m-%dT%H:%M:%S}")
        await self.succeed(by_name["gaps"])
        await self.succeed(by_name["maintain"])
        await self.record_in_calm(by_name["record"])
        environment = by_name["status"].environment
        verify = Worker("verify", ("verify", "--rate-limit", "0"), environment, self.notes)
        await self.succeed(verify)
        check = Worker("check", ("status", "--check", "--max-lag", "never"), environment, self.notes)
        await self.succeed(check)
        database = await Database.open(f"embedded://{self.folder}/store", pool_max_size=1)
        try:
            for market in plan.markets:
                await self.compare(database, plan, market.symbol, until)
        finally:
            await database.close()

    async def succeed(self, worker: Worker, *more: str) -> None:
        """Run it until it succeeds: the exchange still has its faults."""
        for _ in range(_FINAL_ATTEMPTS):
            if (code := await worker.once(*more)) == 0:
                return
        self.wrong.append(f"{worker.name} ends with {code}, when all is calm: {_last_line(worker.log)}")

    async def record_in_calm(self, recorder: Worker) -> None:
        """Until it has reported once: that the last one was killed is told until another one has begun."""
        before = recorder.reports()
        recording = asyncio.create_task(recorder.once())
        while recorder.reports() == before and not recording.done():  # noqa: ASYNC110 (another process writes)
            await asyncio.sleep(0.5)
        recorder.send(signal.SIGINT)
        if (code := await recording) not in (0, _INTERRUPTED):
            self.wrong.append(f"record ends with {code}, when all is calm: {_last_line(recorder.log)}")

    async def compare(self, database: Database, plan: StormPlan, symbol: str, until: datetime) -> None:
        (market,) = (one for one in plan.markets if one.symbol == symbol)
        stored = await StoredRows.read(database, symbol)
        async with database.read() as connection:
            covered = {
                kind: await CoverageRepository(connection).covered(symbol, kind)
                for kind in (DataType.TRADES, DataType.CANDLES_1M)
            }
            rows = {kind: await SyncStatusRepository(connection).get(symbol, kind) for kind in covered}
        truth = list(market.truth_trades(until))
        known = {row[0]: row for row in stored.trades}
        missing = [one.id for one in truth if one.id not in known]
        other = [one.id for one in truth if one.id in known and not same(known[one.id], one)]
        twice = len(stored.trades) - len(known)
        closed = floor_to_interval(until, 1)
        expected = {candle_row(one) for one in true_candles(truth) if one.timestamp < closed}
        candles = {row for row in stored.candles if row[0] < closed}
        print(
            f"{symbol:<8} {len(stored.trades):,} trades, {len(candles):,} candles:"
            f" {len(missing)} missing, {len(other)} other, {twice} twice,"
            f" {len(expected ^ candles)} candles differ"
        )
        if missing or other or twice:
            self.wrong.append(f"{symbol}: {missing[:3]} missing, {other[:3]} other, {twice} twice")
        if expected != candles:
            self.wrong.append(f"{symbol}: candles differ: {sorted(expected ^ candles)[:2]}")
        for kind, ranges in covered.items():
            reach = closed if kind == DataType.CANDLES_1M else until
            begin, end = ranges[0] if len(ranges) == 1 else (until, until)
            if begin > truth[0].timestamp or end < reach - timedelta(minutes=1):
                shown = ", ".join(f"{start} .. {end}" for start, end in ranges)
                self.wrong.append(f"{symbol} {kind}: covered are {shown}")
        for kind, there in ((DataType.TRADES, stored.trades), (DataType.CANDLES_1M, stored.candles)):
            row = rows[kind]
            if row is None or row.total_records != len(there):
                self.wrong.append(f"{symbol} {kind}: {row} is counted, {len(there)} are stored")

    def report(self) -> int:
        for worker in self.workers:
            log = worker.log.read_text(errors="replace") if worker.log.exists() else ""
            bugs = _BUG.findall(log)
            if bugs or worker.endings[_INTERNAL_ERROR]:
                self.wrong.append(f"{worker.name}: internal errors: {bugs[:2]}")
        print("what was done:", ", ".join(f"{what} {times}" for what, times in sorted(self.done.items())))
        for worker in self.workers:
            endings = ", ".join(f"{code}: {times}" for code, times in sorted(worker.endings.items()))
            print(f"{worker.name:<11} ended with {endings}")
        for line in self.wrong:
            print(f"WRONG: {line}")
        if self.wrong:
            kept = Path(f"storm-{self.seed}-logs")
            shutil.copytree(self.notes, kept, dirs_exist_ok=True)
            print(f"the logs are in {kept}")
        print(f"seed {self.seed}: {'NOT EXACT' if self.wrong else 'exact'}")
        return 1 if self.wrong else 0

    def say(self, what: str, kind: str | None = None) -> None:
        if kind is not None:
            self.done[kind] += 1
        print(f"{time.monotonic() - self.began:6.1f} s  {what}", flush=True)


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return lines[-1] if lines else ""


if __name__ == "__main__":
    main()

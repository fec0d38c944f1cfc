"""The exchange of the storm, as a process: ``_storm_exchange.py PLAN`` serves what the plan (JSON) says.

It prints the lines that lead commands to it. Lines on its standard input change it: ``cut`` ends the
connections of the feed, ``maintenance`` and ``online`` set its state, ``calm`` ends all faults of the feed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from random import Random

from kraken_db.simulator import (
    Fault,
    Faults,
    FeedFaults,
    Market,
    Quarter,
    Scenario,
    SimulatedExchange,
    archive_url,
    feed_url,
)
from kraken_db.simulator.archive_faults import PASSING_ARCHIVE_FAULTS, ArchiveFaults
from kraken_db.simulator.archive_folder import fill_archive_folder

_KINDS = (
    Fault.UNAVAILABLE,
    Fault.HTTP_5XX,
    Fault.RESET,
    Fault.TRUNCATED,
    Fault.TOO_MANY_REQUESTS,
    Fault.BUSY,
    Fault.CLOUDFLARE,
    Fault.REPEATED_PAGE,
    Fault.OUT_OF_ORDER,
)
DAYS = 200
"""Of history, most of it in archives."""


@dataclass(frozen=True)
class StormPlan:
    """``begun``: when it began, ISO 8601; with ``seed`` it says everything about the markets."""

    seed: int
    begun: str
    folder: str

    @property
    def began_at(self) -> datetime:
        return datetime.fromisoformat(self.begun)

    @cached_property
    def markets(self) -> list[Market]:
        """Four pairs, of 14,000 down to 900 trades a hundred days; from the beginning on more."""
        random = Random(f"markets {self.seed}")
        return [
            Market(
                symbol,
                seed=self.seed,
                start=self.began_at - timedelta(days=DAYS - random.randrange(20)),
                scenario=Scenario.SAME_STAMPS,
                earlier_trades_per_minute=pace,
                pace_since=self.began_at,
                trades_per_minute=random.choice((30, 120, 300)),
            )
            for symbol, pace in zip(
                ("BTC/USD", "ETH/USD", "XRP/EUR", "DOT/USD"), (0.1, 0.05, 0.02, 0.006), strict=True
            )
        ]

    def exchange(self) -> SimulatedExchange:
        random = Random(f"faults {self.seed}")
        last = Quarter.of(self.began_at).previous
        archives = Path(self.folder, "archives")
        archives.mkdir()
        fill_archive_folder(archives, self.markets, last.previous, last, made_from=str(self.seed))
        rest = {kind: random.uniform(0.0, 0.02) for kind in _KINDS}
        feed = FeedFaults(
            cut=random.choice((300, 1_000, 5_000)),
            lost=random.uniform(0, 0.02),
            silence=random.uniform(0, 0.001),
            mute=random.uniform(0, 0.001),
            refused=random.uniform(0, 0.1),
            burst=random.uniform(0, 0.005),
            duplicates=random.choice((0, 5, 50)),
            answers_only=random.uniform(0, 0.1),
            no_heartbeats=random.uniform(0, 0.1),
            no_snapshot=random.uniform(0, 0.05),
        )
        files = {kind: random.uniform(0.0, 0.05) for kind in PASSING_ARCHIVE_FAULTS}
        return SimulatedExchange(
            self.markets,
            Faults(rest, self.seed, in_a_row=3),
            feed_faults=feed,
            archives=archives,
            archive_faults=ArchiveFaults(rates=files, seed=self.seed, stall_seconds=5.0),
        )


async def serve(plan: StormPlan) -> None:
    exchange = plan.exchange()
    async with exchange.serve() as base_url:
        print(
            f"KRAKEN_BASE_URL={base_url} KRAKEN_WS_URL={feed_url(base_url)}"
            f" KRAKEN_ARCHIVE_URL={archive_url(base_url)}",
            flush=True,
        )
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        while line := (await reader.readline()).decode().strip():
            match line:
                case "cut":
                    exchange.feed.cut_all()
                case "maintenance" | "online":
                    exchange.feed.announce(line)
                case "calm":
                    exchange.feed.set_faults(FeedFaults())
                    exchange.feed.cut_all()


if __name__ == "__main__":
    asyncio.run(serve(StormPlan(**json.loads(sys.argv[1]))))

"""The exchange of the soak: many markets, faults of every kind, and a process of its own to serve them.

``python _soak_exchange.py PLAN`` serves what the plan (JSON) says, prints its address, and writes what has
happened so far into the plan's ``counts`` file, every half second. A line ``calm`` on its standard input ends
all faults, and has it write beside that how many trades of each pair there are by then.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kraken_db.simulator import Fault, Faults, FeedFaults, Market, Scenario, SimulatedExchange, Surge

PASSING = (Fault.UNAVAILABLE, Fault.HTTP_5XX, Fault.RESET, Fault.TRUNCATED, Fault.TOO_MANY_REQUESTS)
REFUSING = (Fault.LOCKOUT, Fault.INVALID_ARGUMENTS)
_SECOND = 1_000_000_000


@dataclass(frozen=True)
class SoakPlan:
    """What the exchange is, and what happens on it; moments are ns since 1970."""

    pairs: int
    per_second: float
    start: int
    burst_at: int
    burst_until: int
    burst_factor: int
    listings_at: int
    """When two pairs are delisted and two others listed."""
    counts: str
    has_faults: bool = True
    seed: str = "soak"

    @property
    def symbols(self) -> list[str]:
        return [f"C{number:04d}/USD" for number in range(1, self.pairs + 1)]

    @property
    def happened(self) -> Path:
        return Path(self.counts).with_name("happened.json")

    @property
    def delisted(self) -> list[str]:
        return self.symbols[-2:]

    def market(self, symbol: str) -> Market:
        """The first pair trades most, and the n-th about an n-th of it."""
        rank = int(symbol[1:5])
        weights = sum(1 / (other + 2) for other in range(1, self.pairs + 1))
        rate = self.per_second / weights / (rank + 2)
        return Market(
            symbol,
            seed=self.seed,
            start=datetime.fromtimestamp(self.start // _SECOND, UTC),
            trades_per_minute=60 * rate,
            scenario=Scenario.SAME_STAMPS,
            surges=[Surge(self.burst_at, self.burst_until, self.burst_factor)],
        )

    @property
    def new_symbols(self) -> list[str]:
        return [f"C{number}/USD" for number in (9001, 9002)]

    def new_market(self, symbol: str) -> Market:
        start = datetime.fromtimestamp(self.listings_at // _SECOND, UTC)
        return Market(
            symbol, seed=self.seed, start=start, trades_per_minute=60, scenario=Scenario.SAME_STAMPS
        )

    @property
    def feed_faults(self) -> FeedFaults:
        if not self.has_faults:
            return FeedFaults()
        return FeedFaults(
            cut=50_000,
            lost=0.0005,
            silence=0.00002,
            mute=0.0002,
            refused=0.02,
            burst=0.0005,
            duplicates=5,
            answers_only=0.15,
            no_heartbeats=0.1,
            no_snapshot=0.002,
            msg_rate=4.0,
        )

    @property
    def rest_faults(self) -> Faults:
        if not self.has_faults:
            return Faults()
        rates = dict.fromkeys(PASSING, 0.01) | {Fault.INVALID_ARGUMENTS: 0.02}
        return Faults(rates, self.seed, in_a_row=3)


async def serve(plan: SoakPlan) -> None:
    markets = [plan.market(symbol) for symbol in plan.symbols]
    exchange = SimulatedExchange(markets, plan.rest_faults, feed_faults=plan.feed_faults)
    async with exchange.serve() as base_url:
        print(base_url, flush=True)
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
        )
        tasks = [
            asyncio.create_task(work)
            for work in (
                _count(exchange, Path(plan.counts)),
                _relist(exchange, plan),
                _obey(exchange, reader, plan),
            )
        ]
        await asyncio.gather(*tasks)


async def _count(exchange: SimulatedExchange, path: Path) -> None:
    while True:
        counts: dict[str, Any] = asdict(exchange.feed.counts)
        counts["requests"] = len(exchange.requests)
        counts["trades_requests"] = sum(request.path.endswith("Trades") for request in exchange.requests)
        _write(path, counts)
        await asyncio.sleep(0.5)


async def _relist(exchange: SimulatedExchange, plan: SoakPlan) -> None:
    await asyncio.sleep(max(0.0, (plan.listings_at - time.time_ns()) / _SECOND))
    for symbol in plan.delisted:
        exchange.delist(symbol)
    for symbol in plan.new_symbols:
        exchange.list_market(plan.new_market(symbol))


async def _obey(exchange: SimulatedExchange, reader: asyncio.StreamReader, plan: SoakPlan) -> None:
    while line := await reader.readline():
        if line.strip() == b"calm":
            exchange.feed.set_faults(replace(FeedFaults(), msg_rate=4.0))
            exchange.feed.cut_all()
            there = exchange.feed.sent
            _write(plan.happened, {symbol: there[symbol] for symbol in there if symbol not in plan.delisted})


def _write(path: Path, document: Any) -> None:
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(document))
    draft.replace(path)


if __name__ == "__main__":
    asyncio.run(serve(SoakPlan(**json.loads(sys.argv[1]))))

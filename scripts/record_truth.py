"""Record a simulated market through cuts, lost frames and silences, and compare the tables with its truth.

Row by row: every trade once, in its order, with its content; every candle. Then ``verify`` looks at it too.
The exchange's clock runs twenty times as fast as ours, so that there are many minutes. Prints what it cost.
Usage, in the virtual environment that scripts/test makes:

    .venv/bin/python scripts/record_truth.py --trades 200000
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import _bench as bench
from _truth import StoredRows, candle_row, same

from kraken_db.db.engine import Database
from kraken_db.historical_backfill import KrakenTradesBackfill
from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.kraken.websocket import KrakenWebSocketClient
from kraken_db.kraken.websocket_pace import ReconnectLimits
from kraken_db.kraken.websocket_subscriptions import Watch
from kraken_db.recorder import Recorder
from kraken_db.repositories import CoverageRepository
from kraken_db.simulator import FastClock, FeedFaults, Market, Scenario, SimulatedExchange, feed_url
from kraken_db.simulator.truth import true_candles
from kraken_db.verification import StoreVerifier

START = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
SPEED = 20.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trades", type=int, default=200_000, help="of both pairs together")
    parser.add_argument("--per-second", type=float, default=2_500, help="of both pairs together")
    parser.add_argument("--cut", type=int, default=400, help="trades between two cuts of the connection")
    parser.add_argument("--seed", default="1")
    options = parser.parse_args()
    logging.getLogger("kraken_db").setLevel(logging.ERROR)  # every cut would be told
    with bench.server() as (_, folder):
        sys.exit(asyncio.run(run(options, folder)))


async def run(options: argparse.Namespace, folder: Path) -> int:
    url = f"embedded://{folder}/store"
    clock = FastClock(START + timedelta(minutes=1), SPEED)
    pace = 60 * options.per_second / 2 / SPEED
    markets = [
        Market(
            symbol,
            seed=options.seed,
            start=START,
            trades=options.trades // 2,
            trades_per_minute=pace,
            scenario=Scenario.SAME_STAMPS,
        )
        for symbol in ("BTC/USD", "ETH/USD")
    ]
    faults = FeedFaults(
        cut=options.cut, lost=0.01, silence=0.001, mute=0.001, refused=0.02, burst=0.001, duplicates=5
    )
    exchange = SimulatedExchange(markets, clock=clock, feed_faults=faults)
    async with exchange.serve() as base_url:
        client = KrakenRestClient(base_url, rate_limit_delay=0, limiter=RateLimiter(), backoff=0.05)
        async with KrakenTradesBackfill(url, client=client, clock=clock.now) as backfill:
            await backfill.backfill(
                [one.symbol for one in markets], end_timestamp=START + timedelta(seconds=30)
            )
        feed = KrakenWebSocketClient(
            feed_url(base_url),
            limits=ReconnectLimits(at_once=10**9, most=10**9),
            watch=Watch(quiet_after=1.0, refused_again_after=0.2, ping_after=0.5, dead_after=1.0),
            now=clock.now,
        )
        symbols = [one.symbol for one in markets]
        recorder = Recorder(
            url,
            symbols,
            client=client,
            feed=feed,
            clock=clock.now,
            grace=SPEED,
            flush_interval=0.2,
            journal_dir=folder / "journal",
        )
        began = time.monotonic()
        async with recorder:
            running = asyncio.create_task(recorder.run())
            await recorded(recorder, markets, clock)
            took = time.monotonic() - began
            recorder.request_stop()
            status = await running
        print(f"recorded for {took:.0f} s: {exchange.feed.counts}")
        print(
            f"{status.received:,} trades through the feed, {status.repaired:,} repaired, "
            f"{sum(pair.caught_up for pair in status.pairs):,} of the time before; "
            f"{sum(pair.holes for pair in status.pairs)} holes, {status.reconnects} reconnects"
        )
        wrong = sum([await compare(url, one) for one in markets])
        async with StoreVerifier(url, client=client, clock=clock.now) as verifier:
            for certificate in await verifier.verify(all_trades=True):
                wrong += not certificate.is_clean
                print(f"verify {certificate.symbol}: {'clean' if certificate.is_clean else 'NOT CLEAN'}")
                for finding in certificate.findings[:10]:
                    print(f"  {finding}")
    return 1 if wrong else 0


async def recorded(recorder: Recorder, markets: list[Market], clock: FastClock) -> None:
    """Until every trade has come, and the last minute is closed."""
    shown = 0.0
    ends = max(one.stamp((one.size or 1) - 1) for one in markets) + (90 * 10**9)
    while True:
        await asyncio.sleep(0.2)
        status = recorder.status()
        if time.monotonic() - shown > 5:
            shown = time.monotonic()
            print(f"{clock.now():%H:%M:%S} {[(pair.state, pair.last_id) for pair in status.pairs]}")
        last = {pair.symbol: pair.last_id for pair in status.pairs}
        if clock() > ends and all(last[one.symbol] == one.size for one in markets):
            return


async def compare(url: str, market: Market) -> int:
    """How many rows are not as the truth has them."""
    truth = list(market.truth_trades())
    database = await Database.open(url)
    try:
        stored = await StoredRows.read(database, market.symbol)
        async with database.read() as connection:
            coverage = await CoverageRepository(connection).covered(market.symbol, "trades")
    finally:
        await database.close()
    rows, candles = stored.trades, stored.candles
    wrong = sum(not same(row, true) for row, true in zip(rows, truth, strict=False))
    wrong += abs(len(rows) - len(truth))
    expected = [candle_row(one) for one in true_candles(truth)]
    wrong_candles = sum(row != true for row, true in zip(candles, expected, strict=False))
    wrong_candles += abs(len(candles) - len(expected))
    print(
        f"{market.symbol}: {len(rows):,} rows of {len(truth):,} trades, {wrong} wrong;"
        f" {len(candles)} of {len(expected)} candles, {wrong_candles} wrong;"
        f" covered: {', '.join(f'{start} .. {end}' for start, end in coverage)}"
    )
    return wrong + wrong_candles + (len(coverage) != 1)


if __name__ == "__main__":
    main()

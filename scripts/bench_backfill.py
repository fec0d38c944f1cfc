"""The backfill against a simulated exchange: how fast it is, and how close to the exchange's own limit.

The exchange is a process of its own. Throughput is measured on whole processes, from start to end, beside
``psql \\copy`` of the same trades in table layout. What the delay of the exchange costs is measured on the
service itself: the run must take what its pages take, and several pairs no longer than the slowest of them.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import _bench as bench

from kraken_db import KrakenTradesBackfill
from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.messages import TradesPage
from kraken_db.kraken.rest import MAX_COUNT, KrakenRestClient

PAIRS = ("BTC/USDT", "ETH/USDT", "XRP/USDT", "SOL/USDT")
COMMAND = str(Path(sys.executable).with_name("kraken-db"))
DELAY = 0.05


def main() -> None:
    quick = {"trades": 20_000, "memory_trades": 0, "repeats": 1}
    # memory_trades: of the memory test; 0 leaves it out.
    parser = bench.options(__doc__, quick=quick, trades=200_000, memory_trades=2_000_000, repeats=3)
    options, _ = parser.parse_known_args()
    bench.print_machine()
    with bench.server() as (server, folder):
        url = server.url()
        bench.run([COMMAND, "db", "upgrade", "--db-url", url], {})
        figures = measure_throughput(url, folder, options.trades, options.repeats)
        figures |= measure_delay(url, options.trades)
        if options.memory_trades:
            figures |= measure_memory(url, options.memory_trades)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def measure_throughput(url: str, folder: Path, trades: int, repeats: int) -> dict[str, float]:
    layout = folder / "trades.tsv"
    bench.say(f"downloading {trades:,} trades without a delay, {repeats} rounds ...")
    with exchange(trades, PAIRS[:1]) as address:
        backfill(url, address)
        bench.sql(
            url,
            f"\\copy (SELECT * FROM trades ORDER BY id) TO '{layout}'",
            "CREATE TABLE copied_trades (LIKE trades INCLUDING ALL)",
        )

        def download() -> bench.Cost:
            clear(url)
            return backfill(url, address)

        def copy() -> bench.Cost:
            bench.sql(url, "TRUNCATE copied_trades")
            return bench.run(
                [bench.psql(), "-Xq", "-d", url, "-c", f"\\copy copied_trades FROM '{layout}'"], {}
            )

        copied, downloaded = bench.repeat(repeats, copy, download)
    bench.sql(url, f"SELECT 1 / (count(*) = {trades})::int FROM trades")
    seconds, peak = bench.median(downloaded), max(cost.peak for cost in downloaded)
    print(f"{trades:,} trades of one pair, no delay, with candles, median of {repeats} (min .. max)")
    print(f"  psql \\copy, table layout    {bench.median(copied):7.2f} s  ({bench.spread(copied)})")
    print(
        f"  kraken-db backfill          {seconds:7.2f} s  ({bench.spread(downloaded)})"
        f"  {trades / seconds:,.0f} trades/s, ratio {seconds / bench.median(copied):.2f}, peak {peak:.0f} MiB"
    )
    return {
        "trades_per_second": trades / seconds,
        "copy_ratio": seconds / bench.median(copied),
        "peak_mib": peak,
    }


def measure_delay(url: str, trades: int) -> dict[str, float]:
    bench.say(f"downloading with {DELAY * 1000:.0f} ms a page, one pair and then four ...")
    with exchange(trades, PAIRS, "--delay", str(DELAY * 1000)) as address:
        alone = {}
        for pair in PAIRS:
            clear(url)
            alone[pair] = asyncio.run(run(url, address, [pair]))
        clear(url)
        together, _ = asyncio.run(run(url, address, PAIRS))
    over = max(seconds / (pages * DELAY) for seconds, pages in alone.values())
    slowest = max(seconds for seconds, _ in alone.values())
    pages = alone[PAIRS[0]][1]
    print(f"{trades:,} trades a pair, {DELAY * 1000:.0f} ms a page ({pages} pages for {PAIRS[0]})")
    print(f"  one pair / (pages x delay)   {over:.3f} (the worst of {len(PAIRS)})")
    side_by_side = together / slowest
    print(
        f"  {len(PAIRS)} pairs / the slowest alone  {side_by_side:.2f}  ({together:.2f} s / {slowest:.2f} s)"
    )
    return {"delay_ratio": over, "side_by_side_ratio": side_by_side}


def measure_memory(url: str, trades: int) -> dict[str, float]:
    bench.say(f"downloading {trades:,} trades ...")
    clear(url)
    with exchange(trades, PAIRS[:1]) as address:
        cost = backfill(url, address)
    print(f"{trades:,} trades: {trades / cost.seconds:,.0f} trades/s, peak {cost.peak:.0f} MiB")
    return {"peak_mib_large": cost.peak}


class CountingClient(KrakenRestClient):
    """Counts the answers to Trades, by pair."""

    def __init__(self, address: str) -> None:
        super().__init__(address, rate_limit_delay=0, limiter=RateLimiter())
        self.pages: Counter[str] = Counter()

    async def trades_page(self, pair: str, since: int | None = None, *, count: int = MAX_COUNT) -> TradesPage:
        page = await super().trades_page(pair, since, count=count)
        if since is not None:  # not the question for the newest trade, which is asked beside the others
            self.pages[pair] += 1
        return page


async def run(url: str, address: str, pairs: Sequence[str]) -> tuple[float, int]:
    """Seconds of a download, and the pages of its longest pair, the empty ones at its end included."""
    client = CountingClient(address)
    async with KrakenTradesBackfill(url, client=client) as service:
        began = time.perf_counter()
        reports = await service.backfill(pairs)
        seconds = time.perf_counter() - began
    if failed := [report.error for report in reports if report.error]:
        raise SystemExit(f"the download failed: {failed[0]}")
    return seconds, max(client.pages.values())


def backfill(url: str, address: str) -> bench.Cost:
    command = [COMMAND, "backfill", "--symbols", PAIRS[0], "--rate-limit", "0", "--db-url", url]
    return bench.run(command, {"KRAKEN_BASE_URL": address})


@contextmanager
def exchange(trades: int, pairs: Sequence[str], *options: str) -> Iterator[str]:
    """A simulated exchange as a process; gives its address."""
    command = [COMMAND, "simulate", "--port", "0", "--trades", str(trades), *options, "--pairs", *pairs]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().partition("=")[2].strip()
    finally:
        process.terminate()
        process.wait()


def clear(url: str) -> None:
    tables = "trades, candles, data_sync_status, data_coverage, pending_refresh, unproven_ranges"
    bench.sql(url, f"TRUNCATE {tables}")
    bench.sql(url.replace("//kraken@", "//postgres@"), "CHECKPOINT")


if __name__ == "__main__":
    main()

"""``kraken-db serve`` on a large store: the overview of all pairs of Kraken, and candles of ten years.

1,635 pairs with counters, coverage, a newest trade and the hours of the last two days, and one pair with five
million minutes, all made in the embedded server by SQL; hours and more are rolled up as a refresh does it.
Times are those of a client, over HTTP: the first answer, and the median of the following ones. Where there is
a Chromium, it opens the pages: their first paint, a step of zoom until everything it asked for is drawn, and
a trade from its first moment until its price is on the page.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _bench as bench
import aiohttp

from kraken_db import DatabaseWriter, TradeRecord
from kraken_db.recorder.recorder import FLUSH_INTERVAL
from kraken_db.store import Store
from kraken_db.web.app import ServeOptions, serving

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support import browsers

if TYPE_CHECKING:
    from playwright.async_api import Page

SYMBOLS = "(SELECT 'P' || n || '/USD' AS s FROM generate_series(1, {pairs}) n) pairs"
CALLS = {
    "overview": ("/api/v1/overview", {}),
    "candles, ten years in 1,500 points": ("/api/v1/candles", {"points": "1500", "numbers": "float"}),
    "candles, a year in 1,500 points": (
        "/api/v1/candles",
        {"points": "1500", "numbers": "float", "start": "1y"},
    ),
    "candles, a day in 1,500 points": (
        "/api/v1/candles",
        {"points": "1500", "numbers": "float", "start": "1d"},
    ),
    "stretches": ("/api/v1/stretches", {}),
    "calendar": ("/api/v1/calendar", {}),
}
STEPS = 12
# What a page still waits for, and whether it has drawn since.
WATCH = """
    window.waiting = 0;
    const ask = window.fetch;
    window.fetch = async (...of) => {
      const isLong = String(of[0]).includes("/events");
      if (!isLong) window.waiting += 1;
      try { return await ask(...of); } finally { if (!isLong) window.waiting -= 1; }
    };
    window.settled = async () => {
      const frame = () => new Promise((done) => requestAnimationFrame(done));
      do { await frame(); await frame(); } while (window.waiting);
    };
"""
ZOOM = """async (name) => {
    const begun = performance.now();
    document.getElementById(name).click();
    await window.settled();
    return performance.now() - begun;
}"""


def main() -> None:
    quick = {"pairs": 50, "minutes": 100_000, "repeats": 3}
    parser = bench.options(__doc__, quick=quick, pairs=1_635, minutes=5_000_000, repeats=10)
    options, _ = parser.parse_known_args()
    bench.print_machine()
    with bench.server() as (server, _folder):
        url = server.url()
        bench.run([sys.executable, "-m", "kraken_db", "db", "upgrade", "--db-url", url], {})
        bench.say(f"filling a store: {options.pairs:,} pairs, {options.minutes:,} minutes of one ...")
        fill(url, options.pairs, options.minutes)
        figures = asyncio.run(measure(url, options.repeats))
        if browsers.find() is not None:
            figures |= asyncio.run(measure_pages(url, options.repeats))
    print(f"{options.pairs:,} pairs, {options.minutes:,} minutes of one of them")
    for name, (first, median) in figures.items():
        print(f"  {name:<38} {first:8.1f} ms at first, {median:8.1f} ms")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def fill(url: str, pairs: int, minutes: int) -> None:
    """The minutes are those before now, of P1/USD; all others have two days of hours."""
    symbols = SYMBOLS.format(pairs=pairs)
    first = f"date_trunc('minute', now()) - {minutes} * interval '1 minute'"
    hours = "generate_series(date_trunc('hour', now()) - interval '2 days', now(), interval '1 hour') h"
    kinds = "unnest('{trades,candles_1m}'::text[]) k"
    bench.sql(
        url,
        "ALTER TABLE candles DISABLE TRIGGER USER",
        "INSERT INTO candles SELECT 'P1/USD', m, 1, 100, 101, 99, 100, 1, 100, 6, 100"
        f" FROM generate_series({first}, now() - interval '1 minute', interval '1 minute') m",
        f"INSERT INTO candles SELECT s, h, 1, 100, 101, 99, 100, 1, 100, 6, 100 FROM {symbols}, {hours}"
        " WHERE s <> 'P1/USD'",
        "ALTER TABLE candles ENABLE TRIGGER USER",
        "INSERT INTO trades SELECT 1, s, now() - interval '1 second', 100.25, 1, 'buy', 'limit', ''"
        f" FROM {symbols}",
        "INSERT INTO data_sync_status SELECT s, k, now() - interval '9 years', CASE k WHEN 'trades' THEN"
        " now() - interval '1 second' ELSE date_trunc('minute', now()) - interval '1 minute' END, now(),"
        f" NULL, 5000000 FROM {symbols}, {kinds}",
        "INSERT INTO data_coverage SELECT s, k, 'rest_trades', (SELECT range_agg(tstzrange("
        "now() - n * interval '300 days', now() - n * interval '300 days' + interval '299 days'))"
        f" FROM generate_series(1, 10) n) FROM {symbols}, {kinds}",
        "INSERT INTO pending_refresh (symbol, stale)"
        " SELECT symbol, tstzrange(min(timestamp), max(timestamp) + interval '1 minute')"
        " FROM candles WHERE symbol = 'P1/USD' GROUP BY symbol",
        "INSERT INTO rolled_candles (symbol, interval_minutes, timestamp, open, high, low, close, volume,"
        " quote_volume, trade_count, vwap) SELECT symbol, 60, timestamp, open, high, low, close, volume,"
        " quote_volume, trade_count, vwap FROM candles WHERE symbol <> 'P1/USD'",
        "ANALYZE",
    )
    asyncio.run(roll_up(url))


async def roll_up(url: str) -> None:
    store = await Store.open(url)
    try:
        await store.refresh_pending()
    finally:
        await store.close()


async def measure(url: str, repeats: int) -> dict[str, tuple[float, float]]:
    """Milliseconds of the first answer, and the median of the following ones."""
    found: dict[str, tuple[float, float]] = {}
    options = ServeOptions(port=0)
    async with serving(url, options) as base, aiohttp.ClientSession() as session:
        for name, (path, query) in CALLS.items():
            asked: dict[str, Any] = {} if "overview" in path else {"symbol": "P1/USD"} | query
            times = []
            for _ in range(repeats + 1):
                began = time.perf_counter()
                async with session.get(base.rstrip("/") + path, params=asked) as response:
                    body = await response.read()
                    assert response.status == 200, body
                times.append((time.perf_counter() - began) * 1000)
                if "overview" in path:
                    await asyncio.sleep(1.1)  # what was read a second ago would be shown again
            found[name] = times[0], statistics.median(times[1:])
    return found


async def measure_pages(url: str, repeats: int) -> dict[str, tuple[float, float]]:
    """The same of what somebody sees in a browser."""
    found: dict[str, tuple[float, float]] = {}

    def note(name: str, times: list[float]) -> None:
        found[name] = times[0], statistics.median(times[1:])

    async with (
        serving(url, ServeOptions(port=0)) as base,
        browsers.chromium() as browser,
        browsers.visiting(browser, base.rstrip("/"), viewport={"width": 1440, "height": 900}) as visit,
    ):
        await visit.page.add_init_script(WATCH)
        for name, path, selector in (
            ("overview", "/", "#rows .pair-row"),
            ("pair", "/pair/P1-USD", "#live[data-state=live]"),
        ):
            paints, whole = [], []
            for _ in range(repeats + 1):
                began = time.perf_counter()
                page = await visit.ready(path, selector)
                whole.append((time.perf_counter() - began) * 1000)
                paints.append(await first_paint(page))
            note(f"{name}: first paint", paints)
            note(f"{name}: all of it", whole)
        await page.keyboard.press("7")
        await page.evaluate("window.settled()")
        steps = [await page.evaluate(ZOOM, "zoom-in") for _ in range(STEPS)]
        note("zoom in, a step", steps)
        note("zoom out, a step", [await page.evaluate(ZOOM, "zoom-out") for _ in range(STEPS)])
        note("a trade, until it is on the page", await trades(url, page, repeats))
    return found


async def first_paint(page: Page) -> float:
    found = await page.wait_for_function(
        "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
    )
    return float(await found.json_value())


async def trades(url: str, page: Page, repeats: int) -> list[float]:
    """As a recording stores them, one after the other."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder)
        async with DatabaseWriter(url, journal_dir=journal, trade_flush_interval=FLUSH_INTERVAL) as writer:
            for number in range(repeats + 1):
                price = Decimal(41_000 + number)
                trade = TradeRecord(
                    "P1/USD", datetime.now(UTC), price, Decimal("0.5"), "buy", 5_000 + number, "limit"
                )
                began = time.perf_counter()
                await writer.write_trade(trade)
                await page.wait_for_function(
                    "text => document.getElementById('price').textContent === text", arg=f"{price:,}"
                )
                times.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(0.13)  # so that they fall on all parts of a second
    return times


if __name__ == "__main__":
    main()

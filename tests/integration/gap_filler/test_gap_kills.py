"""A gap filler that is killed half way: run again it finishes, and nothing shows of it.

``KRAKEN_DB_TEST_SEED`` chooses other moments.
"""

from __future__ import annotations

import asyncio
import os
import signal
from datetime import UTC, datetime, timedelta
from random import Random

from kraken_db.kraken.page_walk import to_cursor
from kraken_db.simulator import Market, Scenario, SimulatedExchange
from tests.support.archives import query
from tests.support.downloading import download_one, floor
from tests.support.gap_filling import DAY, HOUR, assert_filled
from tests.support.processes import backfilling, ended, requests_reach, run_backfill
from tests.support.shell import forked

SEED = os.environ.get("KRAKEN_DB_TEST_SEED", "0")


async def test_kills(plain_url: str) -> None:
    """Two gaps by trades and one by candles, and a kill after each few requests."""
    random = Random(SEED)
    start = floor(datetime.now(UTC)) - 6 * DAY
    market = Market("BTC/USD", seed=9, start=start, scenario=Scenario.CALM, trades_per_minute=3)
    for begin, end in ((0, 1), (3, 4), (5.4, 5.6)):
        since = to_cursor(start + begin * DAY) if begin else 0
        await download_one(plain_url, market, since=since, end_timestamp=start + end * DAY)
    exchange = SimulatedExchange([market], delay=0.03)
    arguments = ("gaps", "fill", "--symbols", "BTC/USD", "--rate-limit", "0")
    async with exchange.serve() as base_url:
        environment = {"DATABASE_URL": plain_url, "KRAKEN_BASE_URL": base_url}
        for _ in range(6):
            exchange.requests.clear()
            async with backfilling(*arguments, environment=environment, program=forked()) as process:
                await requests_reach(exchange, 1 + random.randrange(4), process)
                await asyncio.sleep(random.random() * exchange.delay)
                if process.returncode is None:
                    process.send_signal(signal.SIGKILL)
                await ended(process)
        exchange.delay = 0.0
        last = await run_backfill(*arguments, environment=environment, program=forked())
        assert last.code == 0, last.err
        exchange.requests.clear()
        again = await run_backfill(*arguments, "--min-gap", "30", environment=environment, program=forked())
        assert (again.code, list(exchange.requests)) == (0, []), again.out + again.err
    by_candles = await query(
        plain_url,
        "SELECT lower(r), upper(r) FROM data_coverage, unnest(covered) r WHERE source = 'rest_ohlc'",
    )
    assert by_candles and all(floor(datetime.now(UTC)) - begin < 13 * HOUR for begin, _ in by_candles)
    until = max(end for _, end in by_candles)
    assert floor(datetime.now(UTC)) - until < timedelta(minutes=10)
    await assert_filled(plain_url, market, until, by_candles=by_candles)
    stale = await query(plain_url, "SELECT count(*) FROM pending_refresh WHERE refreshed_at IS NULL")
    assert stale == [(0,)]

"""An archive, a part of a download, live trades and the gap filler, in any order: the same tables in the end.

``KRAKEN_DB_TEST_SEED`` draws other orders.
"""

from __future__ import annotations

import os
from itertools import permutations
from pathlib import Path
from random import Random

import pytest

from kraken_db.kraken.page_walk import to_cursor
from kraken_db.simulator import Market
from tests.support.archives import import_paths, write
from tests.support.downloading import assert_same, candles_of, floor, stored
from tests.support.gap_filling import DAY, LATER, World, calm, clock, store_live

STEPS = ("archive", "download", "live", "gaps")
ORDERS = Random(os.environ.get("KRAKEN_DB_TEST_SEED", "0")).sample([*permutations(STEPS)], 6)


async def take(step: str, url: str, world: World, market: Market, folder: Path) -> None:
    match step:
        case "archive":
            rows = [
                f"{int(c.timestamp.timestamp())},{c.open},{c.high},{c.low},{c.close},{c.volume},{c.trade_count}\n"
                for c in market.truth_candles()
                if clock(150) <= c.timestamp < clock(400)
            ]
            await import_paths(url, write(folder, "XBTUSD_1.csv", "".join(rows)))
        case "download":
            await world.backfill(url, since=to_cursor(clock(60.5)), end_timestamp=clock(200.5))
        case "live":
            trades = [t for t in market.truth_trades() if clock(380) <= t.timestamp < clock(450)]
            await store_live(url, trades, (trades[0].timestamp, trades[-1].timestamp))
        case "gaps":
            result = await world.fill(url, window=DAY)
            assert (result["gaps_filled"], result["errors"]) == (result["gaps_detected"], [])
            await world.assert_nothing_left(url)


async def check(url: str, order: tuple[str, ...], folder: Path) -> None:
    market = calm(a_minute=2, until=clock(780))
    # The newest hours can be had as candles, the older ones cannot.
    world = World(market, now=clock(60 + 720) + LATER)
    for step in order:
        await take(step, url, world, market, folder)
    await take("gaps", url, world, market, folder)
    await world.backfill(url)
    found = await stored(url, "BTC/USD")
    truth = [*market.truth_trades()]
    assert_same(found.trades, truth)
    assert_same(found.candles, candles_of(truth))
    assert found.status["trades"] == (truth[0].timestamp, truth[-1].timestamp, len(truth))
    minutes = [candle.timestamp for candle in found.candles]
    assert found.status["candles_1m"] == (minutes[0], minutes[-1], len(minutes))
    assert len(found.coverage["candles_1m"]) == 1
    assert found.coverage["candles_1m"][0][1] == floor(world.now())
    await world.assert_nothing_left(url)


@pytest.mark.parametrize("order", ORDERS, ids=["-".join(order) for order in ORDERS])
async def test_orders(plain_url: str, order: tuple[str, ...], tmp_path: Path) -> None:
    await check(plain_url, order, tmp_path)


async def test_an_order_on_timescale(timescale_url: str, tmp_path: Path) -> None:
    await check(timescale_url, ("download", "live", "gaps", "archive"), tmp_path)

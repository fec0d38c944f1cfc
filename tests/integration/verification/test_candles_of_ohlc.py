"""Candles whose trades are not stored become what Kraken's OHLC says, in all columns; and vwap is looked at.

The expected rows are read from the exchange's own answer, not from the code under test.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from kraken_db.simulator import Market
from kraken_db.verification.official import OHLC
from tests.support.archives import query
from tests.support.downloading import MINUTE, download_one, floor
from tests.support.gap_filling import HOUR, LATER, START, World, calm
from tests.support.verifying import kinds, only_candles, verify, wrong

SYMBOL = "BTC/USD"
COLUMNS = "timestamp, open, high, low, close, vwap, volume, trade_count, quote_volume"
Row = tuple[Any, ...]


async def sent_by_kraken(world: World) -> list[Row]:
    """The closed minutes with trades, as rows of the table."""
    async with world.exchange.serve() as base_url, aiohttp.ClientSession() as session:
        address = f"{base_url}/0/public/OHLC?pair=XBTUSD&interval=1"
        async with session.get(address) as answer:
            result = json.loads(await answer.text(), parse_float=str)["result"]
    (rows,) = (value for name, value in result.items() if name != "last")
    return [
        (datetime.fromtimestamp(row[0], UTC), *map(Decimal, row[1:7]), row[7], None)
        for row in rows[:-1]
        if row[7]
    ]


async def candles(url: str, times: Sequence[datetime]) -> list[Row]:
    statement = f"SELECT {COLUMNS} FROM candles WHERE timestamp = ANY(:times) ORDER BY timestamp"
    return await query(url, statement, times=list(times))


async def test_a_repair_is_what_a_gap_fill_is(db_url: str) -> None:
    world = await only_candles(db_url)
    sent = [row for row in await sent_by_kraken(world) if row[0] >= START + HOUR]
    times = [row[0] for row in sent]
    assert len(sent) > 40 and all(row[5] for row in sent)
    assert await candles(db_url, times) == sent  # the gap fill
    planted = {
        "close = low, trade_count = trade_count + 1": times[3],
        "vwap = NULL, volume = volume * 2": times[7],
        "high = high + 1, quote_volume = 5": times[11],
    }
    for change, at in planted.items():
        await query(db_url, f"UPDATE candles SET {change} WHERE timestamp = :at", at=at)
    await query(db_url, "DELETE FROM candles WHERE timestamp = :at", at=times[15])
    found = await verify(db_url, world.exchange, clock=world.now)
    assert kinds(found, OHLC) == {"candle differs": 3, "candle missing": 1}
    repaired = await verify(db_url, world.exchange, clock=world.now, repair=True)
    assert repaired.is_clean, repaired.findings
    assert "4 candles taken from Kraken's candles" in repaired.repaired
    assert await candles(db_url, times) == sent


@pytest.mark.parametrize("change", ["vwap = NULL", "vwap = vwap - 0.1", "vwap = low"])
async def test_a_wrong_mean_of_kraken_is_seen(plain_url: str, change: str) -> None:
    """Nothing else of the candle is wrong."""
    world = await only_candles(plain_url)
    sent = await sent_by_kraken(world)
    # Its mean is not its low, also when cut to the decimals of the price.
    at = next(row[0] for row in sent if row[0] > START + HOUR and row[5] > row[3])
    (right,) = [row for row in sent if row[0] == at]
    await query(plain_url, f"UPDATE candles SET {change} WHERE timestamp = :at", at=at)
    found = await verify(plain_url, world.exchange, clock=world.now)
    assert kinds(found, OHLC) == {"candle differs": 1}
    assert found.findings[0].start == at
    assert "vwap" in found.findings[0].text
    assert (await verify(plain_url, world.exchange, clock=world.now, repair=True)).is_clean
    assert await candles(plain_url, [at]) == [right]


@pytest.mark.parametrize("change", ["vwap = NULL", "vwap = vwap + 0.0000000001", "vwap = low"])
async def test_a_wrong_mean_beside_its_trades_is_seen(plain_url: str, change: str) -> None:
    market = Market(SYMBOL, seed=3, trades=300)
    await download_one(plain_url, market)
    middle = list(market.truth_candles())
    candle = next(one for one in middle if one.high > one.low and one.vwap != one.low)
    await query(plain_url, f"UPDATE candles SET {change} WHERE timestamp = :at", at=candle.timestamp)
    found = await verify(plain_url)
    assert wrong(found).keys() >= {"candles"} and kinds(found, "candles") == {"candle differs": 1}
    assert "vwap" in found.findings[0].text
    assert (await verify(plain_url, market, repair=True)).is_clean
    rows = await query(plain_url, "SELECT vwap FROM candles WHERE timestamp = :at", at=candle.timestamp)
    assert rows == [(candle.vwap,)]


async def test_a_quiet_minute_of_kraken_loses_its_candle(plain_url: str) -> None:
    world = World(calm(a_minute=0.3), now=START + HOUR + LATER)
    await world.backfill(plain_url)
    world.advance(HOUR)
    await world.fill(plain_url)
    for table in ("trades", "data_coverage WHERE data_type = 'trades'"):
        await query(plain_url, f"DELETE FROM {table}")
    await query(plain_url, "DELETE FROM data_sync_status WHERE data_type = 'trades'")
    stored = {row[0] for row in await query(plain_url, "SELECT timestamp FROM candles")}
    last = floor(world.now()) - 10 * MINUTE
    quiet = next(at for at in (last - n * MINUTE for n in range(30)) if at not in stored)
    await query(
        plain_url,
        "INSERT INTO candles SELECT symbol, CAST(:at AS timestamptz), interval_minutes, open, high, low,"
        " close, volume, quote_volume, trade_count, vwap FROM candles WHERE timestamp = :of",
        at=quiet,
        of=max(stored),
    )
    assert (await verify(plain_url, world.exchange, clock=world.now, repair=True)).is_clean
    assert {row[0] for row in await query(plain_url, "SELECT timestamp FROM candles")} == stored
    assert timedelta(0) < world.now() - quiet

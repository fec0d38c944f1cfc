"""Replay over a made-up market: what is read at a time, in which order it comes, and when."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from kraken_db import historical_provider as module
from kraken_db.historical_provider import FIRST_STRETCH, LONGEST_STRETCH, replay
from kraken_db.intervals import interval_length
from kraken_db.ranges import TimeRange
from kraken_db.types import Candle
from tests.support.factories import EPOCH

PRICE = Decimal("1.5")
MINUTE = timedelta(minutes=1)
FAR = datetime.max.replace(tzinfo=UTC)


class Market:
    """A candle every minute, of each symbol; remembers what was asked."""

    def __init__(self, minutes: int, interval: int = 1, hole: TimeRange | None = None) -> None:
        self.stored: TimeRange | None = (EPOCH, EPOCH + minutes * MINUTE)
        self.interval = interval
        self.hole = hole
        self.sizes: list[int] = []

    async def read(self, symbol: str, start: datetime, end: datetime) -> list[Candle]:
        assert self.stored is not None
        length = interval_length(self.interval)
        self.sizes.append((end - start) // length)
        found, moment = [], max(start, self.stored[0])
        while moment < min(end, self.stored[1]):
            if self.hole is None or not self.hole[0] <= moment < self.hole[1]:
                found.append(
                    Candle(symbol, moment, self.interval, PRICE, PRICE, PRICE, PRICE, PRICE, 1, None)
                )
            moment += length
        return found

    async def extent(self) -> TimeRange | None:
        return self.stored

    async def all(self, symbols: list[str], start: datetime, end: datetime, speed: float = 0) -> list[Candle]:
        stream = replay(symbols, self.interval, start, end, speed, read=self.read, extent=self.extent)
        return [candle async for candle in stream]


async def test_what_is_read_at_a_time_does_not_depend_on_the_range() -> None:
    market = Market(40_000)
    candles = await market.all(["BTC/USD"], datetime.min.replace(tzinfo=UTC), FAR)
    assert [c.timestamp for c in candles] == [EPOCH + n * MINUTE for n in range(40_000)]
    assert market.sizes[0] == FIRST_STRETCH  # The first candle does not wait for twenty thousand.
    assert max(market.sizes) == LONGEST_STRETCH


async def test_several_symbols_share_what_is_read_at_a_time() -> None:
    market = Market(6_000)
    symbols = [f"A{n}/USD" for n in range(10)]
    assert len(await market.all(symbols, EPOCH, FAR)) == 60_000
    assert max(market.sizes) == LONGEST_STRETCH // 10


async def test_symbols_are_merged_in_order_of_time_and_then_of_their_names_in_the_call() -> None:
    market = Market(700)
    candles = await market.all(["XRP/USD", "BTC/USD"], EPOCH, EPOCH + 650 * MINUTE)
    assert [(c.timestamp, c.symbol) for c in candles] == [
        (EPOCH + n * MINUTE, symbol) for n in range(650) for symbol in ("XRP/USD", "BTC/USD")
    ]


async def test_a_hole_of_months_is_no_end_and_past_the_last_candle_is_one() -> None:
    hole = (EPOCH + 10 * MINUTE, EPOCH + 99_990 * MINUTE)
    market = Market(100_000, hole=hole)
    candles = await market.all(["BTC/USD"], EPOCH, FAR)
    assert len(candles) == 20
    assert candles[-1].timestamp == EPOCH + 99_999 * MINUTE


async def test_nothing_stored_is_nothing_replayed() -> None:
    market = Market(10)
    assert await market.all(["BTC/USD"], EPOCH + 10 * MINUTE, FAR) == []
    market.stored = None
    assert await market.all(["BTC/USD"], EPOCH, FAR) == []
    assert market.sizes == []


class Clock:
    """Time that passes only in ``sleep`` and where a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "monotonic", found.monotonic)
    monkeypatch.setattr(asyncio, "sleep", found.sleep)
    assert vars(module)["time"] is time and vars(module)["asyncio"] is asyncio
    return found


async def test_a_slow_reader_does_not_shift_what_comes_after(clock: Clock) -> None:
    market = Market(100)
    arrived = []
    stream = replay(["BTC/USD"], 1, EPOCH, FAR, 60.0, read=market.read, extent=market.extent)
    async for candle in stream:
        arrived.append(clock.now - 1000)
        # Half a second of work, and seven of them once: each minute takes one second.
        clock.now += 7 if candle.timestamp == EPOCH + 20 * MINUTE else 0.5
    assert arrived[:21] == pytest.approx(range(21))
    assert arrived[21:34] == pytest.approx([27 + 0.5 * n for n in range(13)])  # catches up
    assert arrived[34:] == pytest.approx(range(34, 100))

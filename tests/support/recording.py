"""A recording of a simulated exchange whose clock runs fast, and what the tables must hold afterwards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.kraken.websocket import KrakenWebSocketClient
from kraken_db.kraken.websocket_pace import ReconnectLimits
from kraken_db.kraken.websocket_subscriptions import Watch
from kraken_db.recorder import Recorder, RecorderStatus
from kraken_db.simulator import (
    FastClock,
    FeedFaults,
    Market,
    Scenario,
    SimulatedExchange,
    TrueTrade,
    feed_url,
)
from tests.support.downloading import Stored, assert_same, candles_of, floor, stored

START = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
SPEED = 60.0
"""A minute of the exchange takes a second."""
MINUTE = timedelta(minutes=1)
STAMPS_APART = timedelta(microseconds=2)
"""How far a live stamp lies below REST's at most."""
ROUGH = FeedFaults(
    cut=200, lost=0.03, silence=0.005, mute=0.005, refused=0.1, burst=0.02, duplicates=5, burst_seconds=0.2
)


HASTY = Watch(quiet_after=0.5, refused_again_after=0.1, ping_after=0.2, dead_after=0.4)


def market(symbol: str = "BTC/USD", trades: int = 2_000, **options: Any) -> Market:
    """About ten trades a second of the exchange's clock, 600 of ours."""
    defaults = {"seed": 5, "start": START, "trades_per_minute": 600, "scenario": Scenario.SAME_STAMPS}
    wanted: dict[str, Any] = defaults | options
    return Market(symbol, trades=trades, **wanted)


class StartedClock(FastClock):
    """It stands still until ``go``: nothing happens before somebody listens."""

    _goes = False

    def go(self) -> None:
        if not self._goes:
            self._goes, self.began_ns = True, time.time_ns()

    def __call__(self) -> int:
        return super().__call__() if self._goes else self.start_ns


def exchange_of(
    *markets: Market, faults: FeedFaults | None = None, since: timedelta = MINUTE
) -> tuple[SimulatedExchange, StartedClock]:
    """``since``: how much of the markets has happened when the clock begins to run."""
    clock = StartedClock(START + since, SPEED)
    exchange = SimulatedExchange(markets, clock=clock, feed_faults=faults)
    exchange.feed.heartbeat_seconds = 0.1
    return exchange, clock


def recorder_of(
    url: str,
    base_url: str,
    clock: FastClock,
    symbols: Sequence[str],
    journal: Path,
    *,
    watch: Watch = HASTY,
    **options: Any,
) -> Recorder:
    """One that loses no time: it connects at once, asks REST without pauses, and notices silence soon.

    ``grace`` is in seconds of the exchange's clock. On a busy machine it may take a pause for silence.
    """
    feed = KrakenWebSocketClient(
        feed_url(base_url),
        limits=ReconnectLimits(at_once=10**6, most=10**6),
        watch=watch,
        now=clock.now,
    )
    client = KrakenRestClient(base_url, rate_limit_delay=0, limiter=RateLimiter(), backoff=0.01)
    wanted = {"grace": clock.speed / 2, "flush_interval": 0.1} | options
    return Recorder(
        url, symbols, client=client, feed=feed, clock=clock.now, journal_dir=journal / "journal", **wanted
    )


@asynccontextmanager
async def recording(recorder: Recorder) -> AsyncIterator[asyncio.Task[RecorderStatus]]:
    """It is stopped at the end of the block, and its error is raised there."""
    async with recorder:
        running = asyncio.create_task(recorder.run())
        try:
            yield running
        finally:
            recorder.request_stop()
            async with asyncio.timeout(20):
                await running


async def until(
    recorder: Recorder, enough: Callable[[RecorderStatus], bool], running: asyncio.Task[Any]
) -> None:
    async with asyncio.timeout(90):
        while not running.done() and not enough(recorder.status()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def is_live(status: RecorderStatus) -> bool:
    return all(pair.state != "catching up" and pair.last_id is not None for pair in status.pairs)


def has_come_to(trade_id: int) -> Callable[[RecorderStatus], bool]:
    """Whether the first pair has this trade, or a later one."""
    return lambda status: (status.pairs[0].last_id or 0) >= trade_id


def all_is_there(*markets: Market) -> Callable[[RecorderStatus], bool]:
    """Whether the last trade of each market has come, and nothing waits any more."""
    ends = {market.symbol: market.first_id + (market.size or 0) - 1 for market in markets}

    def enough(status: RecorderStatus) -> bool:
        return all(pair.last_id == ends[pair.symbol] and pair.state == "live" for pair in status.pairs)

    return enough


async def record_all(
    url: str, exchange: SimulatedExchange, clock: StartedClock, journal: Path, **options: Any
) -> RecorderStatus:
    """Record until all trades have come and the last minute is closed by the clock."""
    markets = list(exchange.markets.values())
    async with exchange.serve() as base_url:
        recorder = recorder_of(url, base_url, clock, [one.symbol for one in markets], journal, **options)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            clock.go()
            await until(recorder, all_is_there(*markets), running)
            ends = max(one.stamp((one.size or 1) - 1) for one in markets)
            closed = datetime.fromtimestamp(ends // 10**9, UTC) + timedelta(seconds=60 + 1.2 * clock.speed)
            await until(recorder, lambda _status: clock.now() >= closed, running)
            # What was due then is written before the end.
        return recorder.status()


async def assert_recorded(url: str, market: Market, since_id: int, last_id: int | None = None) -> Stored:
    """The tables hold the market from that trade on, row for row, each once and in its order.

    Stamps are REST's, or lie less than ``STAMPS_APART`` below them; everything else is equal. Minutes that
    were recorded as a whole have the candle of the truth. What is covered is one range, without a hole.
    """
    truth = [trade for trade in market.truth_trades() if since_id <= (trade.id or 0) <= (last_id or 10**9)]
    found = await stored(url, market.symbol)
    assert [trade.id for trade in found.trades] == [trade.id for trade in truth]
    for one, other in zip(found.trades, truth, strict=True):
        assert timedelta(0) <= other.timestamp - one.timestamp <= STAMPS_APART, one
    assert_same(_comparable(found.trades), _comparable(truth))
    assert found.status["trades"][2] == len(truth)
    ((start, end),) = found.coverage["trades"]
    assert start - found.trades[0].timestamp <= timedelta(microseconds=1)
    assert end >= found.trades[-1].timestamp
    return found


def assert_candles(found: Stored, market: Market, *, since: datetime, until: datetime) -> None:
    """The candles of every minute in ``[since, until)`` are those of the truth, and there are no others."""
    expected = [candle for candle in candles_of(market.truth_trades()) if since <= candle.timestamp < until]
    assert_same(found.candles, expected)
    assert found.status["candles_1m"][2] == len(expected)


def _comparable(trades: Sequence[TrueTrade]) -> list[TrueTrade]:
    """Without what the feed cannot know: REST's stamps, and the field ``misc``."""
    return [replace(trade, timestamp=START, misc="") for trade in trades]


def first_whole_minute(found: Stored) -> datetime:
    first = found.trades[0].timestamp
    return first if floor(first) == first else floor(first) + MINUTE

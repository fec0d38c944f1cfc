"""Every kind of silence over a real socket: the connection is given up, and the next one works."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, aclosing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal
from urllib.parse import urlsplit

import pytest

from kraken_db.kraken.websocket import KrakenWebSocketClient
from kraken_db.kraken.websocket_messages import (
    Alive,
    Connected,
    Disconnected,
    Event,
    Quiet,
    Refused,
    Subscribed,
    Topic,
    Trades,
)
from kraken_db.kraken.websocket_pace import ReconnectLimits
from kraken_db.kraken.websocket_subscriptions import Watch
from kraken_db.simulator import FeedFaults, Market, Scenario, SimulatedExchange, feed_url
from tests.support.tcp_proxy import DroppingProxy

SYMBOL = "BTC/USD"
SHORT = Watch(snapshot_within=0.5, quiet_after=60, ping_after=0.3, dead_after=1.0)


class MovedClock:
    """Runs as time does, and can be moved on."""

    def __init__(self) -> None:
        self.moved = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.moved


def market(per_second: float = 50) -> Market:
    start = datetime.now(UTC) - timedelta(seconds=20)
    return Market(
        SYMBOL, seed=3, start=start, trades_per_minute=60 * per_second, scenario=Scenario.SAME_STAMPS
    )


def quiet_market() -> Market:
    return Market(SYMBOL, start=datetime(2026, 3, 1, tzinfo=UTC), trades=100)


async def silenced(
    silence: Literal["answers only", "no heartbeats", "dropped"], watch: Watch, clock: MovedClock
) -> tuple[list[Event], float]:
    """All events until the second connection works, and the seconds from the silence until it was made.

    The market is a quiet one where there is no heartbeat; else that is told by the trades, too.
    """
    faults = {
        "answers only": FeedFaults(answers_only=1),
        "no heartbeats": FeedFaults(no_heartbeats=1),
        "dropped": FeedFaults(),
    }[silence]
    exchange = SimulatedExchange(
        [quiet_market() if silence == "no heartbeats" else market()], feed_faults=faults
    )
    exchange.feed.heartbeat_seconds = 0.1
    found: list[Event] = []
    async with AsyncExitStack() as stack:
        base_url = await stack.enter_async_context(exchange.serve())
        address = urlsplit(base_url)
        assert address.hostname and address.port
        proxy = DroppingProxy((address.hostname, address.port))
        port = await stack.enter_async_context(proxy.serve())
        client = KrakenWebSocketClient(
            feed_url(f"http://127.0.0.1:{port}"), watch=watch, clock=clock, limits=ReconnectLimits()
        )
        client.subscribe_trades(SYMBOL)
        silent_at = connected_at = 0.0
        async with asyncio.timeout(30), aclosing(client.events()) as events:
            async for event in events:
                found.append(event)
                match event:
                    case Connected(1):
                        exchange.feed.set_faults(FeedFaults())
                    case Subscribed() | Alive() if not silent_at:
                        if silence == "dropped" and isinstance(event, Subscribed):
                            continue
                        silent_at = clock()
                        if watch != SHORT:
                            stack.push_async_callback(_end, asyncio.create_task(_move(clock)))
                        proxy.drop() if silence == "dropped" else None
                    case Connected(2):
                        connected_at = clock()
                    case Alive() if connected_at:
                        await client.stop()
    return found, connected_at - silent_at


async def _move(clock: MovedClock) -> None:
    """Five times as fast as time."""
    while True:
        await asyncio.sleep(0.1)
        clock.moved += 0.4


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("silence", ["answers only", "no heartbeats", "dropped"])
async def test_silence(silence: Literal["answers only", "no heartbeats", "dropped"]) -> None:
    found, seconds = await silenced(silence, SHORT, MovedClock())
    (lost,) = [event for event in found if isinstance(event, Disconnected)]
    # Answers to pings do not count; where packets are dropped there are none.
    told = "nothing came for 1." if silence == "dropped" else "no heartbeat came for 1."
    assert lost.reason.startswith(told)
    assert 1.0 <= seconds < 4.0
    assert [event.attempt for event in found if isinstance(event, Connected)] == [1, 2]
    assert sum(isinstance(event, Alive) for event in found) == (2 if silence == "dropped" else 1)


@pytest.mark.parametrize("silence", ["answers only", "dropped"])
async def test_a_new_connection_within_15_seconds_by_default(
    silence: Literal["answers only", "dropped"],
) -> None:
    found, seconds = await silenced(silence, Watch(), MovedClock())
    assert sum(isinstance(event, Disconnected) for event in found) == 1
    assert 8 <= seconds < 15


async def test_looks_after_quiet_pairs_do_not_keep_a_silent_connection_alive() -> None:
    """It answers them, with a snapshot even: what Kraken says by itself is what counts."""
    exchange = SimulatedExchange([quiet_market()], feed_faults=FeedFaults(no_heartbeats=1))
    watch = Watch(quiet_after=0.3, quiet_at_most=0.3, looks_apart=0.3, ping_after=0.3, dead_after=1.0)
    async with exchange.serve() as base_url:
        client = KrakenWebSocketClient(feed_url(base_url), watch=watch)
        client.subscribe_trades(SYMBOL)
        found: list[Event] = []
        async with asyncio.timeout(10), aclosing(client.events()) as events:
            async for event in events:
                found.append(event)
                if isinstance(event, Disconnected):
                    await client.stop()
    assert not any(isinstance(event, Quiet) for event in found)


async def test_a_snapshot_that_does_not_come_ends_the_connection() -> None:
    """Only where there is something that it must bring: the second time."""
    exchange = SimulatedExchange([quiet_market()])
    exchange.feed.heartbeat_seconds = 0.1
    found: list[Event] = []
    async with exchange.serve() as base_url:
        client = KrakenWebSocketClient(feed_url(base_url), watch=SHORT)
        client.subscribe_trades(SYMBOL)
        async with asyncio.timeout(20), aclosing(client.events()) as events:
            async for event in events:
                found.append(event)
                lost = [one.reason for one in found if isinstance(one, Disconnected)]
                connections = sum(isinstance(one, Connected) for one in found)
                match event:
                    case Trades() if not lost:
                        exchange.feed.set_faults(FeedFaults(no_snapshot=1))
                        exchange.feed.cut_all()
                    case Subscribed() if connections == 2:
                        exchange.feed.set_faults(FeedFaults())
                    case Trades():
                        await client.stop()
    assert len(lost) == 2
    assert lost[1] == f"the snapshot of the trades of {SYMBOL} did not come"
    assert exchange.feed.counts.without_snapshot == 1


async def test_the_reason_of_a_close_is_shown() -> None:
    reasons: set[str] = set()
    exchange = SimulatedExchange([market()], feed_faults=FeedFaults(cut=50))
    async with exchange.serve() as base_url:
        client = KrakenWebSocketClient(feed_url(base_url), limits=ReconnectLimits(at_once=10**6, most=10**6))
        client.subscribe_trades(SYMBOL)
        async with asyncio.timeout(60), aclosing(client.events()) as events:
            async for event in events:
                if isinstance(event, Disconnected):
                    reasons.add(event.reason)
                    if len(reasons) == 2:
                        await client.stop()
    assert "closed by the other side ('Service Restart', code 1012)" in reasons


async def test_every_pair_of_many_is_subscribed_to_at_the_pace_that_is_allowed() -> None:
    """400 pairs where two frames a second are allowed, and refused in two spellings beyond that."""
    symbols = [f"C{number:04d}/USD" for number in range(400)]
    exchange = SimulatedExchange(
        [Market(symbol, trades=0) for symbol in symbols], feed_faults=FeedFaults(msg_rate=2, refused=0.02)
    )
    subscribed: set[Topic] = set()
    refused: list[Refused] = []
    async with exchange.serve() as base_url:
        client = KrakenWebSocketClient(feed_url(base_url), watch=Watch(refused_again_after=0.5))
        client.subscribe_trades(*symbols)
        async with asyncio.timeout(60), aclosing(client.events()) as events:
            async for event in events:
                match event:
                    case Subscribed(topic):
                        subscribed.add(topic)
                        if len(subscribed) == len(symbols):
                            await client.stop()
                    case Refused():
                        refused.append(event)
                    case Disconnected(reason, _):
                        pytest.fail(reason)
    assert exchange.feed.counts.too_fast >= 2
    assert all(event.retry_in is not None for event in refused)
    assert exchange.feed.counts.heard < 40


async def test_a_pair_that_is_listed_on_the_way_and_one_that_is_delisted() -> None:
    exchange = SimulatedExchange([market()])
    late = Market("ETH/USD", seed=3, start=datetime.now(UTC), trades_per_minute=3_000, scenario=Scenario.CALM)
    found: list[Event] = []
    async with exchange.serve() as base_url:
        client = KrakenWebSocketClient(feed_url(base_url))
        client.subscribe_trades(SYMBOL)
        async with asyncio.timeout(30), aclosing(client.events()) as events:
            async for event in events:
                found.append(event)
                if isinstance(event, Alive):
                    exchange.list_market(late)
                    exchange.delist(SYMBOL)
                    client.subscribe_trades("ETH/USD")
                    asyncio.get_running_loop().call_later(1.0, lambda: asyncio.ensure_future(client.stop()))
    symbols = [event.symbol for event in found if isinstance(event, Trades)]
    assert [one for one, other in pairwise(symbols) if one != other] == [SYMBOL]
    assert symbols[-1] == "ETH/USD"

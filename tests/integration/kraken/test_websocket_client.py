"""The WebSocket client over a real socket: a scripted server, and the simulated exchange with its faults."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kraken_db.errors import ConfigurationError, ExchangeRequestError, PairError, UnknownPairError
from kraken_db.kraken.websocket import KrakenWebSocketClient
from kraken_db.kraken.websocket_messages import (
    Candles,
    Connected,
    Disconnected,
    Event,
    Malformed,
    Quiet,
    Refused,
    StatusChanged,
    Subscribed,
    Topic,
    Trades,
    Unsubscribed,
)
from kraken_db.kraken.websocket_pace import ReconnectLimits
from kraken_db.kraken.websocket_subscriptions import Watch
from kraken_db.simulator import FeedFaults, Market, Scenario, SimulatedExchange, feed_url

AT_ONCE = ReconnectLimits(at_once=10**6, most=10**6)
QUICK = Watch(answer_within=0.5, quiet_after=0.5, refused_again_after=0.2, ping_after=0.3, dead_after=0.6)

Handler = Callable[[web.Request], Any]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/v2", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/v2"
    finally:
        await runner.cleanup()


def sending(frames: Sequence[str]) -> Handler:
    """A server that waits for a request and then sends these frames, whatever was asked; then it closes."""

    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        for frame in frames:
            await socket.send_str(frame)
        await asyncio.sleep(0.05)
        await socket.close()
        return socket

    return handler


async def events_until(
    client: KrakenWebSocketClient, enough: Callable[[list[Event]], bool], seconds: float = 20
) -> list[Event]:
    """All events until then; after that the client is told to stop, and what still comes is taken too."""
    found: list[Event] = []
    async with asyncio.timeout(seconds), aclosing(client.events()) as events:
        async for event in events:
            found.append(event)
            if enough(found):
                await client.stop()
    return found


def trades_of(events: Sequence[Event], symbol: str = "BTC/USD") -> list[int]:
    return [
        trade.trade_id
        for event in events
        if isinstance(event, Trades) and event.symbol == symbol
        for trade in event.trades
    ]


def market(symbol: str = "BTC/USD", per_second: float = 400) -> Market:
    start = datetime.now(UTC) - timedelta(seconds=20)
    return Market(
        symbol, seed=3, start=start, trades_per_minute=60 * per_second, scenario=Scenario.SAME_STAMPS
    )


@pytest.mark.parametrize(
    ("name", "counts"),
    [("trades_BTCUSD_ETHUSD_2026-09-26.jsonl", (52, 50)), ("misc_captured_frames.jsonl", (2, 1))],
)
async def test_recorded_frames(real_data: Path, name: str, counts: tuple[int, int]) -> None:
    """What Kraken has sent gives the trades and ids that the notes on the recordings name."""
    lines = (real_data / "ws_v2" / name).read_text().splitlines()
    async with serving(sending(lines)) as url:
        client = KrakenWebSocketClient(url, limits=AT_ONCE)
        client.subscribe_trades("BTC/USD", "ETH/USD")
        client.subscribe_candles("BTC/USDT")
        found = await events_until(client, lambda events: isinstance(events[-1], Disconnected))
    btc, eth = trades_of(found), trades_of(found, "ETH/USD")
    assert (len(btc), len(eth)) == counts
    assert isinstance(found[0], Connected)
    assert found[1] == StatusChanged("online")
    acknowledged = [event.topic for event in found if isinstance(event, Subscribed)]
    refused = [event for event in found if isinstance(event, Refused)]
    if name.startswith("trades"):
        assert btc == list(range(109183836, 109183836 + 52))
        assert eth == list(range(66819466, 66819466 + 50))
        assert acknowledged == [Topic("trade", "BTC/USD"), Topic("trade", "ETH/USD")]
        assert refused == []
    else:
        assert acknowledged == [Topic("ohlc", "BTC/USDT", 1)]
        assert [type(event.error) for event in refused] == [UnknownPairError, ExchangeRequestError]
        assert "XBT/USDT" in refused[0].error.message
        assert sum(len(event.candles) for event in found if isinstance(event, Candles)) == 10


async def test_the_others_go_on_when_one_is_refused() -> None:
    exchange = SimulatedExchange([market()])
    async with exchange.serve() as url:
        client = KrakenWebSocketClient(feed_url(url))
        client.subscribe_trades("NOPE/USD", "BTC/USD")
        found = await events_until(client, lambda events: len(trades_of(events)) > 200)
    (refused,) = [event for event in found if isinstance(event, Refused)]
    assert (refused.topic, refused.retry_in) == (Topic("trade", "NOPE/USD"), None)
    assert isinstance(refused.error, UnknownPairError)
    ids = trades_of(found)
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert isinstance(found[-1], Unsubscribed)
    assert client.clock_offset is not None
    assert abs(client.clock_offset) < timedelta(seconds=1)


async def test_through_cuts_and_silence() -> None:
    """Whatever happens to the connection, it comes back and subscribes anew; snapshots make the ids meet."""
    faults = FeedFaults(cut=400, silence=0.02, mute=0.02, refused=0.2, duplicates=3, seed=1)
    exchange = SimulatedExchange([market(), market("ETH/USD", 100)], feed_faults=faults)
    exchange.feed.heartbeat_seconds = 0.1
    async with exchange.serve() as url:
        client = KrakenWebSocketClient(feed_url(url), limits=AT_ONCE, watch=QUICK)
        client.subscribe_trades("BTC/USD", "ETH/USD")

        def enough(events: list[Event]) -> bool:
            kinds = Counter(type(event) for event in events)
            return kinds[Disconnected] > 2 and kinds[Quiet] > 0 and kinds[Refused] > 0

        found = await events_until(client, enough)
    kinds = Counter(type(event) for event in found)
    assert kinds[Connected] >= 3
    assert kinds[Subscribed] >= 4
    assert trades_of(found)
    assert trades_of(found, "ETH/USD")


async def test_a_connection_that_says_nothing_is_given_up() -> None:
    exchange = SimulatedExchange([market()], feed_faults=FeedFaults(silence=1))
    async with exchange.serve() as url:
        client = KrakenWebSocketClient(feed_url(url), limits=AT_ONCE, watch=QUICK)
        client.subscribe_trades("BTC/USD")
        found = await events_until(client, lambda events: isinstance(events[-1], Disconnected))
    (ended,) = [event for event in found if isinstance(event, Disconnected)]
    assert ended.reason.startswith("nothing came for ")


async def test_what_is_no_frame_is_told_and_the_rest_goes_on() -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("nonsense")
        await socket.send_str('{"channel":"status","type":"update","data":[{"system":"online"}]}')
        await socket.receive()
        await asyncio.sleep(1)
        return socket

    async with serving(handler) as url:
        client = KrakenWebSocketClient(url)
        found = await events_until(client, lambda events: isinstance(events[-1], StatusChanged))
    assert [type(event) for event in found] == [Connected, Malformed, StatusChanged]


async def test_a_frame_that_is_too_large_ends_the_connection() -> None:
    async with serving(sending(["x" * 5_000])) as url:
        client = KrakenWebSocketClient(url, max_frame=2_000, limits=AT_ONCE)
        client.subscribe_trades("BTC/USD")
        found = await events_until(client, lambda events: isinstance(events[-1], Disconnected))
    assert isinstance(found[-1], Disconnected)
    assert found[-1].reason == "a frame was larger than is allowed"


@pytest.mark.parametrize("status", [403, 404, 200])
async def test_a_wrong_address_is_told_at_once(status: int) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, text="<html>")

    async with serving(handler) as url:
        client = KrakenWebSocketClient(url)
        with pytest.raises(ExchangeRequestError, match="KRAKEN_WS_URL"):
            await events_until(client, lambda _events: False)


async def test_what_may_pass_is_tried_again_when_kraken_says() -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "30"})

    async with serving(handler) as url:
        client = KrakenWebSocketClient(url)
        found = await events_until(client, lambda events: isinstance(events[-1], Disconnected))
    (ended,) = found
    assert isinstance(ended, Disconnected)
    assert 30 <= ended.retry_in <= 31


async def test_nobody_there() -> None:
    client = KrakenWebSocketClient("ws://127.0.0.1:9/v2")
    found = await events_until(client, lambda events: len(events) == 3)
    assert [type(event) for event in found] == [Disconnected] * 3
    assert isinstance(found[0], Disconnected)
    assert "127.0.0.1:9 cannot be reached" in found[0].reason


async def test_stopping_takes_no_time() -> None:
    exchange = SimulatedExchange([market()])
    async with exchange.serve() as url:
        client = KrakenWebSocketClient(feed_url(url))
        client.subscribe_trades("BTC/USD")
        stopped_at: list[float] = []

        def enough(events: list[Event]) -> bool:
            if isinstance(events[-1], Subscribed):
                stopped_at.append(time.monotonic())
                return True
            return False

        await events_until(client, enough)
        assert time.monotonic() - stopped_at[0] < 5
        assert client.topics == []


async def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readline())
        writer.write(b"HTTP/1.1 502 no\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("https_proxy", f"http://user:secret@127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    async with server:
        client = KrakenWebSocketClient("wss://ws.kraken.invalid/v2")
        found = await events_until(client, lambda events: isinstance(events[-1], Disconnected))
    assert seen[0].startswith(b"CONNECT ws.kraken.invalid:443")
    assert isinstance(found[0], Disconnected)
    assert "secret" not in found[0].reason


def test_what_cannot_be_asked_for() -> None:
    client = KrakenWebSocketClient("ws://127.0.0.1:9/v2")
    with pytest.raises(PairError):
        client.subscribe_trades("nonsense")
    with pytest.raises(PairError, match="BTC/USD"):
        client.subscribe_trades("XBT/USD")
    with pytest.raises(ConfigurationError, match="7 minutes"):
        client.subscribe_candles("BTC/USD", interval=7)
    for url in ("http://ws.kraken.com", "ws://", "wss://user:secret@ws.kraken.com/v2", "ws://host:0/v2", "x"):
        with pytest.raises(ConfigurationError) as caught:
            KrakenWebSocketClient(url)
        assert "secret" not in str(caught.value)

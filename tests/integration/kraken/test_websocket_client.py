"""The WebSocket client over a real socket: a scripted server, and the simulated exchange with its faults."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kraken_db.errors import (
    ConfigurationError,
    ExchangeRequestError,
    ExchangeThrottledError,
    PairError,
    UnknownPairError,
)
from kraken_db.kraken import websocket
from kraken_db.kraken.websocket import KrakenWebSocketClient
from kraken_db.kraken.websocket_messages import (
    Alive,
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
    decode_frame,
)
from kraken_db.kraken.websocket_pace import ReconnectLimits
from kraken_db.kraken.websocket_subscriptions import Watch
from kraken_db.log_throttle import LINES
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


@pytest.mark.parametrize("after", ["1000000000", "1 Jan 99999999999999999999999", "901", "9" * 400])
async def test_a_wait_of_years_is_an_error(after: str) -> None:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": after})

    async with serving(handler) as url:
        client = KrakenWebSocketClient(url)
        with pytest.raises(ExchangeThrottledError, match="HTTP 429; it asks to wait "):
            await events_until(client, lambda _events: False)


async def test_once_there_was_a_connection_a_wait_has_a_bound() -> None:
    asked = 0

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked > 1:
            return web.Response(status=429, headers={"Retry-After": "1000000000"})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close()
        return socket

    async with serving(handler) as url:
        client = KrakenWebSocketClient(url, limits=AT_ONCE)
        found = await events_until(client, lambda events: len(events) == 3)
    ended = found[-1]
    assert isinstance(ended, Disconnected)
    assert 900 <= ended.retry_in <= 901
    assert "it asks to wait for 16,666,667 minutes" in ended.reason


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    """Not from wss to ws, not to another host, not anywhere."""
    seen: list[str] = []

    async def there(request: web.Request) -> web.WebSocketResponse:
        seen.append(request.path)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        return socket

    async with serving(there) as other:

        async def handler(_request: web.Request) -> web.Response:
            return web.Response(status=status, headers={"Location": other.replace("ws", "http", 1)})

        async with serving(handler) as url, aiohttp.ClientSession() as session:
            for client in (KrakenWebSocketClient(url), KrakenWebSocketClient(url, session=session)):
                with pytest.raises(ExchangeRequestError, match=f"HTTP {status}, a redirect, is not followed"):
                    await events_until(client, lambda _events: False)
            assert not session.closed
    assert seen == []


async def test_pings_of_the_protocol_alone_are_silence() -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        while True:
            await socket.ping(b"x")
            await asyncio.sleep(0.01)

    async with serving(handler) as url:
        client = KrakenWebSocketClient(url, limits=AT_ONCE, watch=QUICK)
        client.subscribe_trades("BTC/USD")
        found = await events_until(client, lambda events: isinstance(events[-1], Disconnected), 5)
    assert isinstance(found[-1], Disconnected)
    assert found[-1].reason.startswith("nothing came for ")


NOW = datetime.now(UTC)
GOOD = {
    "symbol": "BTC/USD",
    "side": "buy",
    "price": 1.5,
    "qty": 2.0,
    "ord_type": "limit",
    "trade_id": 7,
    "timestamp": NOW.isoformat(),
}


def trades_frame(**changes: Any) -> str:
    return json.dumps({"channel": "trade", "type": "update", "data": [GOOD | changes]})


UNREADABLE = {
    "a stamp of the year 0": trades_frame(timestamp="0001-01-01T00:00:00+14:00"),
    "a stamp of the year 1": trades_frame(timestamp="0001-01-01T00:00:00Z"),
    "a stamp of 9999": trades_frame(timestamp="9999-12-31T23:59:59.999999Z"),
    "a stamp beyond 9999": trades_frame(timestamp="9999-12-31T23:59:59-14:00"),
    "a stamp of 9998": trades_frame(timestamp="9998-01-01T00:00:00Z"),
    "a stamp 30 days ahead": trades_frame(timestamp=(NOW + timedelta(days=30)).isoformat()),
    "a stamp that is none": trades_frame(timestamp="١٩٩٩-01-01T00:00:00Z"),
    "a stamp of 100 kB": trades_frame(timestamp="2" * 100_000),
    "time_out of the year 0": '{"method":"pong","time_out":"0001-01-01T00:00:00+14:00"}',
    "time_out beyond 9999": '{"method":"pong","time_out":"9999-12-31T23:59:59-14:00"}',
    "time_out of 9999": '{"method":"subscribe","success":true,"time_out":"9999-12-31T23:59:59Z"}',
    "an id of 2^63": trades_frame(trade_id=2**63),
    "an id of 2^64": trades_frame(trade_id=2**64),
    "an id of 5,000 digits": trades_frame().replace('"trade_id": 7', '"trade_id": ' + "7" * 5_000),
    "an id of 1E+100000": trades_frame().replace('"trade_id": 7', '"trade_id": 1E+100000'),
    "a price of 1E+100000": trades_frame().replace("1.5", "1E+100000"),
    "a price of 1E-100000": trades_frame().replace("1.5", "1E-100000"),
    "a price of a million digits": trades_frame().replace("1.5", "1" * 1_000_000),
    "a price below zero": trades_frame(price=-1),
    "a price of zero": trades_frame(price=0),
    "a volume of zero": trades_frame(qty=0.0),
    "a state that writes to the terminal": json.dumps(
        {"channel": "status", "type": "update", "data": [{"system": "\x1b]52;c;eA==\x07"}]}
    ),
    "a state of 100 kB": json.dumps(
        {"channel": "status", "type": "update", "data": [{"system": "x" * 100_000}]}
    ),
    "a price of NaN": trades_frame(price=float("nan")),
    "an interval of 400 digits": json.dumps(
        {"method": "subscribe", "result": {"channel": "ohlc", "symbol": "X", "interval": 10**400}}
    ),
    "deep": "[" * 500_000,
    "half a character": trades_frame(symbol="\ud800"),
    "not even text": "\x00\x1b]52;c;x\x07",
    "a list": "[]",
    "empty": "",
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_frame_that_cannot_be_read_is_counted_and_the_feed_goes_on(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [trades_frame(trade_id=6), UNREADABLE[name], trades_frame(trade_id=8)]
    async with serving(sending(frames)) as url:
        client = KrakenWebSocketClient(url, limits=AT_ONCE)
        client.subscribe_trades("BTC/USD", snapshot=False)
        found = await events_until(client, lambda events: trades_of(events)[-1:] == [8])
    assert [type(event) for event in found[:4]] == [Connected, Alive, Trades, Malformed]
    assert (trades_of(found)[:2], client.malformed) == ([6, 8], 1)
    assert all(len(message) < 1_000 and message.isprintable() for message in caplog.messages)


async def test_a_mistake_of_ours_in_one_frame_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(frame: bytes) -> Any:
        if b'"trade_id": 7' in frame:
            raise OverflowError("date value out of range")
        return decode_frame(frame)

    monkeypatch.setattr(websocket, "decode_frame", read)
    async with serving(sending([trades_frame(), trades_frame(trade_id=8)])) as url:
        client = KrakenWebSocketClient(url, limits=AT_ONCE)
        client.subscribe_trades("BTC/USD", snapshot=False)
        found = await events_until(client, lambda events: trades_of(events)[-1:] == [8])
    assert (trades_of(found), client.malformed) == ([8], 1)


async def test_a_thousand_frames_that_cannot_be_read_are_a_few_lines(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(sending(["nonsense"] * 1_000 + [trades_frame()])) as url:
        client = KrakenWebSocketClient(url, limits=AT_ONCE)
        client.subscribe_trades("BTC/USD", snapshot=False)
        await events_until(client, lambda events: trades_of(events) == [7])
    assert client.malformed == 1_000
    assert len(caplog.messages) <= LINES + 1


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

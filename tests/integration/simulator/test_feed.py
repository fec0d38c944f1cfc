"""The exchange's WebSocket, asked by hand: frames as in Kraken's recordings, and the trades of its REST."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import aiohttp
import pytest

from kraken_db.simulator import FeedFaults, Market, Scenario, SimulatedExchange, feed_url
from tests.support.simulator_requests import ask, page

BTC, ETH = "BTC/USD", "ETH/USD"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Socket:
    """A client that checks nothing."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self.socket = socket

    async def say(self, method: str, **rest: Any) -> None:
        await self.socket.send_str(json.dumps({"method": method} | rest))

    async def subscribe(self, channel: str, *symbols: str, **params: Any) -> None:
        await self.say("subscribe", params={"channel": channel, "symbol": list(symbols)} | params)

    async def hear(self, seconds: float = 5.0) -> dict[str, Any]:
        """The next frame; numbers stay texts."""
        message = await self.socket.receive(timeout=seconds)
        assert message.type is aiohttp.WSMsgType.TEXT, message
        document: dict[str, Any] = json.loads(message.data, parse_float=str, parse_int=str)
        return document

    async def trades(self, count: int, symbol: str = BTC) -> list[dict[str, Any]]:
        """At least so many, of updates."""
        rows: list[dict[str, Any]] = []
        while len(rows) < count:
            frame = await self.hear()
            if frame.get("channel") == "trade" and frame["type"] == "update":
                rows += [row for row in frame["data"] if row["symbol"] == symbol]
        return rows


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Socket]:
    async with aiohttp.ClientSession() as session, session.ws_connect(feed_url(url)) as socket:
        yield Socket(socket)


def market(symbol: str = BTC) -> Market:
    """About 500 trades a second, in runs of one stamp."""
    start = datetime.now(UTC) - timedelta(seconds=30)
    return Market(symbol, seed=3, start=start, trades_per_minute=30_000, scenario=Scenario.SAME_STAMPS)


@pytest.fixture
async def exchange() -> AsyncIterator[tuple[SimulatedExchange, str]]:
    made = SimulatedExchange([market(), market(ETH)])
    async with made.serve() as url:
        yield made, url


async def test_what_is_said_without_being_asked(exchange: tuple[SimulatedExchange, str]) -> None:
    async with connected(exchange[1]) as socket:
        status = await socket.hear()
        assert status["channel"] == "status"
        assert (status["data"][0]["system"], status["data"][0]["api_version"]) == ("online", "v2")
        await socket.say("ping", req_id=9)
        pong = await socket.hear()
        assert (pong["method"], pong["req_id"]) == ("pong", "9")
        at = datetime.fromisoformat(pong["time_in"])
        assert abs(at - datetime.now(UTC)) < timedelta(seconds=60)


async def test_acknowledged_and_refused_symbol_by_symbol(exchange: tuple[SimulatedExchange, str]) -> None:
    async with connected(exchange[1]) as socket:
        await socket.hear()
        await socket.subscribe("trade", BTC, "XBT/USDT")
        ack, refusal = await socket.hear(), await socket.hear()
        assert ack["result"] == {"channel": "trade", "symbol": BTC, "snapshot": False}
        assert ack["success"] is True
        # As in the recording of a refusal.
        assert (refusal["error"], refusal["method"], refusal["success"], refusal["symbol"]) == (
            "Currency pair not supported XBT/USDT",
            "subscribe",
            False,
            "XBT/USDT",
        )
        assert {"time_in", "time_out"} <= refusal.keys()
        assert await socket.trades(1), "the other goes on"


async def test_snapshots_are_off_for_trades_and_on_for_candles(
    exchange: tuple[SimulatedExchange, str],
) -> None:
    async with connected(exchange[1]) as socket:
        await socket.hear()
        await socket.subscribe("trade", BTC)
        await socket.subscribe("ohlc", ETH)
        kinds: dict[str, str] = {}
        while len(kinds) < 2:
            frame = await socket.hear()
            if "channel" in frame:
                kinds.setdefault(frame["channel"], frame["type"])
        assert kinds == {"trade": "update", "ohlc": "snapshot"}


async def test_trades_are_those_of_rest(exchange: tuple[SimulatedExchange, str]) -> None:
    """Ids without a hole from the snapshot on; contents of REST; stamps 1 or 2 us below REST's."""
    url = exchange[1]
    async with connected(url) as socket, aiohttp.ClientSession(url) as http:
        await socket.hear()
        await socket.subscribe("trade", BTC, snapshot=True)
        await socket.hear()
        snapshot = await socket.hear()
        assert (snapshot["type"], len(snapshot["data"])) == ("snapshot", 50)
        rows = snapshot["data"] + await socket.trades(100)
        ids = [int(row["trade_id"]) for row in rows]
        assert ids == list(range(ids[0], ids[0] + len(ids)))
        first = datetime.fromisoformat(rows[0]["timestamp"])
        since = (first - EPOCH) // timedelta(microseconds=1) * 1000
        texts, _ = await page(http, "XBTUSD", str(since))
        by_id = {text.trade_id: text for text in texts}
        for row in rows:
            text = by_id[int(row["trade_id"])]
            assert row["side"][0] == text.side
            assert row["ord_type"][0] == text.order_type
            assert row["qty"] == text.volume
            assert (row["price"], text.price) == (text.price[:-4], row["price"] + "0000"), "zeros are kept"
            seconds, _, fraction = text.time.partition(".")
            rest = EPOCH + timedelta(seconds=int(seconds), microseconds=int(fraction[:6].ljust(6, "0")))
            below = rest - datetime.fromisoformat(row["timestamp"])
            assert timedelta(microseconds=1) <= below <= timedelta(microseconds=2)


async def test_candles_are_those_of_rest(exchange: tuple[SimulatedExchange, str]) -> None:
    async with connected(exchange[1]) as socket, aiohttp.ClientSession(exchange[1]) as http:
        await socket.hear()
        await socket.subscribe("ohlc", BTC, interval=1)
        ack, snapshot = await socket.hear(), await socket.hear()
        assert ack["result"]["warnings"] == ["timestamp is deprecated, use interval_begin"]
        answer = await ask(http, "OHLC", pair="XBTUSD", interval=1)
        rest = {int(row[0]): row for row in answer["result"]["XXBTZUSD"]}
        candle = snapshot["data"][0]
        begins = datetime.fromisoformat(candle["interval_begin"])
        row = rest[int(begins.timestamp())]
        assert candle["open"] == row[1]
        if len(snapshot["data"]) > 1:  # complete: it cannot have changed
            names = ("open", "high", "low", "close", "vwap", "volume")
            assert [candle[name] for name in names] == row[1:7]
        assert datetime.fromisoformat(candle["timestamp"]) - begins == timedelta(minutes=1)
        update = await socket.hear()
        assert (update["type"], len(update["data"])) == ("update", 1)


async def test_unsubscribing_and_heartbeats(exchange: tuple[SimulatedExchange, str]) -> None:
    async with connected(exchange[1]) as socket:
        await socket.hear()
        await socket.subscribe("trade", BTC)
        await socket.trades(1)
        await socket.say("unsubscribe", params={"channel": "trade", "symbol": [BTC]}, req_id=4)
        while (frame := await socket.hear()).get("method") != "unsubscribe":
            pass
        assert (frame["success"], frame["req_id"]) == (True, "4")
        with pytest.raises(TimeoutError):
            await socket.hear(0.3)
    quiet = SimulatedExchange([Market(BTC, trades=0)])
    async with quiet.serve() as url, connected(url) as socket:
        await socket.hear()
        await socket.subscribe("trade", BTC, snapshot=True)
        await socket.hear()
        assert await socket.hear() == {"channel": "heartbeat"}


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"method":"dance"}',
        '{"method":"subscribe"}',
        '{"method":"subscribe","params":{"channel":"book","symbol":["BTC/USD"]}}',
        '{"method":"subscribe","params":{"channel":"trade","symbol":"BTC/USD"}}',
        '{"method":"subscribe","params":{"channel":"ohlc","interval":7,"symbol":["BTC/USD"]}}',
        '{"method":"unsubscribe","params":{"channel":"trade","symbol":["BTC/USD"]}}',
    ],
)
async def test_what_cannot_be_is_refused_and_the_connection_stays(
    exchange: tuple[SimulatedExchange, str], text: str
) -> None:
    async with connected(exchange[1]) as socket:
        await socket.hear()
        await socket.socket.send_str(text)
        answer = await socket.hear()
        assert answer["success"] is False
        assert answer["error"]
        await socket.say("ping")
        assert (await socket.hear())["method"] == "pong"


async def test_an_idle_connection_is_closed(exchange: tuple[SimulatedExchange, str]) -> None:
    exchange[0].feed.idle_seconds = 0.2
    async with connected(exchange[1]) as socket:
        await socket.hear()
        assert (await socket.socket.receive(timeout=5)).type is not aiohttp.WSMsgType.TEXT


async def test_maintenance_is_told(exchange: tuple[SimulatedExchange, str]) -> None:
    async with connected(exchange[1]) as socket:
        await socket.hear()
        await socket.subscribe("trade", BTC)
        await socket.trades(1)
        exchange[0].feed.announce("maintenance")
        while (frame := await socket.hear()).get("channel") != "status":
            pass
        assert frame["data"][0]["system"] == "maintenance"
        with pytest.raises(TimeoutError):
            while (await socket.hear(0.4)).get("channel") in ("trade", "heartbeat"):
                pass
        exchange[0].feed.announce("online")
        assert await socket.trades(1)


async def faulty(faults: FeedFaults, seconds: float = 1.5) -> tuple[list[int], SimulatedExchange, bool]:
    """The ids that came within some time, and whether the connection has ended."""
    made = SimulatedExchange([market()], feed_faults=faults)
    ids: list[int] = []
    async with made.serve() as url, connected(url) as socket:
        await socket.hear()
        await socket.subscribe("trade", BTC, snapshot=True)
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > 0:
            try:
                message = await socket.socket.receive(timeout=left)
            except TimeoutError:
                break
            if message.type is not aiohttp.WSMsgType.TEXT:
                return ids, made, True
            frame = json.loads(message.data)
            if frame.get("channel") == "trade":
                ids += [row["trade_id"] for row in frame["data"]]
    return ids, made, False


def holes(ids: list[int]) -> int:
    return sum(after > before + 1 for before, after in pairwise(ids))


async def test_faults() -> None:
    ids, made, has_ended = await faulty(FeedFaults(cut=100))
    assert (has_ended, holes(ids), made.feed.counts.cuts) == (True, 0, 1)
    assert 50 + 50 <= len(ids) <= 50 + 175
    ids, made, has_ended = await faulty(FeedFaults(lost=0.3))
    assert (has_ended, made.feed.counts.lost > 0, holes(ids) > 0) == (False, True, True)
    ids, made, has_ended = await faulty(FeedFaults(duplicates=7), 0.8)
    assert (len(ids) - len(set(ids)), holes(ids)) == (7, 0)
    for fault in (FeedFaults(silence=1), FeedFaults(mute=1)):
        ids, made, has_ended = await faulty(fault, 0.8)
        assert (has_ended, made.feed.counts.frames) == (False, 1)
    ids, made, _ = await faulty(FeedFaults(burst=1, burst_seconds=0.3), 1.2)
    assert made.feed.counts.bursts > 1
    assert holes(ids) == 0
    ids, made, _ = await faulty(FeedFaults(refused=1), 0.3)
    assert (ids, made.feed.counts.refusals) == ([], 1)


async def test_silence_says_no_heartbeat_and_muteness_does() -> None:
    for fault, is_heard in ((FeedFaults(silence=1), False), (FeedFaults(mute=1), True)):
        made = SimulatedExchange([market()], feed_faults=fault)
        async with made.serve() as url, connected(url) as socket:
            await socket.hear()
            await socket.subscribe("trade", BTC)
            await socket.trades(1)
            await socket.say("ping")
            try:
                heard = await socket.hear(0.5)
            except TimeoutError:
                heard = {}
            assert (heard.get("method") == "pong") is is_heard


async def test_too_many_frames_are_refused_in_both_spellings() -> None:
    made = SimulatedExchange([Market(BTC, trades=0)], feed_faults=FeedFaults(msg_rate=1))
    async with made.serve() as url, connected(url) as socket:
        await socket.hear()
        for number in range(3):
            await socket.say("ping", req_id=number)
        answers = [await socket.hear() for _ in range(3)]
    assert answers[0]["method"] == "pong"
    assert answers[1] == {"Error": "Exceeded msg rate"}
    assert (answers[2]["error"], answers[2]["success"]) == ("Exceeded msg rate", False)
    assert made.feed.counts.too_fast == 2


async def test_a_connection_that_only_answers_and_one_without_heartbeats() -> None:
    for faults, kinds in (
        (FeedFaults(answers_only=1), {"subscribe", "pong"}),
        (FeedFaults(no_heartbeats=1), {"subscribe", "pong", "trade"}),
        (FeedFaults(no_snapshot=1), {"subscribe", "pong", "heartbeat"}),
    ):
        made = SimulatedExchange([Market(BTC, trades=100)], feed_faults=faults)
        made.feed.heartbeat_seconds = 0.1
        heard: set[str] = set()
        async with made.serve() as url, connected(url) as socket:
            await socket.hear()
            await socket.subscribe("trade", BTC, snapshot=True)
            await socket.say("ping")
            with contextlib.suppress(TimeoutError):
                for _ in range(6):
                    frame = await socket.hear(0.5)
                    heard.add(frame.get("channel") or frame["method"])
        assert heard == kinds


async def test_listed_and_delisted_on_the_way() -> None:
    made = SimulatedExchange([market()])
    async with made.serve() as url, connected(url) as socket, aiohttp.ClientSession(url) as http:
        await socket.hear()
        await socket.subscribe("trade", BTC)
        await socket.trades(1)
        new = Market("NEW/USD", start=datetime.now(UTC), trades_per_minute=6_000, scenario=Scenario.CALM)
        made.list_market(new)
        made.delist(BTC)
        listed = (await ask(http, "AssetPairs"))["result"]
        assert "NEWUSD" in listed
        assert "XXBTZUSD" not in listed
        assert (await ask(http, "Trades", pair="XBTUSD"))["error"] == ["EQuery:Unknown asset pair"]
        assert (await ask(http, "Trades", pair="NEWUSD"))["error"] == []
        await socket.subscribe("trade", "NEW/USD", BTC)
        assert await socket.trades(2, "NEW/USD")
        await socket.subscribe("trade", BTC)
        while (frame := await socket.hear()).get("method") != "subscribe":
            assert frame.get("channel") != "trade" or frame["data"][0]["symbol"] == "NEW/USD"
        assert frame["error"] == f"Currency pair not supported {BTC}"

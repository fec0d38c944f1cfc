"""WebSocket v2 of the simulated exchange: the same trades as in its REST, as they happen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import WSCloseCode, web

from kraken_db.simulator import feed_frames as frames
from kraken_db.simulator.clock import Clock
from kraken_db.simulator.faults import SystemState
from kraken_db.simulator.feed_faults import FeedFaults, FeedPlan
from kraken_db.simulator.feed_requests import (
    FeedRequest,
    Key,
    RequestRefusedError,
    check_symbol,
    read_request,
)
from kraken_db.simulator.feed_socket import FeedCounts, FeedSocket, Subscription
from kraken_db.simulator.market import Market
from kraken_db.simulator.ohlc import CandleBook
from kraken_db.simulator.tape import SECOND

TICK = 0.02
"""Seconds between two looks at what has happened."""
SNAPSHOT_TRADES = 50
MOST_IN_A_FRAME = 25
"""Trades; Kraken puts several into one where they happen at once."""
SNAPSHOT_CANDLES = 10
_FIRST_CONNECTION = 16_174_536_464_690_282_000
_LARGEST_REQUEST = 100_000  # bytes


class Feed:
    """``listed``: names of pairs that can be subscribed to though they have no trades.

    ``idle_seconds``: a connection without a subscription is closed after so long.
    """

    def __init__(
        self, markets: Iterable[Market], listed: Iterable[str], faults: FeedFaults, clock: Clock
    ) -> None:
        self.counts = FeedCounts()
        self.idle_seconds = 60.0
        self.state: SystemState = "online"
        self._markets = {market.symbol: market for market in markets}
        self._known = frozenset({*self._markets, *listed})
        self._faults = faults
        self._clock = clock
        self._sockets: set[FeedSocket] = set()
        self._books: dict[Key, CandleBook] = {}
        self._sent = dict.fromkeys(self._markets, 0)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this lasts, time goes by and trades are sent."""
        self._look()
        pump = asyncio.create_task(self._pump())
        try:
            yield
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            await asyncio.gather(
                *(socket.response.close(code=WSCloseCode.GOING_AWAY) for socket in self._sockets),
                return_exceptions=True,
            )

    def announce(self, state: SystemState) -> None:
        """Tell all clients that the exchange is in this state now. Only ``online`` has trades."""
        self.state = state
        self._to_all(lambda socket: socket.send(self._status()))

    def cut_all(self) -> None:
        """End every connection."""
        self._to_all(lambda socket: socket.cut())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """A connection, from its beginning to its end."""
        response = web.WebSocketResponse(max_msg_size=_LARGEST_REQUEST, timeout=1.0)
        await response.prepare(request)
        self.counts.connections += 1
        plan = FeedPlan(self._faults, self.counts.connections)
        socket = FeedSocket(response, request, plan, self.counts)
        self._sockets.add(socket)
        socket.send(self._status())
        writer = asyncio.create_task(socket.serve())
        try:
            while (text := await socket.read()) is not None:
                self._answer(socket, text)
        finally:
            self._sockets.discard(socket)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return response

    def _answer(self, socket: FeedSocket, text: str) -> None:
        now = self._clock()
        try:
            request = read_request(text)
        except RequestRefusedError as refused:
            told = (refused.method, refused.error, refused.symbol, refused.req_id, now)
            socket.send(frames.refused(*told))
            return
        if request.method == "ping":
            socket.send(frames.pong(request.req_id, now))
        for key in request.keys:
            try:
                self._subscribe(socket, request, key, now)
            except RequestRefusedError as refused:
                self.counts.refusals += 1
                socket.send(
                    frames.refused(request.method, refused.error, refused.symbol, request.req_id, now)
                )

    def _subscribe(self, socket: FeedSocket, request: FeedRequest, key: Key, now: int) -> None:
        result: dict[str, Any] = {"channel": key.channel, "symbol": key.symbol}
        if key.interval:
            result |= {"interval": key.interval}
        if request.method == "unsubscribe":
            if socket.subscriptions.pop(key, None) is None:
                raise RequestRefusedError("Subscription Not Found", symbol=key.symbol)
            socket.send(frames.accepted("unsubscribe", result, request.req_id, now))
            return
        check_symbol(key, self._known, request.method)
        if key in socket.subscriptions:
            raise RequestRefusedError("Already subscribed", symbol=key.symbol)
        if socket.plan.happens(self._faults.refused):
            raise RequestRefusedError("Subscription refused, try again later", symbol=key.symbol)
        self.counts.subscriptions += 1
        result |= {"snapshot": request.snapshot}
        if key.interval:
            result |= {"warnings": ["timestamp is deprecated, use interval_begin"]}
        socket.subscriptions[key] = Subscription(self._faults.duplicates if request.snapshot else 0)
        socket.send(frames.accepted("subscribe", result, request.req_id, now))
        if request.snapshot and self.state == "online" and key.symbol in self._markets:
            self._send_snapshot(socket, key, now)

    def _send_snapshot(self, socket: FeedSocket, key: Key, now: int) -> None:
        market, there = self._markets[key.symbol], self._sent[key.symbol]
        if key.channel == "ohlc":
            rows, _ = self._book(key).answer(now, None)
            rows = [row for row in rows if row[-1]][-SNAPSHOT_CANDLES:]
            socket.send(frames.candles(key.symbol, key.interval, rows, "snapshot", now))
        elif there:
            socket.send(frames.trades(market, max(0, there - SNAPSHOT_TRADES), there, "snapshot"))

    async def _pump(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            if self.state == "online":
                self._look()
            self._to_all(lambda socket: socket.tick(frames.HEARTBEAT))
            self._to_all(lambda socket: socket.close_idle(self.idle_seconds))

    def _look(self) -> None:
        """Send what has happened since the last look."""
        now = self._clock()
        for symbol, market in self._markets.items():
            before, there = self._sent[symbol], market.count_at(now)
            self._sent[symbol] = there
            if there > before and self._sockets:
                for socket in list(self._sockets):
                    for key in [key for key in socket.subscriptions if key.symbol == symbol]:
                        self._send_update(socket, key, before, there, now)

    def _send_update(self, socket: FeedSocket, key: Key, before: int, there: int, now: int) -> None:
        market = self._markets[key.symbol]
        if key.channel == "ohlc":
            step = key.interval * 60
            first = market.stamp(before) // SECOND // step * step
            rows, _ = self._book(key).answer(now, first - step)
            rows = [row for row in rows if row[0] >= first]
            socket.send(frames.candles(key.symbol, key.interval, rows, "update", now))
            return
        subscription = socket.subscriptions[key]
        start = max(0, before - subscription.repeats)
        subscription.repeats = 0
        for begin in range(start, there, MOST_IN_A_FRAME):
            stop = min(begin + MOST_IN_A_FRAME, there)
            socket.send_trades(key, frames.trades(market, begin, stop, "update"), stop - begin)

    def _book(self, key: Key) -> CandleBook:
        plain = key._replace(channel="ohlc")
        if plain not in self._books:
            self._books[plain] = CandleBook(self._markets[key.symbol], key.interval)
        return self._books[plain]

    def _status(self) -> str:
        return frames.status(self.state, _FIRST_CONNECTION + self.counts.connections)

    def _to_all(self, what: Callable[[FeedSocket], None]) -> None:
        for socket in list(self._sockets):
            with contextlib.suppress(ConnectionError):
                what(socket)

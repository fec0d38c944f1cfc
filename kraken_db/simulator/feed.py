"""WebSocket v2 of the simulated exchange: the same trades as in its REST, as they happen.

What clients ask is read and checked as Kraken would. Each client has a socket of its own: what it has
subscribed to, what is on its way to it, and what goes wrong there.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import WSCloseCode, WSMsgType, web

from kraken_db.simulator import feed_frames as frames
from kraken_db.simulator import transport
from kraken_db.simulator.clock import Clock
from kraken_db.simulator.faults import FeedFaults, FeedPlan, SystemState
from kraken_db.simulator.market import INTERVALS, CandleBook, Market
from kraken_db.simulator.tape import SECOND

_CHANNELS = ("trade", "ohlc")


class Key(NamedTuple):
    """What a subscription is for. ``interval`` in minutes, 0 of trades."""

    channel: str
    symbol: str
    interval: int


class RequestRefusedError(Exception):
    """A request that gets an error; ``symbol`` where it is about one."""

    def __init__(self, error: str, method: str | None = None, symbol: str | None = None) -> None:
        super().__init__(error)
        self.error = error
        self.method = method
        self.symbol = symbol
        self.req_id: int | None = None


@dataclass(frozen=True, slots=True)
class FeedRequest:
    """A ping, or what to subscribe or unsubscribe, symbol by symbol."""

    method: str
    req_id: int | None
    keys: tuple[Key, ...] = ()
    snapshot: bool = False


def read_request(text: str) -> FeedRequest:
    """Raises RequestRefusedError for a request that is refused as a whole.

    Kraken's words for that are not known; clients can only tell that it is a refusal.
    """
    try:
        document = json.loads(text)
        method, req_id = document["method"], document.get("req_id")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RequestRefusedError("Malformed request") from None
    try:
        return _checked(method, req_id, document.get("params"))
    except RequestRefusedError as refused:
        refused.req_id = req_id if isinstance(req_id, int) else None
        raise


def _checked(method: Any, req_id: Any, params: Any) -> FeedRequest:
    if req_id is not None and type(req_id) is not int:
        raise RequestRefusedError("Malformed request")
    if method == "ping":
        return FeedRequest("ping", req_id)
    if method not in ("subscribe", "unsubscribe"):
        raise RequestRefusedError("Unsupported method")
    if not isinstance(params, dict):
        raise RequestRefusedError("Params object is missing", method)
    channel, symbols = params.get("channel"), params.get("symbol")
    if channel not in _CHANNELS:
        raise RequestRefusedError("Channel not supported", method)
    if not isinstance(symbols, list) or not symbols or not all(isinstance(one, str) for one in symbols):
        raise RequestRefusedError("Symbol(s) not found", method)
    interval = params.get("interval", 1) if channel == "ohlc" else 0
    if channel == "ohlc" and interval not in INTERVALS:
        raise RequestRefusedError("Subscription interval not supported", method)
    snapshot = params.get("snapshot", channel == "ohlc")
    return FeedRequest(method, req_id, tuple(Key(channel, one, interval) for one in symbols), bool(snapshot))


def check_symbol(key: Key, known: Collection[str], method: str) -> None:
    """Raises RequestRefusedError for a pair that is not traded under that name."""
    if key.symbol not in known:
        raise RequestRefusedError(f"Currency pair not supported {key.symbol}", method, key.symbol)


MOST_WAITING = 20_000
"""Frames that a client may leave unread before it is cut off."""
HEARTBEAT_EVERY = 1.0
"""Seconds without another frame after which there is a heartbeat."""
_RESTART = b"Service Restart"


@dataclass(slots=True)
class Subscription:
    repeats: int = 0
    """Trades of the snapshot that the first update brings once more."""
    is_muted: bool = False


@dataclass(slots=True)
class FeedCounts:
    """What has happened so far, on all connections."""

    connections: int = 0
    subscriptions: int = 0
    refusals: int = 0
    frames: int = 0
    """With trades, sent."""
    lost: int = 0
    """With trades, lost on purpose."""
    cuts: int = 0
    silences: int = 0
    mutes: int = 0
    bursts: int = 0
    heard: int = 0
    """Frames of clients."""
    too_fast: int = 0
    """Those of them that were refused for their rate."""
    without_snapshot: int = 0
    answers_only: int = 0
    """Connections that only answer."""
    without_heartbeats: int = 0
    """Connections without them."""


@dataclass(eq=False)
class FeedSocket:
    """Sends in order and never waits for its client."""

    response: web.WebSocketResponse
    request: web.Request
    plan: FeedPlan
    counts: FeedCounts
    subscriptions: dict[Key, Subscription] = field(default_factory=dict)
    is_silent: bool = False
    heard_at: float = field(default_factory=time.monotonic)
    """When the client has last said something."""
    _sent_at: float = field(default_factory=time.monotonic)
    _held: deque[str] = field(default_factory=deque)
    _held_until: float = 0.0
    _outbox: asyncio.Queue[str | None] = field(default_factory=lambda: asyncio.Queue(MOST_WAITING))
    _is_cut: bool = False

    async def serve(self) -> None:
        """Write what is sent until the connection ends."""
        with contextlib.suppress(ConnectionError, RuntimeError):  # the client has gone
            while (frame := await self._outbox.get()) is not None:
                await self.response.send_str(frame)
            if self.plan.closes_in_order():
                await self.response.close(code=WSCloseCode.SERVICE_RESTART, message=_RESTART)
        if not self.response.closed:
            transport.reset(self.request.transport)

    async def read(self) -> str | None:
        """What the client says next; None when it has gone."""
        message = await self.response.receive()
        if message.type is not WSMsgType.TEXT:
            return "" if message.type is WSMsgType.BINARY else None
        self.heard_at = time.monotonic()
        self.counts.heard += 1
        return str(message.data)

    def refuses(self) -> str | None:
        """The answer to the frame that has just come, if it is one too many."""
        if not self.plan.is_too_fast(self.heard_at):
            return None
        self.counts.too_fast += 1
        return frames.TOO_FAST if self.plan.spells_oddly else ""

    def send(self, frame: str) -> None:
        if self.is_silent or self._is_cut:
            return
        if self._held_until:
            self._held.append(frame)
            return
        self._put(frame)

    def send_trades(self, key: Key, frame: str, trades: int) -> None:
        """A frame with trades, and what goes wrong with it."""
        subscription, faults = self.subscriptions[key], self.plan.faults
        if subscription.is_muted or self.is_silent or self._is_cut or self.plan.answers_only:
            return
        if self.plan.happens(faults.lost):
            self.counts.lost += 1
            return
        if not self._held_until and self.plan.happens(faults.burst):
            self.counts.bursts += 1
            self._held_until = time.monotonic() + faults.burst_seconds
        self.counts.frames += 1
        self.send(frame)
        if self.plan.happens(faults.mute):
            self.counts.mutes += 1
            subscription.is_muted = True
        if self.plan.happens(faults.silence):
            self.counts.silences += 1
            self.is_silent = True
        if self.plan.is_cut_by(trades):
            self.cut()

    def cut(self) -> None:
        """End the connection behind what was sent."""
        if not self._is_cut:
            self.counts.cuts += 1
            self._is_cut = True
            self._end()

    def close_idle(self, after: float) -> None:
        """End it if its client has subscribed to nothing and said nothing for so many seconds."""
        if not self.subscriptions and time.monotonic() - self.heard_at > after and not self._is_cut:
            self._is_cut = True
            self._end()

    def tick(self, heartbeat: str, every: float) -> None:
        """Call this often: it lets go of what was held back, and sends heartbeats."""
        now = time.monotonic()
        if self._held_until and now >= self._held_until:
            self._held_until = 0.0
            while self._held:
                self._put(self._held.popleft())
        is_due = self.subscriptions and now - self._sent_at >= every
        if is_due and self.plan.has_heartbeats and not self.plan.answers_only:
            self.send(heartbeat)

    def _put(self, frame: str) -> None:
        self._sent_at = time.monotonic()
        try:
            self._outbox.put_nowait(frame)
        except asyncio.QueueFull:  # it does not read
            self._is_cut = True
            transport.reset(self.request.transport)

    def _end(self) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._outbox.put_nowait(None)


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

    ``idle_seconds``: a connection without a subscription is closed after so long. ``heartbeat_seconds``: a
    connection with one gets a heartbeat after so long without another frame.
    """

    def __init__(
        self, markets: Iterable[Market], listed: Iterable[str], faults: FeedFaults, clock: Clock
    ) -> None:
        self.counts = FeedCounts()
        self.idle_seconds = 60.0
        self.heartbeat_seconds = HEARTBEAT_EVERY
        self.state: SystemState = "online"
        self._markets = {market.symbol: market for market in markets}
        self._known = {*self._markets, *listed}
        self._faults = faults
        self._clock = clock
        self._sockets: set[FeedSocket] = set()
        self._books: dict[Key, CandleBook] = {}
        self._sent: dict[str, int] = {}
        self._coming: list[tuple[int, str]] = []
        """When the next trade of each market happens, as a heap."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this lasts, time goes by and trades are sent."""
        for symbol in self._markets:
            self._begin(symbol)
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

    def list_market(self, market: Market) -> None:
        """From now on there is one more."""
        self._markets[market.symbol] = market
        self._known.add(market.symbol)
        self._begin(market.symbol)

    def delist(self, symbol: str) -> None:
        """From now on nothing comes of it, and it cannot be subscribed to."""
        self._markets.pop(symbol, None)
        self._known.discard(symbol)
        for socket in self._sockets:
            for key in [key for key in socket.subscriptions if key.symbol == symbol]:
                del socket.subscriptions[key]

    def announce(self, state: SystemState) -> None:
        """Tell all clients that the exchange is in this state now. Only ``online`` has trades."""
        self.state = state
        self._to_all(lambda socket: socket.send(self._status()))

    @property
    def sent(self) -> Mapping[str, int]:
        """How many trades of each market have happened so far."""
        return self._sent

    def set_faults(self, faults: FeedFaults) -> None:
        """What goes wrong on the connections that are made from now on."""
        self._faults = faults

    def cut_all(self) -> None:
        """End every connection."""
        self._to_all(lambda socket: socket.cut())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """A connection, from its beginning to its end."""
        response = web.WebSocketResponse(max_msg_size=_LARGEST_REQUEST, timeout=1.0)
        await response.prepare(request)
        self.counts.connections += 1
        plan = FeedPlan(self._faults, self.counts.connections)
        self.counts.answers_only += plan.answers_only
        self.counts.without_heartbeats += not plan.has_heartbeats
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
            if (refusal := socket.refuses()) is not None:
                if refusal:
                    socket.send(refusal)
                    return
                raise RequestRefusedError("Exceeded msg rate", "subscribe")
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
        if not request.snapshot or self.state != "online" or key.symbol not in self._markets:
            return
        if socket.plan.answers_only or socket.plan.happens(self._faults.no_snapshot):
            self.counts.without_snapshot += 1
            return
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
            self._to_all(lambda socket: socket.tick(frames.HEARTBEAT, self.heartbeat_seconds))
            self._to_all(lambda socket: socket.close_idle(self.idle_seconds))

    def _begin(self, symbol: str) -> None:
        """What has happened so far is past: updates are of what comes."""
        self._sent[symbol] = self._markets[symbol].count_at(self._clock())
        self._await_next(symbol)

    def _await_next(self, symbol: str) -> None:
        market, there = self._markets[symbol], self._sent[symbol]
        if market.size is None or there < market.size:
            heapq.heappush(self._coming, (market.stamp(there), symbol))

    def _look(self) -> None:
        """Send what has happened since the last look."""
        now = self._clock()
        happened: list[str] = []
        while self._coming and self._coming[0][0] <= now:
            happened.append(heapq.heappop(self._coming)[1])
        for symbol in happened:
            market = self._markets.get(symbol)
            if market is None:
                continue  # delisted
            before, there = self._sent[symbol], market.count_at(now)
            self._sent[symbol] = there
            self._await_next(symbol)
            for socket in list(self._sockets):
                for key in [key for key in _keys(symbol) if key in socket.subscriptions]:
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


def _keys(symbol: str) -> list[Key]:
    """Everything that a subscription to a symbol can be for."""
    return [Key("trade", symbol, 0), *(Key("ohlc", symbol, interval) for interval in INTERVALS)]

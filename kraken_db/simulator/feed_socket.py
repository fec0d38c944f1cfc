"""One client's WebSocket: what it has subscribed to, what is on its way to it, and what goes wrong there."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass, field

from aiohttp import WSCloseCode, WSMsgType, web

from kraken_db.simulator import transport
from kraken_db.simulator.feed_faults import FeedPlan
from kraken_db.simulator.feed_requests import Key

MOST_WAITING = 20_000
"""Frames that a client may leave unread before it is cut off."""
HEARTBEAT_EVERY = 1.0
"""Seconds without another frame after which there is a heartbeat."""


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
                await self.response.close(code=WSCloseCode.SERVICE_RESTART)
        if not self.response.closed:
            transport.reset(self.request.transport)

    async def read(self) -> str | None:
        """What the client says next; None when it has gone."""
        message = await self.response.receive()
        if message.type is not WSMsgType.TEXT:
            return "" if message.type is WSMsgType.BINARY else None
        self.heard_at = time.monotonic()
        return str(message.data)

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
        if subscription.is_muted or self.is_silent or self._is_cut:
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

    def tick(self, heartbeat: str) -> None:
        """Call this often: it lets go of what was held back, and sends heartbeats."""
        now = time.monotonic()
        if self._held_until and now >= self._held_until:
            self._held_until = 0.0
            while self._held:
                self._put(self._held.popleft())
        if self.subscriptions and now - self._sent_at >= HEARTBEAT_EVERY:
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

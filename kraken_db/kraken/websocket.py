"""Kraken's WebSocket v2: https://docs.kraken.com/api/docs/websocket-v2/

::

    client = KrakenWebSocketClient()
    client.subscribe_trades("BTC/USD", "ETH/USD")
    async with aclosing(client.events()) as events:
        async for event in events:
            if isinstance(event, Trades):
                ...

A connection has limits of time and size, and all failures of the network are ExchangeErrors. About 150
attempts to connect in ten minutes, and Kraken bans the address for ten more: so attempts have a pace.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from kraken_db.errors import (
    ConfigurationError,
    ExchangeError,
    ExchangeFormatError,
    ExchangeRequestError,
    ExchangeThrottledError,
    ExchangeUnavailableError,
    TransientError,
)
from kraken_db.kraken.transport import network_failure, open_session, status_error
from kraken_db.kraken.websocket_messages import (
    Answer,
    Candles,
    Connected,
    Disconnected,
    Event,
    Malformed,
    Message,
    StatusChanged,
    Topic,
    Trades,
    decode_frame,
    ping_request,
)
from kraken_db.kraken.websocket_subscriptions import SubscriptionBook, Watch
from kraken_db.pairs import to_ws_symbol
from kraken_db.settings import Settings

MAX_FRAME = 2_000_000
"""Bytes. A snapshot of 50 trades has about 8,000."""
CONNECT_WITHIN = 20.0
CLOSE_WITHIN = 1.0
"""Seconds."""

_WHAT = "Kraken's WebSocket"
_VARIABLE = "KRAKEN_WS_URL"


class WebSocketConnection:
    """Made by ``open``. One task receives; any may send or close."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        self._socket = socket

    @classmethod
    async def open(
        cls, session: aiohttp.ClientSession, url: str, *, max_frame: int = MAX_FRAME
    ) -> WebSocketConnection:
        """Raises ExchangeUnavailableError and ExchangeThrottledError where trying again may help, else an
        ExchangeRequestError or a ConfigurationError.
        """
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                socket = await session.ws_connect(
                    _as_http(url),
                    max_msg_size=max_frame,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WITHIN),
                    decode_text=False,
                )
        except aiohttp.WSServerHandshakeError as error:
            retry_after = error.headers.get("Retry-After") if error.headers else None
            refused = status_error(error.status, retry_after, _WHAT, time.time(), _VARIABLE)
            raise refused or ExchangeRequestError(
                f"{_WHAT}: there is none at the address", hint=f"check {_VARIABLE}"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # time-outs too
            raise network_failure(error, _WHAT, _VARIABLE) from error
        return cls(socket)

    async def send(self, frame: str) -> None:
        """Raises ExchangeUnavailableError when the connection has ended."""
        try:
            await self._socket.send_str(frame)
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            raise ExchangeUnavailableError("the connection has ended") from error

    async def receive(self, within: float) -> bytes | None:
        """The next frame; None if there was none within so many seconds.

        Raises ExchangeUnavailableError when the connection has ended, or brings what is no text.
        """
        try:
            message = await self._socket.receive(timeout=max(within, 0.001))
        except TimeoutError:
            return None
        if message.type is aiohttp.WSMsgType.TEXT:
            frame: bytes = message.data
            return frame
        raise ExchangeUnavailableError(_ending(message, self._socket))

    async def close(self) -> None:
        """With a word of farewell, which is not waited for long."""
        await self._socket.close()


def _ending(message: Any, socket: aiohttp.ClientWebSocketResponse[bool]) -> str:
    match message.type:
        case aiohttp.WSMsgType.CLOSE | aiohttp.WSMsgType.CLOSING:
            return f"closed by the other side (code {socket.close_code or message.data})"
        case aiohttp.WSMsgType.ERROR if socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG:
            return "a frame was larger than is allowed"
        case aiohttp.WSMsgType.ERROR | aiohttp.WSMsgType.CLOSED:
            return "the connection broke"
    return "what came is no text"


def _as_http(url: str) -> str:
    """Under this name aiohttp looks for the proxies that the environment names for HTTP."""
    return url.replace("ws", "http", 1)


def checked_ws_url(url: str) -> str:
    """Raises ConfigurationError for an address that cannot work."""
    hint = "e.g. wss://ws.kraken.com/v2, in KRAKEN_WS_URL"
    try:
        parts = urlsplit(url.strip())
        port_is_right = parts.port != 0
    except ValueError:
        raise ConfigurationError("the address of Kraken's WebSocket is not one", hint=hint) from None
    if parts.scheme not in ("ws", "wss") or not parts.hostname or not port_is_right:
        raise ConfigurationError(
            "the address of Kraken's WebSocket does not begin with wss://HOST", hint=hint
        )
    if parts.fragment or parts.username is not None:
        raise ConfigurationError(
            "the address of Kraken's WebSocket has more than a host and a path", hint=hint
        )
    return url.strip()


@dataclass(frozen=True, slots=True)
class ReconnectLimits:
    """Seconds, and numbers of attempts. The defaults stay inside of what Kraken allows."""

    at_once: int = 3
    """Attempts in a row without a pause; a connection that has lasted ``stable_after`` gives them back."""
    pause: float = 5.0
    """Between two attempts after that, at least."""
    jitter: float = 1.0
    """Up to so much more, by chance: not all clients come back at the same moment."""
    most: int = 140
    """In ``within`` seconds, whatever else is true."""
    within: float = 600.0
    stable_after: float = 60.0


class ReconnectPace:
    """Counts the attempts of one client; ``clock`` gives seconds and never runs backwards."""

    def __init__(
        self,
        limits: ReconnectLimits,
        clock: Callable[[], float],
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._draw = draw
        self._attempts: deque[float] = deque()
        self._in_a_row = 0
        self._connected_at: float | None = None

    def attempted(self) -> None:
        """An attempt begins now."""
        self._attempts.append(self._clock())
        self._in_a_row += 1

    def connected(self) -> None:
        self._connected_at = self._clock()

    def wait(self, asked: float = 0.0) -> float:
        """The connection has ended: seconds until the next attempt; ``asked``: at least so many."""
        now, limits = self._clock(), self._limits
        if self._connected_at is not None and now - self._connected_at >= limits.stable_after:
            self._in_a_row = 0
        self._connected_at = None
        while self._attempts and now - self._attempts[0] >= limits.within:
            self._attempts.popleft()
        pause = asked
        if self._in_a_row > limits.at_once:
            pause = max(pause, limits.pause)
        if len(self._attempts) >= limits.most:
            pause = max(pause, self._attempts[-limits.most] + limits.within - now)
        return pause + self._draw() * limits.jitter if pause else 0.0


CANDLE_INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
"""The minutes that the channel ``ohlc`` knows."""
FAREWELL = 1.0
"""Seconds that the last acknowledgements are waited for."""
THROTTLED_PAUSE = 60.0
"""Seconds before the next attempt where the address is refused and nothing is said of when it will not be."""

_LONGEST_WAIT = 0.5  # seconds between two looks at what is due
_PINGS_APART = 4

_log = logging.getLogger(__name__)


class KrakenWebSocketClient:
    """Receives what it was told to subscribe to, through every disconnect, as events.

    ``url``: by default what the settings say. It connects when ``events`` is read, and again whenever the
    connection ends, is silent or brings nothing, no more often than ``limits`` say; then it subscribes anew.
    What was missed in between it cannot know: trades have ids. ``watch``: what silence is. ``clock`` gives
    seconds and never runs backwards, ``now`` is this machine's time. A ``session``
    that is passed in is not closed here.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        limits: ReconnectLimits | None = None,
        watch: Watch | None = None,
        session: aiohttp.ClientSession | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        max_frame: int = MAX_FRAME,
    ) -> None:
        self.url = checked_ws_url(url or Settings.from_environment().kraken_ws_url)
        self.clock_offset: timedelta | None = None
        """How far Kraken's clock is ahead of this machine's; None while it has not answered."""
        self._watch = watch or Watch()
        self._clock = clock
        self._now = now
        self._max_frame = max_frame
        self._pace = ReconnectPace(limits or ReconnectLimits(), clock)
        self._book = SubscriptionBook(self._watch)
        self._session = session
        self._owns_session = session is None
        self._connection: WebSocketConnection | None = None
        self._stopping = asyncio.Event()
        self._heard_at = self._spoke_at = 0.0
        self._pinged_at: float | None = None
        self._attempts = 0
        self._was_connected = False

    @property
    def topics(self) -> list[Topic]:
        """All that is subscribed to, or will be."""
        return self._book.topics

    def subscribe_trades(self, *symbols: str, snapshot: bool = True) -> None:
        """``snapshot``: begin, after each reconnect too, with the last 50 trades. Raises PairError."""
        for symbol in symbols:
            self._book.add(Topic("trade", to_ws_symbol(symbol)), snapshot=snapshot)

    def subscribe_candles(self, *symbols: str, interval: int = 1, snapshot: bool = True) -> None:
        """Candles of ``interval`` minutes as they grow. Raises PairError and ConfigurationError."""
        if interval not in CANDLE_INTERVALS:
            known = ", ".join(map(str, CANDLE_INTERVALS))
            raise ConfigurationError(f"Kraken has no candles of {interval} minutes", hint=f"it has {known}")
        for symbol in symbols:
            self._book.add(Topic("ohlc", to_ws_symbol(symbol), interval), snapshot=snapshot)

    async def unsubscribe(self, *topics: Topic) -> None:
        """Trades may still come until ``Unsubscribed``."""
        for frame in self._book.leave(list(topics)):
            await self._say(frame)

    async def stop(self) -> None:
        """Unsubscribe from everything and close: ``events`` ends within ``FAREWELL`` seconds or so.

        What comes in between is still handed out.
        """
        if not self._stopping.is_set():
            self._stopping.set()
            await self.unsubscribe(*self._book.topics)

    async def events(self) -> AsyncGenerator[Event]:
        """Everything that happens, in order, until ``stop``; to be read by one task at a time.

        Raises ExchangeRequestError and ConfigurationError where no other attempt would help.
        """
        try:
            while not self._stopping.is_set():
                ended: ExchangeError | None = None
                try:
                    async with aclosing(self._connected()) as events:
                        async for event in events:
                            yield event
                except (ExchangeUnavailableError, ExchangeThrottledError, ExchangeRequestError) as error:
                    if isinstance(error, ExchangeRequestError) and not self._was_connected:
                        raise  # a wrong address; later it is something on the way that passes
                    ended = error
                if ended is None or self._stopping.is_set():
                    break
                pause = self._pace.wait(_pause_after(ended))
                yield Disconnected(ended.message, pause)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause or 0.001)
        finally:
            if self._owns_session and self._session is not None:
                session, self._session = self._session, None
                await session.close()

    async def _connected(self) -> AsyncGenerator[Event]:
        """One connection from its beginning to its end; it ends by itself only on ``stop``."""
        if self._session is None:
            self._session = open_session()
        self._pace.attempted()
        self._attempts += 1
        connection = await WebSocketConnection.open(self._session, self.url, max_frame=self._max_frame)
        try:
            self._pace.connected()
            self._was_connected = True
            self._connection = connection
            self._heard_at = self._spoke_at = self._clock()
            self._pinged_at = None
            yield Connected(self._attempts)
            stopped_at: float | None = None
            while True:
                if self._stopping.is_set():
                    stopped_at = stopped_at or self._clock()
                    if self._book.is_empty or self._clock() - stopped_at > FAREWELL:
                        return
                for event in await self._look():
                    yield event
                frame = await connection.receive(self._wait())
                if frame is not None:
                    self._heard_at, self._pinged_at = self._clock(), None
                    for event in self._take(frame):
                        yield event
        finally:
            self._connection = None
            self._book.disconnected()
            await connection.close()

    async def _look(self) -> Iterable[Event]:
        """Do what is due: subscribe, ping, or give the connection up."""
        now, watch = self._clock(), self._watch
        silent = now - self._heard_at
        if silent >= watch.dead_after:
            raise ExchangeUnavailableError(f"nothing came for {silent:.1f} s")
        is_quiet = silent >= watch.ping_after and self._pinged_at is None
        if is_quiet or now - self._spoke_at >= _PINGS_APART * watch.ping_after:
            self._pinged_at = now
            await self._say(ping_request(self._book.next_number()))
        frames, events = self._book.due(now)
        for frame in frames:
            await self._say(frame)
        return events

    def _wait(self) -> float:
        return min(_LONGEST_WAIT, self._watch.ping_after / 4)

    async def _say(self, frame: str) -> None:
        if self._connection is not None:
            self._spoke_at = self._clock()
            with suppress(TransientError):  # whoever receives is told
                await self._connection.send(frame)

    def _take(self, frame: bytes) -> Iterable[Event]:
        try:
            messages = decode_frame(frame)
        except ExchangeFormatError as error:
            _log.error("%s", error)
            return [Malformed(error)]
        return [event for message in messages for event in self._events(message)]

    def _events(self, message: Message) -> list[Event]:
        now = self._clock()
        match message:
            case Trades(symbol, trades, is_snapshot):
                newest = max((trade.trade_id for trade in trades), default=0)
                self._book.heard(Topic("trade", symbol), now, newest_id=newest, is_snapshot=is_snapshot)
                return [message]
            case Candles(symbol, candles, is_snapshot):
                for interval in {candle.interval_minutes for candle in candles}:
                    topic = Topic("ohlc", symbol, interval)
                    self._book.heard(topic, now, newest_id=0, is_snapshot=is_snapshot)
                return [message]
            case StatusChanged():
                return [message]
            case Answer():
                return self._answered(message, now)
        return []

    def _answered(self, answer: Answer, now: float) -> list[Event]:
        if answer.at is not None:
            self.clock_offset = answer.at - self._now()
        if answer.method == "pong":
            return []
        return self._book.answered(answer, now)


def _pause_after(ended: ExchangeError) -> float:
    match ended:
        case ExchangeThrottledError():
            return ended.retry_after or THROTTLED_PAUSE
        case ExchangeRequestError():
            return THROTTLED_PAUSE
    return 0.0

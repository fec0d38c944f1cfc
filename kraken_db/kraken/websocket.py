"""Kraken's WebSocket v2: https://docs.kraken.com/api/docs/websocket-v2/

client = KrakenWebSocketClient()
client.subscribe_trades("BTC/USD", "ETH/USD")
async with aclosing(client.events()) as events:
    async for event in events:
        if isinstance(event, Trades):
            ...
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta

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
from kraken_db.kraken.transport import open_session
from kraken_db.kraken.websocket_connection import MAX_FRAME, WebSocketConnection, checked_ws_url
from kraken_db.kraken.websocket_events import (
    Candles,
    Connected,
    Disconnected,
    Event,
    Malformed,
    StatusChanged,
    Topic,
    Trades,
)
from kraken_db.kraken.websocket_messages import Answer, Message, decode_frame, ping_request
from kraken_db.kraken.websocket_pace import ReconnectLimits, ReconnectPace
from kraken_db.kraken.websocket_subscriptions import SubscriptionBook, Watch
from kraken_db.pairs import to_ws_symbol
from kraken_db.settings import Settings

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
                pause = self._pace.wait(_asked_pause(ended))
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


def _asked_pause(ended: ExchangeError) -> float:
    match ended:
        case ExchangeThrottledError():
            return ended.retry_after or THROTTLED_PAUSE
        case ExchangeRequestError():
            return THROTTLED_PAUSE
    return 0.0

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
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing, suppress
from datetime import datetime, timedelta
from typing import Any

import aiohttp

from kraken_db.errors import (
    ConfigurationError,
    ExchangeError,
    ExchangeFormatError,
    ExchangeRequestError,
    ExchangeThrottledError,
    ExchangeUnavailableError,
    KrakenDBError,
    TransientError,
    WrongValueError,
)
from kraken_db.kraken.transport import excerpt, network_failure, open_session, status_error
from kraken_db.kraken.websocket_messages import (
    Alive,
    Answer,
    Candles,
    Connected,
    Disconnected,
    Event,
    Malformed,
    Message,
    Other,
    StatusChanged,
    Topic,
    Trades,
    decode_frame,
    ping_request,
)
from kraken_db.kraken.websocket_pace import ReconnectLimits, ReconnectPace, RequestLimits, RequestPace
from kraken_db.kraken.websocket_subscriptions import SubscriptionBook, Watch
from kraken_db.log_throttle import LogThrottle
from kraken_db.pairs import to_ws_symbol
from kraken_db.retry import MAX_WAIT
from kraken_db.settings import Settings
from kraken_db.times import Clock, steady_now
from kraken_db.tolerances import CLOCK_IS_WRONG
from kraken_db.web_addresses import server_parts

MAX_FRAME = 2_000_000
"""Bytes. A snapshot of 50 trades has about 8,000."""
CONNECT_WITHIN = 10.0
SEND_WITHIN = 5.0
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
                    autoping=False,
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
        """Raises ExchangeUnavailableError when the connection has ended, or takes nothing any more."""
        try:
            async with asyncio.timeout(SEND_WITHIN):
                await self._socket.send_str(frame)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:  # time-outs too
            raise ExchangeUnavailableError("the connection has ended") from error

    async def receive(self, within: float) -> bytes | None:
        """The next frame; None if there was none within so many seconds.

        Raises ExchangeUnavailableError when the connection has ended, or brings what is no text.
        """
        try:
            message = await self._socket.receive(timeout=max(within, 0.001))
        except TimeoutError:
            return None
        match message.type:
            case aiohttp.WSMsgType.TEXT:
                frame: bytes = message.data
                return frame
            case aiohttp.WSMsgType.PING:  # nothing that was asked for: the silence goes on
                await self._pong(message.data)
                return None
            case aiohttp.WSMsgType.PONG:
                return None
        raise ExchangeUnavailableError(_ending(message, self._socket))

    async def _pong(self, payload: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_WITHIN):
                await self._socket.pong(payload)
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise ExchangeUnavailableError("the connection has ended") from error

    async def close(self) -> None:
        """With a word of farewell, which is not waited for long, whatever else comes meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * CLOSE_WITHIN):
                await self._socket.close()


async def _refuse_redirect(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """A WebSocket has no option for it: aiohttp would follow, from wss to ws and to another host, too."""
    response = await handler(request)
    if 300 <= response.status < 400:
        response.close()
        raise aiohttp.WSServerHandshakeError(
            response.request_info, response.history, status=response.status, headers=response.headers
        )
    return response


def _session_of(lent: aiohttp.ClientSession | None) -> aiohttp.ClientSession:
    """A session that follows no redirect; over the connections of one that was passed in, which stay open."""
    if lent is None:
        return open_session(_refuse_redirect)
    return aiohttp.ClientSession(
        connector=lent.connector,
        connector_owner=False,
        headers=lent.headers,
        auth=lent.auth,
        cookie_jar=lent.cookie_jar,
        trust_env=lent.trust_env,
        middlewares=(_refuse_redirect,),
    )


def _ending(message: Any, socket: aiohttp.ClientWebSocketResponse[bool]) -> str:
    match message.type:
        case aiohttp.WSMsgType.CLOSE | aiohttp.WSMsgType.CLOSING:
            said = f"{excerpt(message.extra)}, " if message.extra else ""
            return f"closed by the other side ({said}code {socket.close_code or message.data})"
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
    parts = server_parts(url.strip(), ("ws", "wss"))
    if parts is None:
        raise WrongValueError("the address of Kraken's WebSocket does not begin with wss://HOST", hint=hint)
    if parts.fragment or parts.username is not None:
        raise WrongValueError("the address of Kraken's WebSocket has more than a host and a path", hint=hint)
    return url.strip()


CANDLE_INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
"""The minutes that the channel ``ohlc`` knows."""
FAREWELL = 1.0
"""Seconds that the last acknowledgements are waited for."""
MOST_FAREWELLS = 4
"""Frames: more subscriptions than fit into them end with the connection alone."""
THROTTLED_PAUSE = 60.0
"""Seconds before the next attempt where the address is refused and nothing is said of when it will not be."""

_LONGEST_WAIT = 0.2  # seconds between two looks at what is due
_LOOKS_APART = 0.05  # at least, however many frames come
_AWAY = 2.0  # seconds without a look: this process did not run, or was busy
_HEARTBEAT_WITHIN = 2.5  # seconds without one after which we ask nothing that is not needed
_PINGS_APART = 4
_ONE_DAY = timedelta(days=1)
_CLOCKS_APART = timedelta(days=366)  # what is further away is no time at all

_log = logging.getLogger(__name__)


class KrakenWebSocketClient:
    """Receives what it has subscribed to, through every disconnect, as events.

    ``url``: by default what the settings say. It connects when ``events`` is read, and again whenever the
    connection ends, is silent or brings nothing, no more often than ``limits`` say; then it subscribes anew.
    What was missed in between it cannot know: trades have ids. ``watch``: what silence is.
    ``request_limits``: how many frames it sends. ``clock`` gives seconds and never runs backwards, ``now`` is
    this machine's time. A ``session`` that is passed in is not closed here.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        limits: ReconnectLimits | None = None,
        watch: Watch | None = None,
        request_limits: RequestLimits | None = None,
        session: aiohttp.ClientSession | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Clock = steady_now,
        max_frame: int = MAX_FRAME,
    ) -> None:
        self.url = checked_ws_url(url or Settings.from_environment().kraken_ws_url)
        self.clock_offset: timedelta | None = None
        """How far Kraken's clock is ahead of this machine's; None while it has not answered."""
        self.malformed = 0
        """Frames that could not be read; nothing of them was used."""
        self._throttle = LogThrottle(_log)
        self._watch = watch or Watch()
        self._clock = clock
        self._now = now
        self._max_frame = max_frame
        self._pace = ReconnectPace(limits or ReconnectLimits(), clock)
        self._book = SubscriptionBook(self._watch, RequestPace(request_limits or RequestLimits()))
        self._lent = session
        self._session: aiohttp.ClientSession | None = None
        self._connection: WebSocketConnection | None = None
        self._stopping = asyncio.Event()
        self._heard_at = self._spoke_at = self._looked_at = 0.0
        self._pinged_at: float | None = None
        self._ponged_at: float | None = None
        self._alive_at: float | None = None
        self._system: str | None = None
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
            frames = list(self._book.leave(self._book.topics))
            if len(frames) > MOST_FAREWELLS:
                self._book.forget()
                return
            for frame in frames:
                await self._say(frame)

    async def events(self) -> AsyncGenerator[Event]:
        """Everything that happens, in order, until ``stop``; to be read by one task at a time.

        Raises ExchangeRequestError, ExchangeThrottledError and ConfigurationError where no attempt of the
        next minutes would help, unless there has been a connection.
        """
        try:
            while not self._stopping.is_set():
                ended: ExchangeError | None = None
                try:
                    async with aclosing(self._connected()) as events:
                        async for event in events:
                            yield event
                except (ExchangeUnavailableError, ExchangeThrottledError, ExchangeRequestError) as error:
                    if _is_hopeless(error) and not self._was_connected:
                        raise  # a wrong address; later it is something on the way that passes
                    ended = error
                except KrakenDBError:
                    raise
                except Exception as error:  # of one connection: the next one begins anew
                    _log.debug("the connection", exc_info=error)
                    ended = ExchangeUnavailableError(f"internal error {type(error).__name__}: {error!s:.200}")
                if ended is None or self._stopping.is_set():
                    break
                pause = self._pace.wait(_pause_after(ended))
                _log.info("the connection ended: %s; again in %.1f s", ended.message, pause)
                yield Disconnected(ended.message, pause)
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause or 0.001):
                        await self._stopping.wait()
        finally:
            if self._session is not None:
                session, self._session = self._session, None
                await session.close()

    async def _connected(self) -> AsyncGenerator[Event]:
        """One connection from its beginning to its end; it ends by itself only on ``stop``."""
        if self._session is None:
            self._session = _session_of(self._lent)
        self._pace.attempted()
        self._attempts += 1
        connection = await WebSocketConnection.open(self._session, self.url, max_frame=self._max_frame)
        _log.info("connected to %s, attempt %d", self.url, self._attempts)
        try:
            self._pace.connected()
            self._was_connected = True
            self._connection = connection
            self._heard_at = self._spoke_at = self._clock()
            self._looked_at = self._clock() - _LOOKS_APART
            self._pinged_at = self._ponged_at = self._alive_at = self._system = None
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
                    for event in self._take(frame):
                        yield event
        finally:
            self._connection = None
            self._book.disconnected()
            await connection.close()

    async def _look(self) -> Iterable[Event]:
        """Do what is due: subscribe, ping, or give the connection up."""
        now, watch = self._clock(), self._watch
        if now - self._looked_at < _LOOKS_APART:
            return ()
        if now - self._looked_at >= _AWAY:  # what came while we did not listen is not read yet
            self._heard_at += now - self._looked_at
        self._looked_at = now
        self._give_up_if_dead(now)
        silent = now - max(self._heard_at, self._ponged_at or 0.0)
        is_quiet = silent >= watch.ping_after and self._pinged_at is None
        if is_quiet or now - self._spoke_at >= _PINGS_APART * watch.ping_after:
            self._pinged_at = now
            await self._say(ping_request(self._book.next_number()))
        # Answers to what we ask may be all that keeps Kraken from sending heartbeats, and all that comes.
        is_alive = self._alive_at is not None and now - self._alive_at < _HEARTBEAT_WITHIN
        frames, events = self._book.due(now, may_look=is_alive and self._is_online)
        for frame in frames:
            await self._say(frame)
        return events

    def _give_up_if_dead(self, now: float) -> None:
        silent = now - self._heard_at
        if silent >= self._watch.dead_after:
            if self._ponged_at is not None and self._ponged_at > self._heard_at:
                raise ExchangeUnavailableError(f"no heartbeat came for {silent:.1f} s, only answers to pings")
            raise ExchangeUnavailableError(f"nothing came for {silent:.1f} s")
        if self._is_online and (topic := self._book.missing_snapshot(now)) is not None:
            raise ExchangeUnavailableError(f"the snapshot of the {topic} did not come")

    @property
    def _is_online(self) -> bool:
        return self._system in (None, "online")

    def _wait(self) -> float:
        return min(_LONGEST_WAIT, self._watch.ping_after / 4)

    async def _say(self, frame: str) -> None:
        if self._connection is not None:
            self._spoke_at = self._clock()
            with suppress(TransientError):  # whoever receives learns of it
                await self._connection.send(frame)

    def _take(self, frame: bytes) -> Iterable[Event]:
        now = self._clock()
        self._pinged_at = None
        try:
            return [event for message in decode_frame(frame) for event in self._events(message, now)]
        except ExchangeFormatError as error:
            malformed = error
        except Exception as error:
            _log.debug("of a frame of %d bytes", len(frame), exc_info=error)
            malformed = ExchangeFormatError(
                f"{_WHAT}: a frame was not understood ({type(error).__name__}): {excerpt(frame)}"
            )
        self._heard_at = now
        self.malformed += 1
        self._throttle.say(logging.ERROR, "a frame was left out", str(malformed))
        return [Malformed(malformed)]

    def _events(self, message: Message, now: float) -> list[Event]:
        if isinstance(message, Answer) and message.method == "pong" and self._book.expects_more:
            self._ponged_at = now
        else:
            self._heard_at = now
        match message:
            case Trades(symbol, trades, is_snapshot):
                self._require_past(max((trade.timestamp for trade in trades), default=self._now()))
                newest = max((trade.trade_id for trade in trades), default=0)
                self._book.heard(Topic("trade", symbol), now, newest_id=newest, is_snapshot=is_snapshot)
                return [*self._alive(now, is_snapshot=is_snapshot), message]
            case Candles(symbol, candles, is_snapshot):
                for interval in {candle.interval_minutes for candle in candles}:
                    topic = Topic("ohlc", symbol, interval)
                    self._book.heard(topic, now, newest_id=0, is_snapshot=is_snapshot)
                return [*self._alive(now, is_snapshot=is_snapshot), message]
            case StatusChanged(system):
                self._system = system
                return [message]
            case Answer():
                return self._answered(message, now)
            case Other("heartbeat"):
                return self._alive(now)
        return []

    def _require_past(self, stamp: datetime) -> None:
        """By Kraken's clock, as far as it is known."""
        known, tolerated = self.clock_offset, CLOCK_IS_WRONG if self.clock_offset is not None else _ONE_DAY
        if stamp > self._now() + (known or timedelta()) + tolerated:
            raise ExchangeFormatError(f"{_WHAT}: a trade is stamped {stamp.isoformat()}, in the future")

    def _alive(self, now: float, *, is_snapshot: bool = False) -> list[Event]:
        if is_snapshot:
            return []
        is_first = self._alive_at is None
        self._alive_at = now
        return [Alive()] if is_first else []

    def _answered(self, answer: Answer, now: float) -> list[Event]:
        if answer.at is not None:
            offset = answer.at - self._now()
            if abs(offset) < _CLOCKS_APART:
                self.clock_offset = offset
        if answer.method == "pong":
            return []
        return self._book.answered(answer, now)


def _is_hopeless(error: ExchangeError) -> bool:
    """Whether no attempt of the next minutes can work."""
    asks_long = isinstance(error, ExchangeThrottledError) and (error.retry_after or 0.0) > MAX_WAIT
    return isinstance(error, ExchangeRequestError) or asks_long


def _pause_after(ended: ExchangeError) -> float:
    match ended:
        case ExchangeThrottledError():
            return min(ended.retry_after or THROTTLED_PAUSE, MAX_WAIT)
        case ExchangeRequestError():
            return THROTTLED_PAUSE
    return 0.0

"""WebSocketDBIntegration: what a WebSocket client receives is written, beside the trading code."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

from kraken_db.database_writer.messages import candle_of, symbol_of, trade_of
from kraken_db.database_writer.writer import DatabaseWriter
from kraken_db.errors import ConfigurationError, first_line
from kraken_db.ingest.rules import shown
from kraken_db.log_throttle import LogThrottle
from kraken_db.types import CandleRecord

FLUSH_SECONDS = 10.0
"""How long ``flush_current_candles`` waits for the database."""

Message = Mapping[str, Any] | Sequence[Mapping[str, Any]]
_MARK = "_kraken_db_integration"
_log = logging.getLogger(__name__)


class WebSocketDBIntegration:
    """Takes what a client receives and hands it to a writer. None of its methods ever raises.

    What cannot be used is counted in ``error_count`` and logged; the trading code never hears of it.
    """

    def __init__(self, db_writer: DatabaseWriter) -> None:
        self.db_writer = db_writer
        self.error_count = 0
        self._current: dict[tuple[str, int], CandleRecord] = {}
        self._throttle = LogThrottle(_log)

    async def on_trade(self, symbol: str, trade_data: Message) -> None:
        """Write a trade, or a list of them: ``price``, ``qty`` (or ``volume``), ``timestamp``, ``side``.

        ``trade_id`` and ``ord_type`` are taken where they are given. Numbers may be texts, Decimals, integers
        or floats, of which the shortest text counts. A time is an ISO text with a zone (of more than six
        decimals the others are cut off), seconds since 1970, or an aware datetime.
        """
        self.take_trade(symbol, trade_data)

    async def on_ohlc(self, symbol: str, ohlc_data: Message, interval: int = 1) -> None:
        """Write a candle, or a list of them, as it is by now; the version with the most trades is kept.

        ``open``, ``high``, ``low``, ``close``, ``volume``, ``trades``, ``vwap``, and ``timestamp``, which
        lies in the candle, usually where it opens. Where there is an ``interval_begin``, as in WebSocket v2,
        it opens then, and ``timestamp``, there the end, is not looked at. ``interval`` (in minutes) of the
        message counts before the argument.
        """
        self.take_ohlc(symbol, ohlc_data, interval)

    def take_trade(self, symbol: str, trade_data: Message) -> None:
        """``on_trade`` for code that is not asynchronous; from any thread."""
        self._in_loop(self._take_trade, symbol, trade_data)

    def take_ohlc(self, symbol: str, ohlc_data: Message, interval: int = 1) -> None:
        """``on_ohlc`` for code that is not asynchronous; from any thread."""
        self._in_loop(self._take_ohlc, symbol, ohlc_data, interval)

    async def flush_current_candles(self) -> None:
        """Have the running candles written as they are by now: on shutdown, before the writer's ``stop()``.

        Waits for the database for ten seconds at most; ``stop()`` takes care of what is not stored then.
        """
        with self._guarded("the running candles"):
            for candle in self._current.values():
                self.db_writer.put_candle(candle)
            self._current.clear()
            async with asyncio.timeout(FLUSH_SECONDS):
                await self.db_writer.flush()

    def _take_trade(self, symbol: str, message: Message) -> None:
        for data in _each(message):
            with self._guarded(data):
                self.db_writer.put_trade(trade_of(symbol_of(symbol, data), data))

    def _take_ohlc(self, symbol: str, message: Message, interval: int) -> None:
        for data in _each(message):
            with self._guarded(data):
                candle = candle_of(symbol_of(symbol, data), data, interval)
                self._current[candle.symbol, candle.interval_minutes] = candle
                self.db_writer.put_candle(candle)

    def _in_loop(self, take: Callable[..., None], symbol: str, message: Message, *more: Any) -> None:
        """The writer belongs to one event loop; a client may call its handlers from a thread of its own."""
        with self._guarded(message):
            loop = self.db_writer.loop
            if loop is None or _running_loop() is loop:
                take(symbol, message, *more)
            else:
                copies = []
                for data in _each(message):
                    with self._guarded(data):
                        copies.append(dict(data))
                loop.call_soon_threadsafe(take, symbol, copies, *more)

    @contextmanager
    def _guarded(self, what: object) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.error_count += 1
            reason = f"{_shown(what)}: {type(error).__name__}: {first_line(error)[:200]}"
            self._throttle.say(logging.ERROR, "what the client received is not written", reason)


def integrate_db_writer(ws_client: Any, db_writer: DatabaseWriter) -> WebSocketDBIntegration:
    """Have everything written that ``ws_client`` hands to ``on_trade(symbol, data)`` and
    ``on_ohlc(symbol, data, interval=1)``.

    Both attributes are replaced by functions that pass the message to the writer and then call the client's
    own handler, synchronous or not, and return what it returns; without one there is nothing more to call. A
    handler that is set later takes the place of these: call this again afterwards, nothing is written twice
    by that.

    Raises ConfigurationError for a client whose attributes cannot be set.
    """
    handlers = {name: getattr(ws_client, name, None) for name in ("on_trade", "on_ohlc")}
    marks = [getattr(handler, _MARK, None) for handler in handlers.values()]
    ours = [mark for mark in marks if mark is not None and mark.db_writer is db_writer]
    integration = ours[0] if ours else WebSocketDBIntegration(db_writer)
    takes = {"on_trade": integration.take_trade, "on_ohlc": integration.take_ohlc}
    for name, handler in handlers.items():
        if getattr(handler, _MARK, None) is integration:
            continue
        wrapped = _wrapped(takes[name], handler)
        setattr(wrapped, _MARK, integration)
        try:
            setattr(ws_client, name, wrapped)
        except (AttributeError, TypeError) as error:
            raise ConfigurationError(
                f"{name} of {type(ws_client).__name__} cannot be set: {error}",
                hint="call on_trade and on_ohlc of a WebSocketDBIntegration from its handlers",
            ) from error
    return integration


def _wrapped(take: Callable[..., None], handler: Callable[..., Any] | None) -> Callable[..., Any]:
    if handler is None:

        def alone(*arguments: Any, **named: Any) -> _Nothing:
            _pass_on(take, arguments, named)
            return _NOTHING

        return alone
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):

        @functools.wraps(handler)
        async def asynchronous(*arguments: Any, **named: Any) -> Any:
            _pass_on(take, arguments, named)
            return await handler(*arguments, **named)

        return asynchronous

    @functools.wraps(handler)
    def synchronous(*arguments: Any, **named: Any) -> Any:
        _pass_on(take, arguments, named)
        return handler(*arguments, **named)

    return synchronous


def _pass_on(take: Callable[..., None], arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
    """However the client names the arguments: a symbol, the message, and perhaps the interval."""
    names = [name for name in named if name not in ("symbol", "interval")]
    rest = list(arguments)
    symbol = named["symbol"] if "symbol" in named else rest.pop(0) if rest else None
    message = rest.pop(0) if rest else named[names[0]] if names else {}
    more = [named["interval"]] if "interval" in named else rest[:1] if take.__name__ == "take_ohlc" else []
    take(symbol, message, *more)


class _Nothing:
    """What a client without a handler gets: it may be awaited, or not."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_NOTHING = _Nothing()


def _shown(message: object) -> str:
    """As far as each of its values can be shown."""
    if not isinstance(message, Mapping):
        return shown(message, 300)
    return (
        "{" + ", ".join(f"{shown(key)}: {shown(value)}" for key, value in islice(message.items(), 20)) + "}"
    )


def _each(message: Message) -> Sequence[Mapping[str, Any]]:
    return [message] if isinstance(message, Mapping) else message


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

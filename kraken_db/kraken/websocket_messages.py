"""Frames of Kraken's WebSocket v2, checked against their shapes, and the events of a client.

https://docs.kraken.com/api/docs/websocket-v2/trade and its neighbours. Prices and volumes are JSON numbers,
decoded into Decimals from their text. Times are UTC, to the microsecond; WebSocket stamps a trade about 1
us before REST does: only the ids say that it is the same trade. What is not known is passed over; a known
field of another kind is an ExchangeFormatError.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Raw

from kraken_db.errors import (
    ExchangeError,
    ExchangeFormatError,
    ExchangeRequestError,
    ExchangeThrottledError,
    UnknownPairError,
)
from kraken_db.kraken.messages import LARGEST_ID, is_number
from kraken_db.kraken.transport import excerpt
from kraken_db.types import TradeRecord

Channel: TypeAlias = Literal["trade", "ohlc"]


class LiveTrade(msgspec.Struct, frozen=True, gc=False):
    """One trade of the channel ``trade``."""

    price: Decimal
    volume: Decimal
    timestamp: datetime
    side: str
    """``'buy'`` or ``'sell'``, the taker's."""
    order_type: str
    """``'market'`` or ``'limit'``, the taker's."""
    trade_id: int
    """A sequence of the pair: a number that is missing is a trade that is missing."""

    def to_record(self, symbol: str) -> TradeRecord:
        return TradeRecord(
            symbol, self.timestamp, self.price, self.volume, self.side, self.trade_id, self.order_type
        )


class LiveCandle(msgspec.Struct, frozen=True, gc=False):
    """A candle of the channel ``ohlc`` as it stands now; nothing says when it is the last version."""

    timestamp: datetime
    """Its open time."""
    interval_minutes: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    vwap: Decimal
    """Cut to the decimals of the pair's prices."""
    trade_count: int


@dataclass(frozen=True, slots=True)
class Topic:
    """What one can subscribe to."""

    channel: Channel
    symbol: str
    interval_minutes: int = 0
    """Of candles; 0 of trades."""

    def __str__(self) -> str:
        what = f"{self.interval_minutes}m candles" if self.channel == "ohlc" else "trades"
        return f"{what} of {self.symbol}"


@dataclass(frozen=True, slots=True)
class Connected:
    """There is a connection; what was subscribed to is asked for again."""

    attempt: int
    """1 for the first connection of this client."""


@dataclass(frozen=True, slots=True)
class Alive:
    """Kraken has sent something by itself, a heartbeat or an update: this connection works.

    Once for each connection. Answers to what was asked, snapshots among them, do not count.
    """


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection has ended, or none could be made."""

    reason: str
    retry_in: float
    """Seconds until the next attempt."""


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """``'online'``, ``'maintenance'``, ``'cancel_only'`` or ``'post_only'``: sent after each connection."""

    system: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Kraken has acknowledged: from here on nothing is missing until a ``Disconnected`` or ``Quiet``."""

    topic: Topic


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    topic: Topic


@dataclass(frozen=True, slots=True)
class Refused:
    """Kraken refuses a subscription; the others go on.

    ``topic`` is None where Kraken does not say which. ``retry_in``: seconds until it is asked again, None
    where that is no use.
    """

    topic: Topic | None
    error: ExchangeError
    retry_in: float | None


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing has come for a topic for so many seconds: it is subscribed to anew, to see what there is."""

    topic: Topic
    seconds: float


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame that is not what Kraken documents; nothing of it was used."""

    error: ExchangeError


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades of one symbol, in the order in which they came."""

    symbol: str
    trades: list[LiveTrade]
    is_snapshot: bool
    """The last ones before the subscription: they come again with each of them."""


@dataclass(frozen=True, slots=True)
class Candles:
    """Candles of one symbol, oldest first."""

    symbol: str
    candles: list[LiveCandle]
    is_snapshot: bool


Event: TypeAlias = (
    Connected
    | Alive
    | Disconnected
    | StatusChanged
    | Subscribed
    | Unsubscribed
    | Refused
    | Quiet
    | Malformed
    | Trades
    | Candles
)


_T = TypeVar("_T")
_WHAT = "Kraken's WebSocket"
_UNKNOWN_PAIR = ("currency pair not supported", "currency pair not in iso 4217-a3 format")
_MESSAGE_RATE = ("exceeded msg rate", "rate limit exceeded")
_ALREADY = "already subscribed"
_CHANNELS = ("trade", "ohlc")

_Id = Annotated[int, Meta(ge=1, le=LARGEST_ID)]
_Count = Annotated[int, Meta(ge=0, le=LARGEST_ID)]
_Interval = Annotated[int, Meta(ge=1, le=1_000_000)]
_FIRST_MOMENT = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MOMENT = datetime(2262, 1, 1, tzinfo=UTC)  # near where a bigint of ns ends


class _Frame(msgspec.Struct, gc=False):
    channel: str | None = None
    type: str | None = None
    data: Raw = Raw()
    method: str | None = None
    success: bool | None = None
    result: Raw = Raw()
    error: str | None = None
    rate_error: str | None = msgspec.field(name="Error", default=None)
    """Kraken's other spelling, which comes without a method."""
    symbol: str | None = None
    req_id: int | None = None
    time_out: str | None = None


class _Trade(msgspec.Struct, gc=False):
    symbol: str
    side: Literal["buy", "sell"]
    price: Decimal
    qty: Decimal
    ord_type: Literal["market", "limit"]
    trade_id: _Id
    timestamp: str


class _Candle(msgspec.Struct, gc=False):
    symbol: str
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    trades: _Count
    volume: Decimal
    vwap: Decimal
    interval_begin: str
    interval: _Interval


class _Result(msgspec.Struct, gc=False):
    channel: str | None = None
    symbol: str | None = None
    interval: _Interval = 1


class _Status(msgspec.Struct, gc=False):
    system: Annotated[str, Meta(pattern=r"^[a-z_ -]{1,40}\Z")]


_FRAME = msgspec.json.Decoder(_Frame)
_TRADES = msgspec.json.Decoder(list[_Trade])
_CANDLES = msgspec.json.Decoder(list[_Candle])
_STATUS = msgspec.json.Decoder(list[_Status])
_RESULT = msgspec.json.Decoder(_Result)


@dataclass(frozen=True, slots=True)
class Answer:
    """What Kraken says to a request: ``subscribe``, ``unsubscribe``, ``ping``, or to what it cannot read."""

    method: str | None
    error: ExchangeError | None
    topic: Topic | None
    """Of an acknowledgement."""
    symbol: str | None
    """Of a refusal, where it says one."""
    req_id: int | None
    at: datetime | None
    """Kraken's clock when it answered."""
    is_known: bool = False
    """Whether it was subscribed to already: a yes, but no snapshot follows."""


@dataclass(frozen=True, slots=True)
class Other:
    """A heartbeat, or a channel that nobody here knows."""

    channel: str | None


Message: TypeAlias = Answer | Trades | Candles | StatusChanged | Other


def decode_frame(frame: bytes | str) -> list[Message]:
    """What a frame says: several messages only where Kraken puts several symbols into one.

    Raises ExchangeFormatError, which shows a little of what was there.
    """
    seen = frame.encode() if isinstance(frame, str) else frame
    outer = _decode(_FRAME, seen, seen)
    if any(one is not None for one in (outer.method, outer.success, outer.error, outer.rate_error)):
        return [_answer(outer, seen)]
    kind = outer.type == "snapshot"
    match outer.channel:
        case "trade":
            return _by_symbol(_decode(_TRADES, outer.data, seen), kind, seen)
        case "ohlc":
            return _candles(_decode(_CANDLES, outer.data, seen), kind, seen)
        case "status":
            return [StatusChanged(one.system) for one in _decode(_STATUS, outer.data, seen)]
    return [Other(outer.channel)]


def _by_symbol(rows: list[_Trade], is_snapshot: bool, seen: bytes) -> list[Message]:
    _require_amounts((amount for row in rows for amount in (row.price, row.qty)), seen, can_be_zero=False)
    trades: dict[str, list[LiveTrade]] = {}
    for row in rows:
        trade = LiveTrade(
            row.price, row.qty, _moment(row.timestamp, seen), row.side, row.ord_type, row.trade_id
        )
        trades.setdefault(row.symbol, []).append(trade)
    return [Trades(symbol, of_symbol, is_snapshot) for symbol, of_symbol in trades.items()]


def _candles(rows: list[_Candle], is_snapshot: bool, seen: bytes) -> list[Message]:
    candles: dict[str, list[LiveCandle]] = {}
    for row in rows:
        numbers = (row.open, row.high, row.low, row.close, row.volume, row.vwap)
        _require_amounts(numbers, seen)
        begins = _moment(row.interval_begin, seen)
        candles.setdefault(row.symbol, []).append(LiveCandle(begins, row.interval, *numbers, row.trades))
    return [Candles(symbol, of_symbol, is_snapshot) for symbol, of_symbol in candles.items()]


def _answer(frame: _Frame, seen: bytes) -> Answer:
    error, is_known = None, False
    text = frame.error if frame.error is not None else frame.rate_error
    if text is not None or frame.success is False:
        is_known = _folded(text or "") == _ALREADY
        error = None if is_known else _refusal(text or "no reason", frame.symbol)
    topic = None
    if bytes(frame.result):
        result = _decode(_RESULT, frame.result, seen)
        if result.symbol is not None and result.channel in _CHANNELS:
            interval = result.interval if result.channel == "ohlc" else 0
            topic = Topic(result.channel, result.symbol, interval)  # type: ignore[arg-type]
    at = _moment(frame.time_out, seen) if frame.time_out else None
    return Answer(frame.method, error, topic, frame.symbol, frame.req_id, at, is_known)


def _refusal(text: str, symbol: str | None) -> ExchangeError:
    of = f" for {symbol}" if symbol and symbol not in text else ""
    said = f"{_WHAT}: Kraken says {excerpt(text)}{of}"
    folded = _folded(text)
    if folded.startswith(_UNKNOWN_PAIR):
        return UnknownPairError(said, hint="kraken-db pairs lists what there is")
    if any(words in folded for words in _MESSAGE_RATE):
        return ExchangeThrottledError(said)
    return ExchangeRequestError(said)


def _folded(text: str) -> str:
    """However Kraken spells it."""
    return " ".join(text.casefold().split())


def _moment(text: str, seen: bytes) -> datetime:
    """What is finer than a microsecond is cut off, never rounded."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise _wrong(f"{text!r:.40} has no time zone", seen)
        moment = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
        if _FIRST_MOMENT <= moment <= _LAST_MOMENT:
            return moment
    except (ValueError, OverflowError):  # the year 0 in another zone
        pass
    raise _wrong(f"{text!r:.40} is not a time", seen)


def _require_amounts(amounts: Iterable[Decimal], seen: bytes, *, can_be_zero: bool = True) -> None:
    for amount in amounts:
        if not is_number(text := str(amount)) or not (amount or can_be_zero):
            raise _wrong(f"{text:.40} is neither a price nor a volume", seen)


def _decode(decoder: msgspec.json.Decoder[_T], raw: Raw | bytes, seen: bytes) -> _T:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(str(error), seen) from None


def _wrong(reason: str, seen: bytes) -> ExchangeFormatError:
    return ExchangeFormatError(
        f"{_WHAT}: {reason[:1].lower()}{reason[1:]}; the frame begins with {excerpt(seen)}",
        hint="this version of the package does not know it",
    )


def subscription_request(
    method: Literal["subscribe", "unsubscribe"], topics: list[Topic], req_id: int, *, snapshot: bool = True
) -> str:
    """The frame for topics of one channel and interval."""
    first = topics[0]
    params: dict[str, Any] = {"channel": first.channel, "symbol": [topic.symbol for topic in topics]}
    if first.interval_minutes:
        params["interval"] = first.interval_minutes
    if method == "subscribe":
        params["snapshot"] = snapshot
    return msgspec.json.encode({"method": method, "params": params, "req_id": req_id}).decode()


def ping_request(req_id: int) -> str:
    return msgspec.json.encode({"method": "ping", "req_id": req_id}).decode()

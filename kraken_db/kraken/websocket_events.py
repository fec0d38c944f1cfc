"""What a WebSocket client tells: trades, candles, and what happens to its connection.

Prices and volumes are exact Decimals, in the pair's quote and base asset. Times are UTC, to the microsecond;
WebSocket stamps a trade about 1 us before REST does: only the ids say that it is the same trade.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, TypeAlias

import msgspec

from kraken_db.errors import ExchangeError
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
class Disconnected:
    """The connection has ended, or none could be made."""

    reason: str
    retry_in: float
    """Seconds until the next attempt."""


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """``'online'``, ``'maintenance'``, ``'cancel_only'`` or ``'post_only'``: told after each connection."""

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

"""What the tables must hold after a market has been downloaded, for tests.

Independent of the rest of the package on purpose: plain code on the texts that the exchange serves, so short
that it can be checked by eye and its results by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, localcontext
from typing import NamedTuple

_TEN_DECIMALS = Decimal("1e-10")


class TradeText(NamedTuple):
    """A trade as the exchange writes it."""

    price: str
    volume: str
    time: str
    side: str
    """``b`` or ``s``."""
    order_type: str
    """``m`` or ``l``."""
    misc: str
    trade_id: int
    """0 where the exchange gives none."""


@dataclass(frozen=True, slots=True)
class TrueTrade:
    """A row of the trades."""

    id: int | None
    """None: the store gives the trade an id of its own, a negative one."""
    symbol: str
    timestamp: datetime
    price: Decimal
    volume: Decimal
    side: str
    order_type: str
    misc: str


@dataclass(frozen=True, slots=True)
class TrueCandle:
    """A row of the candles. ``quote_volume`` is exact; ``vwap`` is rounded to ten decimals, half up."""

    symbol: str
    timestamp: datetime
    interval_minutes: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    vwap: Decimal
    trade_count: int


def true_trade(symbol: str, text: TradeText) -> TrueTrade:
    seconds, _, fraction = text.time.partition(".")
    microseconds = int(fraction[:6].ljust(6, "0"))  # cut off, not rounded
    return TrueTrade(
        id=text.trade_id or None,
        symbol=symbol,
        timestamp=datetime.fromtimestamp(int(seconds), UTC) + timedelta(microseconds=microseconds),
        price=Decimal(text.price),
        volume=Decimal(text.volume),
        side={"b": "buy", "s": "sell"}[text.side],
        order_type={"m": "market", "l": "limit"}[text.order_type],
        misc=text.misc,
    )


def true_candles(trades: Iterable[TrueTrade], interval: int = 1) -> Iterator[TrueCandle]:
    """The candles of trades that come oldest first; an interval without a trade has none."""
    group: list[TrueTrade] = []
    for trade in trades:
        if group and _opens(group[0], interval) != _opens(trade, interval):
            yield _candle(group, interval)
            group = []
        group.append(trade)
    if group:
        yield _candle(group, interval)


def _opens(trade: TrueTrade, interval: int) -> datetime:
    seconds = int(trade.timestamp.timestamp())
    return datetime.fromtimestamp(seconds - seconds % (60 * interval), UTC)


def _candle(group: list[TrueTrade], interval: int) -> TrueCandle:
    with localcontext(Context(prec=200)):
        volume = sum((trade.volume for trade in group), Decimal(0))
        quote_volume = sum((trade.price * trade.volume for trade in group), Decimal(0))
        vwap = (quote_volume / volume).quantize(_TEN_DECIMALS, ROUND_HALF_UP)
    prices = [trade.price for trade in group]
    return TrueCandle(
        symbol=group[0].symbol,
        timestamp=_opens(group[0], interval),
        interval_minutes=interval,
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        volume=volume,
        quote_volume=quote_volume,
        vwap=vwap,
        trade_count=len(group),
    )

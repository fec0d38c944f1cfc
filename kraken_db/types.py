"""The records that come out of the store and go into it.

Everywhere in this module:

- prices and volumes are ``Decimal``, in the pair's quote and base asset, as exact as Kraken sent them
  (the tables keep prices as ``NUMERIC(20,10)``: below 10**10, ten decimals; volumes as ``NUMERIC(38,10)``:
  below 10**28, ten decimals);
- times are aware datetimes in UTC, in microseconds: Kraken's nanoseconds are cut off, never rounded;
- symbols are ours: ``'BTC/USD'``, never ``XBTUSD`` (see ``pairs``).

What is read is frozen and slotted and built without any check: half a million candles come out of one
query. What is written (``TradeRecord``, ``CandleRecord``) is mutable and is checked by its writer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from html import escape
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from kraken_db.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncpg

Side: TypeAlias = Literal["buy", "sell"]
"""The taker's side of a trade."""

# The thread's own decimal context would round a product of two 20-digit numbers to 28 digits, or to
# whatever the caller has set. Sums and products here are exact; only a division needs a precision.
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_DIVISION = Context(prec=28)

_MINUTE = timedelta(minutes=1)
_OHLC_REACH = timedelta(hours=12)


class _InNotebooks:
    """Shown as a small table where it ends a cell of a notebook."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        rows = ((field.name, getattr(self, field.name)) for field in fields(self))  # type: ignore[arg-type]
        cells = (f"<tr><th>{name}</th><td>{escape(_plain(value))}</td></tr>" for name, value in rows)
        return f"<table><caption>{type(self).__name__}</caption>{''.join(cells)}</table>"


def _plain(value: object) -> str:
    """Numbers without an exponent, times to the last digit that there is."""
    match value:
        case Decimal() if value.is_finite():
            return f"{value:f}"
        case datetime():
            return value.isoformat(sep=" ")
    return "" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class HistoricalTrade(_InNotebooks):
    """One trade, as read from the store."""

    id: int
    """Kraken's trade id, unique per symbol; negative where the source gave none (a local sequence)."""
    symbol: str
    timestamp: datetime
    price: Decimal
    volume: Decimal
    side: Literal["buy", "sell", ""]
    """The taker's side; ``''`` if unknown, as in the three-column Time & Sales archive."""
    order_type: str
    """``'market'`` or ``'limit'``, the taker's; ``''`` if unknown."""
    misc: str
    """Kraken's miscellaneous flags, usually ``''``."""

    @property
    def value(self) -> Decimal:
        """Price times volume, in the quote asset, exact."""
        return _EXACT.multiply(self.price, self.volume)


class _Shape(_InNotebooks):
    """What the four prices of a candle say, whatever else the candle carries. All in the quote asset."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def open(self) -> Decimal: ...
        @property
        def high(self) -> Decimal: ...
        @property
        def low(self) -> Decimal: ...
        @property
        def close(self) -> Decimal: ...

    @property
    def typical_price(self) -> Decimal:
        """The mean of high, low and close, to 28 digits."""
        total = _EXACT.add(_EXACT.add(self.high, self.low), self.close)
        return _DIVISION.divide(total, Decimal(3))

    @property
    def range(self) -> Decimal:
        """High minus low; never negative in a valid candle."""
        return _EXACT.subtract(self.high, self.low)

    @property
    def body_size(self) -> Decimal:
        """The distance between open and close, without a sign."""
        return _EXACT.subtract(self.close, self.open).copy_abs()

    @property
    def is_bullish(self) -> bool:
        """Whether it closed above its open; a candle that closed where it opened is not bullish."""
        return self.close > self.open


@dataclass(frozen=True, slots=True)
class HistoricalCandle(_Shape):
    """A candle with all columns of the table."""

    symbol: str
    timestamp: datetime
    """Open time, on the grid of the interval; the candle covers ``[timestamp, timestamp + interval)``."""
    interval_minutes: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    """In the base asset."""
    quote_volume: Decimal | None
    """In the quote asset; None if the source has none."""
    trade_count: int
    vwap: Decimal | None
    """Volume-weighted mean price; None if the source has none (Kraken's archive), never estimated."""

    @property
    def upper_wick(self) -> Decimal:
        """From the higher of open and close up to the high."""
        return _EXACT.subtract(self.high, max(self.open, self.close))

    @property
    def lower_wick(self) -> Decimal:
        """From the low up to the lower of open and close."""
        return _EXACT.subtract(min(self.open, self.close), self.low)


@dataclass(frozen=True, slots=True)
class Candle(_Shape):
    """A candle as queries return it: the light one, made by the hundred thousand."""

    symbol: str
    timestamp: datetime
    """Open time, on the grid of the interval; the candle covers ``[timestamp, timestamp + interval)``."""
    interval_minutes: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    """In the base asset."""
    trade_count: int
    vwap: Decimal | None
    """Volume-weighted mean price; None if the source has none (Kraken's archive), never estimated."""

    @classmethod
    def from_row(cls, row: asyncpg.Record | Mapping[str, Any]) -> Candle:
        """From a row with the names of the table's columns; further columns are ignored.

        A NULL ``trade_count`` (the column allows it, our writers never write it) reads as 0.
        """
        return cls(
            row["symbol"],
            row["timestamp"],
            row["interval_minutes"],
            row["open"],
            row["high"],
            row["low"],
            row["close"],
            row["volume"],
            row["trade_count"] or 0,
            row["vwap"],
        )

    def to_dict(self) -> dict[str, Any]:
        """Field names to values, with prices and volumes as floats, for indicator libraries.

        The floats are the nearest ones, not exact. Symbol, time, interval and count stay as they are, and
        so does a missing vwap.
        """
        return {
            "symbol": self.symbol,
            "timestamp": self.timestamp,
            "interval_minutes": self.interval_minutes,
            "open": float(self.open),
            "high": float(self.high),
            "low": float(self.low),
            "close": float(self.close),
            "volume": float(self.volume),
            "trade_count": self.trade_count,
            "vwap": None if self.vwap is None else float(self.vwap),
        }


@dataclass(frozen=True, slots=True)
class DataGap(_InNotebooks):
    """A range ``[start_time, end_time)`` that no source has covered yet.

    Raises ConfigurationError for times without a zone and for an end before the start.
    """

    symbol: str
    data_type: str
    """``'trades'`` or ``'candles_1m'``."""
    start_time: datetime
    end_time: datetime
    duration: timedelta
    """``end_time - start_time``."""

    def __post_init__(self) -> None:
        for moment in (self.start_time, self.end_time):
            if moment.utcoffset() is None:
                raise ConfigurationError(
                    f"a gap of {self.symbol} has a time without a zone: {moment.isoformat()}",
                    hint="pass aware datetimes, e.g. tzinfo=UTC",
                )
        if self.end_time < self.start_time:
            raise ConfigurationError(
                f"a gap of {self.symbol} ends before it starts: "
                f"{self.start_time.isoformat()} .. {self.end_time.isoformat()}"
            )

    @property
    def is_small(self) -> bool:
        """Whether it is shorter than 12 hours: the newest 720 minutes are all that REST OHLC gives."""
        return self.duration < _OHLC_REACH

    @property
    def candles_needed(self) -> int:
        """How many 1m candles it may hold at most: its minutes, a begun one counting whole."""
        return -(-self.duration // _MINUTE)

    @property
    def hours(self) -> float:
        """Its length in hours."""
        return self.duration / timedelta(hours=1)


@dataclass(slots=True)
class TradeRecord(_InNotebooks):
    """A trade on its way into the store."""

    symbol: str
    timestamp: datetime
    price: Decimal
    volume: Decimal
    side: str
    """``'buy'`` or ``'sell'``, the taker's; ``''`` if unknown."""
    trade_id: int | None = None
    """Kraken's id. Without it the store gives the trade a negative one, and a second copy of the same trade
    cannot be told from another trade."""
    order_type: str | None = None
    """``'market'`` or ``'limit'``; None if unknown."""
    misc: str | None = None

    def to_tuple(self) -> tuple[str, datetime, Decimal, Decimal, str]:
        """``(symbol, timestamp, price, volume, side)``, the order of the table's columns."""
        return (self.symbol, self.timestamp, self.price, self.volume, self.side)


@dataclass(slots=True)
class CandleRecord(_InNotebooks):
    """A candle on its way into the store. One that still grows is replaced when it comes with more trades."""

    symbol: str
    timestamp: datetime
    """Open time, on the grid of the interval."""
    interval_minutes: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    """In the base asset."""
    trade_count: int
    vwap: Decimal | None = None

    def to_tuple(
        self,
    ) -> tuple[str, datetime, int, Decimal, Decimal, Decimal, Decimal, Decimal, int, Decimal | None]:
        """All fields in their order, which is the order of the table's columns."""
        return (
            self.symbol,
            self.timestamp,
            self.interval_minutes,
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.trade_count,
            self.vwap,
        )

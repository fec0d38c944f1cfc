"""Trades and candles as Kraken's REST gives them, typed: exact Decimals, UTC microseconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from typing import Any, Literal

import msgspec

from kraken_db.errors import ExchangeFormatError
from kraken_db.types import CandleRecord, TradeRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END = Decimal(253_402_300_800)  # the year 10000, in unix seconds
_MICROSECONDS = Decimal(1_000_000)
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_NUMBER = re.compile(r"\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,2})?", re.ASCII)
_PLAIN = frozenset("0123456789.")
_SIDES = {"b": "buy", "s": "sell"}
_ORDER_TYPES = {"m": "market", "l": "limit"}


def time_of(seconds: Decimal) -> datetime:
    """Unix seconds as a time; what is finer than a microsecond is cut off, never rounded.

    Raises ValueError for what is no time between 1970 and 9999.
    """
    whole, _, fraction = str(seconds).partition(".")
    if (
        len(whole) <= 10 and whole.isdecimal() and (fraction.isdecimal() or not fraction)
    ):  # all that Kraken sends
        return _EPOCH + timedelta(0, int(whole), int((fraction + "000000")[:6]))
    if not (seconds.is_finite() and 0 <= seconds < _END):
        raise ValueError(f"{seconds!s:.40} is not a time in unix seconds")
    return _EPOCH + timedelta(microseconds=int(_EXACT.multiply(seconds, _MICROSECONDS)))


class KrakenTrade(msgspec.Struct, frozen=True, gc=False):
    """One row of Trades."""

    price: Decimal
    """In the quote asset."""
    volume: Decimal
    """In the base asset."""
    timestamp: datetime
    """UTC, to the microsecond, which REST stamps about 1 us above WebSocket."""
    side_code: Literal["b", "s"]
    order_type_code: Literal["m", "l"]
    misc: str
    trade_id: int | None
    """A sequence of the pair; None where Kraken gave none, or 0, which means none."""

    @property
    def side(self) -> str:
        """``'buy'`` or ``'sell'``, the taker's."""
        return _SIDES[self.side_code]

    @property
    def order_type(self) -> str:
        """``'market'`` or ``'limit'``, the taker's."""
        return _ORDER_TYPES[self.order_type_code]

    @classmethod
    def from_raw(cls, row: Sequence[Any]) -> KrakenTrade:
        """From a list of 6 or 7 as Kraken's JSON has it, whatever decoder the time has been through.

        A float is read by its shortest text, which is what Kraken wrote. Raises ExchangeFormatError.
        """
        try:
            price, volume, time, side, order_type, misc = row[:6]
            trade_id = row[6] if len(row) > 6 else 0
            if side not in _SIDES or order_type not in _ORDER_TYPES or not isinstance(misc, str):
                raise ValueError("side is b or s, order type m or l, then a text")
            if type(trade_id) is not int or trade_id < 0:
                raise ValueError("a trade id is a whole number from 0 on")
            moment = time_of(_decimal(time))
            return cls(_decimal(price), _decimal(volume), moment, side, order_type, misc, trade_id or None)
        except (ValueError, TypeError) as error:
            raise ExchangeFormatError(f"{row!r:.200} is not a trade of Kraken: {error}") from None

    def to_record(self, symbol: str) -> TradeRecord:
        return TradeRecord(
            symbol,
            self.timestamp,
            self.price,
            self.volume,
            self.side,
            self.trade_id,
            self.order_type,
            self.misc,
        )


class KrakenOhlc(msgspec.Struct, frozen=True, gc=False):
    """One row of OHLC. Prices in the quote asset, the volume in the base asset."""

    timestamp: datetime
    """Its open time, UTC."""
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    vwap: Decimal
    """Cut to the decimals of the pair's prices; 0.0 without trades."""
    volume: Decimal
    trade_count: int
    """0 in the rows that Kraken fills in where nothing was traded: there is no such candle here."""

    def to_record(self, symbol: str, interval_minutes: int) -> CandleRecord:
        return CandleRecord(
            symbol,
            self.timestamp,
            interval_minutes,
            self.open,
            self.high,
            self.low,
            self.close,
            self.volume,
            self.trade_count,
            self.vwap if self.trade_count else None,
        )


def decimals(texts: Sequence[str]) -> list[Decimal]:
    """Numbers from 0 on, of digits, a point and maybe an exponent, exact. Raises ValueError for others."""
    if not _PLAIN.issuperset("".join(texts)):  # Decimal() itself takes signs, blanks, underscores, NaN
        for text in texts:
            _decimal(text)
    try:
        return list(map(Decimal, texts))
    except InvalidOperation:
        raise ValueError(f"{next(filter(_is_no_number, texts), '')!r:.40} is not a number") from None


def _is_no_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is None


def _decimal(value: Any) -> Decimal:
    """From Kraken's text, or from what a JSON decoder made of it."""
    text = value if isinstance(value, str) else "" if isinstance(value, bool) else str(value)
    if _is_no_number(text):
        raise ValueError(f"{text!r:.40} is not a number")
    return Decimal(text)

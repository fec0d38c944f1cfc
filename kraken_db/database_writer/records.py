"""Records as they wait to be stored: checked once, when they come in, and copied."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException
from functools import lru_cache
from typing import Any

import msgspec

from kraken_db.errors import KrakenDBError
from kraken_db.intervals import floor_to_interval, interval_length
from kraken_db.models import AMOUNT_PRECISION, AMOUNT_SCALE, PRICE_PRECISION
from kraken_db.pairs import parse_symbol
from kraken_db.repositories.candle_staging import MOST_TRADES_A_MINUTE
from kraken_db.types import CandleRecord, TradeRecord

_SIDES = frozenset(("buy", "sell", ""))
_ORDER_TYPE_LENGTH, _MISC_LENGTH = 10, 50
_LARGEST_ID = 2**63 - 1
# Wide enough for every market there ever was, and far from where dates end.
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
# Of columns with so many digits: the least number that is too large.
_BOUNDS = {
    precision: Decimal(10) ** (precision - AMOUNT_SCALE) for precision in (PRICE_PRECISION, AMOUNT_PRECISION)
}
_DECIMALS = Decimal(1).scaleb(-AMOUNT_SCALE)
_EXACT = Context(prec=2 * AMOUNT_PRECISION, rounding=ROUND_HALF_UP)
_ZERO = Decimal(0)

known_symbol: Callable[[str], str] = lru_cache(maxsize=4096)(parse_symbol)
"""``parse_symbol`` of what comes again and again."""


class RejectedRecordError(KrakenDBError, ValueError):
    """A record that cannot be stored, and why."""


class QueuedTrade(msgspec.Struct, array_like=True, gc=False):
    """A trade that can be stored. ``is_official``: it is REST's record, whose stamp replaces a live one."""

    symbol: str
    timestamp: datetime
    price: Decimal
    volume: Decimal
    side: str
    trade_id: int | None
    order_type: str | None
    misc: str | None
    is_official: bool


def queued_trade(record: TradeRecord, is_official: bool) -> QueuedTrade:
    """A copy to be stored. Raises RejectedRecordError."""
    side, order_type, misc, trade_id = record.side, record.order_type, record.misc, record.trade_id
    if side not in _SIDES:
        raise RejectedRecordError(f"side is {side!r:.40}: it is 'buy', 'sell', or '' if unknown")
    if trade_id is not None and (type(trade_id) is not int or not 0 <= trade_id <= _LARGEST_ID):
        raise RejectedRecordError(f"trade_id is {trade_id!r:.40}: it is a whole number above zero, or None")
    if order_type is not None and not (
        isinstance(order_type, str)
        and len(order_type) <= _ORDER_TYPE_LENGTH
        and order_type.replace("-", "").isalnum()
    ):
        raise RejectedRecordError(f"order_type is {order_type!r:.40}: at most {_ORDER_TYPE_LENGTH} letters")
    if misc and not (isinstance(misc, str) and len(misc) <= _MISC_LENGTH and misc.isprintable()):
        raise RejectedRecordError(f"misc is {misc!r:.80}: at most {_MISC_LENGTH} printable characters")
    return QueuedTrade(
        _symbol(record.symbol),
        _moment(record.timestamp),
        _price(record.price, "price"),
        _amount(record.volume, "volume"),
        side,
        trade_id or None,
        order_type,
        misc,
        is_official,
    )


def queued_candle(record: CandleRecord) -> CandleRecord:
    """A copy to be stored; ``vwap`` is rounded to what the column holds. Raises RejectedRecordError."""
    interval, count = record.interval_minutes, record.trade_count
    if type(interval) is not int:
        raise RejectedRecordError(f"interval_minutes is {interval!r:.40}: it is a whole number")
    if type(count) is not int or not 0 <= count <= MOST_TRADES_A_MINUTE * interval:
        raise RejectedRecordError(f"trade_count is {count!r:.40}, which cannot be")
    moment = _moment(record.timestamp)
    try:
        if moment != floor_to_interval(moment, interval):
            raise RejectedRecordError(
                f"timestamp {moment.isoformat()} does not lie on the grid of {interval}m"
            )
    except KrakenDBError as error:
        raise RejectedRecordError(error.message) from None
    opening, high, low, close = (
        _price(getattr(record, name), name) for name in ("open", "high", "low", "close")
    )
    if high < max(opening, close, low) or low > min(opening, close):
        raise RejectedRecordError(f"high or low is beside the other prices: {opening} {high} {low} {close}")
    vwap = record.vwap
    if vwap is not None:
        vwap = _price(_rounded(_decimal(vwap, "vwap")), "vwap")
    volume = _amount(record.volume, "volume")
    return CandleRecord(
        _symbol(record.symbol), moment, interval, opening, high, low, close, volume, count, vwap
    )


def candle_end(candle: CandleRecord) -> datetime:
    """When a candle closes (exclusive)."""
    return candle.timestamp + interval_length(candle.interval_minutes)


def _symbol(symbol: Any) -> str:
    try:
        return known_symbol(symbol)
    except KrakenDBError as error:
        raise RejectedRecordError(error.message) from None
    except (TypeError, AttributeError):
        raise RejectedRecordError(f"symbol is {symbol!r:.40}: it is a text such as 'BTC/USD'") from None


def _moment(value: Any) -> datetime:
    if not isinstance(value, datetime):
        raise RejectedRecordError(f"timestamp is {value!r:.40}: it is an aware datetime")
    moment = value
    if type(moment) is not datetime:
        # A pandas.Timestamp has nanoseconds, which are cut off, never rounded.
        moment = datetime.combine(
            date(moment.year, moment.month, moment.day),
            time(moment.hour, moment.minute, moment.second, moment.microsecond, fold=moment.fold),
            moment.tzinfo,
        )
    if moment.tzinfo is not UTC:
        if moment.utcoffset() is None:
            raise RejectedRecordError(f"timestamp {moment.isoformat()} has no time zone")
        if _FIRST_YEAR < moment.year < _LAST_YEAR:
            moment = moment.astimezone(UTC)
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise RejectedRecordError(f"timestamp {moment.isoformat()} cannot be")
    return moment


def _price(value: Any, name: str) -> Decimal:
    price = _number(value, name, PRICE_PRECISION)
    if not price:
        raise RejectedRecordError(f"{name} is zero")
    return price


def _amount(value: Any, name: str) -> Decimal:
    return _number(value, name, AMOUNT_PRECISION)


def _number(value: Any, name: str, precision: int) -> Decimal:
    """A number from zero on that a column of so many digits holds as it is."""
    number = value if type(value) is Decimal else _decimal(value, name)
    try:
        if _ZERO <= number < _BOUNDS[precision] and _EXACT.quantize(number, _DECIMALS) == number:
            return number
    except DecimalException:
        pass  # NaN
    if number < _ZERO if number.is_finite() else False:
        raise RejectedRecordError(f"{name} is negative: {number!s:.60}")
    raise RejectedRecordError(f"{name} {number!s:.60} does not fit NUMERIC({precision},{AMOUNT_SCALE})")


def _rounded(amount: Decimal) -> Decimal:
    try:
        return _EXACT.quantize(amount, _DECIMALS)
    except DecimalException:
        return amount


def _decimal(value: Any, name: str) -> Decimal:
    """Exact. Of a float the shortest text that means it, which is what was printed."""
    try:
        if isinstance(value, bool):
            raise TypeError
        return Decimal(repr(float(value)) if isinstance(value, float) else value)
    except (DecimalException, TypeError, ValueError):
        raise RejectedRecordError(f"{name} is {value!r:.40}: it is a number") from None

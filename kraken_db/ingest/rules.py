"""What may be stored: one definition of a trade and of a candle, for every source, with the same words.

Rows that come in bulk (archives, pages of REST, repairs) are staged and checked there, in SQL:
``trade_rules`` and ``candle_rules``. What a live writer is given comes one by one, and is checked as it
comes: ``check_trade`` and ``check_candle``. Both forms of a rule have the same words.

Kraken's first trade is of September 2013. Prices have up to ten digits before the point and ten after it.
The amounts and the values of trades have up to 18 before it: nothing that Kraken sends is larger, and a
month of the busiest minutes still fits ``NUMERIC(38,10)``, so that no sum of what is stored overflows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from decimal import ROUND_HALF_UP, Context, Decimal, DecimalException
from functools import lru_cache
from typing import Any

from kraken_db.errors import KrakenDBError, RejectedRecordError
from kraken_db.intervals import (
    BASE_INTERVAL,
    GRID_ORIGIN_EPOCH,
    floor_to_interval,
    interval_length,
    interval_name,
)
from kraken_db.models import AMOUNT_PRECISION, AMOUNT_SCALE, PRICE_PRECISION
from kraken_db.pairs import parse_symbol
from kraken_db.repositories.staging import Rule
from kraken_db.times import FIRST_MOMENT
from kraken_db.tolerances import CLOCK_SKEW
from kraken_db.types import CandleRecord, TradeRecord

EARLIEST_SECONDS = int(FIRST_MOMENT.timestamp())
LARGEST_ID = 2**62
"""Far above any id of Kraken's, and far enough below the largest bigint to count on."""
MOST_TRADES_A_MINUTE = 200_000
"""A hundred times what Kraken has seen; and a week of such minutes still fits an integer."""

_SIDES = ("buy", "sell", "")
_SIDE_LETTERS = ("b", "s")
_ORDER_TYPE_WORD = "[a-z-]{3,10}"
_MISC_LENGTH = 50
_MILLISECONDS = 100_000_000_000  # seconds of the year 5138; a present time in milliseconds is above it
_PRICE_BOUND = Decimal(10) ** (PRICE_PRECISION - AMOUNT_SCALE)
_AMOUNT_BOUND = Decimal(10) ** 18
_SUM_BOUND = MOST_TRADES_A_MINUTE * _AMOUNT_BOUND
"""What the trades of a minute come to at most: 44,640 such minutes, a month, are below 10**28."""
_SCALE = Decimal(1).scaleb(-AMOUNT_SCALE)
_EXACT = Context(prec=2 * AMOUNT_PRECISION, rounding=ROUND_HALF_UP)
_ZERO = Decimal(0)
_MOST_DIGITS = 100
"""More than any number that fits has, trailing zeros and the noise of floats among them."""
_MOST_BITS = 332  # of a hundred digits
_NUMBER = re.compile(
    rf"[+-]?(\d{{1,{_MOST_DIGITS}}}(\.\d{{0,{_MOST_DIGITS}}})?|\.\d{{1,{_MOST_DIGITS}}})([eE][+-]?\d{{1,3}})?",
    re.ASCII,
)
_LEAST = _SCALE / 2
"""What is smaller is rounded to zero."""

# The words of each rule, once.
_PRICE = "the price is not above zero: {price}"
_VOLUME = "the volume is not above zero: {volume}"
_UNFIT_PRICE = f"{{name}} {{value}} does not fit NUMERIC({PRICE_PRECISION},{AMOUNT_SCALE})"
_UNFIT_AMOUNT = f"{{name}} {{value}} does not fit: below {_AMOUNT_BOUND:.0E}, {AMOUNT_SCALE} decimals at most"
_UNFIT_SUM = f"{{name}} {{value}} does not fit: below {_SUM_BOUND:.0E}, {AMOUNT_SCALE} decimals at most"
_VALUE = f"price {{price}} times volume {{volume}} is not below {_AMOUNT_BOUND:.0E}: no trade is worth it"
_CANDLE_VALUE = f"high {{high}} times volume {{volume}} is not below {_SUM_BOUND:.0E}: no candle is worth it"
_TOO_OLD = "time {time} is before September 2013, when Kraken's history begins"
_FUTURE = "time {time} lies in the future"
_SIDE = "the side is neither buy (b) nor sell (s): {side}"
_ORDER_TYPE = "the order type is no word such as market or limit: {order_type}"
_MISC = f"the flags are longer than {_MISC_LENGTH} characters"
_UNPRINTABLE = "the flags are not printable ASCII"
_NO_FLAGS = "the flags have a comma, a quote or a backslash, which no line of a file has inside of a field"
_ID_SIZE = "no trade id is as large as {trade_id}"
_ID_SIGN = "the trade id is negative: {trade_id}"
_CANDLE_PRICE = "a price is not above zero: {open} {high} {low} {close}"
_HIGH = "the high is below another price: {open} {high} {low} {close}"
_LOW = "the low is above another price: {open} {high} {low} {close}"
_CANDLE_VOLUME = "the volume is negative: {volume}"
_VWAP = "the vwap is not between low and high: {mean}"
_COUNT_SIGN = "the number of trades is negative: {trades}"
_COUNT = "the number of trades cannot be: {trades}"
_NO_TRADE = "it has no trade: a quiet minute has no candle"
_QUOTE_VOLUME = "the quote volume is not between volume times low and volume times high: {quote_volume}"
_MINUTE_OF = f"date_bin(INTERVAL '1 minute', timestamp, to_timestamp({GRID_ORIGIN_EPOCH}))"


def _listed(*words: str) -> str:
    return ", ".join(f"'{word}'" for word in words)


class RowRefusedError(KrakenDBError):
    """A staged row that must not be stored; ``line`` counts from 1, ``count`` rows are at fault."""

    def __init__(self, line: int, reason: str, count: int = 1, *, hint: str | None = None) -> None:
        super().__init__(f"line {line}: {reason}", hint=hint)
        self.line = line
        self.reason = reason
        self.count = count


known_symbol: Callable[[str], str] = lru_cache(maxsize=4096)(parse_symbol)
"""``parse_symbol`` of what comes again and again."""


@lru_cache
def trade_rules(*, latest_back: int | None, rounds: bool) -> tuple[Rule, ...]:
    """What a row of ``staged_trades`` must not be; parameters: ``earliest``, ``latest`` (unix seconds).

    ``latest_back``: the rows are a file's, whose times go back by at most so many seconds. ``rounds``:
    numbers are rounded to the last digit that is stored, for files may have float noise; else one with more
    digits is refused.
    """
    rules = [
        Rule("time = CAST('NaN' AS numeric)", "time {time} is not a number"),
        Rule(f"time >= {_MILLISECONDS}", "time {time} looks like milliseconds, expected seconds"),
        Rule("time <= 0", "time {time} is not a Unix time in seconds"),
        Rule("time < :earliest", _TOO_OLD),
        Rule("time > :latest", _FUTURE),
        Rule(f"price < {_LEAST:f}", _PRICE),
        Rule(f"volume < {_LEAST:f}", _VOLUME),
        *_fit("price", _PRICE_BOUND, _UNFIT_PRICE, rounds=rounds),
        *_fit("volume", _AMOUNT_BOUND, _UNFIT_AMOUNT, rounds=rounds),
        Rule(f"price * volume >= {_AMOUNT_BOUND:f}", _VALUE),
        # Empty is unknown: so an export writes trades that came from a file of three fields.
        Rule(f"side NOT IN ({_listed(*_SIDES, *_SIDE_LETTERS)})", _SIDE),
        Rule(
            f"order_type NOT IN ('', 'm', 'l') AND order_type !~ '^{_ORDER_TYPE_WORD}$'",
            _ORDER_TYPE,
        ),
        Rule(f"length(misc) > {_MISC_LENGTH}", _MISC),
        Rule("misc ~ '[^ -~]'", _UNPRINTABLE),
        Rule(r"""misc ~ '[,"\\]'""", _NO_FLAGS),
        Rule(f"trade_id > {LARGEST_ID}", _ID_SIZE),
        Rule("trade_id < 0", _ID_SIGN),
    ]
    if latest_back is not None:
        rules.append(
            Rule(f"time < previous - {latest_back}", "time {time} is earlier than that of the line before")
        )
    return tuple(rules)


STORED_TRADE_RULES = (
    # Their columns hold NaN, which is larger than all numbers.
    Rule(f"price < {_LEAST:f} OR price >= {_PRICE_BOUND:f}", _PRICE),
    Rule(f"volume < {_LEAST:f} OR volume >= {_AMOUNT_BOUND:f}", _VOLUME),
    Rule(f"price * volume >= {_AMOUNT_BOUND:f}", _VALUE),
    Rule(f"side NOT IN ({_listed(*_SIDES)})", _SIDE),
    Rule(f"order_type NOT IN ('market', 'limit') AND order_type !~ '^{_ORDER_TYPE_WORD}$'", _ORDER_TYPE),
)
"""Those of them that a row of ``trades`` can still break: its columns see to the rest."""


@lru_cache
def candle_rules(interval: int, *, rounds: bool) -> tuple[Rule, ...]:
    """What a row of ``staged_candles`` must not be; parameters: ``earliest``, ``closed`` (unix seconds).

    ``closed``: the latest time at which a candle may open that has closed by now.
    """
    length = interval * 60
    prices = ("open", "high", "low", "close")
    at = "timestamp {timestamp}"
    return (
        Rule(f"timestamp >= {_MILLISECONDS}", f"{at} looks like milliseconds, expected seconds"),
        Rule("timestamp <= 0", f"{at} is not a Unix time in seconds"),
        Rule("timestamp < :earliest", f"{at} is before September 2013, when Kraken's history begins"),
        Rule(
            f"timestamp % {length} <> {GRID_ORIGIN_EPOCH % length}",
            f"{at} does not lie on the grid of {interval_name(interval)}",
        ),
        Rule("timestamp > :closed", f"{at} lies in the future, or its candle has not closed yet"),
        *(rule for name in prices for rule in _fit(name, _PRICE_BOUND, _UNFIT_PRICE, rounds=rounds)),
        *_fit("volume", _SUM_BOUND, _UNFIT_SUM, rounds=rounds),
        *candle_number_rules(interval),
        Rule("trades > 0 AND (mean < low OR mean > high)", _VWAP),
    )


@lru_cache
def candle_number_rules(interval: int) -> tuple[Rule, ...]:
    """Those of them that say how the numbers of a candle lie to each other; no parameters."""
    return (
        Rule(f"least(open, high, low, close) < {_LEAST:f}", _CANDLE_PRICE),
        Rule("high < greatest(open, low, close)", _HIGH),
        Rule("low > least(open, close)", _LOW),
        Rule("volume < 0", _CANDLE_VOLUME),
        Rule(f"high * volume >= {_SUM_BOUND:f}", _CANDLE_VALUE),
        Rule("trades < 0", _COUNT_SIGN),
        Rule(f"trades > {MOST_TRADES_A_MINUTE * interval}", _COUNT),
    )


@lru_cache
def stored_minute_rules() -> tuple[Rule, ...]:
    """What a row of ``candles`` that is a minute must not be, whoever has written it.

    Over its columns, but ``trades`` for the count and ``mean`` for the vwap; parameters: ``earliest`` and
    ``latest``, the times between which it opens. A count that is NULL is not known.
    """
    at = "timestamp {timestamp}"
    prices = ("open", "high", "low", "close")
    value = f"round(volume * {{price}}, {AMOUNT_SCALE})"
    return (
        Rule(
            f"timestamp <> {_MINUTE_OF}", f"{at} does not lie on the grid of {interval_name(BASE_INTERVAL)}"
        ),
        Rule("timestamp < :earliest", f"{at} is before September 2013, when Kraken's history begins"),
        Rule("timestamp > :latest", f"{at} lies in the future"),
        *(rule for name in prices for rule in _fit(name, _PRICE_BOUND, _UNFIT_PRICE, rounds=True)),
        *_fit("volume", _SUM_BOUND, _UNFIT_SUM, rounds=True),
        *candle_number_rules(BASE_INTERVAL),
        Rule("trades = 0", _NO_TRADE),
        Rule("mean < low OR mean > high", _VWAP),
        Rule(
            f"quote_volume < {value.format(price='low')} OR quote_volume > {value.format(price='high')}",
            _QUOTE_VOLUME,
        ),
    )


def check_trade(record: TradeRecord, now: datetime) -> TradeRecord:
    """A copy of a trade that can be stored. Raises RejectedRecordError.

    Floats count as the shortest text that means them; what is finer than a microsecond is cut off.
    """
    side, order_type, misc, trade_id = record.side, record.order_type, record.misc, record.trade_id
    if side not in _SIDES:
        raise RejectedRecordError(_SIDE.format(side=shown(side)))
    if trade_id is not None:
        if type(trade_id) is not int:
            raise RejectedRecordError(f"the trade id is {shown(trade_id)}: it is a whole number, or None")
        if not 0 <= trade_id <= LARGEST_ID:
            raise RejectedRecordError(
                (_ID_SIGN if trade_id < 0 else _ID_SIZE).format(trade_id=shown(trade_id))
            )
    if order_type and not (isinstance(order_type, str) and re.fullmatch(_ORDER_TYPE_WORD, order_type)):
        raise RejectedRecordError(_ORDER_TYPE.format(order_type=shown(order_type)))
    if misc and not (isinstance(misc, str) and misc.isascii() and misc.isprintable()):
        raise RejectedRecordError(_UNPRINTABLE)
    if misc and re.search(r'[,"\\]', misc):
        raise RejectedRecordError(_NO_FLAGS)
    if misc and len(misc) > _MISC_LENGTH:
        raise RejectedRecordError(_MISC)
    price = _fitting(_decimal(record.price, "price"), "price", _PRICE_BOUND, _UNFIT_PRICE)
    volume = _fitting(_decimal(record.volume, "volume"), "volume", _AMOUNT_BOUND, _UNFIT_AMOUNT)
    if price <= _ZERO:
        raise RejectedRecordError(_PRICE.format(price=price))
    if volume <= _ZERO:
        raise RejectedRecordError(_VOLUME.format(volume=volume))
    if _EXACT.multiply(price, volume) >= _AMOUNT_BOUND:
        raise RejectedRecordError(_VALUE.format(price=price, volume=volume))
    moment = _moment(record.timestamp, now + CLOCK_SKEW)
    return TradeRecord(
        _symbol(record.symbol), moment, price, volume, side, trade_id or None, order_type, misc
    )


def check_candle(record: CandleRecord, now: datetime) -> CandleRecord:
    """A copy of a candle that can be stored, also of one that still grows. Raises RejectedRecordError.

    ``vwap`` is rounded to what the column holds.
    """
    interval, count = record.interval_minutes, record.trade_count
    if type(interval) is not int:
        raise RejectedRecordError(f"interval_minutes is {shown(interval)}: it is a whole number")
    if type(count) is not int or not 0 <= count <= MOST_TRADES_A_MINUTE * interval:
        is_negative = type(count) is int and count < 0
        raise RejectedRecordError((_COUNT_SIGN if is_negative else _COUNT).format(trades=shown(count)))
    moment = _moment(record.timestamp, now + CLOCK_SKEW)
    try:
        if moment != floor_to_interval(moment, interval):
            raise RejectedRecordError(
                f"timestamp {moment.isoformat()} does not lie on the grid of {interval_name(interval)}"
            )
    except KrakenDBError as error:
        raise RejectedRecordError(error.message) from None
    first, high, low, close = (
        _fitting(_decimal(getattr(record, name), name), name, _PRICE_BOUND, _UNFIT_PRICE)
        for name in ("open", "high", "low", "close")
    )
    prices = {"open": first, "high": high, "low": low, "close": close}
    if min(first, high, low, close) <= _ZERO:
        raise RejectedRecordError(_CANDLE_PRICE.format(**prices))
    if high < max(first, close, low):
        raise RejectedRecordError(_HIGH.format(**prices))
    if low > min(first, close):
        raise RejectedRecordError(_LOW.format(**prices))
    volume = _fitting(_decimal(record.volume, "volume"), "volume", _SUM_BOUND, _UNFIT_SUM)
    if volume < _ZERO:
        raise RejectedRecordError(_CANDLE_VOLUME.format(volume=volume))
    if _EXACT.multiply(high, volume) >= _SUM_BOUND:
        raise RejectedRecordError(_CANDLE_VALUE.format(high=high, volume=volume))
    vwap = record.vwap
    if vwap is not None:
        vwap = _fitting(_rounded(_decimal(vwap, "vwap")), "vwap", _PRICE_BOUND, _UNFIT_PRICE)
        if count and not low <= vwap <= high:
            raise RejectedRecordError(_VWAP.format(mean=vwap))
    symbol = _symbol(record.symbol)
    return CandleRecord(symbol, moment, interval, first, high, low, close, volume, count, vwap)


def shown(value: object, most: int = 40) -> str:
    """The beginning of a value that somebody has handed over, whatever it is: never raises, takes no time."""
    try:
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            return f"a whole number of {value.bit_length():,} bits"
        if isinstance(value, str | bytes):
            return repr(value[:most])[:most]
        return str(value)[:most] if isinstance(value, Decimal) else repr(value)[:most]
    except Exception:
        return f"a {type(value).__name__}"


def candle_end(candle: CandleRecord) -> datetime:
    """When a candle closes (exclusive)."""
    return candle.timestamp + interval_length(candle.interval_minutes)


def _fit(name: str, bound: Decimal, words: str, *, rounds: bool) -> list[Rule]:
    """What the column holds: rounded to its last digit, or only as it is. NaN is larger than any bound."""
    unfit = f"{name} >= {bound:f}"
    if not rounds:
        unfit += f" OR scale({name}) > {AMOUNT_SCALE} AND {name} <> round({name}, {AMOUNT_SCALE})"
    return [Rule(unfit, words.format(name=name, value=f"{{{name}}}"))]


def _symbol(symbol: Any) -> str:
    try:
        return known_symbol(symbol)
    except KrakenDBError as error:
        raise RejectedRecordError(error.message) from None
    except (TypeError, AttributeError):
        raise RejectedRecordError(f"symbol is {shown(symbol)}: it is a text such as 'BTC/USD'") from None


def _moment(value: Any, latest: datetime) -> datetime:
    if not isinstance(value, datetime):
        raise RejectedRecordError(f"timestamp is {shown(value)}: it is an aware datetime")
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
        if 1 < moment.year < 9999:  # else it may not be there in UTC
            moment = moment.astimezone(UTC)
    if moment < FIRST_MOMENT:
        raise RejectedRecordError(_TOO_OLD.format(time=moment.isoformat()))
    if moment > latest:
        raise RejectedRecordError(_FUTURE.format(time=moment.isoformat()))
    return moment


def _fitting(amount: Decimal, name: str, bound: Decimal, words: str) -> Decimal:
    """The number, if the column holds it as it is."""
    try:
        if -bound < amount < bound and _EXACT.quantize(amount, _SCALE) == amount:
            return amount
    except DecimalException:
        pass  # NaN
    raise RejectedRecordError(words.format(name=name, value=shown(amount)))


def _rounded(amount: Decimal) -> Decimal:
    try:
        return _EXACT.quantize(amount, _SCALE)
    except DecimalException:
        return amount


def _decimal(value: Any, name: str) -> Decimal:
    """Exact. Of a float the shortest text that means it, which is what was printed.

    No arithmetic with what has more digits than any number of Kraken's: it may take for ever.
    """
    number = value
    try:
        if isinstance(value, float):
            number = Decimal(repr(float(value)))
        elif isinstance(value, str | int) and not isinstance(value, bool) and _is_short(value):
            number = Decimal(value)
    except DecimalException:
        pass
    if not isinstance(number, Decimal):
        raise RejectedRecordError(f"{name} is {shown(value)}: it is a number")
    _, digits, exponent = number.as_tuple()
    if len(digits) > _MOST_DIGITS or (isinstance(exponent, int) and abs(exponent) > _MOST_DIGITS):
        raise RejectedRecordError(f"{name} {shown(number)} has more digits than a number of Kraken's")
    return number


def _is_short(value: str | int) -> bool:
    if isinstance(value, int):
        return value.bit_length() <= _MOST_BITS
    return _NUMBER.fullmatch(value) is not None

"""Kraken's REST answers, checked against their shapes and decoded without losing a digit.

https://docs.kraken.com/api/docs/rest-api/get-recent-trades and its neighbours; ``time`` of a trade is a JSON
number of seconds whose text has up to 7 decimals. It is decoded into a Decimal, which keeps the text, and cut
to microseconds from there. Prices and volumes are strings there and Decimals here.

Fields that are not known are passed over; a known field of another kind is an ExchangeFormatError, which
names the place and shows a little of what was there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, InvalidOperation
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw

from kraken_db.errors import (
    ExchangeError,
    ExchangeFormatError,
    ExchangeUnavailableError,
    ImpossibleRowError,
)
from kraken_db.kraken.transport import application_error, excerpt
from kraken_db.pairs import known_pairs
from kraken_db.types import CandleRecord, TradeRecord

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_END = Decimal(253_402_300_800)  # the year 10000, in unix seconds
_MICROSECONDS = Decimal(1_000_000)
_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)
_NUMBER = re.compile(r"\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,2})?", re.ASCII)
_LONGEST_NUMBER = 65  # characters of it
_LONGEST_KEY = 40
LARGEST_ID = 2**62
"""Of a trade, as in ``kraken_db.ingest.rules``."""
_LARGEST_CURSOR = 2**63 - 1  # ns that a bigint holds
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
            if type(trade_id) is not int or not 0 <= trade_id <= LARGEST_ID:
                raise ValueError("a trade id is a whole number from 0 on, and far below 2^63")
            moment = time_of(_decimal(time))
            _require_printable([misc])
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
    # Decimal() itself takes signs, blanks, underscores, NaN, and any number of digits.
    is_plain = _PLAIN.issuperset("".join(texts)) and max(map(len, texts), default=0) <= _LONGEST_NUMBER
    if not is_plain:
        for text in texts:
            _decimal(text)
    try:
        return list(map(Decimal, texts))
    except InvalidOperation:
        raise ValueError(f"{next(filter(_is_no_number, texts), '')!r:.40} is not a number") from None


def _require_printable(flags: Sequence[str]) -> None:
    """Raises ValueError."""
    if not "".join(flags).isprintable():
        unprintable = next(flag for flag in flags if not flag.isprintable())
        raise ValueError(f"misc is not printable: {unprintable!r:.40}")


def is_number(text: str) -> bool:
    """Whether it is digits with maybe a point and an exponent: 30 before and after the point at most."""
    return _NUMBER.fullmatch(text) is not None


def _is_no_number(text: str) -> bool:
    return not is_number(text)


def _decimal(value: Any) -> Decimal:
    """From Kraken's text, or from what a JSON decoder made of it."""
    text = value if isinstance(value, str) else "" if isinstance(value, bool) else str(value)
    if _is_no_number(text):
        raise ValueError(f"{text!r:.40} is not a number")
    return Decimal(text)


_T = TypeVar("_T")

_Id = Annotated[int, Meta(ge=0, le=LARGEST_ID)]
_Seconds = Annotated[int, Meta(ge=0, le=_LARGEST_CURSOR // 10**9)]

Last = Annotated[int, Meta(ge=0, le=_LARGEST_CURSOR)] | Annotated[str, Meta(pattern=r"^[0-9]{1,19}\Z")] | None


class _Envelope(msgspec.Struct):
    error: list[str]
    result: Raw = Raw()


class _TradeRow(msgspec.Struct, array_like=True, gc=False):
    price: str
    volume: str
    time: Decimal
    side: Literal["b", "s"]
    order_type: Literal["m", "l"]
    misc: str
    trade_id: _Id = 0


class _OhlcRow(msgspec.Struct, array_like=True, gc=False):
    time: _Seconds
    open: str
    high: str
    low: str
    close: str
    vwap: str
    volume: str
    count: _Id


class AssetPair(msgspec.Struct, frozen=True):
    """A market as AssetPairs lists it, under its key."""

    altname: str
    """Its REST name, ``'XBTUSD'``."""
    base: str
    quote: str
    pair_decimals: int
    """Decimals of prices."""
    lot_decimals: int
    """Decimals of volumes."""
    wsname: str | None = None
    """``'XBT/USD'``; dark pools have none."""
    status: str = "online"
    ordermin: str | None = None
    """The smallest order, in the base asset."""
    aclass_base: str = "currency"
    """``'currency'`` or ``'tokenized_asset'``."""


class _Time(msgspec.Struct):
    unixtime: _Seconds


class SystemStatus(msgspec.Struct, frozen=True):
    status: str
    """``'online'``, ``'maintenance'``, ``'cancel_only'`` or ``'post_only'``."""
    timestamp: datetime


@dataclass(frozen=True)
class TradesPage:
    """One answer of Trades, oldest first, at most 1,000.

    Its rows are decoded when they are first looked at, which takes longer than to ask for the next page.
    """

    key: str
    """Kraken's own name of the pair, ``'XXBTZUSD'``, often not the one that was asked for."""
    last: int | None
    """The cursor of the next page in ns, as Kraken gave it; None where it is missing, which happens."""
    _rows: bytes
    _what: str
    """Who was asked for what, for errors."""

    @cached_property
    def trades(self) -> list[KrakenTrade]:
        """Typed and exact. Raises ImpossibleRowError."""
        return _trades(self._rows, self._what, f"result.{self.key}")

    @cached_property
    def raw(self) -> list[list[Any]]:
        """The rows as Kraken's JSON has them: ``[price, volume, time, 'b'|'s', 'm'|'l', misc, trade_id]``.

        ``time`` is a float: it is the shortest text of one, so ``repr`` gives Kraken's digits again.
        """
        try:
            rows: list[list[Any]] = msgspec.json.decode(self._rows)
        except (ValueError, RecursionError) as error:  # what no field is made of was passed over until now
            raise ImpossibleRowError(f"{self._what}: result.{self.key}: {error}") from None
        return rows

    def records(self, symbol: str) -> list[TradeRecord]:
        """The trades as the store takes them."""
        return [trade.to_record(symbol) for trade in self.trades]


@dataclass(frozen=True, slots=True)
class OhlcPage:
    """One answer of OHLC, oldest first: at most 720 candles that are complete, and the running one."""

    key: str
    interval_minutes: int
    committed: list[KrakenOhlc]
    """Complete candles, with the empty ones that Kraken puts where nothing was traded."""
    running: KrakenOhlc | None
    """The last row, never complete; None in an empty answer."""
    last: int | None
    """Seconds: the time of the newest complete candle, as Kraken gave it."""

    def records(self, symbol: str) -> list[CandleRecord]:
        """The complete candles with trades, as the store takes them."""
        return [row.to_record(symbol, self.interval_minutes) for row in self.committed if row.trade_count]


_ENVELOPE = msgspec.json.Decoder(_Envelope)
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_TRADES = msgspec.json.Decoder(list[_TradeRow])
_OHLC = msgspec.json.Decoder(list[_OhlcRow])
_LAST = msgspec.json.Decoder(Last)
_PAIRS = msgspec.json.Decoder(dict[str, AssetPair])
_TIME = msgspec.json.Decoder(_Time)
_STATUS = msgspec.json.Decoder(SystemStatus)


def decode_result(body: bytes, what: str, now: float) -> Raw:
    """The ``result`` of an answer. Raises the error that stands in it; ``now`` is in unix seconds.

    What is no JSON, such as half an answer or a page of Cloudflare, is an ExchangeUnavailableError.
    """
    try:
        envelope = _ENVELOPE.decode(body)
    except msgspec.ValidationError as error:
        raise _wrong(what, "the answer", error, body) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        shown = excerpt(body) if body.strip() else "nothing"
        raise ExchangeUnavailableError(f"{what}: the answer is no whole JSON: {shown}") from None
    if refused := application_error(envelope.error, what, now):
        raise refused
    if not bytes(envelope.result):
        raise ExchangeFormatError(f"{what}: the answer has neither an error nor a result")
    return envelope.result


def refusal(body: bytes, what: str, now: float) -> ExchangeError | None:
    """The error that stands in the body of a failed request; None if there is none."""
    try:
        return application_error(_ENVELOPE.decode(body).error, what, now)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def open_trades(result: Raw | bytes, what: str) -> TradesPage:
    """A page whose rows have not been looked at yet."""
    key, rows, last = _split(result, what)
    return TradesPage(key, last, bytes(rows), what)


def decode_trades(result: Raw | bytes, what: str) -> TradesPage:
    """A page whose rows are known to be trades."""
    page = open_trades(result, what)
    _ = page.trades
    return page


def _trades(rows: bytes, what: str, place: str) -> list[KrakenTrade]:
    try:
        wire = _decode(_TRADES, rows, what, place)
    except ExchangeFormatError as error:
        raise ImpossibleRowError(error.message, hint=error.hint) from None
    try:
        prices, volumes = decimals([row.price for row in wire]), decimals([row.volume for row in wire])
        _require_printable([row.misc for row in wire])
        return [
            KrakenTrade(
                price,
                volume,
                time_of(row.time),
                row.side,
                row.order_type,
                row.misc,
                row.trade_id or None,
            )
            for row, price, volume in zip(wire, prices, volumes, strict=True)
        ]
    except ValueError as error:
        at, reason = next(filter(None, map(_impossible, range(len(wire)), wire)), (0, str(error)))
        raise ImpossibleRowError(f"{what}: {place}[{at}]: {reason}") from None


def _impossible(at: int, row: _TradeRow) -> tuple[int, str] | None:
    """The place of a row and what is wrong with it; None for one that can be."""
    try:
        decimals([row.price, row.volume])
        _require_printable([row.misc])
        time_of(row.time)
    except ValueError as error:
        return at, str(error)
    return None


def decode_ohlc(result: Raw | bytes, what: str, interval_minutes: int) -> OhlcPage:
    """The last row is taken for running whatever ``last`` says, and so is none before it that is after it."""
    key, raw, last = _split(result, what)
    place = f"result.{key}"
    wire = _decode(_OHLC, raw, what, place)
    try:
        rows = [_ohlc(row) for row in wire]
    except ValueError as error:
        raise ExchangeFormatError(f"{what}: {place}: {error}") from None
    committed = [row for row, sent in zip(rows[:-1], wire, strict=False) if last is None or sent.time <= last]
    return OhlcPage(key, interval_minutes, committed, rows[-1] if rows else None, last)


def _ohlc(row: _OhlcRow) -> KrakenOhlc:
    numbers = decimals([row.open, row.high, row.low, row.close, row.vwap, row.volume])
    first, high, low, close, vwap, volume = numbers
    return KrakenOhlc(time_of(Decimal(row.time)), first, high, low, close, vwap, volume, row.count)


def decode_asset_pairs(result: Raw | bytes, what: str) -> dict[str, AssetPair]:
    return _decode(_PAIRS, result, what, "result")


def symbols_of(listing: Mapping[str, AssetPair]) -> dict[str, str]:
    """The keys and altnames of a list and the symbols of them: see ``known_pairs``."""
    return known_pairs(
        {key: {"wsname": pair.wsname, "altname": pair.altname} for key, pair in listing.items()}
    )


def decode_time(result: Raw | bytes, what: str) -> datetime:
    seconds = _decode(_TIME, result, what, "result").unixtime
    try:
        return time_of(Decimal(seconds))
    except ValueError as error:
        raise ExchangeFormatError(f"{what}: result.unixtime: {error}") from None


def decode_system_status(result: Raw | bytes, what: str) -> SystemStatus:
    status = _decode(_STATUS, result, what, "result")
    if status.timestamp.tzinfo is None:
        raise ExchangeFormatError(f"{what}: result.timestamp has no time zone: {status.timestamp}")
    return SystemStatus(status.status, status.timestamp.astimezone(UTC))


def _split(result: Raw | bytes, what: str) -> tuple[str, Raw, int | None]:
    """The one key that is not ``last``, its rows, and ``last``."""
    fields = _decode(_FIELDS, result, what, "result")
    keys = [key for key in fields if key != "last"]
    if len(keys) == 1 and len(keys[0]) > _LONGEST_KEY:
        raise ExchangeFormatError(f"{what}: result has a key that is no pair's: {excerpt(keys[0])}")
    if len(keys) != 1:
        named = f"{len(keys)} keys ({excerpt(', '.join(keys[:_LONGEST_KEY]))})" if keys else "no key"
        raise ExchangeFormatError(f"{what}: result has {named} beside 'last' where one pair belongs")
    last = _decode(_LAST, fields["last"], what, "result.last") if "last" in fields else None
    if last is not None and int(last) > _LARGEST_CURSOR:
        raise ExchangeFormatError(f"{what}: result.last is no cursor: {last}")
    return keys[0], fields[keys[0]], None if last is None else int(last)


def _decode(decoder: msgspec.json.Decoder[_T], raw: Raw | bytes, what: str, place: str) -> _T:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(what, place, error, bytes(raw)) from None


def _wrong(what: str, place: str, error: Exception, seen: bytes) -> ExchangeFormatError:
    """``Trades of XBTUSD: result.XXBTZUSD[0][2]: expected ..., got ...``."""
    reason, _, path = str(error).partition(" - at `")
    where = place + path.rstrip("`").removeprefix("$")
    return ExchangeFormatError(
        f"{what}: {where}: {reason[:1].lower()}{reason[1:]}; it begins with {excerpt(seen)}",
        hint="Kraken may have changed its format: look for a newer version of this package",
    )

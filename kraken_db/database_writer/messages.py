"""What a WebSocket client hands to its handlers, as records: Kraken's own field names, or plain ones."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kraken_db.ingest.rules import known_symbol, shown
from kraken_db.intervals import floor_to_interval
from kraken_db.kraken.messages import time_of
from kraken_db.types import CandleRecord, TradeRecord

_SIDES = {"b": "buy", "s": "sell", "buy": "buy", "sell": "sell"}
_SECONDS = re.compile(r"\d{1,12}(\.\d{0,30})?", re.ASCII)
_DIGITS = 20
"""Of the largest whole number that is looked at: more than a bigint has."""
_WHOLE = re.compile(rf"[+-]?\d{{1,{_DIGITS}}}", re.ASCII)
_LONGEST_TIME = 64  # characters
_END = 10**12  # seconds: nothing is as late as that


def symbol_of(symbol: str | None, data: Mapping[str, Any]) -> str:
    """The symbol that the handler was called with, else the message's own."""
    return known_symbol(symbol or data["symbol"])


def trade_of(symbol: str, data: Mapping[str, Any]) -> TradeRecord:
    """A trade. Raises KeyError for a missing field, ValueError or TypeError for one that cannot be.

    What the values are worth is checked where the record is taken.
    """
    side = data.get("side")
    trade_id = data.get("trade_id")
    return TradeRecord(
        symbol,
        moment_of(data["timestamp"]),
        data["price"],
        data["qty"] if "qty" in data else data["volume"],
        "" if side is None else _SIDES.get(str(side).lower(), side),
        None if trade_id is None else _whole(trade_id),
        data.get("ord_type", data.get("order_type")),
        data.get("misc"),
    )


def candle_of(symbol: str, data: Mapping[str, Any], interval: int) -> CandleRecord:
    """A candle as it is by now; raises as ``trade_of`` does.

    Without ``interval_begin`` it is the candle that ``timestamp`` lies in, a border belonging to what it
    opens.
    """
    interval = _whole(data.get("interval", interval))
    begins = data.get("interval_begin")
    vwap = data.get("vwap")
    return CandleRecord(
        symbol,
        floor_to_interval(_aware(data["timestamp"]), interval) if begins is None else moment_of(begins),
        interval,
        data["open"],
        data["high"],
        data["low"],
        data["close"],
        data["volume"],
        _whole(data["trades"] if "trades" in data else data["trade_count"]),
        None if vwap is None or not Decimal(str(vwap)) else vwap,
    )


def moment_of(value: Any) -> datetime:
    """A time from an ISO text, from seconds since 1970, or as it is; what is finer than microseconds is cut.

    Without a zone it stays without one. Raises ValueError or TypeError.
    """
    if isinstance(value, datetime):
        return value
    if isinstance(value, bool):
        raise TypeError(f"{shown(value)} is no time")
    if isinstance(value, float):
        value = repr(float(value))
    if len(value) > _LONGEST_TIME if isinstance(value, str) else isinstance(value, int) and value > _END:
        raise ValueError(f"{shown(value)} is no time")
    text = str(value).strip()
    if _SECONDS.fullmatch(text) and not (isinstance(value, str) and len(text) == len("20240101")):
        return time_of(Decimal(text))
    if not isinstance(value, str):
        raise TypeError(f"{shown(value)} is no time")
    return datetime.fromisoformat(text)


def _aware(value: Any) -> datetime:
    moment = moment_of(value)
    if moment.utcoffset() is None:
        raise ValueError(f"timestamp {moment.isoformat()} has no time zone")
    return moment.astimezone(UTC)


def _whole(value: Any) -> int:
    """No arithmetic before its size is known: ``1E+100000`` is a whole number, too."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, Decimal) and value.adjusted() < _DIGITS and value == value.to_integral_value():
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool | str):
        raise TypeError(f"{shown(value)} is no whole number")
    return operator.index(value)

"""What a WebSocket client hands to its handlers, as records: Kraken's own field names, or plain ones."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kraken_db.ingest.rules import known_symbol
from kraken_db.intervals import floor_to_interval
from kraken_db.kraken.messages import time_of
from kraken_db.types import CandleRecord, TradeRecord

_SIDES = {"b": "buy", "s": "sell", "buy": "buy", "sell": "sell"}
_SECONDS = re.compile(r"\d{1,12}(\.\d+)?")


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
        raise TypeError(f"{value!r} is no time")
    if isinstance(value, float):
        value = repr(float(value))
    text = str(value).strip()
    if _SECONDS.fullmatch(text) and not (isinstance(value, str) and len(text) == len("20240101")):
        return time_of(Decimal(text))
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no time")
    return datetime.fromisoformat(text)


def _aware(value: Any) -> datetime:
    moment = moment_of(value)
    if moment.utcoffset() is None:
        raise ValueError(f"timestamp {moment.isoformat()} has no time zone")
    return moment.astimezone(UTC)


def _whole(value: Any) -> int:
    if isinstance(value, str):
        return int(value)
    if isinstance(value, Decimal | float) and value == int(value):
        return int(value)
    return operator.index(value)

"""Rows of candles made into objects, by the hundred thousand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from kraken_db.types import Candle

_SETTERS = tuple(vars(Candle)[field.name].__set__ for field in fields(Candle))


def build_candles(symbol: str, interval: int, rows: Iterable[Sequence[Any]]) -> list[Candle]:
    """Candles of rows with timestamp, open, high, low, close, volume, trade_count, vwap.

    The same objects as ``Candle(...)`` makes, in half the time: a frozen class goes through
    ``object.__setattr__`` for each field, and finds the field by its name again each time.
    """
    new = object.__new__
    (
        set_symbol,
        set_timestamp,
        set_interval,
        set_open,
        set_high,
        set_low,
        set_close,
        set_volume,
        set_trade_count,
        set_vwap,
    ) = _SETTERS
    candles: list[Candle] = []
    append = candles.append
    for timestamp, open_, high, low, close, volume, trade_count, vwap in rows:
        candle = new(Candle)
        set_symbol(candle, symbol)
        set_timestamp(candle, timestamp)
        set_interval(candle, interval)
        set_open(candle, open_)
        set_high(candle, high)
        set_low(candle, low)
        set_close(candle, close)
        set_volume(candle, volume)
        set_trade_count(candle, trade_count)
        set_vwap(candle, vwap)
        append(candle)
    return candles

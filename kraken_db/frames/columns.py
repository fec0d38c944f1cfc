"""The columns of data frames and of exported files, and in which form the database sends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["time", "price", "amount", "count", "text"]
"""What a column holds.

``time``: microseconds since 1970, which become a UTC timestamp. ``price``: 20 digits, ten of them decimals.
``amount``: sums of volumes, which may be longer: 38 digits. ``count``: 64 bits. ``text``: never missing.
"""

PRECISION = {"price": 20, "amount": 38}
SCALE = 10


@dataclass(frozen=True, slots=True)
class FrameColumn:
    name: str
    kind: Kind


_SHAPE = tuple(FrameColumn(name, "price") for name in ("open", "high", "low", "close"))
CANDLE_COLUMNS = (
    FrameColumn("timestamp", "time"),
    *_SHAPE,
    FrameColumn("volume", "amount"),
    FrameColumn("trade_count", "count"),
    FrameColumn("vwap", "price"),
)
CANDLE_FILE_COLUMNS = (*CANDLE_COLUMNS, FrameColumn("quote_volume", "amount"))
TRADE_COLUMNS = (
    FrameColumn("timestamp", "time"),
    FrameColumn("id", "count"),
    FrameColumn("price", "price"),
    FrameColumn("volume", "price"),
    FrameColumn("side", "text"),
    FrameColumn("order_type", "text"),
    FrameColumn("misc", "text"),
)

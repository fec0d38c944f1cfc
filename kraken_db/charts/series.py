"""A stretch of candles without holes: every interval is traded, quiet, or not known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal, TypeAlias

from kraken_db.intervals import interval_length
from kraken_db.types import Candle

Kind: TypeAlias = Literal["traded", "quiet", "unknown"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One interval, or several that are drawn as one.

    ``candle`` is None where nothing is known; where it is known that nothing was traded, it is flat.
    ``has_unknown``: whether any of the intervals is not known.
    """

    opens_at: datetime
    candle: Candle | None
    has_unknown: bool

    @property
    def kind(self) -> Kind:
        if self.candle is None:
            return "unknown"
        return "traded" if self.candle.trade_count else "quiet"


@dataclass(frozen=True, slots=True)
class Series:
    """The intervals of a symbol from the first known one to the last, one after the other."""

    symbol: str
    interval: int
    slots: Sequence[Slot]

    @classmethod
    def of(cls, candles: Sequence[Candle]) -> Series:
        """Candles in order of time, at least one; a quiet interval is a flat candle without trades."""
        first = candles[0]
        length = interval_length(first.interval_minutes)
        slots: list[Slot] = []
        opens_at = first.timestamp
        for candle in candles:
            while opens_at < candle.timestamp:
                slots.append(Slot(opens_at, None, True))
                opens_at += length
            slots.append(Slot(opens_at, candle, False))
            opens_at += length
        return cls(first.symbol, first.interval_minutes, slots)

    @property
    def candles(self) -> list[Candle]:
        """What is known, quiet intervals included."""
        return [slot.candle for slot in self.slots if slot.candle is not None]

    @property
    def traded(self) -> list[Candle]:
        return [candle for candle in self.candles if candle.trade_count]

    @property
    def price_decimals(self) -> int:
        """As many as the prices need: those of the pair, unless all prices happen to be rounder."""
        return max(decimals_of(p) for c in self.candles for p in (c.open, c.high, c.low, c.close))

    @property
    def change(self) -> Decimal | None:
        """From the first open to the last close, in percent; None where the first is 0."""
        traded = self.traded or self.candles
        opened = traded[0].open
        return (traded[-1].close - opened) / opened * 100 if opened else None

    def merged(self, count: int) -> Series:
        """So many intervals as one candle each: the first open, the highest high, the last close, ..."""
        if count == 1:
            return self
        groups = [self.slots[begin : begin + count] for begin in range(0, len(self.slots), count)]
        return Series(self.symbol, self.interval, [_one(group) for group in groups])

    def unknown_ranges(self) -> list[tuple[datetime, datetime]]:
        """Start inclusive, end exclusive; none of them touch."""
        length = interval_length(self.interval)
        found: list[tuple[datetime, datetime]] = []
        for slot in self.slots:
            if slot.candle is not None:
                continue
            if found and found[-1][1] == slot.opens_at:
                found[-1] = (found[-1][0], slot.opens_at + length)
            else:
                found.append((slot.opens_at, slot.opens_at + length))
        return found


def _one(slots: Sequence[Slot]) -> Slot:
    opens_at, has_unknown = slots[0].opens_at, any(slot.has_unknown for slot in slots)
    known = [slot.candle for slot in slots if slot.candle is not None]
    parts = [candle for candle in known if candle.trade_count] or known[:1]
    if not parts:
        return Slot(opens_at, None, True)
    first = parts[0]
    merged = Candle(
        first.symbol,
        opens_at,
        first.interval_minutes,
        first.open,
        max(candle.high for candle in parts),
        min(candle.low for candle in parts),
        parts[-1].close,
        sum((candle.volume for candle in parts), Decimal(0)),
        sum(candle.trade_count for candle in parts),
        None,
    )
    return Slot(opens_at, merged, has_unknown)


def decimals_of(value: Decimal) -> int:
    """The digits behind the point that count: 2 for 16541.7700."""
    return len(format(value, "f").partition(".")[2].rstrip("0"))

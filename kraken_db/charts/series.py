"""A stretch of candles without holes, for charts: every interval is traded, quiet, or not known.

With it what pages and pictures share: colours, and axes that have their labels at round prices and times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal, TypeAlias

from kraken_db.intervals import DAY, GRID_ORIGIN_EPOCH, Interval, IntervalLike, as_interval
from kraken_db.ranges import union
from kraken_db.types import Candle

COLOURS = {"up": "#26a69a", "down": "#ef5350", "quiet": "#8a8f98", "unknown": "#eceff1"}


def title_of(series: Series) -> str:
    """``BTC/USD 1h, 2023-01-01 00:00 to 2023-01-02 00:00 UTC``."""
    return f"{series.symbol} {series.every.name}, {range_of(series)}"


def range_of(series: Series) -> str:
    """``2023-01-01 00:00 to 2023-01-02 00:00 UTC``, by the clocks of its zone."""
    first, until = _ends(series)
    return f"{first:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} {series.every.zone_name}"


def days_of(series: Series) -> str:
    """``2023-01-01 to 2023-01-02``: the same where there is less room."""
    first, until = _ends(series)
    return f"{first:%Y-%m-%d} to {until:%Y-%m-%d}"


def _ends(series: Series) -> tuple[datetime, datetime]:
    return series.local(series.slots[0].opens_at), series.local(series.closes_at)


_ROUND_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, DAY, 2 * DAY, 7 * DAY)
_ROUND_DIGITS = (1, 2, 5)


def price_ticks(low: Decimal, high: Decimal, most: int, decimals: int) -> list[Decimal]:
    """Round prices in ``[low, high]``, at most so many, in steps of 1, 2 or 5 times a power of ten.

    No finer than ``decimals``. Without a round one, the price in the middle.
    """
    smallest = Decimal(1).scaleb(-decimals)
    step = max((high - low) / max(most, 1), smallest)
    power = step.adjusted()
    steps = (Decimal(digit).scaleb(power + more) for more in (0, 1) for digit in _ROUND_DIGITS)
    step = next(candidate for candidate in steps if candidate >= step)
    first = (low / step).to_integral_value(ROUND_CEILING)
    last = (high / step).to_integral_value(ROUND_FLOOR)
    ticks = [step * number for number in range(int(first), int(last) + 1)]
    return ticks[:most] or [((low + high) / 2).quantize(smallest)]


def time_step(minutes: int) -> int:
    """The shortest round time that is not shorter than so many minutes: an hour, a day, some weeks."""
    for step in _ROUND_MINUTES:
        if step >= minutes:
            return step
    week = _ROUND_MINUTES[-1]
    return -(-minutes // week) * week


def time_ticks(moments: Sequence[datetime], step: int) -> list[int]:
    """The positions of the moments (in order, of one zone) that begin a new step of so many minutes."""
    seconds = [int(moment.replace(tzinfo=UTC).timestamp()) - GRID_ORIGIN_EPOCH for moment in moments]
    steps = [second // (step * 60) for second in seconds]
    begins = [at for at in range(1, len(steps)) if steps[at] != steps[at - 1]]
    return [0, *begins] if seconds[0] % (step * 60) == 0 else begins or [0]


def time_text(moment: datetime, step: int) -> str:
    """``2023-01-31``, or ``01-31 15:30`` where the steps are shorter than a day."""
    return moment.strftime("%Y-%m-%d" if step >= DAY else "%m-%d %H:%M")


def short_text(amount: Decimal) -> str:
    """Three digits that count, and what they are multiplied by: ``12.3``, ``4.56k``, ``7.89M``."""
    for unit, size in (("G", 9), ("M", 6), ("k", 3)):
        if amount.copy_abs() >= Decimal(1).scaleb(size):
            return f"{_three_digits(amount.scaleb(-size))}{unit}"
    return _three_digits(amount)


def _three_digits(amount: Decimal) -> str:
    text = f"{amount:.{min(8, max(0, 2 - amount.adjusted()))}f}" if amount else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text


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
    every: Interval
    slots: Sequence[Slot]
    closes_at: datetime
    """When the last of the intervals ends."""

    @classmethod
    def of(cls, candles: Sequence[Candle], interval: IntervalLike | None = None) -> Series:
        """Candles in order of time, at least one; a quiet interval is a flat candle without trades.

        ``interval``: theirs; by default, that of so many minutes as the first candle has.
        """
        every = as_interval(candles[0].interval_minutes if interval is None else interval)
        closes_at = every.closed_at(candles[-1].timestamp)
        by_time = {candle.timestamp: candle for candle in candles}
        slots = [
            Slot(opens_at, by_time.get(opens_at), opens_at not in by_time)
            for opens_at in every.opens(candles[0].timestamp, closes_at)
        ]
        return cls(candles[0].symbol, every, slots, closes_at)

    @property
    def interval(self) -> int:
        """Its length in minutes; of intervals that differ in length, the longest."""
        return self.every.longest // timedelta(minutes=1)

    def local(self, moment: datetime) -> datetime:
        """As the clocks of the interval's zone show it."""
        return moment.astimezone(self.every.zone)

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
        return replace(self, slots=[_one(group) for group in groups])

    def unknown_ranges(self) -> list[tuple[datetime, datetime]]:
        """Start inclusive, end exclusive; none of them touch."""
        ends = [*(slot.opens_at for slot in self.slots[1:]), self.closes_at]
        return union(
            (slot.opens_at, end) for slot, end in zip(self.slots, ends, strict=True) if slot.candle is None
        )


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

"""Where an axis has its labels: at round prices and at round times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from kraken_db.intervals import GRID_ORIGIN_EPOCH

_DAY = 1440
_ROUND_MINUTES = (1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, _DAY, 2 * _DAY, 7 * _DAY)
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
    """The positions of the moments (in order, UTC) that begin a new step of so many minutes."""
    seconds = [int(moment.timestamp()) - GRID_ORIGIN_EPOCH for moment in moments]
    steps = [second // (step * 60) for second in seconds]
    begins = [at for at in range(1, len(steps)) if steps[at] != steps[at - 1]]
    return [0, *begins] if seconds[0] % (step * 60) == 0 else begins or [0]


def time_text(moment: datetime, step: int) -> str:
    """``2023-01-31``, or ``01-31 15:30`` where the steps are shorter than a day."""
    return moment.strftime("%Y-%m-%d" if step >= _DAY else "%m-%d %H:%M")


def short_text(amount: Decimal) -> str:
    """Three digits that count, and what they are multiplied by: ``12.3``, ``4.56k``, ``7.89M``."""
    for unit, size in (("G", 9), ("M", 6), ("k", 3)):
        if amount.copy_abs() >= Decimal(1).scaleb(size):
            return f"{_three_digits(amount.scaleb(-size))}{unit}"
    return _three_digits(amount)


def _three_digits(amount: Decimal) -> str:
    text = f"{amount:.{min(8, max(0, 2 - amount.adjusted()))}f}" if amount else "0"
    return text.rstrip("0").rstrip(".") if "." in text else text

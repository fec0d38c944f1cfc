"""What a field of a trade can be: told by its text alone, with the words that a refused row gets.

Each check takes the text of a field and returns None where it may be such a field, else what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kraken_db.times import FIRST_MOMENT
from kraken_db.tolerances import CLOCK_SKEW

Row = Sequence[str]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_WHOLE = re.compile(r"-?\d+", re.ASCII)
_ORDER_TYPE = re.compile(r"[a-z-]{3,10}|[ml]?")
_SIDES = frozenset({"b", "s", "buy", "sell", ""})
_LARGEST_ID = 2**62
_EARLIEST = FIRST_MOMENT.timestamp()
_MILLISECONDS = 1e11  # seconds of the year 5138; a present time in milliseconds is above it
_SHOWN = 60


def is_number(text: str) -> bool:
    """Whether it is a finite number, as any archive writes one."""
    return len(text) <= 100 and _NUMBER.fullmatch(text) is not None


class TradeFields:
    """The checks of a trade's fields. ``now``: Unix seconds, which no time lies beyond.

    A price is never as large as a time is (1.4 to 2 billion): none of Kraken's currencies is worth so little.
    A volume may be: of SHIB or PEPE.
    """

    def __init__(self, now: float) -> None:
        self._latest = now + CLOCK_SKEW.total_seconds()
        self._checks: dict[str, Callable[[str], str | None]] = {
            "time": self.time,
            "price": self.price,
            "volume": _volume,
            "side": _side,
            "order_type": _order_type,
            "trade_id": _trade_id,
        }

    def misfit(self, columns: Sequence[str], row: Row) -> str | None:
        """What is wrong with the first field that is not its column's; None for a row that fits."""
        for name, text in zip(columns, row, strict=True):
            check = self._checks.get(name)
            if check is not None and (reason := check(text)) is not None:
                return reason
        return None

    def time(self, text: str) -> str | None:
        """A time lies between September 2013 and now."""
        if not is_number(text):
            return f"time {shown(text)} is not a number"
        seconds = float(text)
        if seconds >= _MILLISECONDS:
            return f"time {text} looks like milliseconds, expected seconds"
        if seconds <= 0:
            return f"time {text} is not a Unix time in seconds"
        if seconds < _EARLIEST:
            return f"time {text} is before September 2013, when Kraken's history begins"
        if seconds > self._latest:
            return f"time {text} lies in the future"
        return None

    def price(self, text: str) -> str | None:
        """Whether it is above zero is for the rules of a row, which name it."""
        if not is_number(text):
            return f"price {shown(text)} is not a number"
        if self.time(text) is None:
            return f"price {text} looks like a time"
        return None


def shown(text: str) -> str:
    """A field in a message: never longer than a line."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _volume(text: str) -> str | None:
    return None if is_number(text) else f"volume {shown(text)} is not a number"


def _side(text: str) -> str | None:
    return None if text in _SIDES else f"the side is neither buy (b) nor sell (s): {shown(text)}"


def _order_type(text: str) -> str | None:
    if _ORDER_TYPE.fullmatch(text):
        return None
    return f"the order type is no word such as market or limit: {shown(text)}"


def _trade_id(text: str) -> str | None:
    """Empty and 0 are the trades without one."""
    if not text:
        return None
    if not _WHOLE.fullmatch(text):
        return f"trade id {shown(text)} is not a whole number"
    if text.startswith("-"):
        return f"the trade id is negative: {text:.40}"
    # A number of more digits than Python turns into one is larger anyway.
    if len(text) > 40 or int(text) > _LARGEST_ID:
        return f"no trade id is as large as {text:.40}"
    return None

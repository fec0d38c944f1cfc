"""What a field of a row can be: told by its text alone, with the words that a refused row gets.

Numbers have one grammar, whatever file they are in and wherever: ASCII digits, a point, an exponent. The
database and Python read more (``0x10``, ``1_0``, `` 2.0``, Arabic digits), and not the same in each version.
``TradeFields`` looks at the first rows, which have to show what the columns are; ``RowGrammar`` at all.

Each check takes the text of a field and returns None where it may be such a field, else what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kraken_db.times import FIRST_MOMENT
from kraken_db.tolerances import CLOCK_SKEW

Row = Sequence[str]

# On both sides of the point twice as many digits as any column holds. Not possessive: Python 3.11.2 is wrong
# about that, and what follows a number is a comma, so no text is read more than twice.
_NUMBER_TEXT = r"[+-]?(?:[0-9]{1,60}(?:\.[0-9]{0,60})?|\.[0-9]{1,60})(?:[eE][+-]?[0-9]{1,4})?"
_WHOLE_TEXT = r"[+-]?[0-9]{1,40}"
_NUMBER, _SIGNED = re.compile(_NUMBER_TEXT), re.compile("[+-]?[0-9]+")
_WHOLE_COLUMNS = frozenset({"trade_id", "timestamp", "trades"})
WORD_COLUMNS = frozenset({"side", "order_type", "misc"})
_AS_ZEROS = bytes.maketrans(b"0123456789", b"0000000000")
_MOST_SHAPES, _LONGEST_SHAPE = 10_000, 200
_ORDER_TYPE = re.compile(r"[a-z-]{3,10}|[ml]?")
_SIDES = frozenset({"b", "s", "buy", "sell", ""})
_LARGEST_ID = 2**62
_EARLIEST = FIRST_MOMENT.timestamp()
_MILLISECONDS = 1e11  # seconds of the year 5138; a present time in milliseconds is above it
_SHOWN = 60


def is_number(text: str) -> bool:
    """Whether it is a finite number, as any archive writes one."""
    return _NUMBER.fullmatch(text) is not None


class RowGrammar:
    """Whether the numbers of rows are numbers.

    All rows of one shape, that is, with other digits in the same places, are right or wrong together: a file
    has few shapes, and each is looked at once.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        # An empty field is for the database, which knows where one may be.
        row = ",".join("[^,]*" if name in WORD_COLUMNS else f"(?:{_text_of(name)})?" for name in columns)
        self._row = re.compile(row.encode())
        self._known: set[bytes] = set()

    def misfit(self, rows: bytes) -> tuple[int, str] | None:
        """Of the first row with a wrong number: how many lines stand before it, and what is wrong with it.

        ``rows``: whole lines. A row of another width is for the database, too.
        """
        fresh = set(rows.translate(_AS_ZEROS).split(b"\n")) - self._known
        odd = {shape for shape in fresh if self._row.fullmatch(shape) is None}
        if odd:
            for number, line in enumerate(rows.split(b"\n")):
                if line.translate(_AS_ZEROS) in odd and (reason := self._reason(line)) is not None:
                    return number, reason
        if len(self._known) < _MOST_SHAPES:
            self._known |= {shape for shape in fresh if len(shape) <= _LONGEST_SHAPE}
        return None

    def _reason(self, line: bytes) -> str | None:
        fields = line.decode("ascii", "replace").split(",")
        if len(fields) != len(self._columns):
            return None
        for name, text in zip(self._columns, fields, strict=True):
            if text and name not in WORD_COLUMNS and re.fullmatch(_text_of(name), text) is None:
                kind = "whole number" if name in _WHOLE_COLUMNS else "number"
                return f"{name.replace('_', ' ')} {shown(text)} is not a {kind}"
        return None


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


def _text_of(column: str) -> str:
    return _WHOLE_TEXT if column in _WHOLE_COLUMNS else _NUMBER_TEXT


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
    if not _SIGNED.fullmatch(text):
        return f"trade id {shown(text)} is not a whole number"
    if text.startswith("-"):
        return f"the trade id is negative: {text:.40}"
    # A number of more digits than Python turns into one is larger anyway.
    if len(text) > 40 or int(text) > _LARGEST_ID:
        return f"no trade id is as large as {text:.40}"
    return None

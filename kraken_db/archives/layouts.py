"""What the columns of an archive's file are.

Told by the names of a header line, or by a MANIFEST.json. Where there is neither, by what the values can be:
never by the number of fields alone, for Kraken's two schemas of trades both have seven. What is not one of
Kraken's layouts is refused, with what was seen and the way out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from kraken_db.archives.fields import Row, TradeFields, is_number, shown
from kraken_db.errors import KrakenDBError
from kraken_db.intervals import interval_name

SCHEMA_2 = ("time", "price", "volume", "side", "order_type", "misc", "trade_id")
"""Of Kraken's archives since August 2026."""
SCHEMA_1 = ("price", "volume", "time", "side", "order_type", "misc", "trade_id")
"""Of the quarterly archives before."""
CANDLE_COLUMNS = ("timestamp", "open", "high", "low", "close", "volume", "trades")
"""Of Kraken's OHLCVT archives."""

# Layouts of trades without a header line, by their number of fields. A time at the front tells them apart:
# no price is as large as one.
_HEADERLESS: dict[int, tuple[tuple[str, ...], ...]] = {
    3: (SCHEMA_2[:3],),
    6: (SCHEMA_2[:-1], SCHEMA_1[:-1]),
    7: (SCHEMA_2, SCHEMA_1),
}
# A name of a header without its case, blanks and signs, and the column that it means. "type" is the side in
# Kraken's headers; where another name says the side, it is the order type.
_TRADE_NAMES = {
    "time": "time", "timestamp": "time", "unixtime": "time", "unixtimestamp": "time",
    "price": "price",
    "volume": "volume", "qty": "volume", "quantity": "volume", "amount": "volume",
    "type": "side", "side": "side", "buysell": "side",
    "ordertype": "order_type", "ordtype": "order_type", "marketlimit": "order_type",
    "misc": "misc", "miscellaneous": "misc",
    "tradeid": "trade_id", "id": "trade_id",
}  # fmt: skip
_CANDLE_NAMES = {
    "timestamp": "timestamp", "time": "timestamp", "unixtime": "timestamp", "unixtimestamp": "timestamp",
    "opentime": "timestamp",
    "open": "open", "high": "high", "low": "low", "close": "close", "volume": "volume",
    "trades": "trades", "count": "trades", "tradecount": "trades",
    "vwap": "vwap", "quotevolume": "quote_volume",
}  # fmt: skip
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_NO_TEXT = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SIGNS = re.compile(r"[^a-z0-9]")
_MOST_FIELDS = 64
_LONGEST_LINE = 4096  # ten times Kraken's longest
_NAME_THEM = (
    "if the file is right, name its columns in a header line, "
    "such as timestamp,price,volume,type,order_type,misc,trade_id"
)
_NAME_CANDLES = f"if the file is right, name its columns in a header line: {','.join(CANDLE_COLUMNS)}"


_NEAREST = "which it comes nearest to"


class LayoutError(KrakenDBError):
    """A file whose columns are not told. ``line`` counts from 1, with the header; None: the whole file."""

    def __init__(self, reason: str, *, hint: str | None = None, line: int | None = None) -> None:
        super().__init__(reason, hint=hint)
        self.reason = reason
        self.line = line


class NoRowsError(LayoutError):
    """A file without a row: nothing was traded, or the file was cut."""


@dataclass(frozen=True, slots=True)
class TradeLayout:
    """The columns of a file of trades, in the order of its fields, each at most once.

    Of ``time`` (Unix seconds), ``price``, ``volume``, ``side``, ``order_type``, ``misc`` and ``trade_id``;
    the first three are always there.
    """

    columns: tuple[str, ...]
    header_lines: int
    """0 or 1: what to leave out before the rows."""

    @property
    def has_ids(self) -> bool:
        """Whether there is a column of ids; single rows may have none, then it is 0 or empty."""
        return "trade_id" in self.columns


@dataclass(frozen=True, slots=True)
class CandleLayout:
    """The columns of a file of candles, in the order of its fields: ``CANDLE_COLUMNS``, and ``vwap`` and
    ``quote_volume`` where a header names them."""

    columns: tuple[str, ...]
    header_lines: int


def trade_layout(sample: bytes, *, now: float, declared: Sequence[str] | None = None) -> TradeLayout:
    """The columns of a file of trades, from its first block.

    Args:
        sample: the beginning of the file; its last line may be cut.
        now: Unix seconds; later times (but for a few seconds) are none.
        declared: the columns that a MANIFEST.json gives the file, by our names. What contradicts them is
            refused.

    Raises:
        LayoutError: the columns cannot be told, or are not Kraken's; NoRowsError where no row is there.
    """
    text = _Sample.of(sample)
    fields = TradeFields(now)
    if text.names is None and declared is None:
        return TradeLayout(_by_values(text, fields), 0)
    columns, why = _by_names(text, declared)
    for line, row in text.rows:
        if (reason := fields.misfit(columns, row)) is not None:
            _refuse_row(reason, line, columns, why)
    return TradeLayout(columns, text.header_lines)


def trade_columns(names: Sequence[str], who: str = "its header") -> tuple[str, ...]:
    """The columns that Kraken's names mean, as ``TradeLayout`` has them: time, price and volume at least.

    Raises LayoutError for an unknown name, for one that is missing, and for one that is there twice; ``who``
    has the names, for its words.
    """
    return _columns(names, _TRADE_NAMES, SCHEMA_2[:3], who)


def candle_columns(names: Sequence[str], who: str = "its header") -> tuple[str, ...]:
    """As ``trade_columns``, of candles: ``CANDLE_COLUMNS`` at least."""
    return _columns(names, _CANDLE_NAMES, CANDLE_COLUMNS, who)


def candle_layout(sample: bytes, *, now: float, interval: int) -> CandleLayout:
    """The columns of a file of candles of ``interval`` minutes, from its first block.

    Only what the columns are is told here: whether each row is a candle is for the rules of a row.
    ``sample`` and ``now`` as for ``trade_layout``. Raises LayoutError.
    """
    text = _Sample.of(sample)
    if text.names is None:
        _check_candles(text, TradeFields(now), interval)
        return CandleLayout(CANDLE_COLUMNS, 0)
    named = {_plain(name) for name in text.names}
    if "price" in named and not named & {"open", "high", "low"}:
        _refuse_trades(interval, 1)
    columns = candle_columns(text.names)
    if not text.rows:
        raise NoRowsError("there is no candle in it, only a header line")
    line, row = text.rows[0]
    if len(row) != len(columns):
        raise LayoutError(
            f"its header has {len(columns)} names, the rows have {len(row)} fields",
            hint=_NAME_CANDLES,
            line=line,
        )
    return CandleLayout(columns, 1)


@dataclass(frozen=True, slots=True)
class _Sample:
    """The lines of a sample, split; ``rows`` with their line numbers, all with as many fields as the first.

    A row of another width is no matter of the layout: the database names it with its line.
    """

    names: Row | None
    rows: list[tuple[int, Row]]

    @property
    def header_lines(self) -> int:
        return 0 if self.names is None else 1

    @classmethod
    def of(cls, sample: bytes) -> _Sample:
        lines = _lines(sample)
        if not any(lines):
            raise NoRowsError("there is nothing but empty lines in it")
        first = lines[0].split(",")
        names = None if any(map(is_number, first)) else first
        if names is not None and len(names) == 1:
            _check_separator(lines[0], 1)
        numbered = enumerate(lines[1:], 2) if names else enumerate(lines, 1)
        rows = [(number, line.split(",")) for number, line in numbered if line]
        width = len(rows[0][1]) if rows else 0
        if width > _MOST_FIELDS:
            raise LayoutError(f"{width} fields: this is none of Kraken's files", line=rows[0][0])
        if width == 1:
            _check_separator(rows[0][1][0], rows[0][0])
        return cls(names, [row for row in rows if len(row[1]) == width])


def _lines(sample: bytes) -> list[str]:
    """At least one; the last one, which may be cut, is left out unless there are no two."""
    if sample.startswith(_UTF16_MARKS):
        raise LayoutError(
            "it is UTF-16 text: it begins with that byte-order mark", hint="save it as UTF-8", line=1
        )
    sample = sample.removeprefix(_UTF8_MARK)
    if not sample:
        raise NoRowsError("the file is empty")
    first, newline, _ = sample.partition(b"\n")
    if odd := _NO_TEXT.search(first):
        raise LayoutError(f"binary data (byte 0x{odd[0][0]:02x}): this is not a CSV file", line=1)
    if not newline and len(first) > _LONGEST_LINE:
        raise LayoutError("the line has no end: this is not a CSV file", line=1)
    lines = sample.decode("utf-8", "replace").split("\n")
    whole = lines[:-1] if len(lines) > 2 or not lines[-1] else lines
    return [line.removesuffix("\r") for line in whole]


def _check_separator(line: str, number: int) -> None:
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if line.count(separator) > 1:
            reason = f"its fields are separated by {name}, Kraken's by commas"
            raise LayoutError(reason, hint="save it with commas", line=number)
    if not line:
        raise LayoutError(
            "the line is empty", hint="the file begins with a row or a header line", line=number
        )


def _plain(name: str) -> str:
    return _SIGNS.sub("", name.lower())


def _columns(
    names: Sequence[str], meanings: Mapping[str, str], required: Sequence[str], who: str
) -> tuple[str, ...]:
    meant = [(name.strip(), meanings.get(_plain(name))) for name in names]
    has_type_too = sum(column == "side" for _, column in meant) > 1
    found: dict[str, str] = {}
    for name, column in meant:
        if column is None:
            raise LayoutError(
                f"{who} names a column {shown(name)}, which Kraken's files don't have",
                hint=f"leave it out, or call it what it is: {', '.join(dict.fromkeys(meanings.values()))}",
                line=1,
            )
        if has_type_too and _plain(name) == "type":
            column = "order_type"
        if column in found:
            raise LayoutError(
                f"{who} has two names for the {column}: {shown(found[column])} and {shown(name)}",
                hint="leave one of them out",
                line=1,
            )
        found[column] = name
    if missing := [column for column in required if column not in found]:
        raise LayoutError(
            f"{who} names no {' and no '.join(missing)}: {shown(','.join(names))}",
            hint=f"needed are {', '.join(required)}",
            line=1,
        )
    return tuple(found)


def _by_names(text: _Sample, declared: Sequence[str] | None) -> tuple[tuple[str, ...], str]:
    """The columns by the header, by the manifest, or by both, which must agree; and in words by which."""
    if {"open", "high", "low", "close"} <= {_plain(name) for name in text.names or ()}:
        _refuse_candles(1)
    named = None if text.names is None else trade_columns(text.names)
    if not text.rows:
        raise NoRowsError("there is no trade in it, only a header line")
    if named is not None:
        named = _widened(named, text, "its header has")
    if declared is not None:
        columns = _widened(tuple(declared), text, "MANIFEST.json has")
        if named is None:
            return columns, "as MANIFEST.json has it"
        if named != columns:
            raise LayoutError(
                f"its header means {','.join(named)}, but MANIFEST.json says {','.join(columns)}",
                hint="get the archive again: the two do not belong together",
                line=1,
            )
    assert named is not None
    return named, "as its header has it"


def _widened(columns: tuple[str, ...], text: _Sample, who: str) -> tuple[str, ...]:
    """The columns of rows that have one field more than there are names, as in Kraken's quarterly archives.

    Its two schemas of seven fields tell which name is missing: that of the order type, or of the id.
    """
    line, row = text.rows[0]
    if len(row) == len(columns):
        return columns
    for schema in (SCHEMA_2, SCHEMA_1):
        for missing in ("order_type", "trade_id"):
            if len(row) == len(schema) and columns == tuple(name for name in schema if name != missing):
                return schema
    raise LayoutError(
        f"{who} {len(columns)} names ({','.join(columns)}), the rows have {len(row)} fields",
        hint=_NAME_THEM,
        line=line,
    )


def _by_values(text: _Sample, fields: TradeFields) -> tuple[str, ...]:
    """The one layout that all rows fit. Raises LayoutError with the first row that does not."""
    line, first = text.rows[0]
    candidates = _HEADERLESS.get(len(first))
    if candidates is None:
        seen = shown(",".join(first))
        raise LayoutError(
            f"{len(first)} fields, but trades have 3 (timestamp,price,volume), 6 or 7: {seen}",
            hint=_NAME_THEM,
            line=line,
        )
    for columns in candidates:
        if all(_misfit(fields, columns, row) is None for _, row in text.rows):
            _check_one_time(text, fields, columns)
            return columns
    if _are_candles(text, fields):
        _refuse_candles(line)
    _refuse_rows(text, fields, candidates)


def _check_one_time(text: _Sample, fields: TradeFields, columns: Sequence[str]) -> None:
    """Single volumes may look like times. Where all do, the price and the time may have changed places."""
    at = columns.index("volume")
    if all(fields.time(row[at]) is None for _, row in text.rows):
        line, row = text.rows[0]
        time = row[columns.index("time")]
        raise LayoutError(
            f"two fields of each row can be its time: {shown(time)} and {shown(row[at])}",
            hint=_NAME_THEM,
            line=line,
        )


def _misfit(fields: TradeFields, columns: Sequence[str], row: Row) -> str | None:
    """As ``TradeFields.misfit``; and an id without a name must not be taken for flags."""
    if columns[-1] == "misc" and is_number(row[-1]):
        return f"the last field may be flags or a trade id: {shown(row[-1])}"
    return fields.misfit(columns, row)


def _refuse_rows(text: _Sample, fields: TradeFields, candidates: Sequence[tuple[str, ...]]) -> NoReturn:
    """With the words of the layout that comes nearest: in which the most rows have a time."""

    def times(columns: tuple[str, ...]) -> int:
        at = columns.index("time")
        return sum(fields.time(row[at]) is None for _, row in text.rows)

    nearest = max(candidates, key=times)
    if len(candidates) > 1 and not times(nearest):
        line, row = text.rows[0]
        raise LayoutError(
            f"neither the first nor the third of {len(row)} fields is a time between September 2013 and now,"
            f" in seconds: {shown(','.join(row))}",
            hint=_NAME_THEM,
            line=line,
        )
    reasons = ((line, _misfit(fields, nearest, row)) for line, row in text.rows)
    line, reason = next((line, reason) for line, reason in reasons if reason is not None)
    _refuse_row(reason, line, nearest, _NEAREST)


def _refuse_row(reason: str, line: int, columns: Sequence[str], why: str) -> NoReturn:
    hint = _NAME_THEM if why == _NEAREST else _field_hint(reason)
    raise LayoutError(f"{reason} (read as {','.join(columns)}, {why})", hint=hint, line=line)


def _field_hint(reason: str) -> str:
    """Where the columns are known, what the field should be."""
    if reason.startswith("time"):
        return "write unix seconds, UTC, such as 1704067200.5"
    if reason.startswith("the side"):
        return "write buy or sell, or leave the field empty"
    if reason.startswith("the order type"):
        return "write market or limit, or leave the field empty"
    if reason.endswith("looks like a time"):
        return _NAME_THEM
    return "write digits and a point, without blanks, such as 42283.6"


def _check_candles(text: _Sample, fields: TradeFields, interval: int) -> None:
    """Of rows without a header: raises LayoutError where they are no candles of Kraken's."""
    line, row = text.rows[0]
    if _are_trades(text, fields):
        _refuse_trades(interval, line)
    if len(row) != len(CANDLE_COLUMNS):
        raise LayoutError(
            f"{len(row)} fields, but candles of {interval_name(interval)} have 7:"
            f" {','.join(CANDLE_COLUMNS)}; seen {shown(','.join(row))}",
            hint=_NAME_CANDLES,
            line=line,
        )


def _are_trades(text: _Sample, fields: TradeFields) -> bool:
    candidates = _HEADERLESS.get(len(text.rows[0][1]), ())
    return any(all(_misfit(fields, columns, row) is None for _, row in text.rows) for columns in candidates)


def _are_candles(text: _Sample, fields: TradeFields) -> bool:
    """Rows of seven numbers, the first a time, where no price is above the high or below the low."""
    return all(
        len(row) == len(CANDLE_COLUMNS)
        and all(map(is_number, row))
        and fields.time(row[0]) is None
        and float(row[3]) <= min(float(row[1]), float(row[4]))
        and float(row[2]) >= max(float(row[1]), float(row[4]))
        for _, row in text.rows
    )


def _refuse_candles(line: int) -> NoReturn:
    raise LayoutError(
        f"these are candles ({','.join(CANDLE_COLUMNS)}), not trades",
        hint="name the file <PAIR>_<minutes>.csv, or give its --interval",
        line=line,
    )


def _refuse_trades(interval: int, line: int) -> NoReturn:
    raise LayoutError(
        f"these are trades, not candles of {interval_name(interval)}",
        hint="name the file <PAIR>.csv, without the minutes, or leave --interval out",
        line=line,
    )

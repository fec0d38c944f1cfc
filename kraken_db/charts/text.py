"""Candles drawn with characters: two units of height in a row where the output has half characters.

Without colours, up and down are told apart by the fill of the body, as on paper: hollow is up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal, TypeAlias

from kraken_db.charts.series import (
    Series,
    Slot,
    days_of,
    price_ticks,
    range_of,
    short_text,
    time_step,
    time_text,
    time_ticks,
)
from kraken_db.types import Candle

Colour: TypeAlias = Literal["green", "red", "bright_black"]
Paint: TypeAlias = Callable[[str, Colour], str]

MIN_WIDTH, MIN_HEIGHT = 40, 12
_ROWS_BESIDES = 5  # two of heading, the axis, its labels, and what the signs mean
_COLUMNS_OF_A_CANDLE = 3
_ROWS_OF_A_PRICE = 3
_NOTHING, _WICK, _BODY = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters to draw with.

    ``up`` and ``down`` by what is in the upper and in the lower half of a row.
    """

    up: Mapping[tuple[int, int], str]
    down: Mapping[tuple[int, int], str]
    quiet: str
    unknown: str
    volume: str
    """From nothing to a full row."""
    axis: str
    """Along, along with a tick, up, up with a tick."""


def _whole(wick: str, body: str) -> dict[tuple[int, int], str]:
    """One character for a row, whatever half of it is taken."""
    signs = {_NOTHING: " ", _WICK: wick, _BODY: body}
    return {(upper, lower): signs[max(upper, lower)] for upper in signs for lower in signs}


_HALVES = dict(zip([(a, b) for a in range(3) for b in range(3)], " ╷╻╵│╽╹╿┃", strict=True))
_BOX = ("·", "?", " ▁▂▃▄▅▆▇█", "─┴│┤")
COLOURED = Glyphs(_HALVES, _HALVES, *_BOX)
BLOCKS = Glyphs(_whole("│", "░"), _whole("│", "█"), *_BOX)
ASCII = Glyphs(_whole("|", "O"), _whole("|", "#"), ".", "?", " .:#", "-+|+")


def plain(text: str, _colour: Colour) -> str:
    """Paint nothing."""
    return text


def draw(series: Series, width: int, height: int, glyphs: Glyphs = ASCII, paint: Paint = plain) -> list[str]:
    """The lines of a chart, at most ``height`` of ``width`` columns (of MIN_HEIGHT and MIN_WIDTH at least).

    Where there are more candles than columns, each column is several of them, and the heading says so.
    """
    width, height = max(width, MIN_WIDTH), max(height, MIN_HEIGHT)
    volume_rows = max(2, (height - _ROWS_BESIDES) // 5)
    rows = height - _ROWS_BESIDES - volume_rows
    scale = _Scale(series, rows)
    room = width - max(map(len, scale.labels.values())) - 2
    per_column = -(-len(series.slots) // room)
    shown = series.merged(per_column)
    cell = min(_COLUMNS_OF_A_CANDLE, max(1, room // len(shown.slots)))
    pen = _Pen(glyphs, paint, cell)
    return [
        *_heading(series, per_column, width, paint),
        *_prices(shown.slots, scale, pen),
        *_volumes(shown.slots, volume_rows, pen),
        *_times(shown, per_column, width, pen),
        *_meanings(shown.slots, glyphs),
    ]


class _Scale:
    """Prices to units of height, two in a row, counted from below; and the labels of the rows."""

    def __init__(self, series: Series, rows: int) -> None:
        self.low = min(candle.low for candle in series.candles)
        self.high = max(candle.high for candle in series.candles)
        self._last = 2 * rows - 1
        self.rows = rows
        decimals = series.price_decimals
        ticks = price_ticks(self.low, self.high, max(2, rows // _ROWS_OF_A_PRICE), decimals)
        self.labels = {self.unit(tick) // 2: f"{tick:,.{decimals}f}" for tick in ticks}

    def unit(self, price: Decimal) -> int:
        if self.high == self.low:
            return self._last // 2
        share = (price - self.low) * self._last / (self.high - self.low)
        return int(share.to_integral_value(ROUND_HALF_EVEN))


@dataclass(frozen=True, slots=True)
class _Pen:
    glyphs: Glyphs
    paint: Paint
    cell: int
    """Columns of a candle; it is drawn in the first of them."""

    def put(self, text: str, colour: Colour | None) -> str:
        blank = " " * (self.cell - 1)
        return (text if colour is None or not text.strip() else self.paint(text, colour)) + blank


def colour_of(candle: Candle) -> Colour | None:
    if not candle.trade_count:
        return "bright_black"
    if candle.close == candle.open:
        return None
    return "green" if candle.is_bullish else "red"


def _prices(slots: Sequence[Slot], scale: _Scale, pen: _Pen) -> list[str]:
    columns = [_column(slot, scale, pen.glyphs) for slot in slots]
    colours = [None if slot.candle is None else colour_of(slot.candle) for slot in slots]
    lines = []
    for row in reversed(range(scale.rows)):
        cells = (pen.put(column[row], colour) for column, colour in zip(columns, colours, strict=True))
        label = scale.labels.get(row)
        lines.append(
            "".join(cells) + pen.glyphs.axis[2 if label is None else 3] + (f" {label}" if label else "")
        )
    return lines


def _column(slot: Slot, scale: _Scale, glyphs: Glyphs) -> list[str]:
    """The characters of a candle from below."""
    if slot.candle is None:
        return [" "] * scale.rows
    candle = slot.candle
    if slot.kind == "quiet":
        at = scale.unit(candle.close) // 2
        return [glyphs.quiet if row == at else " " for row in range(scale.rows)]
    units = [_NOTHING] * (2 * scale.rows)
    _set(units, _WICK, scale.unit(candle.low), scale.unit(candle.high))
    _set(units, _BODY, *sorted((scale.unit(candle.open), scale.unit(candle.close))))
    signs = glyphs.down if candle.close < candle.open else glyphs.up
    return [signs[units[2 * row + 1], units[2 * row]] for row in range(scale.rows)]


def _set(units: list[int], what: int, first: int, last: int) -> None:
    units[first : last + 1] = [what] * (last + 1 - first)


def _volumes(slots: Sequence[Slot], rows: int, pen: _Pen) -> list[str]:
    candles = [slot.candle for slot in slots]
    most = max(candle.volume for candle in candles if candle is not None)
    levels = len(pen.glyphs.volume) - 1
    heights = [_height(candle, most, rows * levels) for candle in candles]
    lines = []
    for row in reversed(range(rows)):
        cells = []
        for candle, height in zip(candles, heights, strict=True):
            sign = pen.glyphs.volume[min(max(height - row * levels, 0), levels)]
            cells.append(pen.put(sign, None if candle is None else colour_of(candle)))
        top = row == rows - 1
        label = f" {short_text(most)}" if top else ""
        lines.append("".join(cells) + pen.glyphs.axis[3 if top else 2] + label)
    return lines


def _height(candle: Candle | None, most: Decimal, levels: int) -> int:
    """Of a bar; the smallest volume that is not nothing is seen."""
    if candle is None or not candle.volume:
        return 0
    return max(1, int((candle.volume * levels / most).to_integral_value(ROUND_HALF_EVEN)))


def _times(shown: Series, per_column: int, width: int, pen: _Pen) -> list[str]:
    moments = [shown.local(slot.opens_at) for slot in shown.slots]
    minutes = shown.interval * per_column
    # A date takes ten columns, a date and a time eleven; and there is one between two of them.
    step = time_step(-(-minutes * 12 // pen.cell))
    along, tick = pen.glyphs.axis[0], pen.glyphs.axis[1]
    axis = [pen.glyphs.unknown if slot.has_unknown else along for slot in shown.slots]
    labels = ""
    for position in time_ticks(moments, step):
        at, text = position * pen.cell, time_text(moments[position], step)
        if labels and (at <= len(labels) or at + len(text) > width):
            continue
        labels = labels.ljust(at) + text
        if not shown.slots[position].has_unknown:
            axis[position] = tick
    return ["".join(sign + along * (pen.cell - 1) for sign in axis), labels]


def _heading(series: Series, per_column: int, width: int, paint: Paint) -> list[str]:
    merged = f", {per_column} a column" if per_column > 1 else ""
    name, days = f"{series.symbol} {series.every.name}", days_of(series)
    ranges = (range_of(series), f"{days} {series.every.zone_name}", days)
    titles = [f"{name}  {span}{merged}" for span in ranges] + [f"{name}  {days}"]
    title = next((one for one in titles if len(one) <= width), titles[-1])
    traded = series.traded or series.candles
    decimals = series.price_decimals
    change = series.change
    moved = "" if change is None else f" ({change:+.2f} %)"
    colour: Colour | None = "green" if change and change > 0 else "red" if change else None
    close = f"close {traded[-1].close:,.{decimals}f}{moved}"
    rest = ""
    for label, value in (
        ("high", f"{max(c.high for c in traded):,.{decimals}f}"),
        ("low", f"{min(c.low for c in traded):,.{decimals}f}"),
        ("volume", short_text(sum((c.volume for c in traded), Decimal(0)))),
    ):
        if len(close + rest) + len(label) + len(value) + 3 <= width:
            rest += f"  {label} {value}"
    return [title[:width], (paint(close, colour) if colour else close) + rest]


def _meanings(slots: Sequence[Slot], glyphs: Glyphs) -> list[str]:
    meanings = []
    if any(slot.kind == "quiet" for slot in slots):
        meanings.append(f"{glyphs.quiet} nothing traded")
    if any(slot.has_unknown for slot in slots):
        meanings.append(f"{glyphs.unknown} not known")
    return ["   ".join(meanings)] if meanings else []

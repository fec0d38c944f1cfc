"""Candles as text: each writer gets them in pieces, so that a long range needs little memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC
from decimal import Decimal
from shutil import get_terminal_size
from typing import Literal, Protocol

import click

from kraken_db.charts.series import decimals_of
from kraken_db.cli.output import is_terminal, iso, note, plain_number, to_json, wants_colour
from kraken_db.types import Candle

FIELDS = ("timestamp", "open", "high", "low", "close", "volume", "trades", "vwap")
"""Columns of CSV and keys of JSON: the order of Kraken's own files, with the open time as ISO 8601 UTC."""

_DAY = 1440
_GAP = "  "


class CandleWriter(Protocol):
    """``begin`` sees the first piece before it is written, and decides on widths by it."""

    def begin(self, first: Sequence[Candle]) -> None: ...

    def write(self, candles: Sequence[Candle]) -> None: ...

    def end(self) -> None: ...


def candle_writer(style: Literal["table", "csv", "json"], symbol: str, interval: int) -> CandleWriter:
    match style:
        case "table":
            return TableWriter(interval)
        case "csv":
            return CsvWriter()
        case "json":
            return JsonWriter(symbol, interval)


def _exact(candle: Candle) -> tuple[str, str, str, str, str, str, int, str | None]:
    """The values of FIELDS."""
    return (
        iso(candle.timestamp),
        plain_number(candle.open),
        plain_number(candle.high),
        plain_number(candle.low),
        plain_number(candle.close),
        plain_number(candle.volume),
        candle.trade_count,
        None if candle.vwap is None else plain_number(candle.vwap),
    )


class CsvWriter:
    """A header line, then one line a candle; an unknown vwap is empty."""

    def begin(self, first: Sequence[Candle]) -> None:
        click.echo(",".join(FIELDS))

    def write(self, candles: Sequence[Candle]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(_exact(candle) for candle in candles)
        click.echo(text.getvalue(), nl=False)

    def end(self) -> None:
        pass


class JsonWriter:
    """One document, one candle a line; an unknown vwap is null."""

    def __init__(self, symbol: str, interval: int) -> None:
        self._head = f'{{"symbol": {to_json(symbol)}, "interval_minutes": {interval}, "candles": ['
        self._separator = "\n  "

    def begin(self, first: Sequence[Candle]) -> None:
        click.echo(self._head, nl=False)

    def write(self, candles: Sequence[Candle]) -> None:
        lines = (to_json(dict(zip(FIELDS, _exact(candle), strict=True)), indent=None) for candle in candles)
        click.echo(self._separator + ",\n  ".join(lines), nl=False)
        self._separator = ",\n  "

    def end(self) -> None:
        click.echo("\n]}")


class TableWriter:
    """Aligned columns; all prices with the same number of decimals, as many as the first piece needs.

    A later price with more decimals is still printed whole. vwap is shown if the first piece has any, and if
    the terminal is wide enough for it: a table of which each line takes two is none.
    """

    def __init__(self, interval: int) -> None:
        self._time_format = "%Y-%m-%d" if interval >= _DAY else "%Y-%m-%d %H:%M"
        self._colour = wants_colour()
        self._price_decimals = self._volume_decimals = 0
        self._titles: tuple[str, ...] = ("time (UTC)", "open", "high", "low", "close", "volume", "trades")
        self._widths: list[int] = []

    def begin(self, first: Sequence[Candle]) -> None:
        if any(candle.vwap is not None for candle in first):
            self._titles += ("vwap",)
        prices = [price for c in first for price in (c.open, c.high, c.low, c.close)]
        self._price_decimals = max(map(decimals_of, prices))
        self._volume_decimals = max(decimals_of(candle.volume) for candle in first)
        self._widths = self._widths_of(first)
        width = sum(self._widths) + len(_GAP) * (len(self._widths) - 1)
        if self._titles[-1] == "vwap" and is_terminal() and width > get_terminal_size().columns:
            self._titles, self._widths = self._titles[:-1], self._widths[:-1]
            note("The terminal is too narrow for vwap; --format csv and --json have it.")
        click.echo(self._line(self._titles, bold=True))

    def write(self, candles: Sequence[Candle]) -> None:
        lines = (self._line(self._cells(candle), colour=_colour_of(candle)) for candle in candles)
        click.echo("\n".join(lines))

    def end(self) -> None:
        pass

    def _widths_of(self, candles: Sequence[Candle]) -> list[int]:
        cells = [self._titles, *map(self._cells, candles)]
        return [max(map(len, column)) for column in zip(*cells, strict=True)]

    def _cells(self, candle: Candle) -> tuple[str, ...]:
        price = self._price_decimals
        cells = (
            candle.timestamp.astimezone(UTC).strftime(self._time_format),
            *(_fixed(value, price) for value in (candle.open, candle.high, candle.low, candle.close)),
            _fixed(candle.volume, self._volume_decimals),
            str(candle.trade_count),
        )
        if len(self._titles) == len(cells):
            return cells
        return (*cells, "" if candle.vwap is None else _rounded(candle.vwap, price))

    def _line(self, cells: Sequence[str], *, bold: bool = False, colour: str | None = None) -> str:
        time, *numbers = cells
        width, *widths = self._widths
        text = _GAP.join(
            [time.ljust(width), *(n.rjust(w) for n, w in zip(numbers, widths, strict=True))]
        ).rstrip()
        return click.style(text, fg=colour, bold=bold or None) if self._colour else text


def _colour_of(candle: Candle) -> str | None:
    if candle.close == candle.open:
        return None
    return "green" if candle.is_bullish else "red"


def _fixed(value: Decimal, decimals: int) -> str:
    """With that many decimals, or with more where the value has more: never rounded."""
    return f"{value:.{max(decimals, decimals_of(value))}f}"


def _rounded(value: Decimal, decimals: int) -> str:
    """A mean has as many digits as its column has room for; the prices' decimals are what one reads."""
    return f"{value:.{decimals}f}"

"""Candles as a PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from kraken_db.charts.series import COLOURS, Series, short_text, title_of
from kraken_db.types import Candle

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, HEIGHT = 1600, 900
"""In pixels."""
_DOTS_PER_INCH = 100
_BODY = 0.7  # of the width of an interval


def picture(series: Series) -> bytes:
    """A PNG of WIDTH times HEIGHT pixels. Needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Not by pyplot: it keeps every figure, and looks for a screen.
    figure = Figure(figsize=(WIDTH / _DOTS_PER_INCH, HEIGHT / _DOTS_PER_INCH), dpi=_DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    prices, volumes = figure.subplots(
        2, 1, sharex=True, gridspec_kw={"height_ratios": (4, 1), "hspace": 0.04}
    )
    up = [candle for candle in series.traded if candle.close >= candle.open]
    down = [candle for candle in series.traded if candle.close < candle.open]
    _draw_candles(prices, volumes, up, COLOURS["up"])
    _draw_candles(prices, volumes, down, COLOURS["down"])
    quiet = [candle for candle in series.candles if not candle.trade_count]
    middles = [_day(candle.timestamp) + _days(candle) / 2 for candle in quiet]
    closes = [float(candle.close) for candle in quiet]
    prices.plot(middles, closes, linestyle="none", marker="_", markersize=3, color=COLOURS["quiet"])
    for start, end in series.unknown_ranges():
        for axes in (prices, volumes):
            axes.axvspan(_day(start), _day(end), facecolor=COLOURS["unknown"], hatch="//", edgecolor="white")
    _limit(prices, volumes, series)
    _label(prices, volumes, series)
    figure.subplots_adjust(left=0.04, right=0.92, top=0.94, bottom=0.06)
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return written.getvalue()


def _draw_candles(prices: Axes, volumes: Axes, candles: Sequence[Candle], colour: str) -> None:
    from matplotlib.collections import PolyCollection

    middles = [_day(candle.timestamp) + _days(candle) / 2 for candle in candles]
    lows, highs = [float(candle.low) for candle in candles], [float(candle.high) for candle in candles]
    prices.vlines(middles, lows, highs, colors=colour, linewidth=1)
    bodies = [_box(candle, float(candle.open), float(candle.close)) for candle in candles]
    bars = [_box(candle, 0, float(candle.volume)) for candle in candles]
    # With an edge, or one that closed where it opened would not be seen.
    prices.add_collection(PolyCollection(bodies, facecolor=colour, edgecolor=colour, linewidth=1))
    volumes.add_collection(PolyCollection(bars, facecolor=colour, edgecolor=colour, linewidth=0.5))


def _box(candle: Candle, bottom: float, top: float) -> list[tuple[float, float]]:
    begin, width = _day(candle.timestamp), _days(candle)
    left, right = begin + width * (1 - _BODY) / 2, begin + width * (1 + _BODY) / 2
    return [(left, bottom), (left, top), (right, top), (right, bottom)]


def _limit(prices: Axes, volumes: Axes, series: Series) -> None:
    length = series.every.longest
    prices.set_xlim(_day(series.slots[0].opens_at - length), _day(series.closes_at + length))
    low = float(min(candle.low for candle in series.candles))
    high = float(max(candle.high for candle in series.candles))
    margin = (high - low) * 0.05 or abs(high) * 0.01 or 1
    prices.set_ylim(low - margin, high + margin)
    volumes.set_ylim(0, float(max(candle.volume for candle in series.candles)) * 1.05 or 1)


def _label(prices: Axes, volumes: Axes, series: Series) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import FuncFormatter

    locator = AutoDateLocator(tz=series.every.zone)  # type: ignore[no-untyped-call]
    volumes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, tz=series.every.zone)  # type: ignore[no-untyped-call]
    volumes.xaxis.set_major_formatter(formatter)
    decimals = series.price_decimals
    prices.yaxis.set_major_formatter(FuncFormatter(lambda price, _: f"{price:,.{decimals}f}"))
    volumes.yaxis.set_major_formatter(FuncFormatter(lambda volume, _: short_text(Decimal(str(volume)))))
    prices.set_title(title_of(series), loc="left")
    signs = [("- nothing traded", any(not candle.trade_count for candle in series.candles))]
    signs.append(("/// not known", bool(series.unknown_ranges())))
    prices.set_title("    ".join(text for text, shown in signs if shown), loc="right", color=COLOURS["quiet"])
    volumes.set_ylabel("volume")
    for axes in (prices, volumes):
        axes.yaxis.tick_right()
        axes.grid(color="#e0e3e7", linewidth=0.6)
        axes.set_axisbelow(True)


def _day(moment: datetime) -> float:
    """As matplotlib counts time: days since 1970."""
    return moment.timestamp() / 86400


def _days(candle: Candle) -> float:
    return candle.interval_minutes / 1440

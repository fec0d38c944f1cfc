"""Candles as a page of its own for a browser: zoomable, and with all that it needs inside of it."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Any

from kraken_db.charts.series import COLOURS, Series, title_of
from kraken_db.types import Candle

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>html, body {{ height: 100%; margin: 0; background: #fff }}</style>
</head>
<body>
{chart}
</body>
</html>
"""
_BUTTONS = [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]]
# Zooming and moving are along the time; the prices follow what is to be seen.
_FIT_PRICES = """
const chart = document.getElementById("{plot_id}");
const time = text => Date.parse(text.replace(" ", "T") + "Z");
chart.on("plotly_relayout", change => {
  if (!Object.keys(change).some(key => key.startsWith("xaxis"))) return;
  const [first, last] = chart.layout.xaxis.range.map(time);
  const {x, low, high} = chart.data[0];
  const seen = x.map((_, at) => at).filter(at => time(x[at]) >= first && time(x[at]) <= last);
  if (!seen.length) return;
  const bottom = seen.reduce((least, at) => Math.min(least, low[at]), Infinity);
  const top = seen.reduce((most, at) => Math.max(most, high[at]), -Infinity);
  const margin = (top - bottom) * 0.05 || top * 0.01;
  Plotly.relayout(chart, {"yaxis.range": [bottom - margin, top + margin]});
});
"""
_VOLUME, _PRICE = [0.0, 0.18], [0.24, 1.0]


def page(series: Series) -> str:
    """An HTML document that loads nothing from anywhere. Needs plotly."""
    import plotly.graph_objects as go

    figure = go.Figure(layout=_layout(series))
    traded, zone = series.traded, _zone(series)
    figure.add_trace(
        go.Candlestick(
            x=[_time(candle.timestamp, zone) for candle in traded],
            open=[float(candle.open) for candle in traded],
            high=[float(candle.high) for candle in traded],
            low=[float(candle.low) for candle in traded],
            close=[float(candle.close) for candle in traded],
            hovertext=[_hover_text(candle, series.price_decimals) for candle in traded],
            hoverinfo="x+text",
            increasing={"line": {"color": COLOURS["up"], "width": 1}},
            decreasing={"line": {"color": COLOURS["down"], "width": 1}},
            name="price",
        )
    )
    figure.add_trace(
        go.Bar(
            x=[_time(candle.timestamp, zone) for candle in traded],
            y=[float(candle.volume) for candle in traded],
            marker_color=[COLOURS["down" if candle.close < candle.open else "up"] for candle in traded],
            hovertext=[f"volume {candle.volume.normalize():f}" for candle in traded],
            hoverinfo="x+text",
            yaxis="y2",
            name="volume",
        )
    )
    quiet = [candle for candle in series.candles if not candle.trade_count]
    if quiet:
        figure.add_trace(_quiet(go, quiet, zone))
    chart = figure.to_html(
        full_html=False,
        include_plotlyjs=True,
        include_mathjax=False,
        div_id="chart",
        default_height="100%",
        config={"displaylogo": False, "scrollZoom": True, "responsive": True, "modeBarButtons": _BUTTONS},
        post_script=_FIT_PRICES,
    )
    return _PAGE.format(title=html.escape(title_of(series)), chart=chart)


def _quiet(go: Any, candles: Sequence[Candle], zone: tzinfo) -> Any:
    return go.Scatter(
        x=[_time(candle.timestamp, zone) for candle in candles],
        y=[float(candle.close) for candle in candles],
        mode="markers",
        marker={"symbol": "circle", "size": 3, "color": COLOURS["quiet"]},
        hovertext="nothing traded",
        hoverinfo="x+text",
        name="nothing traded",
    )


def _layout(series: Series) -> dict[str, Any]:
    length, zone = series.every.longest, _zone(series)
    unknown = [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            # A candle stands in the middle of its open time.
            "x0": _time(start - length / 2, zone),
            "x1": _time(end - length / 2, zone),
            "y0": 0,
            "y1": 1,
            "line": {"width": 0},
            "fillcolor": COLOURS["unknown"],
            "layer": "below",
            "label": {"text": "not known", "font": {"size": 10, "color": COLOURS["quiet"]}},
        }
        for start, end in series.unknown_ranges()
    ]
    axis = {"side": "right", "fixedrange": True}
    return {
        "title": {"text": title_of(series)},
        "template": "plotly_white",
        "showlegend": False,
        "dragmode": "pan",
        "hovermode": "x",
        "margin": {"l": 20, "r": 80, "t": 60, "b": 40},
        "xaxis": {
            "type": "date",
            "anchor": "y2",
            "title": {"text": str(zone)},
            "rangeslider": {"visible": False},
            "range": [_time(series.slots[0].opens_at - length, zone), _time(series.closes_at, zone)],
        },
        "yaxis": {**axis, "domain": _PRICE, "tickformat": f",.{series.price_decimals}f"},
        "yaxis2": {**axis, "domain": _VOLUME, "title": {"text": "volume"}, "rangemode": "tozero"},
        "shapes": unknown,
    }


_TIME = "%Y-%m-%dT%H:%M:%S"


def _time(moment: datetime, zone: tzinfo) -> str:
    # Without a zone: a browser would show any as its own.
    return moment.astimezone(zone).strftime(_TIME)


def _zone(series: Series) -> tzinfo:
    """Hours are those of UTC: other clocks show one of them twice a year, and two candles in one place."""
    return UTC if series.every.unit == "minute" else series.every.zone


def _hover_text(candle: Candle, decimals: int) -> str:
    """What is shown of a candle, exact: what it is drawn by are floats."""
    prices = (("open", candle.open), ("high", candle.high), ("low", candle.low), ("close", candle.close))
    lines = [f"{name} {price:,.{decimals}f}" for name, price in prices]
    return "<br>".join([*lines, f"volume {candle.volume.normalize():f}", f"{candle.trade_count:,} trades"])

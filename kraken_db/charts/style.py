"""What pages and pictures have in common."""

from __future__ import annotations

from datetime import timedelta

from kraken_db.charts.series import Series
from kraken_db.intervals import interval_name

COLOURS = {"up": "#26a69a", "down": "#ef5350", "quiet": "#8a8f98", "unknown": "#eceff1"}


def title_of(series: Series) -> str:
    """``BTC/USD 1h, 2023-01-01 00:00 to 2023-01-02 00:00 UTC``."""
    until = series.slots[-1].opens_at + timedelta(minutes=series.interval)
    return (
        f"{series.symbol} {interval_name(series.interval)}, {series.slots[0].opens_at:%Y-%m-%d %H:%M} to"
        f" {until:%Y-%m-%d %H:%M} UTC"
    )

"""Candles to draw, by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from kraken_db.types import Candle

START = datetime(2023, 1, 1, tzinfo=UTC)


def candle(
    hour: int, open: str, high: str, low: str, close: str, volume: str = "1", trades: int = 7
) -> Candle:
    """An hour of 1 January 2023, and so on."""
    opens_at = START + timedelta(hours=hour)
    prices = (Decimal(open), Decimal(high), Decimal(low), Decimal(close))
    return Candle("BTC/USD", opens_at, 60, *prices, Decimal(volume), trades, None)


def quiet(hour: int, price: str) -> Candle:
    return candle(hour, price, price, price, price, "0", 0)


UP = candle(0, "11", "14", "10", "13", "6")
DOWN = candle(1, "17", "19", "12", "14", "3")
QUIET = quiet(2, "14")
# The hour after it is not known.
FLAT = candle(4, "15", "16", "15", "15", "1")
FIVE_HOURS = [UP, DOWN, QUIET, FLAT]

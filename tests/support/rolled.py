"""What the views of the higher intervals must show, computed in Python from the minutes alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any, NamedTuple

MONDAY = datetime(2000, 1, 3, tzinfo=UTC)
FROM_MINUTES = (5, 15, 30, 60)
FROM_HOURS = (240, 720, 1440)
WEEK = 10080
COLUMNS = (
    "symbol, timestamp, interval_minutes, open, high, low, close, volume, quote_volume, trade_count, vwap"
)


class Row(NamedTuple):
    """A row of ``candles``, or of one of the views."""

    symbol: str
    timestamp: datetime
    interval_minutes: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal | None
    trade_count: int | None
    vwap: Decimal | None


Key = tuple[str, int, datetime]
Views = dict[int, dict[Key, Row]]


def opens_at(moment: datetime, interval: int) -> datetime:
    return moment - (moment - MONDAY) % timedelta(minutes=interval)


def candle(parts: Sequence[Row], interval: int) -> Row:
    """One candle of the rows of one symbol that lie in it."""
    parts = sorted(parts, key=lambda row: row.timestamp)
    weighty = [row for row in parts if row.volume > 0]
    weight = sum((Fraction(row.volume) for row in weighty), Fraction())
    values = [Fraction(row.vwap) * Fraction(row.volume) for row in weighty if row.vwap is not None]
    quotes = [row.quote_volume for row in parts if row.quote_volume is not None]
    counts = [row.trade_count for row in parts if row.trade_count is not None]
    return Row(
        parts[0].symbol,
        opens_at(parts[0].timestamp, interval),
        interval,
        parts[0].open,
        max(row.high for row in parts),
        min(row.low for row in parts),
        parts[-1].close,
        sum((row.volume for row in parts), Decimal()),
        sum(quotes, Decimal()) if len(quotes) == len(parts) else None,
        sum(counts) if counts else None,
        _rounded(sum(values, Fraction()) / weight) if weight and len(values) == len(weighty) else None,
    )


def _rounded(value: Fraction) -> Decimal:
    exact = Decimal(value.numerator) / Decimal(value.denominator)
    return exact.quantize(Decimal("1e-10"), ROUND_HALF_UP)


def expected_views(
    minutes: Iterable[Row], kept: Mapping[Key, Row], is_missing: Callable[[str, datetime, datetime], bool]
) -> Views:
    """Interval to what its view shows.

    ``kept``: the candles of 5m to 1h whose minutes retention dropped, as they were then. They stay where
    ``is_missing(symbol, start, end)``; all others are what the minutes say.
    """
    minutes = list(minutes)
    views: Views = {}
    for interval in FROM_MINUTES:
        found = grouped(minutes, interval)
        length = timedelta(minutes=interval)
        for key, row in kept.items():
            if key[1] == interval and is_missing(row.symbol, row.timestamp, row.timestamp + length):
                found[key] = row
        views[interval] = found
    for interval in FROM_HOURS:
        views[interval] = grouped(views[60].values(), interval)
    views[WEEK] = grouped(views[1440].values(), WEEK)
    return views


def grouped(rows: Iterable[Row], interval: int) -> dict[Key, Row]:
    groups: dict[Key, list[Row]] = {}
    for row in rows:
        groups.setdefault((row.symbol, interval, opens_at(row.timestamp, interval)), []).append(row)
    return {key: candle(parts, interval) for key, parts in groups.items()}


def rows(found: Iterable[Any]) -> list[Row]:
    return [Row(*row) for row in found]

"""Rows of Arrow as the candles that the database would have given: the same numbers, written the same way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any

import pyarrow as pa
import pytest

from kraken_db.cache.candles import candles_of_table
from kraken_db.frames import CANDLE_COLUMNS, arrow_schema
from kraken_db.intervals import as_interval

START = datetime(2023, 1, 1, tzinfo=UTC)
PRICES = ["20000.1000000000", "0.0000000001", "9999999999.9999999999"]
VOLUMES = {
    "usual": ["0.0000000000", "1.2345678900", "922337203.6854775807"],
    "beyond 64 bits": ["922337203.6854775808", "1.0000000000", "0.0000000001"],
    "of 28 digits and more": ["9999999999999999999999999999.9999999999", "1.0000000000", "0.0000000000"],
}


def table(volumes: list[str], vwaps: list[str | None]) -> pa.Table:
    columns: dict[str, list[Any]] = {
        "timestamp": [START + timedelta(minutes=number) for number in range(3)],
        **{name: [Decimal(text) for text in PRICES] for name in ("open", "high", "low", "close")},
        "volume": [Decimal(text) for text in volumes],
        "trade_count": [0, 1, 2],
        "vwap": [None if text is None else Decimal(text) for text in vwaps],
    }
    schema = arrow_schema(CANDLE_COLUMNS, "decimal")
    return pa.table([columns[field.name] for field in schema], schema=schema)


@pytest.mark.parametrize("volumes", VOLUMES.values(), ids=VOLUMES)
@pytest.mark.parametrize("vwaps", [PRICES, [PRICES[0], None, PRICES[2]], [None, None, None]])
def test_every_digit(volumes: list[str], vwaps: list[str | None]) -> None:
    whole = table(volumes, vwaps)
    parts = pa.concat_tables([whole, whole.slice(1), whole.slice(0, 0), whole.slice(2)])
    with localcontext() as context:
        context.prec = 3  # what a caller may have
        candles = candles_of_table("BTC/USD", as_interval("1m"), parts)
    rows = [0, 1, 2, 1, 2, 2]
    assert [str(candle.volume) for candle in candles] == [str(Decimal(volumes[row])) for row in rows]
    for name in ("open", "high", "low", "close"):
        assert [str(getattr(candle, name)) for candle in candles] == [
            str(Decimal(PRICES[row])) for row in rows
        ]
    assert [None if candle.vwap is None else f"{candle.vwap:f}" for candle in candles] == [
        vwaps[row] for row in rows
    ]
    assert [candle.timestamp for candle in candles] == [START + timedelta(minutes=row) for row in rows]
    assert [candle.trade_count for candle in candles] == rows

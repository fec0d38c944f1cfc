"""What a store holds, beside what a simulated market has: row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from kraken_db.db.engine import Database
from kraken_db.simulator import TrueTrade
from kraken_db.simulator.truth import TrueCandle

STAMPS_APART = timedelta(microseconds=2)
_TRADES = """
    SELECT id, timestamp, price, volume, side, order_type FROM trades
    WHERE symbol = :symbol ORDER BY timestamp, id
"""
_CANDLES = """
    SELECT timestamp, open, high, low, close, volume, trade_count FROM candles
    WHERE symbol = :symbol ORDER BY timestamp
"""


@dataclass(frozen=True, slots=True)
class StoredRows:
    """``trades``: id, stamp, price, volume, side, order type; ``candles``: start, ohlc, volume, count."""

    trades: Sequence[tuple[Any, ...]]
    candles: Sequence[tuple[Any, ...]]

    @classmethod
    async def read(cls, database: Database, symbol: str) -> StoredRows:
        async with database.read() as connection:
            found = [
                [tuple(row) for row in await connection.execute(text(query), {"symbol": symbol})]
                for query in (_TRADES, _CANDLES)
            ]
        return cls(*found)


def same(row: tuple[Any, ...], true: TrueTrade) -> bool:
    """Whether a row is the trade; its stamp may be the feed's, which lies a little below REST's."""
    number, moment, *content = row
    assert isinstance(moment, datetime)
    return (
        number == true.id
        and timedelta(0) <= true.timestamp - moment <= STAMPS_APART
        and content == [true.price, true.volume, true.side, true.order_type]
    )


def candle_row(candle: TrueCandle) -> tuple[Any, ...]:
    """As ``StoredRows.candles`` has it."""
    prices = (candle.open, candle.high, candle.low, candle.close)
    return (candle.timestamp, *prices, candle.volume, candle.trade_count)

"""Candles in small batches of any pairs and intervals, as a live feed has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

from sqlalchemy import Column, Integer, MetaData, SmallInteger, String, Table, null, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.models import SYMBOL_LENGTH, Amount, Price, Timestamp
from kraken_db.repositories.candle_merge import CandlesWritten, merge_candles, prefer_more_trades
from kraken_db.types import CandleRecord

_COLUMNS = [
    "symbol",
    "timestamp",
    "interval_minutes",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "trades",
    "vwap",
]
# Kept for the connection, as ``batch_trades`` is.
_BATCH = Table(
    "batch_candles",
    MetaData(),
    Column("symbol", String(SYMBOL_LENGTH)),
    Column("timestamp", Timestamp),
    Column("interval_minutes", SmallInteger),
    *(Column(name, Price) for name in ("open", "high", "low", "close")),
    Column("volume", Amount),
    Column("trades", Integer),
    Column("vwap", Price),
)
_TABLE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS batch_candles (
        symbol text, timestamp timestamptz, interval_minutes smallint, open numeric, high numeric,
        low numeric, close numeric, volume numeric, trades integer, vwap numeric
    ) ON COMMIT DELETE ROWS
"""


class CandleBatch:
    """Writes candles inside the caller's transaction; never commits. Each candle once in a batch."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def stage(self, candles: Sequence[CandleRecord]) -> None:
        """Have these candles, and no others, at hand for ``merge``."""
        await self._connection.execute(text(_TABLE))
        await self._connection.execute(text("DELETE FROM batch_candles"))
        await copy_csv_in(self._connection, "batch_candles", _COLUMNS[:-1], _lines(candles, has_vwap=False))
        await copy_csv_in(self._connection, "batch_candles", _COLUMNS, _lines(candles, has_vwap=True))

    async def merge(self, symbol: str, interval: int) -> CandlesWritten:
        """Write those of one series that have more trades than the stored ones, or what these lack."""
        b = _BATCH.c
        fresh = select(
            b.symbol,
            b.timestamp,
            b.interval_minutes,
            b.open,
            b.high,
            b.low,
            b.close,
            b.volume,
            null(),
            b.trades,
            b.vwap,
        ).where(b.symbol == symbol, b.interval_minutes == interval)
        return await merge_candles(self._connection, fresh, prefer_more_trades)


async def _lines(candles: Iterable[CandleRecord], *, has_vwap: bool) -> AsyncIterator[bytes]:
    # An empty field of COPY is a text here, never NULL: so those without a vwap go by themselves.
    yield "".join(
        f"{c.symbol},{c.timestamp.isoformat()},{c.interval_minutes},{c.open},{c.high},{c.low},{c.close},"
        f"{c.volume},{c.trade_count}{f',{c.vwap}' if has_vwap else ''}\n"
        for c in candles
        if (c.vwap is not None) is has_vwap
    ).encode()

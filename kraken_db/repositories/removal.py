"""All rows of a symbol at once: whether there are any, and that they go."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.models import CANDLE_VERSIONS, CANDLES, TRADES, Base

# Versions of candles stay for good: they show those who keep copies of candles that these have changed.
OF_SYMBOLS: tuple[Table, ...] = tuple(
    table for table in Base.metadata.sorted_tables if "symbol" in table.c and table is not CANDLE_VERSIONS
)
"""The tables that have rows of symbols."""


@dataclass(frozen=True, slots=True)
class Removed:
    """How many rows of a symbol there were. ``candles``: minutes, and those of imported files."""

    symbol: str
    trades: int
    candles: int


class SymbolRows:
    """Of one symbol, on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def are_there(self) -> bool:
        """Whether any table has something of it, whoever wrote that."""
        for table in OF_SYMBOLS:
            found = select(table.c.symbol).where(table.c.symbol == self._symbol).limit(1)
            if await self._connection.scalar(found) is not None:
                return True
        return False

    async def remove(self) -> Removed:
        """Delete its trades and candles; what goes with them is for the caller to delete, too."""
        trades, candles = [
            (await self._connection.execute(delete(table).where(table.c.symbol == self._symbol))).rowcount
            for table in (TRADES, CANDLES)
        ]
        return Removed(self._symbol, trades, candles)

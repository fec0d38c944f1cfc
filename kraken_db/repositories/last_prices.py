"""The last price of many symbols, each by a look-up at a moment that is known: no range is searched."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.data_types import DataType
from kraken_db.models import CANDLES, TRADES
from kraken_db.tolerances import SAME_TRADE


class LastPrices:
    """Reads prices on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def of(self, newest: Mapping[str, tuple[DataType, datetime]]) -> dict[str, Decimal]:
        """The price of each symbol's newest trade, or the close of its newest candle.

        ``newest``: of which kind the newest record is, and its time. A symbol whose record is gone by now,
        by retention for example, is left out.
        """
        found: dict[str, Decimal] = {}
        for symbol, (kind, moment) in newest.items():
            asked = _trade(symbol, moment) if kind.interval is None else _close(symbol, kind.interval, moment)
            if (row := (await self._connection.execute(asked)).first()) is not None:
                found[symbol] = row[0]
        return found


def _trade(symbol: str, moment: datetime) -> Select[Any]:
    """Around the moment: the stamp of a live trade may have become Kraken's official one since."""
    c = TRADES.c
    near = (c.timestamp >= moment - SAME_TRADE, c.timestamp <= moment + SAME_TRADE)
    return select(c.price).where(c.symbol == symbol, *near).order_by(c.timestamp.desc(), c.id.desc()).limit(1)


def _close(symbol: str, interval: int, moment: datetime) -> Select[Any]:
    c = CANDLES.c
    return select(c.close).where(c.symbol == symbol, c.interval_minutes == interval, c.timestamp == moment)

"""Candles from trades, computed where the trades are."""

from __future__ import annotations

from datetime import datetime

import asyncpg
from sqlalchemy import Select, cast, func, literal, literal_column, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.db.failures import driver_error
from kraken_db.errors import ValueDoesNotFitError
from kraken_db.intervals import BASE_INTERVAL
from kraken_db.models import AMOUNT_PRECISION, AMOUNT_SCALE, TRADES, Amount
from kraken_db.repositories.candle_merge import CandlesWritten, merge_candles, prefer_more_trades
from kraken_db.timeseries.rollup import Rows, bucket, in_order


class CandleBuilder:
    """Builds the minutes of one symbol from its stored trades, on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def build(self, start: datetime, end: datetime) -> CandlesWritten:
        """Write the candle of every minute with trades in ``[start, end)``, two whole minutes.

        All trades of the range must be stored: whoever calls knows that. A stored candle that knows more
        trades stays; of one with as many, vwap and quote volume are filled in where they are missing.

        Raises ValueDoesNotFitError where a minute's volume or value is beyond its column; the transaction
        is over then.
        """
        try:
            return await merge_candles(self._connection, self._minutes(start, end), prefer_more_trades)
        except DBAPIError as error:
            if isinstance(driver_error(error), asyncpg.NumericValueOutOfRangeError):
                raise ValueDoesNotFitError(
                    f"{self._symbol}: a minute between {start.isoformat()} and {end.isoformat()} has a volume"
                    f" or value that does not fit NUMERIC({AMOUNT_PRECISION},{AMOUNT_SCALE})",
                    hint="its trades can be stored without candles (--no-candles)",
                ) from error
            raise

    def _minutes(self, start: datetime, end: datetime) -> Select[*tuple[object, ...]]:
        c = TRADES.c
        opens_at = bucket(c.timestamp, BASE_INTERVAL)
        value = func.sum(c.price * c.volume)
        # By time and id, never by time alone: trades of one moment have an order.
        prices = in_order(c.price, c.timestamp, c.id)
        rows: Rows = select(
            literal(self._symbol),
            opens_at,
            literal_column(str(BASE_INTERVAL)),
            prices[1],
            func.max(c.price),
            func.min(c.price),
            prices[func.count()],
            func.sum(c.volume),
            value,
            func.count(),
            cast(value / func.nullif(func.sum(c.volume), 0), Amount),
        )
        return rows.where(c.symbol == self._symbol, c.timestamp >= start, c.timestamp < end).group_by(
            opens_at
        )

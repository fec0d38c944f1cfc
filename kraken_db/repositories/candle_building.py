"""Candles from trades, computed where the trades are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import bindparam, cast, func, literal, literal_column, select, text
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends.rollup import Rows, bucket, in_order
from kraken_db.db.driver import driver_errors
from kraken_db.db.multiranges import to_multirange
from kraken_db.errors import ValueDoesNotFitError
from kraken_db.intervals import BASE_INTERVAL
from kraken_db.models import AMOUNT_PRECISION, AMOUNT_SCALE, CANDLES, TRADES, Amount
from kraken_db.ranges import TimeRange
from kraken_db.repositories.candle_merge import (
    CandlesWritten,
    MergeRule,
    merge_candles,
    prefer_more_trades,
)

_DELETE_UNFOUNDED = text("""
    DELETE FROM candles c
    WHERE c.symbol = :symbol AND c.interval_minutes = 1 AND c.timestamp >= :start AND c.timestamp < :end
      AND NOT EXISTS (SELECT FROM trades t
                      WHERE t.symbol = :symbol AND t.timestamp >= :start AND t.timestamp < :end
                        AND t.timestamp >= c.timestamp AND t.timestamp < c.timestamp + INTERVAL '1 minute')
""")


class CandleBuilder:
    """Builds the minutes of one symbol from its stored trades, on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def build(
        self, start: datetime, end: datetime, rule: MergeRule = prefer_more_trades
    ) -> CandlesWritten:
        """Write the candle of every minute with trades in ``[start, end)``, two whole minutes.

        All trades of the range must be stored: whoever calls knows that. Unless another ``rule`` is given, a
        stored candle that knows more trades stays; of one with as many, vwap and quote volume are filled in
        where they are missing.

        Raises ValueDoesNotFitError where a minute's volume or value is beyond its column; the transaction
        is over then.
        """
        try:
            with driver_errors(self._connection):
                return await merge_candles(
                    self._connection, minutes_of_trades(self._symbol, start, end), rule
                )
        except ValueDoesNotFitError as error:
            raise ValueDoesNotFitError(
                f"{self._symbol}: a minute between {start.isoformat()} and {end.isoformat()} has a volume"
                f" or value that does not fit NUMERIC({AMOUNT_PRECISION},{AMOUNT_SCALE})",
                hint="its trades can be stored without candles (--no-candles)",
            ) from error

    async def count(self, ranges: Sequence[TimeRange]) -> int:
        """How many minutes are stored in some ranges."""
        if not ranges:
            return 0
        c = CANDLES.c
        found = select(func.count()).where(
            c.symbol == self._symbol,
            c.interval_minutes == BASE_INTERVAL,
            c.timestamp >= ranges[0][0],
            c.timestamp < ranges[-1][1],
            c.timestamp.op("<@")(bindparam("inside", to_multirange(ranges), TSTZMULTIRANGE)),
        )
        return await self._connection.scalar(found) or 0

    async def delete_unfounded(self, start: datetime, end: datetime) -> int:
        """Delete the minutes of ``[start, end)`` in which there is no trade; returns how many there were.

        All trades of the range must be stored: whoever calls knows that.
        """
        wanted = {"symbol": self._symbol, "start": start, "end": end}
        result = await self._connection.execute(_DELETE_UNFOUNDED, wanted)
        return int(result.rowcount)  # type: ignore[attr-defined]


def minutes_of_trades(symbol: str, start: datetime, end: datetime) -> Rows:
    """The candle of every minute with trades in ``[start, end)``: columns as ``candles`` has them.

    ``quote_volume`` has all its digits; the table rounds it.
    """
    c = TRADES.c
    opens_at = bucket(c.timestamp, BASE_INTERVAL)
    value = func.sum(c.price * c.volume)
    # By time and id, never by time alone: trades of one moment have an order.
    prices = in_order(c.price, c.timestamp, c.id)
    rows: Rows = select(
        literal(symbol).label("symbol"),
        opens_at.label("timestamp"),
        literal_column(str(BASE_INTERVAL)).label("interval_minutes"),
        prices[1].label("open"),
        func.max(c.price).label("high"),
        func.min(c.price).label("low"),
        prices[func.count()].label("close"),
        func.sum(c.volume).label("volume"),
        value.label("quote_volume"),
        func.count().label("trade_count"),
        cast(value / func.nullif(func.sum(c.volume), 0), Amount).label("vwap"),
    )
    return rows.where(c.symbol == symbol, c.timestamp >= start, c.timestamp < end).group_by(opens_at)

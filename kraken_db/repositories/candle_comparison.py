"""Staged candles beside the stored ones of the same time: what needs no writing, and what contradicts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import CTE, FromClause, and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.models import CANDLES

_NUMBERS = ["open", "high", "low", "close", "volume"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One candle that is stored with as many trades as the new version has, but with other numbers."""

    timestamp: datetime
    """Its open time, UTC."""
    numbers: dict[str, tuple[Decimal, Decimal]]
    """Those that differ, by the name of their column: as stored, and new."""

    def __str__(self) -> str:
        """``2023-01-01 00:05 UTC has close 101 (new: 102), volume 2.5 (new: 2.6)``."""
        pairs = [
            f"{name} {old.normalize():f} (new: {new.normalize():f})"
            for name, (old, new) in self.numbers.items()
        ]
        return f"{self.timestamp:%Y-%m-%d %H:%M} UTC has {', '.join(pairs)}"


class CandleComparison:
    """``staged`` candles (see ``CandleStaging``) of one symbol and interval, all of them within ``span``.

    What only one side knows (vwap, quote volume) is no difference.
    """

    def __init__(
        self, staged: FromClause, symbol: str, interval: int, span: tuple[datetime, datetime]
    ) -> None:
        self._staged = staged
        self._same_candle = and_(
            CANDLES.c.symbol == symbol,
            CANDLES.c.interval_minutes == interval,
            CANDLES.c.timestamp >= span[0],
            CANDLES.c.timestamp <= span[1],
            CANDLES.c.timestamp == func.to_timestamp(staged.c.timestamp),
        )

    def beside(self) -> CTE:
        """The staged candles with ``stored_trades``, NULL where none is stored, and ``differs``: as many
        trades, but other numbers.
        """
        old, new = CANDLES.c, self._staged.c
        differs = and_(old.trade_count == new.trades, or_(*(old[name] != new[name] for name in _NUMBERS)))
        return (
            select(self._staged, old.trade_count.label("stored_trades"), differs.label("differs"))
            .select_from(self._staged.outerjoin(CANDLES, self._same_candle))
            .where(new.trades > 0)
            .cte("beside")
        )

    async def difference(self, connection: AsyncConnection, timestamp: datetime) -> Difference:
        """What is different in the candle of this time, which is stored."""
        columns = [side[name] for name in _NUMBERS for side in (CANDLES.c, self._staged.c)]
        both = self._staged.join(CANDLES, self._same_candle)
        statement = select(*columns).select_from(both).where(CANDLES.c.timestamp == timestamp)
        row = (await connection.execute(statement)).one()
        pairs = zip(_NUMBERS, zip(row[::2], row[1::2], strict=True), strict=True)
        return Difference(timestamp, {name: pair for name, pair in pairs if pair[0] != pair[1]})

"""The last price of many symbols, each by a look-up at a moment that is known: no range is searched.

Those of one day are looked up together: a store with all pairs of Kraken has a thousand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import ARRAY, ColumnElement, FromClause, Select, and_, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import VARCHAR
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.data_types import DataType
from kraken_db.models import CANDLES, TRADES, Timestamp
from kraken_db.tolerances import SAME_TRADE

# SQLAlchemy 2.0 and 2.1 have different words for it.
ONE_EACH = text("DISTINCT ON (trades.symbol)")
_Moments: TypeAlias = Sequence[tuple[str, datetime]]


class LastPrices:
    """Reads prices on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def of(self, newest: Mapping[str, tuple[DataType, datetime]]) -> dict[str, Decimal]:
        """The price of each symbol's newest trade, or the close of its newest candle.

        ``newest``: of which kind the newest record is, and its time. A symbol whose record is gone by now,
        by retention for example, is left out.
        """
        days: dict[tuple[DataType, date], list[tuple[str, datetime]]] = {}
        for symbol, (kind, moment) in newest.items():
            days.setdefault((kind, moment.astimezone(UTC).date()), []).append((symbol, moment))
        found: dict[str, Decimal] = {}
        for (kind, _), moments in days.items():
            asked = _trades(moments) if kind.interval is None else _closes(kind.interval, moments)
            found |= {row[0]: row[1] for row in await self._connection.execute(asked)}
        return found


def _trades(moments: _Moments) -> Select[Any]:
    """Around the moments: the stamp of a live trade may have become Kraken's official one since."""
    c = TRADES.c
    return (
        _around(TRADES, c.price, moments, SAME_TRADE)
        .prefix_with(ONE_EACH)
        .order_by(c.symbol, c.timestamp.desc(), c.id.desc())
    )


def _closes(interval: int, moments: _Moments) -> Select[Any]:
    c = CANDLES.c
    return _around(CANDLES, c.close, moments, timedelta(0)).where(c.interval_minutes == interval)


def _around(table: FromClause, price: ColumnElement[Any], moments: _Moments, off: timedelta) -> Select[Any]:
    """Symbol and price of the rows at most ``off`` from the moment of their symbol."""
    times = [moment for _, moment in moments]
    wanted = func.unnest(
        bindparam("symbols", [symbol for symbol, _ in moments], ARRAY(VARCHAR)),
        bindparam("first", [moment - off for moment in times], ARRAY(Timestamp)),
        bindparam("last", [moment + off for moment in times], ARRAY(Timestamp)),
    )
    w = wanted.table_valued("symbol", "first", "last").render_derived(name="wanted").c
    c = table.c
    near = and_(c.symbol == w.symbol, c.timestamp >= w.first, c.timestamp <= w.last)
    # Bounds that a planner knows beforehand: it looks at the chunks of one day.
    inside = (c.timestamp >= min(times) - off, c.timestamp <= max(times) + off)
    return select(c.symbol, price).join_from(table, w.symbol.table, near).where(*inside)

"""Which ranges are known to be complete, and by which source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.db.multiranges import from_multirange, to_multirange
from kraken_db.models import COVERAGE
from kraken_db.ranges import TimeRange, difference, union
from kraken_db.repositories.dropped_ranges import DroppedRangeRepository

__all__ = ["Coverage", "CoverageRepository", "Source", "TimeRange"]

Source: TypeAlias = Literal["rest_trades", "rest_ohlc", "csv", "live"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one source has shown to be complete: ranges in order of time, apart from each other."""

    symbol: str
    data_type: str
    source: Source
    ranges: tuple[TimeRange, ...]


class CoverageRepository:
    """Reads and grows ``data_coverage`` on the caller's connection; never commits.

    Grow it in the transaction that writes the rows: then it can claim nothing that is not stored.
    """

    def __init__(self, connection: AsyncConnection | AsyncSession) -> None:
        self._connection = connection

    async def add(self, symbol: str, data_type: str, source: Source, ranges: Iterable[TimeRange]) -> None:
        """Add ranges to what ``source`` covers; touching ranges become one."""
        added = to_multirange(ranges)
        if not added:
            return
        fresh = insert(COVERAGE).values(symbol=symbol, data_type=data_type, source=source, covered=added)
        await self._connection.execute(
            fresh.on_conflict_do_update(
                index_elements=["symbol", "data_type", "source"],
                set_={"covered": COVERAGE.c.covered + fresh.excluded.covered},
            )
        )

    async def all(self, symbol: str | None = None) -> Sequence[Coverage]:
        """What every source covers, of one symbol or of all."""
        c = COVERAGE.c
        statement = select(c.symbol, c.data_type, c.source, c.covered).order_by(
            c.symbol, c.data_type, c.source
        )
        if symbol is not None:
            statement = statement.where(c.symbol == symbol)
        return [
            Coverage(row_symbol, data_type, source, from_multirange(covered))
            for row_symbol, data_type, source, covered in await self._connection.execute(statement)
        ]

    async def covered(self, symbol: str, data_type: str) -> tuple[TimeRange, ...]:
        """The union over all sources."""
        c = COVERAGE.c
        found = await self._connection.scalars(
            select(c.covered).where(c.symbol == symbol, c.data_type == data_type)
        )
        return tuple(union(*(from_multirange(covered) for covered in found)))

    async def without_candles(self, symbol: str) -> list[TimeRange]:
        """Where the trades are known and stored, and the minutes are not known."""
        trades = await self.covered(symbol, "trades")
        minutes = await self.covered(symbol, "candles_1m")
        gone = await DroppedRangeRepository(self._connection).of(symbol, "trades")
        return difference(trades, union(minutes, gone))

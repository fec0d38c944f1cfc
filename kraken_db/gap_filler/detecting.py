"""Finds the gaps of a symbol: from its coverage, and from a few trades at the ends of its ranges.

Coverage says what is missing. Two things it cannot say, and ids can:

- whether a hole in the known trades is one of ids, so that candles alone would not close it: the two trades
  at its ends are looked up;
- whether ids are missing where the range of one source ends inside of what another one knows, because one of
  them claimed too much: the nearest trades on both sides of each such joint are looked up.

Each is two look-ups in an index; history is never scanned. What is missing in the middle of one source's
range shows neither: ``kraken-db verify`` looks at every id.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.gap_filler.gaps import (
    CANDLES,
    TRADES,
    Known,
    SymbolGaps,
    find_gaps,
    is_hole_of_ids,
    joints,
)
from kraken_db.ranges import TICK, TimeRange, union
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.repositories.dropped_ranges import DroppedRangeRepository
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.repositories.trade_neighbours import MissingIds, TradeNeighbours
from kraken_db.timeseries import TimeSeries

MOST_LOOKS = 500
"""How many joints and holes of a symbol are looked at, the newest first: a live feed that was often cut has
thousands."""


class GapDetector:
    """Reads on the caller's connection; asks nobody outside of the database."""

    def __init__(self, connection: AsyncConnection, timeseries: TimeSeries, now: datetime) -> None:
        self._connection = connection
        self._timeseries = timeseries
        self._now = now

    async def find(self, symbol: str, *, min_gap: timedelta, window: timedelta) -> SymbolGaps:
        known = await self.known(symbol)
        at_joints = await self.missing_at(symbol, known, known.joints[-MOST_LOOKS:])
        missing = [*await self._holes(symbol, known), *(ids.gap for ids in at_joints)]
        found = find_gaps(symbol, known, missing, self._now, min_gap=min_gap, window=window)
        return SymbolGaps(symbol, tuple(found), known.span, await self._kept_from())

    async def known(self, symbol: str) -> Known:
        """What is known of a symbol, as ranges."""
        coverage = await CoverageRepository(self._connection).all(symbol)
        by_source = [item.ranges for item in coverage if item.data_type == TRADES]
        minutes = union(*(item.ranges for item in coverage if item.data_type == CANDLES))
        dropped = DroppedRangeRepository(self._connection)
        return Known(
            tuple(union(*by_source)),
            tuple(minutes),
            await dropped.of(symbol, TRADES),
            await dropped.of(symbol, CANDLES),
            joints(by_source),
            None if by_source or minutes else await self._oldest_row(symbol),
        )

    async def _oldest_row(self, symbol: str) -> datetime | None:
        status = SyncStatusRepository(self._connection)
        rows = [await status.get(symbol, data_type) for data_type in (TRADES, CANDLES)]
        return min((row.oldest for row in rows if row and row.oldest), default=None)

    async def _holes(self, symbol: str, known: Known) -> list[TimeRange]:
        neighbours = TradeNeighbours(self._connection, symbol)
        found = []
        for hole in known.holes_in_trades()[-MOST_LOOKS:]:
            # Of one moment, so that nothing lies beside it: it is one of ids by its length alone.
            if hole[1] - hole[0] <= TICK:
                found.append(hole)
                continue
            missing = await neighbours.missing_between(*hole, reach=timedelta(seconds=1))
            if missing is not None and is_hole_of_ids(hole, missing.after, missing.before):
                found.append(hole)
        return found

    async def missing_at(self, symbol: str, known: Known, moments: Iterable[datetime]) -> list[MissingIds]:
        """The ids that are missing around these moments, though the trades are said to be known there."""
        neighbours = TradeNeighbours(self._connection, symbol)
        found = [await neighbours.missing_between(moment, moment) for moment in moments]
        return [
            ids
            for ids in found
            if ids and any(start <= ids.after and ids.before < end for start, end in known.trades)
        ]

    async def _kept_from(self) -> dict[str, datetime | None]:
        kept = {
            table: await self._timeseries.retention(self._connection, table)
            for table in ("trades", "candles")
        }
        return {table: None if period is None else self._now - period for table, period in kept.items()}

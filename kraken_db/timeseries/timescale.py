"""TimescaleDB: the higher intervals are continuous aggregates.

The traps that decide this file (measured, see the project's notes on TimescaleDB):

- a refresh takes a window of time and all symbols in it; over minutes that retention has dropped it
  deletes the candles that were computed from them;
- what was written below an aggregate's watermark stays invisible until it is refreshed;
- a refresh refuses to run in a transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Select, Table, delete, exists, func, insert, or_, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.engine import Database
from kraken_db.intervals import (
    BASE_INTERVAL,
    INTERVAL_SOURCES,
    INTERVAL_VIEWS,
    ceil_to_interval,
    floor_to_interval,
    interval_length,
)
from kraken_db.models import CANDLES
from kraken_db.timeseries.base import StaleRange
from kraken_db.timeseries.relations import candle_relation
from kraken_db.timeseries.rollup import AnySelect, Rows, bucket, rollup
from kraken_db.timeseries.timescale_policies import TimescalePolicies

# Each batch of a refresh is a transaction of the server; its default of 10 buckets makes a sparse
# history of ten years run for hours.
BUCKETS_PER_BATCH = 2016
SLICE = timedelta(days=84)


class TimescaleTimeSeries(TimescalePolicies):
    """TimescaleDB from version 2.11, under its community licence."""

    name = "TimescaleDB"

    def __init__(self, version: tuple[int, int], stored: Mapping[int, Table]) -> None:
        """``stored``: interval to the table behind its aggregate (``materialized_relations``)."""
        self._stored = stored
        self._refresh_options = (
            f", options => '{{\"buckets_per_batch\": {BUCKETS_PER_BATCH}}}'" if version >= (2, 21) else ""
        )

    def candles_between(self, symbol: str, interval: int, start: datetime, end: datetime) -> AnySelect:
        relation = candle_relation(INTERVAL_VIEWS[interval])
        candles = select(relation).where(
            relation.c.symbol == symbol, relation.c.timestamp >= start, relation.c.timestamp < end
        )
        return candles.where(relation.c.interval_minutes == interval) if relation is CANDLES else candles

    def edge(self, symbol: str, interval: int, *, newest: bool) -> Select[datetime | None]:
        # Not from the view: it would sort all candles of the symbol. What is not stored in the aggregate
        # is computed from minutes, and both have an index that begins or ends with the answer.
        minute = CANDLES.c.timestamp
        minutes = select(minute if interval == BASE_INTERVAL else bucket(minute, interval)).where(
            CANDLES.c.symbol == symbol, CANDLES.c.interval_minutes == BASE_INTERVAL
        )
        parts = [minutes.order_by(minute.desc() if newest else minute).limit(1)]
        if (stored := self._stored.get(interval)) is not None:
            opens_at = stored.c.timestamp
            candles = select(opens_at).where(stored.c.symbol == symbol)
            parts.append(candles.order_by(opens_at.desc() if newest else opens_at).limit(1))
        edges = union_all(*(select(part.subquery()) for part in parts)).subquery()
        (moment,) = edges.c
        return select(func.max(moment) if newest else func.min(moment))

    async def prepare_bulk_write(self, connection: AsyncConnection) -> None:
        # A merge into compressed chunks unpacks what it touches; 100,000 rows is the default limit.
        await connection.execute(
            text("SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
        )

    async def refresh(self, database: Database, stale: Sequence[StaleRange], now: datetime) -> None:
        if not stale:
            return
        for start, end in slices(stale):
            touched = [item for item in stale if item.start < end and start < item.end]
            for interval, source in INTERVAL_SOURCES.items():
                # A candle that still grows is read from its source; stored, it would hide what follows.
                window = (
                    floor_to_interval(start, interval),
                    min(ceil_to_interval(end, interval), floor_to_interval(now, interval)),
                )
                if window[0] < window[1]:
                    await self._refresh_level(
                        database, self._stored[interval], interval, source, window, touched
                    )

    async def _refresh_level(
        self,
        database: Database,
        stored: Table,
        interval: int,
        source: int,
        window: tuple[datetime, datetime],
        touched: Sequence[StaleRange],
    ) -> None:
        async with database.begin() as connection:
            if await _source_was_dropped(connection, stored, interval, source, window):
                for item in touched:
                    await _store_directly(connection, stored, interval, source, window, item)
                return
        async with database.autocommit() as connection:
            await connection.execute(
                text(
                    f"CALL refresh_continuous_aggregate('{INTERVAL_VIEWS[interval]}',"
                    f" CAST(:start AS timestamptz), CAST(:end AS timestamptz){self._refresh_options})"
                ),
                {"start": window[0], "end": window[1]},
            )


def slices(stale: Iterable[StaleRange]) -> list[tuple[datetime, datetime]]:
    """The union of the ranges in order of time, cut into pieces of bounded length."""
    merged: list[tuple[datetime, datetime]] = []
    for start, end in sorted((item.start, item.end) for item in stale):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    pieces: list[tuple[datetime, datetime]] = []
    for start, end in merged:
        while start < end:
            pieces.append((start, min(start + SLICE, end)))
            start += SLICE
    return pieces


def _source_rollup(interval: int, source: int, window: tuple[datetime, datetime]) -> Rows:
    relation = candle_relation(INTERVAL_VIEWS[source])
    rows = select(relation).where(relation.c.timestamp >= window[0], relation.c.timestamp < window[1])
    if source == BASE_INTERVAL:
        rows = rows.where(relation.c.interval_minutes == BASE_INTERVAL)
    return rollup(rows.subquery(), interval)


async def _source_was_dropped(
    connection: AsyncConnection, stored: Table, interval: int, source: int, window: tuple[datetime, datetime]
) -> bool:
    """Whether a stored candle of the window, of any symbol, knows trades that its source lacks by now."""
    inside = (stored.c.timestamp >= window[0], stored.c.timestamp < window[1])
    if not await connection.scalar(select(exists().where(*inside))):
        return False
    fresh = _source_rollup(interval, source, window).subquery()
    joined = stored.outerjoin(
        fresh, (fresh.c.symbol == stored.c.symbol) & (fresh.c.timestamp == stored.c.timestamp)
    )
    lost = or_(fresh.c.timestamp.is_(None), stored.c.trade_count > fresh.c.trade_count)
    return bool(await connection.scalar(select(exists(select(1).select_from(joined).where(*inside, lost)))))


async def _store_directly(
    connection: AsyncConnection,
    stored: Table,
    interval: int,
    source: int,
    window: tuple[datetime, datetime],
    item: StaleRange,
) -> None:
    """Write the candles of one symbol into the aggregate's own table, and leave every other one alone.

    Only where a refresh would destroy candles. One that holds more trades than its source stays, unless
    the source was forced.
    """
    start = max(window[0], floor_to_interval(item.start, interval))
    end = min(window[1], ceil_to_interval(item.end, interval))
    if start >= end:
        return
    fresh = _source_rollup(interval, source, (start, end)).subquery()
    rows = select(fresh).where(fresh.c.symbol == item.symbol)
    same = (stored.c.symbol == fresh.c.symbol, stored.c.timestamp == fresh.c.timestamp)
    keep_known = ~exists().where(*same, stored.c.trade_count > fresh.c.trade_count)
    if not item.replaced:
        rows = rows.where(keep_known)
    elif source == BASE_INTERVAL:
        # Only whole candles: of one at the edge, other minutes may have been dropped.
        whole = fresh.c.timestamp.between(
            ceil_to_interval(item.start, interval),
            floor_to_interval(item.end, interval) - interval_length(interval),
        )
        rows = rows.where(or_(whole, keep_known))
    new = rows.cte("new")
    old = (
        delete(stored)
        .where(stored.c.symbol == new.c.symbol, stored.c.timestamp == new.c.timestamp)
        .cte("old")
    )
    columns = [column.name for column in new.c]
    await connection.execute(insert(stored).from_select(columns, select(new)).add_cte(old))

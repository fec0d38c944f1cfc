"""A refresh that never loses a candle, on TimescaleDB.

TimescaleDB's own refresh takes a window of time with all symbols in it and deletes what has no minutes
left. Only the levels that are computed from minutes are in danger: what the others come from is never
dropped. So for these levels, time without a chunk and whatever ``dropped_ranges`` has of any symbol is left
out of it. There the candles of the stale symbols, and only theirs, are written into the aggregate's own
table: by way of temporary tables that are analyzed and have an index, for the statistics of an aggregate
that is being filled say that there is nothing, and a planner that believes them joins row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    MetaData,
    Table,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateTable, DropTable
from sqlalchemy.types import Numeric

from kraken_db.backends.base import StaleRange
from kraken_db.backends.rollup import AnySelect, rollup
from kraken_db.backends.timescale_chunks import ranges_behind, ranges_between
from kraken_db.data_types import DataType
from kraken_db.db.driver import run_alone
from kraken_db.db.engine import Database
from kraken_db.db.locks import lock_job
from kraken_db.db.multiranges import from_multirange, lies_in, to_multirange
from kraken_db.intervals import (
    BASE_INTERVAL,
    INTERVAL_SOURCES,
    INTERVAL_VIEWS,
    ceil_to_interval,
    floor_to_interval,
)
from kraken_db.models import CANDLES, DROPPED_RANGES, Amount, Timestamp
from kraken_db.ranges import TimeRange, difference, intersection, union, whole_candles
from kraken_db.retry import REFRESH

SLICE = timedelta(weeks=12)
_LONGEST = max(INTERVAL_SOURCES)


@dataclass(frozen=True, slots=True)
class Dropped:
    """What is missing of the minutes of a slice."""

    without_chunk: Sequence[TimeRange]
    by_symbol: Mapping[str, Sequence[TimeRange]]
    """Where a symbol's minutes are gone while there are others."""

    def of_any(self) -> list[TimeRange]:
        return union(self.without_chunk, *self.by_symbol.values())

    def of(self, symbol: str) -> list[TimeRange]:
        return union(self.without_chunk, self.by_symbol.get(symbol, ()))


class Refresh:
    """One refresh. ``stored``: interval to the table behind its aggregate; ``options`` of the CALL."""

    def __init__(self, database: Database, stored: Mapping[int, Table], options: str, now: datetime) -> None:
        self._database = database
        self._stored = stored
        self._options = options
        self._now = now

    async def run(self, stale: Sequence[StaleRange]) -> list[StaleRange]:
        """Returns what has not closed yet."""
        stale = await self._with_candles(coalesced(stale))
        for start, end in slices(stale):
            touched = [item for item in stale if item.start < end and start < item.end]
            dropped = await self._dropped(start, end)
            for interval, source in INTERVAL_SOURCES.items():
                wanted = _by_symbol(touched, interval, (start, end), self._now)
                if source == BASE_INTERVAL:
                    await self._from_minutes(interval, wanted, dropped)
                else:
                    await self._call(interval, union(*wanted.values()))
        return unclosed(stale, self._now)

    async def _with_candles(self, stale: Sequence[StaleRange]) -> list[StaleRange]:
        """Those parts of the ranges, in whole weeks, that something is or was stored in.

        One trade of a wrong year makes all the years up to it stale.
        """
        if not stale:
            return []
        start, end = min(item.start for item in stale), max(item.end for item in stale)
        async with self._database.read() as connection:
            minutes = await ranges_between(connection, "candles", start, end)
            # Their chunks are longer: what outlived its minutes.
            higher = await ranges_behind(connection, list(self._stored.values()), start, end)
        weeks = whole_candles([*minutes, *higher], _LONGEST)
        return [
            replace(item, start=first, end=last)
            for item in stale
            for first, last in intersection([(item.start, item.end)], weeks)
        ]

    async def _dropped(self, start: datetime, end: datetime) -> Dropped:
        c = DROPPED_RANGES.c
        window = bindparam("window", to_multirange([(start, end)]), TSTZMULTIRANGE)
        inside = select(c.symbol, c.dropped.op("*", return_type=TSTZMULTIRANGE())(window)).where(
            c.data_type == DataType.CANDLES_1M, c.dropped.op("&&")(window)
        )
        async with self._database.read() as connection:
            there = await ranges_between(connection, "candles", start, end)
            rows = (await connection.execute(inside)).all()
        by_symbol = {symbol: from_multirange(ranges) for symbol, ranges in rows}
        return Dropped(difference([(start, end)], there), by_symbol)

    async def _from_minutes(
        self, interval: int, wanted: Mapping[str, Sequence[TimeRange]], dropped: Dropped
    ) -> None:
        everything = union(*wanted.values())
        danger = intersection(everything, whole_candles(dropped.of_any(), interval))
        await self._call(interval, difference(everything, danger))
        if not danger:
            return
        async with self._database.begin() as connection:
            for symbol, ranges in wanted.items():
                candles = intersection(ranges, danger)
                await store_directly(
                    connection, self._stored[interval], interval, symbol, candles, dropped.of(symbol)
                )

    async def _call(self, interval: int, windows: Sequence[TimeRange]) -> None:
        if not windows:
            return
        async with self._database.autocommit() as connection:
            for start, end in windows:
                call = (
                    f"CALL refresh_continuous_aggregate('{INTERVAL_VIEWS[interval]}',"
                    f" TIMESTAMPTZ '{start.isoformat()}', TIMESTAMPTZ '{end.isoformat()}'{self._options})"
                )
                # Our own refreshes wait for each other; but the database's jobs know nothing of that.
                await REFRESH.run(partial(run_alone, connection, call))


def coalesced(stale: Sequence[StaleRange]) -> list[StaleRange]:
    """The same with fewer ranges: those of a symbol that touch are one."""
    apart = [item for item in stale if item.refreshed_at is not None]
    fresh: dict[str, list[TimeRange]] = {}
    for item in stale:
        if item.refreshed_at is None:
            fresh.setdefault(item.symbol, []).append((item.start, item.end))
    return apart + [StaleRange(symbol, *span) for symbol in fresh for span in union(fresh[symbol])]


def slices(stale: Iterable[StaleRange]) -> Iterator[TimeRange]:
    """The weeks of the ranges in order of time, cut into pieces of bounded length."""
    for start, end in whole_candles([(item.start, item.end) for item in stale], _LONGEST):
        while start < end:
            yield start, min(start + SLICE, end)
            start += SLICE


def is_due(item: StaleRange, now: datetime) -> bool:
    """Whether a refresh has anything to do for it: of what has been refreshed, only what has closed since."""
    if item.refreshed_at is None:
        return True
    spans = (_closed(item, interval, now) for interval in INTERVAL_SOURCES)
    return any(start < end for start, end in spans)


def _closed(item: StaleRange, interval: int, now: datetime) -> TimeRange:
    """Its candles that have closed, and that no refresh has been over since; none where it ends first."""
    # A candle that still grows is read from its source; stored, it would hide what follows.
    start = floor_to_interval(item.start, interval)
    end = min(ceil_to_interval(item.end, interval), floor_to_interval(now, interval))
    if item.refreshed_at is not None:
        start = max(start, floor_to_interval(item.refreshed_at, interval))
    return start, end


def _by_symbol(
    stale: Iterable[StaleRange], interval: int, piece: TimeRange, now: datetime
) -> dict[str, list[TimeRange]]:
    """The closed candles of a slice that are stale, of each symbol."""
    found: dict[str, list[TimeRange]] = {}
    for item in stale:
        found.setdefault(item.symbol, []).append(_closed(item, interval, now))
    inside = {symbol: intersection(ranges, [piece]) for symbol, ranges in found.items()}
    return {symbol: ranges for symbol, ranges in inside.items() if ranges}


def unclosed(stale: Iterable[StaleRange], now: datetime) -> list[StaleRange]:
    """What of these ranges a refresh at ``now`` cannot store yet: one range of each symbol."""
    opened = floor_to_interval(now, _LONGEST)
    left: dict[str, StaleRange] = {}
    for item in stale:
        if item.end <= opened:
            continue
        start, end, done = max(item.start, opened), item.end, max(item.refreshed_at or now, now)
        if (other := left.get(item.symbol)) is not None:
            start, end = min(start, other.start), max(end, other.end)
        left[item.symbol] = StaleRange(item.symbol, start, end, done)
    return list(left.values())


# An hour may hold more than the column of a minute.
_FRESH = Table(
    "fresh_candles",
    MetaData(),
    *(Column(c.name, Numeric() if c.type is Amount else c.type) for c in CANDLES.columns),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
_KNOWN = Table(
    "known_candles",
    MetaData(),
    Column("timestamp", Timestamp),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)


async def lock_higher_intervals(connection: AsyncConnection) -> None:
    """Write the aggregates' own tables alone, until the transaction ends.

    Two runs that write the same candle would each delete the old one and add a new one.
    """
    await lock_job(connection, "write", of="the higher intervals")


async def store_directly(
    connection: AsyncConnection,
    stored: Table,
    interval: int,
    symbol: str,
    candles: Sequence[TimeRange],
    dropped: Sequence[TimeRange],
) -> None:
    """Compute the candles of a symbol in these ranges, which lie on the grid, from minutes.

    ``dropped`` is where the symbol's minutes are known to be gone. A candle that reaches into it stays as
    it is stored, for what is left of its minutes is not all of it; every other one is computed anew.
    """
    if not candles:
        return
    await lock_higher_intervals(connection)
    start, end = candles[0][0], candles[-1][1]
    minutes = (
        select(CANDLES)
        .where(
            CANDLES.c.symbol == symbol,
            CANDLES.c.interval_minutes == BASE_INTERVAL,
            lies_in(CANDLES.c.timestamp, candles),
        )
        .subquery("minutes")
    )
    await _fill(connection, _FRESH, rollup(minutes, interval))
    inside = (stored.c.symbol == symbol, stored.c.timestamp >= start, stored.c.timestamp < end)
    if dropped:
        await _fill(connection, _KNOWN, select(stored.c.timestamp).where(*inside))
        length: ColumnElement[Any] = literal_column(f"INTERVAL '{int(interval)} minutes'")
        lifetime = func.tstzrange(_FRESH.c.timestamp, _FRESH.c.timestamp + length)
        is_partial = lifetime.op("&&")(_multirange("dropped", dropped))
        is_known = _FRESH.c.timestamp.in_(select(_KNOWN.c.timestamp))
        await connection.execute(delete(_FRESH).where(is_partial, is_known))
    # A candle that is stored as it should be is not written again; an aggregate may be compressed.
    same = func.row(*(stored.c[c.name] for c in _FRESH.c)).is_not_distinct_from(func.row(*_FRESH.c))
    await connection.execute(delete(_FRESH).where(*inside, stored.c.timestamp == _FRESH.c.timestamp, same))
    replaced = (
        select(_FRESH.c.timestamp).join(stored, stored.c.timestamp == _FRESH.c.timestamp).where(*inside)
    )
    if await connection.scalar(replaced.limit(1)) is not None:
        await connection.execute(
            delete(stored).where(*inside, stored.c.timestamp.in_(select(_FRESH.c.timestamp)))
        )
    await connection.execute(insert(stored).from_select([column.name for column in _FRESH.c], select(_FRESH)))


async def _fill(connection: AsyncConnection, table: Table, rows: AnySelect) -> None:
    """Make a temporary table of these rows, which the planner knows all about."""
    await connection.execute(DropTable(table, if_exists=True))
    await connection.execute(CreateTable(table))
    columns = [column.name for column in rows.selected_columns]
    await connection.execute(insert(table).from_select(columns, rows))
    await connection.execute(text(f"CREATE INDEX ON {table.name} (timestamp)"))
    await connection.execute(text(f"ANALYZE {table.name}"))


def _multirange(name: str, ranges: Sequence[TimeRange]) -> object:
    return bindparam(name, to_multirange(ranges), TSTZMULTIRANGE)

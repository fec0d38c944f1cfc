"""Plain PostgreSQL: the higher intervals are views, over what is rolled up and over minutes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType

from sqlalchemy import (
    ColumnElement,
    Integer,
    Table,
    delete,
    func,
    literal_column,
    select,
    text,
    union_all,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends.base import (
    Chunks,
    Compression,
    Jobs,
    MinutesWritten,
    OldRows,
    Shards,
    StaleRange,
    TableStorage,
)
from kraken_db.backends.pending_refresh import PendingRefreshWriter, announced
from kraken_db.backends.postgres_old_rows import delete_rows, find_old_rows
from kraken_db.backends.rolled_candles import (
    CANDLE_COLUMNS,
    NOT_STORED,
    is_standing,
    keep_rolled,
    lock_slice,
    minutes_between,
    roll_pending,
    rolled_between,
)
from kraken_db.backends.rollup import AnySelect, Rows, bucket, candle_relation, rollup
from kraken_db.backends.storage import postgres_storage
from kraken_db.data_types import TABLES, TableName
from kraken_db.db.driver import CompiledStatement, fetch
from kraken_db.db.engine import Database
from kraken_db.errors import ConfigurationError
from kraken_db.intervals import BASE_INTERVAL, INTERVAL_SOURCES, INTERVAL_VIEWS, ceil_to_interval
from kraken_db.models import CANDLES, RETENTION_PERIODS, ROLLED_CANDLES
from kraken_db.policies import TablePolicy
from kraken_db.ranges import TimeRange, union

_STORED = literal_column("0", Integer).label("rank")
_COMPUTED = literal_column("1", Integer).label("rank")


class PostgresBackend:
    """Any PostgreSQL from version 14."""

    name = "PostgreSQL"
    session_settings: Mapping[str, str] = MappingProxyType({})
    bulk_settings: Mapping[str, str] = MappingProxyType({})
    chunks: Chunks | None = None
    jobs: Jobs | None = None
    compression: Compression | None = None
    shards: Shards | None = None

    def candles_between(self, symbol: str, interval: int, start: datetime, end: datetime) -> AnySelect:
        # A candle that opens in the range lies between these two moments as a whole.
        first, last = ceil_to_interval(start, interval), ceil_to_interval(end, interval)
        if interval == BASE_INTERVAL:
            return minutes_between(symbol, first, last)
        if interval in NOT_STORED:
            return _from_minutes_or_kept(symbol, interval, first, last)
        view = candle_relation(INTERVAL_VIEWS[interval])
        return select(view).where(view.c.symbol == symbol, view.c.timestamp >= first, view.c.timestamp < last)

    def unversioned_parts(self, interval: int) -> str | None:
        return None  # TRUNCATE has a trigger, too

    async def edges(
        self, connection: AsyncConnection | AsyncSession, symbol: str, interval: int
    ) -> TimeRange | None:
        ((oldest, newest),) = await fetch(connection, _edges(interval).replacing({_SYMBOL: symbol}))
        return None if oldest is None or newest is None else (oldest, newest)

    @asynccontextmanager
    async def writing_minutes(
        self,
        connection: AsyncConnection,
        symbol: str,
        start: datetime,
        end: datetime,
        *,
        are_new: bool = False,
    ) -> AsyncIterator[MinutesWritten]:
        # The triggers see by themselves what changes.
        async with announced(connection, symbol, (start, end) if are_new else None):
            yield MinutesWritten(start, end)

    @asynccontextmanager
    async def removing(self, connection: AsyncConnection, symbol: str) -> AsyncIterator[None]:
        pending = PendingRefreshWriter(connection)
        await pending.forget(symbol)  # a refresh holds the notes of what it rolls up
        yield
        await connection.execute(delete(ROLLED_CANDLES).where(ROLLED_CANDLES.c.symbol == symbol))
        await pending.forget(symbol)  # what the triggers have noted meanwhile

    def kept_table(self, interval: int) -> Table:
        return ROLLED_CANDLES

    async def mark_stale(self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]) -> None:
        pending = PendingRefreshWriter(connection)
        for start, end in union(ranges):
            await pending.add(StaleRange(symbol, start, end))

    async def refresh(self, database: Database, now: datetime, also: Sequence[StaleRange] = ()) -> None:
        async with database.read() as connection:
            stale = await PendingRefreshWriter(connection).all()
        if stale or also:
            await roll_pending(database, [*stale, *also])

    async def policies(self, connection: AsyncConnection) -> tuple[TablePolicy, ...]:
        c = RETENTION_PERIODS.c
        rows = await connection.execute(select(c.table_name, c.kept_for))
        kept = {row.table_name: row.kept_for for row in rows}
        return tuple(TablePolicy(table, kept.get(table)) for table in TABLES)

    async def set_policy(self, connection: AsyncConnection, policy: TablePolicy) -> None:
        if policy.compression is not None:
            kind = "a plain PostgreSQL" if self.shards is None else self.name
            raise ConfigurationError(
                f"{policy.table} cannot be compressed: this database is {kind}",
                hint="compression needs TimescaleDB",
            )
        if policy.retention is None:
            gone = delete(RETENTION_PERIODS).where(RETENTION_PERIODS.c.table_name == policy.table)
            await connection.execute(gone)
            return
        fresh = insert(RETENTION_PERIODS).values(table_name=policy.table, kept_for=policy.retention)
        await connection.execute(
            fresh.on_conflict_do_update(
                index_elements=["table_name"], set_={"kept_for": fresh.excluded.kept_for}
            )
        )

    async def droppable(
        self, connection: AsyncConnection, table: TableName, before: datetime
    ) -> Sequence[OldRows]:
        return await find_old_rows(connection, table, before)

    async def drop(self, connection: AsyncConnection, rows: OldRows, keep: Sequence[TimeRange] = ()) -> int:
        if rows.table == "candles":
            assert rows.symbol is not None
            await lock_slice(connection, rows.symbol, rows.start)
            await keep_rolled(connection, rows)
        return await delete_rows(connection, rows, keep)

    async def storage(self, connection: AsyncConnection) -> Sequence[TableStorage]:
        return await postgres_storage(connection)


def _from_minutes_or_kept(symbol: str, interval: int, first: datetime, last: datetime) -> AnySelect:
    # Not from the view, which goes through all hours of the symbol: PostgreSQL cannot turn bounds on
    # its candles into bounds on the index of the minutes.
    computed = rollup(minutes_between(symbol, first, last).subquery(), interval)
    # Not an anti-join: where the statistics of a young table are missing, that takes time by the square of
    # its rows. In order, which minutes are rolled up in anyway, a candle follows upon its kept one.
    kept = rolled_between(symbol, interval, first, last).where(is_standing(symbol))
    both = union_all(
        computed.add_columns(_COMPUTED).order_by("timestamp"), kept.add_columns(_STORED)
    ).subquery()
    candles = select(*(both.c[name] for name in CANDLE_COLUMNS)).order_by(both.c.timestamp, both.c.rank)
    # SQLAlchemy 2.0 and 2.1 have different words for it.
    return candles.prefix_with(text("DISTINCT ON (timestamp)"))


# In the place of the symbol, in statements that are made once.
_SYMBOL = "symbol"


@lru_cache(maxsize=64)
def _edges(interval: int) -> CompiledStatement:
    """One row: the open times of the oldest and of the newest candle, NULL without any."""
    return CompiledStatement.of(select(_edge(interval, newest=False), _edge(interval, newest=True)))


def _edge(interval: int, *, newest: bool) -> ColumnElement[datetime | None]:
    minutes = minutes_between(_SYMBOL).with_only_columns(CANDLES.c.timestamp)
    edge = _outermost(minutes, CANDLES.c.timestamp, newest)
    if interval == BASE_INTERVAL:
        return edge
    opens_at = ROLLED_CANDLES.c.timestamp
    rolled = rolled_between(_SYMBOL, _from_minutes(interval)).with_only_columns(opens_at)
    # Both leave out what is not there.
    outer = func.greatest if newest else func.least
    return bucket(outer(edge, _outermost(rolled, opens_at, newest)), interval)


def _outermost(rows: Rows, moment: ColumnElement[datetime], newest: bool) -> ColumnElement[datetime | None]:
    return rows.order_by(moment.desc() if newest else moment).limit(1).scalar_subquery()


def _from_minutes(interval: int) -> int:
    """The level that an interval comes from and that comes from minutes itself."""
    while (source := INTERVAL_SOURCES[interval]) != BASE_INTERVAL:
        interval = source
    return interval

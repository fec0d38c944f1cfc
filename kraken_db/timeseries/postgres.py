"""Plain PostgreSQL: the higher intervals are views, over minutes and over what outlived its minutes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Integer, Select, delete, func, literal_column, select, text, union_all
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.engine import Database
from kraken_db.errors import ConfigurationError
from kraken_db.intervals import BASE_INTERVAL, INTERVAL_SOURCES, ceil_to_interval
from kraken_db.models import CANDLES, RETENTION_PERIODS, ROLLED_CANDLES
from kraken_db.policies import TABLES, BackgroundJob, TableName, TablePolicy
from kraken_db.ranges import TimeRange
from kraken_db.timeseries.base import Piece, RetentionJob, StaleRange, TableStorage
from kraken_db.timeseries.postgres_retention import count_rows, delete_rows, pieces_with_rows
from kraken_db.timeseries.rolled import (
    CANDLE_COLUMNS,
    forget_rolled,
    minutes_between,
    rolled_between,
    store_rolled,
)
from kraken_db.timeseries.rollup import AnySelect, Rows, bucket, rollup
from kraken_db.timeseries.storage import postgres_storage

_STORED = literal_column("0", Integer).label("rank")
_COMPUTED = literal_column("1", Integer).label("rank")


class PostgresTimeSeries:
    """Any PostgreSQL from version 14."""

    name = "PostgreSQL"

    def candles_between(self, symbol: str, interval: int, start: datetime, end: datetime) -> AnySelect:
        # Not from the view: PostgreSQL cannot turn bounds on its buckets into bounds on the index of
        # the minutes. A candle that opens in the range lies between these two moments as a whole.
        first, last = ceil_to_interval(start, interval), ceil_to_interval(end, interval)
        return _climb(symbol, interval, first, last)

    def edge(self, symbol: str, interval: int, *, newest: bool) -> Select[datetime | None]:
        minutes = minutes_between(symbol).with_only_columns(CANDLES.c.timestamp)
        edge = _edge(minutes, CANDLES.c.timestamp, newest)
        if interval == BASE_INTERVAL:
            return select(edge)
        opens_at = ROLLED_CANDLES.c.timestamp
        rolled = rolled_between(symbol, _from_minutes(interval)).with_only_columns(opens_at)
        # Both leave out what is not there.
        outermost = func.greatest if newest else func.least
        return select(bucket(outermost(edge, _edge(rolled, opens_at, newest)), interval))

    async def prepare_bulk_write(self, connection: AsyncConnection) -> None:
        pass

    async def refresh(
        self, database: Database, stale: Sequence[StaleRange], now: datetime
    ) -> Sequence[StaleRange]:
        for item in stale:
            await forget_rolled(database, item)
        return ()

    async def mark_stale(self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]) -> None:
        pass

    async def parts(self, connection: AsyncConnection, table: str) -> frozenset[int]:
        return frozenset()

    async def stored_time(
        self, connection: AsyncConnection, table: str, start: datetime, end: datetime
    ) -> Sequence[TimeRange]:
        return [(start, end)]

    async def created_parts(
        self, connection: AsyncConnection, table: str, before: frozenset[int]
    ) -> Sequence[TimeRange]:
        return ()

    async def aggregated(
        self, connection: AsyncConnection, ranges: Sequence[TimeRange]
    ) -> Sequence[tuple[str, TimeRange]]:
        return ()

    async def aggregated_of(
        self, connection: AsyncConnection, symbol: str, ranges: Sequence[TimeRange]
    ) -> Sequence[TimeRange]:
        return ()

    async def retention(self, connection: AsyncConnection, table: str) -> timedelta | None:
        c = RETENTION_PERIODS.c
        period: timedelta | None = await connection.scalar(select(c.kept_for).where(c.table_name == table))
        return period

    async def policies(self, connection: AsyncConnection) -> tuple[TablePolicy, ...]:
        return tuple([TablePolicy(table, await self.retention(connection, table)) for table in TABLES])

    async def set_policy(self, connection: AsyncConnection, policy: TablePolicy) -> None:
        if policy.compression is not None:
            raise ConfigurationError(
                f"{policy.table} cannot be compressed: this database is a plain PostgreSQL",
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

    async def jobs(self, connection: AsyncConnection) -> Sequence[BackgroundJob]:
        return ()

    async def droppable(
        self, connection: AsyncConnection, table: TableName, before: datetime
    ) -> Sequence[Piece]:
        return await pieces_with_rows(connection, table, before)

    async def rows(self, connection: AsyncConnection, piece: Piece) -> int:
        return await count_rows(connection, piece)

    async def drop(self, connection: AsyncConnection, piece: Piece, keep: Sequence[TimeRange] = ()) -> int:
        if piece.table == "candles":
            await store_rolled(connection, piece)
        return await delete_rows(connection, piece, keep)

    async def compressible(
        self, connection: AsyncConnection, table: TableName, before: datetime
    ) -> Sequence[Piece]:
        return ()

    async def compress(self, connection: AsyncConnection, piece: Piece) -> None:
        raise NotImplementedError("plain PostgreSQL has nothing to compress")

    async def size(self, connection: AsyncConnection, table: TableName) -> int | None:
        return None  # What is deleted makes room for new rows; the file stays as large as it is.

    async def storage(self, connection: AsyncConnection) -> Sequence[TableStorage]:
        return await postgres_storage(connection)

    async def retention_job(self, connection: AsyncConnection, table: str) -> RetentionJob | None:
        return None

    async def schedule_retention(self, connection: AsyncConnection, job_id: int, *, on: bool) -> bool:
        return False

    async def is_retention_running(self, connection: AsyncConnection, job_id: int) -> bool:
        return False


def _climb(symbol: str, interval: int, first: datetime, last: datetime) -> AnySelect:
    """Through the same levels as the views, so that a mean of means is the same on both backends."""
    if interval == BASE_INTERVAL:
        return minutes_between(symbol, first, last)
    source = INTERVAL_SOURCES[interval]
    computed = rollup(_climb(symbol, source, first, last).subquery(), interval)
    if source != BASE_INTERVAL:
        return computed
    # Not an anti-join: where the statistics of a young table are missing, that takes time by the square of
    # its rows. In order, which minutes are rolled up in anyway, a candle follows upon its stored one.
    rolled = rolled_between(symbol, interval, first, last)
    both = union_all(
        computed.add_columns(_COMPUTED).order_by("timestamp"), rolled.add_columns(_STORED)
    ).subquery()
    candles = select(*(both.c[name] for name in CANDLE_COLUMNS)).order_by(both.c.timestamp, both.c.rank)
    # SQLAlchemy 2.0 and 2.1 have different words for it.
    return candles.prefix_with(text("DISTINCT ON (timestamp)"))


def _edge(rows: Rows, moment: ColumnElement[datetime], newest: bool) -> ColumnElement[datetime | None]:
    return rows.order_by(moment.desc() if newest else moment).limit(1).scalar_subquery()


def _from_minutes(interval: int) -> int:
    """The level that an interval comes from and that comes from minutes itself."""
    while (source := INTERVAL_SOURCES[interval]) != BASE_INTERVAL:
        interval = source
    return interval

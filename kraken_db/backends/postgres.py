"""Plain PostgreSQL: the higher intervals are views, over what is rolled up and over minutes.

Retention finds old rows symbol by symbol, and deletes them a day or a week at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import (
    ColumnElement,
    Integer,
    Interval,
    Select,
    Table,
    bindparam,
    delete,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE, VARCHAR, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.base import Piece, RetentionJob, StaleRange, TableStorage
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
from kraken_db.data_types import OLD_ROWS, TABLES, TableName
from kraken_db.db.engine import Database
from kraken_db.db.multiranges import to_multirange
from kraken_db.errors import ConfigurationError
from kraken_db.intervals import (
    BASE_INTERVAL,
    INTERVAL_SOURCES,
    INTERVAL_VIEWS,
    ceil_to_interval,
    floor_to_interval,
)
from kraken_db.models import CANDLES, RETENTION_PERIODS, ROLLED_CANDLES, SYNC_STATUS, TRADES, Timestamp
from kraken_db.policies import BackgroundJob, TablePolicy
from kraken_db.ranges import TICK, TimeRange, difference

_STORED = literal_column("0", Integer).label("rank")
_COMPUTED = literal_column("1", Integer).label("rank")


class PostgresBackend:
    """Any PostgreSQL from version 14."""

    name = "PostgreSQL"
    takes_off_pending = True

    def candles_between(self, symbol: str, interval: int, start: datetime, end: datetime) -> AnySelect:
        # A candle that opens in the range lies between these two moments as a whole.
        first, last = ceil_to_interval(start, interval), ceil_to_interval(end, interval)
        if interval == BASE_INTERVAL:
            return minutes_between(symbol, first, last)
        if interval in NOT_STORED:
            return _from_minutes_or_kept(symbol, interval, first, last)
        view = candle_relation(INTERVAL_VIEWS[interval])
        return select(view).where(view.c.symbol == symbol, view.c.timestamp >= first, view.c.timestamp < last)

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
        await roll_pending(database, stale)
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
            assert piece.symbol is not None
            await lock_slice(connection, piece.symbol, piece.start)
            await keep_rolled(connection, piece)
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


def _edge(rows: Rows, moment: ColumnElement[datetime], newest: bool) -> ColumnElement[datetime | None]:
    return rows.order_by(moment.desc() if newest else moment).limit(1).scalar_subquery()


def _from_minutes(interval: int) -> int:
    """The level that an interval comes from and that comes from minutes itself."""
    while (source := INTERVAL_SOURCES[interval]) != BASE_INTERVAL:
        interval = source
    return interval


_TABLES: dict[TableName, Table] = {"trades": TRADES, "candles": CANDLES}
# What is deleted in one transaction: as many rows as a moment's work takes, and whole candles.
_LENGTHS: dict[TableName, timedelta] = {"trades": timedelta(days=1), "candles": timedelta(days=7)}
_DAY, _WEEK = 1440, 10080
_GRIDS: dict[TableName, int] = {"trades": _DAY, "candles": _WEEK}

# Rows go, and it is noted where something is gone: where everything was known, and beyond that the rows
# themselves. One statement sees one moment: minutes that were written and wait for their refresh stay.
_DROP = """
    WITH gone AS (
        DELETE FROM {table} WHERE symbol = :symbol AND {only} AND {is_free}
          AND timestamp >= :start AND timestamp < :end AND timestamp <@ :going
        RETURNING timestamp
    ), noted AS (
        INSERT INTO dropped_ranges (symbol, data_type, dropped)
        SELECT :symbol, :data_type, range_agg(part) FROM (
            SELECT unnest(covered * :going) AS part FROM data_coverage
            WHERE symbol = :symbol AND data_type = :data_type AND covered && :going AND {is_free}
            UNION ALL
            SELECT tstzrange(timestamp, timestamp + INTERVAL '{length}') FROM gone
        ) parts
        HAVING count(*) > 0
        ON CONFLICT (symbol, data_type) DO UPDATE SET dropped = dropped_ranges.dropped + excluded.dropped
    )
    SELECT count(*) FROM gone
"""
_IS_FREE = """NOT EXISTS (SELECT FROM pending_refresh p
                          WHERE p.symbol = :symbol AND p.stale && tstzrange(:start, :end))"""
_STATEMENTS: dict[TableName, str] = {
    "trades": _DROP.format(table="trades", only="true", is_free="true", length="1 microsecond"),
    "candles": _DROP.format(
        table="candles", only="interval_minutes = 1", is_free=_IS_FREE, length="1 minute"
    ),
}
_DROPS = {
    table: text(statement).bindparams(
        bindparam("symbol", type_=VARCHAR),
        bindparam("data_type", type_=VARCHAR),
        bindparam("start", type_=Timestamp),
        bindparam("end", type_=Timestamp),
        bindparam("going", type_=TSTZMULTIRANGE),
    )
    for table, statement in _STATEMENTS.items()
}
# Whatever else changes a minute leaves a note that its candles are stale; these were stored before.
_STORED_BEFORE = text("SELECT set_config('kraken_db.retention', :state, true)")


async def pieces_with_rows(connection: AsyncConnection, table: TableName, before: datetime) -> list[Piece]:
    """The days (weeks of minutes) that hold rows from before the day (UTC) of ``before``, oldest first."""
    found: list[Piece] = []
    for symbol in await connection.scalars(select(SYNC_STATUS.c.symbol).distinct()):
        found += await _pieces_of(connection, table, symbol, floor_to_interval(before, _DAY))
    return sorted(found, key=lambda piece: (piece.start, piece.symbol or ""))


async def _pieces_of(
    connection: AsyncConnection, table: TableName, symbol: str, before: datetime
) -> list[Piece]:
    rows, length = _TABLES[table], _LENGTHS[table]
    of_symbol = [rows.c.symbol == symbol]
    if rows is CANDLES:
        of_symbol.append(CANDLES.c.interval_minutes == BASE_INTERVAL)
    moment = rows.c.timestamp
    oldest = await connection.scalar(select(moment).where(*of_symbol).order_by(moment).limit(1))
    if oldest is None or oldest >= before:
        return []
    step = literal(length, Interval)
    grid = func.generate_series(
        literal(floor_to_interval(oldest, _GRIDS[table]), Timestamp),
        literal(before - TICK, Timestamp),
        step,
        type_=Timestamp,
    ).column_valued("start")
    # One look at the index for each piece, however many rows it has.
    any_row = (
        select(literal(1).label("found"))
        .where(*of_symbol, moment >= grid, moment < func.least(grid + step, literal(before, Timestamp)))
        .limit(1)
        .lateral()
    )
    starts = await connection.scalars(select(grid).join(any_row, true()).order_by(grid))
    return [Piece(table, symbol, start, min(start + length, before)) for start in starts]


async def count_rows(connection: AsyncConnection, piece: Piece) -> int:
    found = select(func.count()).select_from(_TABLES[piece.table]).where(*_inside(piece))
    return await connection.scalar(found) or 0


async def delete_rows(connection: AsyncConnection, piece: Piece, keep: Sequence[TimeRange]) -> int:
    """Delete the rows of a piece outside of ``keep``, and note what is gone; returns their number.

    Of minutes, all of the piece stays where some of it was written and waits for its refresh.
    """
    going = to_multirange(difference([(piece.start, piece.end)], keep))
    names = {"symbol": piece.symbol, "data_type": OLD_ROWS[piece.table]}
    await connection.execute(_STORED_BEFORE, {"state": "on"})
    rows = await connection.scalar(
        _DROPS[piece.table], {**names, "start": piece.start, "end": piece.end, "going": going}
    )
    await connection.execute(_STORED_BEFORE, {"state": ""})
    return rows or 0


def _inside(piece: Piece) -> list[ColumnElement[bool]]:
    rows = _TABLES[piece.table]
    c = rows.c
    inside = [c.symbol == piece.symbol, c.timestamp >= piece.start, c.timestamp < piece.end]
    return [*inside, CANDLES.c.interval_minutes == BASE_INTERVAL] if rows is CANDLES else inside

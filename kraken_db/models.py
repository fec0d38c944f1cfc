"""The tables as SQLAlchemy models: the single source of columns.

Every statement of the repositories is built from these classes, and the Alembic revisions are held
against them by ``alembic check``. Times are UTC; ranges are half-open.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Identity,
    Index,
    Integer,
    Interval,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP, TSTZMULTIRANGE, TSTZRANGE, Range
from sqlalchemy.dialects.postgresql.ranges import MultiRange
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

PRICE_PRECISION, PRICE_SCALE = 20, 10
Price = Numeric(PRICE_PRECISION, PRICE_SCALE)
"""Prices and vwap: ten digits before the point, ten after it."""
AMOUNT_PRECISION, AMOUNT_SCALE = 38, 10
Amount = Numeric(AMOUNT_PRECISION, AMOUNT_SCALE)
"""Volumes, in the base or the quote currency: 28 digits before the point, ten after it.

One minute can have more than 10**10 units of a coin. 38 digits are what decimals of Arrow and polars hold.
"""

Timestamp = TIMESTAMP(timezone=True)
SYMBOL_LENGTH = 20


class Base(DeclarativeBase):
    """Declarative base; its metadata is what ``alembic check`` compares the database with."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class TradeRow(Base):
    """One trade. ``id`` is Kraken's trade_id; trades that came without one have a negative id."""

    __tablename__ = "trades"

    timestamp: Mapped[datetime] = mapped_column(Timestamp, primary_key=True)
    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH), primary_key=True)
    # The sequence starts at the smallest bigint, so what it gives never meets an id of Kraken's.
    id: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False, server_default=text("nextval('trades_id_seq')")
    )
    price: Mapped[Decimal] = mapped_column(Price)
    volume: Mapped[Decimal] = mapped_column(Amount)
    side: Mapped[str] = mapped_column(String(4))
    order_type: Mapped[str | None] = mapped_column(String(10))
    misc: Mapped[str | None] = mapped_column(String(50))


class CandleRow(Base):
    """One candle; ``timestamp`` is its open time. An interval without trades has no row."""

    __tablename__ = "candles"

    timestamp: Mapped[datetime] = mapped_column(Timestamp, primary_key=True)
    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH), primary_key=True)
    interval_minutes: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    open: Mapped[Decimal] = mapped_column(Price)
    high: Mapped[Decimal] = mapped_column(Price)
    low: Mapped[Decimal] = mapped_column(Price)
    close: Mapped[Decimal] = mapped_column(Price)
    volume: Mapped[Decimal] = mapped_column(Amount)
    quote_volume: Mapped[Decimal | None] = mapped_column(Amount)
    trade_count: Mapped[int | None] = mapped_column(Integer)
    vwap: Mapped[Decimal | None] = mapped_column(Price)


class SyncStatusRow(Base):
    """What is stored of a symbol and data type, kept with every write, so that nobody has to count."""

    __tablename__ = "data_sync_status"

    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH), primary_key=True)
    data_type: Mapped[str] = mapped_column(String(20), primary_key=True)
    oldest_timestamp: Mapped[datetime | None] = mapped_column(Timestamp)
    newest_timestamp: Mapped[datetime | None] = mapped_column(Timestamp)
    last_sync_at: Mapped[datetime] = mapped_column(Timestamp, server_default=func.now())
    last_kraken_since: Mapped[int | None] = mapped_column(BigInteger)
    total_records: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # Of trades: Kraken has delisted the pair, and nothing is expected from this moment on.
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)


class CoverageRow(Base):
    """The ranges that are known to be complete, by the source that showed it."""

    __tablename__ = "data_coverage"

    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH), primary_key=True)
    data_type: Mapped[str] = mapped_column(String(20), primary_key=True)
    source: Mapped[str] = mapped_column(String(20), primary_key=True)
    covered: Mapped[MultiRange[datetime]] = mapped_column(TSTZMULTIRANGE)


class PendingRefreshRow(Base):
    """A range of minutes that was written and is not in the higher intervals yet.

    Committed together with the candles and removed after the refresh: a run that is killed in between
    leaves the work order behind for the next one. ``refreshed_at`` says that a refresh has been over it,
    and when: what was left are the candles that had not closed by then.
    """

    __tablename__ = "pending_refresh"

    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH), primary_key=True)
    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    stale: Mapped[Range[datetime]] = mapped_column(TSTZRANGE)
    refreshed_at: Mapped[datetime | None] = mapped_column(Timestamp)


class UnprovenRangeRow(Base):
    """Ranges of which rows were stored that no source has shown to be complete.

    The last moment of a file that may have been cut, for example, or trades without ids of a feed.
    """

    __tablename__ = "unproven_ranges"

    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH), primary_key=True)
    data_type: Mapped[str] = mapped_column(String(20), primary_key=True)
    unproven: Mapped[MultiRange[datetime]] = mapped_column(TSTZMULTIRANGE)


class DroppedRangeRow(Base):
    """Ranges whose rows were stored once and are gone.

    They are no gap. What is imported into them again is not counted again, and a candle of a higher
    interval that reaches into them is not computed again from the minutes that happen to be left. Time
    without any row needs no entry on TimescaleDB: that it has no chunk tells the same.
    """

    __tablename__ = "dropped_ranges"

    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH), primary_key=True)
    data_type: Mapped[str] = mapped_column(String(20), primary_key=True)
    dropped: Mapped[MultiRange[datetime]] = mapped_column(TSTZMULTIRANGE)


class PausedJobRow(Base):
    """A retention job of TimescaleDB that waits until everything that was written has been aggregated."""

    __tablename__ = "paused_jobs"

    job_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)


class RetentionPeriodRow(Base):
    """How long the rows of a table are kept, on plain PostgreSQL: no row means for good.

    TimescaleDB's jobs know their own periods; there this table is empty.
    """

    __tablename__ = "retention_periods"

    table_name: Mapped[str] = mapped_column(String(20), primary_key=True)
    kept_for: Mapped[timedelta] = mapped_column(Interval)


class RolledCandleRow(Base):
    """A candle of 1h to 1w as the last refresh has computed it, on plain PostgreSQL.

    It counts where no row of ``pending_refresh`` touches it. ``kept``: retention may have dropped its
    minutes; while some of them are dropped, it is not computed again. 5m, 15m and 30m are stored only then.
    """

    __tablename__ = "rolled_candles"

    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH), primary_key=True)
    interval_minutes: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    timestamp: Mapped[datetime] = mapped_column(Timestamp, primary_key=True)
    open: Mapped[Decimal] = mapped_column(Price)
    high: Mapped[Decimal] = mapped_column(Price)
    low: Mapped[Decimal] = mapped_column(Price)
    close: Mapped[Decimal] = mapped_column(Price)
    volume: Mapped[Decimal] = mapped_column(Amount)
    quote_volume: Mapped[Decimal | None] = mapped_column(Amount)
    trade_count: Mapped[int | None] = mapped_column(Integer)
    vwap: Mapped[Decimal | None] = mapped_column(Price)
    kept: Mapped[bool] = mapped_column(server_default=text("false"))


class CandleVersionRow(Base):
    """That the candles of a symbol have changed in a month (its first moment, UTC): a new random number.

    Who sees the same rows of a symbol and month sees the same candles. ``-infinity`` is every month, and the
    empty symbol every symbol: its rows name the store. Triggers write it.
    """

    __tablename__ = "candle_versions"

    symbol: Mapped[str] = mapped_column(String(SYMBOL_LENGTH), primary_key=True)
    month: Mapped[datetime] = mapped_column(Timestamp, primary_key=True)
    version: Mapped[UUID] = mapped_column(Uuid, primary_key=True)


class RunningJobRow(Base):
    """A process that downloads, records, fills gaps or looks after the store, and its last word.

    ``behind``: the symbols of it that are not up to date at the moment. Without ``ended_at`` and long without
    a word it was killed.
    """

    __tablename__ = "running_jobs"

    id: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    symbols: Mapped[list[str]] = mapped_column(ARRAY(Text))
    behind: Mapped[list[str]] = mapped_column(ARRAY(Text))
    host: Mapped[str] = mapped_column(Text)
    pid: Mapped[int] = mapped_column(Integer)
    started_at: Mapped[datetime] = mapped_column(Timestamp, server_default=func.now())
    heard_at: Mapped[datetime] = mapped_column(Timestamp, server_default=func.now())
    ended_at: Mapped[datetime | None] = mapped_column(Timestamp)
    state: Mapped[str] = mapped_column(Text)
    last_error: Mapped[str | None] = mapped_column(Text)


class FlushPositionRow(Base):
    """How far the records of one stream of a live writer are stored: the number of the last of them.

    Committed together with the rows: after a lost connection or a crash it tells what was committed.
    """

    __tablename__ = "flush_positions"

    stream: Mapped[UUID] = mapped_column(Uuid, primary_key=True)
    position: Mapped[int] = mapped_column(BigInteger)
    flushed_at: Mapped[datetime] = mapped_column(Timestamp, server_default=func.now())


Index(
    "ix_candles_symbol_interval_minutes_timestamp",
    CandleRow.symbol,
    CandleRow.interval_minutes,
    CandleRow.timestamp.desc(),
)
Index("ix_trades_symbol_timestamp", TradeRow.symbol, TradeRow.timestamp.desc())

TRADES: Table = Base.metadata.tables["trades"]
CANDLES: Table = Base.metadata.tables["candles"]
SYNC_STATUS: Table = Base.metadata.tables["data_sync_status"]
COVERAGE: Table = Base.metadata.tables["data_coverage"]
PENDING_REFRESH: Table = Base.metadata.tables["pending_refresh"]
UNPROVEN_RANGES: Table = Base.metadata.tables["unproven_ranges"]
DROPPED_RANGES: Table = Base.metadata.tables["dropped_ranges"]
PAUSED_JOBS: Table = Base.metadata.tables["paused_jobs"]
RETENTION_PERIODS: Table = Base.metadata.tables["retention_periods"]
ROLLED_CANDLES: Table = Base.metadata.tables["rolled_candles"]
CANDLE_VERSIONS: Table = Base.metadata.tables["candle_versions"]
RUNNING_JOBS: Table = Base.metadata.tables["running_jobs"]
FLUSH_POSITIONS: Table = Base.metadata.tables["flush_positions"]

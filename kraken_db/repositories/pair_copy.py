"""The rows of a symbol as they are copied from one store to another: read, counted, and summed up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Numeric,
    Table,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import BIT, TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.rollup import Rows
from kraken_db.db.copy import copy_csv_in, copy_csv_out
from kraken_db.db.driver import CompiledStatement
from kraken_db.intervals import BASE_INTERVAL
from kraken_db.models import CANDLES, TRADES
from kraken_db.ranges import TimeRange, whole_candles

# What a database or a role sets decides how times are written and read.
_PLAIN_DATES = text("SET LOCAL datestyle TO 'ISO, YMD'")
# What compresses or drops a chunk leaves none of its rows to older snapshots. This locks all chunks, too.
_HOLD_CHUNKS = text("LOCK TABLE trades, candles IN ACCESS SHARE MODE")
_LAST_ID = text("SELECT last_value FROM trades_id_seq WHERE is_called")
_ADVANCE_IDS = text(
    "SELECT setval('trades_id_seq', :last) FROM trades_id_seq WHERE last_value < :last OR NOT is_called"
).bindparams(bindparam("last", type_=BigInteger))


@dataclass(frozen=True, slots=True)
class Digest:
    """How many rows, and a sum over all their columns that no order of them changes; None without rows."""

    rows: int
    checksum: Decimal | None


def trades_of(symbol: str) -> Rows:
    c = TRADES.c
    return select(TRADES).where(c.symbol == symbol).order_by(c.timestamp)


def minutes_of(symbol: str) -> Rows:
    return _candles_of(symbol).where(CANDLES.c.interval_minutes == BASE_INTERVAL)


def other_candles_of(symbol: str) -> Rows:
    """Those of files of other intervals."""
    return _candles_of(symbol).where(CANDLES.c.interval_minutes != BASE_INTERVAL)


def _candles_of(symbol: str) -> Rows:
    return select(CANDLES).where(CANDLES.c.symbol == symbol).order_by(CANDLES.c.timestamp)


def kept_of(symbol: str, interval: int, table: Table, dropped: Sequence[TimeRange]) -> Rows:
    """The candles of an interval in ``table`` (``Backend.kept_table``) that have outlived their minutes.

    All columns of ``candles``. ``dropped``: where the minutes are gone.
    """
    c = table.c
    rows = select(*(c[column.name] for column in CANDLES.columns)).where(
        c.symbol == symbol, c.interval_minutes == interval
    )
    if "kept" in c:
        return rows.where(c.kept).order_by(c.timestamp)
    spans = whole_candles(dropped, interval)
    if not spans:
        return rows.where(literal_column("false"))
    inside = c.timestamp.bool_op("<@")(cast(bindparam(None, _as_text(spans), Text), TSTZMULTIRANGE))
    bounds: Sequence[ColumnElement[bool]] = (c.timestamp >= spans[0][0], c.timestamp < spans[-1][1])
    return rows.where(*bounds, inside).order_by(c.timestamp)


def _as_text(ranges: Sequence[TimeRange]) -> str:
    return "{" + ",".join(f"[{start.isoformat()},{end.isoformat()})" for start, end in ranges) + "}"


class PairCopyRepository:
    """Works on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def hold_chunks(self) -> None:
        """Call it before anything that takes a snapshot: no chunk goes until the transaction ends."""
        await self._connection.execute(_HOLD_CHUNKS)

    async def begin(self) -> None:
        """Call it before rows pass: they are text between two servers."""
        await self._connection.execute(_PLAIN_DATES)

    def blocks(self, rows: Rows) -> AsyncGenerator[bytes]:
        """Rows as PostgreSQL's own text, one a line."""
        return copy_csv_out(self._connection, CompiledStatement.of(rows), style="text")

    async def take(self, table: Table, columns: list[str], blocks: AsyncGenerator[bytes]) -> int:
        """Store such rows; returns how many there were."""
        return await copy_csv_in(
            self._connection, table.name, columns, blocks, style="text", schema=table.schema
        )

    async def minute_edges(self, symbol: str) -> tuple[datetime, datetime] | None:
        """The open times of the oldest and of the newest minute; None without any."""
        c = CANDLES.c
        of_symbol = (c.symbol == symbol, c.interval_minutes == BASE_INTERVAL)
        found = select(func.min(c.timestamp), func.max(c.timestamp)).where(
            *of_symbol, func.isfinite(c.timestamp)
        )
        ((oldest, newest),) = await self._connection.execute(found)
        return None if oldest is None else (oldest, newest)

    async def digest(self, rows: Rows) -> Digest:
        """Of these rows as they are now."""
        columns = rows.order_by(None).subquery("summed").c
        record = cast(func.row(*columns), Text)
        hashed = func.sha256(func.convert_to(record, literal_column("'UTF8'")))
        first = func.encode(
            func.substring(hashed, literal_column("1"), literal_column("8")), literal_column("'hex'")
        )
        bits = cast(literal_column("'x'").op("||")(first), BIT(64))
        total = func.sum(cast(cast(bits, BigInteger), Numeric))
        ((count, checksum),) = await self._connection.execute(select(func.count(), total))
        return Digest(count, checksum)

    async def last_own_id(self) -> int | None:
        """The last id that was given to a trade without one of Kraken's; None for none yet."""
        last: int | None = await self._connection.scalar(_LAST_ID)
        return last

    async def advance_own_ids(self, last: int) -> None:
        """Give no id up to this one any more."""
        await self._connection.execute(_ADVANCE_IDS, {"last": last})

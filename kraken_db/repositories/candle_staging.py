"""Candles in bulk: staged in a temporary table, checked there, merged with one statement."""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Integer,
    MetaData,
    Table,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.intervals import GRID_ORIGIN_EPOCH, interval_name
from kraken_db.models import CANDLES, Amount
from kraken_db.repositories.staging import (
    MILLISECONDS,
    MergeCounts,
    RowProblem,
    Rule,
    create_temporary,
    first_problem,
    is_nan,
    numbered,
)

_STAGED = Table(
    "staged_candles",
    MetaData(),
    Column("timestamp", BigInteger, nullable=False),
    Column("open", Amount, nullable=False),
    Column("high", Amount, nullable=False),
    Column("low", Amount, nullable=False),
    Column("close", Amount, nullable=False),
    Column("volume", Amount, nullable=False),
    Column("trades", Integer, nullable=False),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
COLUMNS = [column.name for column in _STAGED.columns]
_PRICES = (_STAGED.c.open, _STAGED.c.high, _STAGED.c.low, _STAGED.c.close)
_KEY = ["timestamp", "symbol", "interval_minutes"]
_VALUES = ["open", "high", "low", "close", "volume", "quote_volume", "trade_count", "vwap"]
_OPTIONAL = ["quote_volume", "vwap"]
_COLUMNS = ["symbol", "timestamp", "interval_minutes", *_VALUES]


class CandleStaging:
    """One batch of candles of one symbol and interval, inside the caller's transaction; never commits."""

    def __init__(self, connection: AsyncConnection, symbol: str, interval: int) -> None:
        self._connection = connection
        self._symbol = symbol
        self._interval = interval

    async def copy(self, source: AsyncIterable[bytes]) -> int:
        """Stage rows ``timestamp,open,high,low,close,volume,trades`` (seconds); returns their number.

        Numbers are rounded to ten decimals, as the table keeps them. Raises CopyRowError.
        """
        await create_temporary(self._connection, _STAGED)
        return await copy_csv_in(self._connection, _STAGED.name, COLUMNS, source)

    async def find_problem(self, now: datetime) -> RowProblem | None:
        """The first row that cannot be a closed candle of this interval, in strictly rising order."""
        previous = func.lag(_STAGED.c.timestamp).over()
        rows = numbered(_STAGED, previous=previous)
        return await first_problem(self._connection, rows, self._rules(rows.c, now))

    async def span(self) -> tuple[datetime, datetime]:
        """The open times of the first and the last staged candle; at least one must be staged."""
        first, last = func.min(_STAGED.c.timestamp), func.max(_STAGED.c.timestamp)
        found = await self._connection.execute(select(func.to_timestamp(first), func.to_timestamp(last)))
        oldest, newest = found.one()
        return oldest, newest

    async def merge(self, read: int, *, force: bool = False) -> MergeCounts:
        """Write what is new or better than what is stored.

        Of two versions of a candle the one with more trades wins; with equal counts only what is missing
        is filled in. ``force`` takes the staged one in any case. Identical rows are not written again.
        """
        dropped = await self._connection.scalar(
            select(func.count()).select_from(_STAGED).where(_STAGED.c.trades == 0)
        )
        counts = MergeCounts(read, dropped=dropped or 0)
        if await self._is_range_empty():
            # Without a conflict to look for, PostgreSQL writes a third faster. Should another program
            # have written in between, the merge below sorts it out.
            try:
                async with self._connection.begin_nested():
                    return await self._insert(counts)
            except IntegrityError:
                pass
        return await self._upsert(counts, force)

    async def _is_range_empty(self) -> bool:
        span = await self.span()
        stored = exists().where(
            CANDLES.c.symbol == self._symbol,
            CANDLES.c.interval_minutes == self._interval,
            CANDLES.c.timestamp >= span[0],
            CANDLES.c.timestamp <= span[1],
        )
        return not await self._connection.scalar(select(stored))

    def _fresh(self) -> Any:
        staged = _STAGED.c
        return select(
            literal(self._symbol).label("symbol"),
            func.to_timestamp(staged.timestamp),
            literal_column(str(int(self._interval))),
            staged.open,
            staged.high,
            staged.low,
            staged.close,
            staged.volume,
            null(),
            staged.trades,
            null(),
        ).where(staged.trades > 0)

    async def _insert(self, counts: MergeCounts) -> MergeCounts:
        result = await self._connection.execute(insert(CANDLES).from_select(_COLUMNS, self._fresh()))
        oldest, newest = await self.span()
        return replace(counts, new=result.rowcount, oldest=oldest, newest=newest)

    async def _upsert(self, counts: MergeCounts, force: bool) -> MergeCounts:
        fresh = insert(CANDLES).from_select(_COLUMNS, self._fresh())
        rule = _force if force else _prefer_more_trades
        values, condition = rule(CANDLES.c, fresh.excluded)
        statement = fresh.on_conflict_do_update(
            index_elements=_KEY, set_=values, where=condition
        ).returning(CANDLES.c.timestamp, literal_column("xmax = 0").label("is_new"))
        written = statement.cte("written")
        row = (
            await self._connection.execute(
                select(
                    func.count().filter(written.c.is_new),
                    func.count().filter(~written.c.is_new),
                    func.min(written.c.timestamp),
                    func.max(written.c.timestamp),
                )
            )
        ).one()
        return replace(counts, new=row[0], changed=row[1], oldest=row[2], newest=row[3])

    def _rules(self, row: Any, now: datetime) -> list[Rule]:
        length = self._interval * 60
        prices = [row[column.name] for column in _PRICES]
        shown = func.concat_ws(" ", *(func.trim_scale(price) for price in prices))
        at = cast(row.timestamp, Text)
        return [
            Rule(row.timestamp >= MILLISECONDS, literal("timestamp ") + at + " looks like milliseconds, expected seconds"),
            Rule(row.timestamp <= 0, literal("timestamp ") + at + " is not a Unix time in seconds"),
            Rule(
                (row.timestamp - GRID_ORIGIN_EPOCH) % length != 0,
                literal("timestamp ") + at + f" does not lie on the grid of {interval_name(self._interval)}",
            ),
            Rule(
                row.timestamp + length > int(now.timestamp()),
                literal("timestamp ") + at + " lies in the future, or its candle has not closed yet",
            ),
            Rule(row.timestamp == row.previous, literal("timestamp ") + at + " is there twice"),
            Rule(row.timestamp < row.previous, literal("timestamp ") + at + " is earlier than that of the line before"),
            Rule(or_(*(is_nan(price) for price in [*prices, row.volume])), literal("NaN is not a number")),
            Rule(or_(*(price <= 0 for price in prices)), literal("a price is not above zero: ") + shown),
            Rule(row.high < func.greatest(*prices), literal("the high is below another price: ") + shown),
            Rule(row.low > func.least(*prices), literal("the low is above another price: ") + shown),
            Rule(row.volume < 0, literal("the volume is negative: ") + cast(row.volume, Text)),
            Rule(row.trades < 0, literal("the number of trades is negative: ") + cast(row.trades, Text)),
        ]


def _force(old: Any, new: Any) -> tuple[dict[str, Any], ColumnElement[bool]]:
    values = {name: new[name] for name in _VALUES}
    return values, or_(*(old[name].is_distinct_from(new[name]) for name in _VALUES))


def _prefer_more_trades(old: Any, new: Any) -> tuple[dict[str, Any], ColumnElement[bool]]:
    better = func.coalesce(new.trade_count, -1) > func.coalesce(old.trade_count, -1)
    values = {name: case((better, new[name]), else_=old[name]) for name in _VALUES}
    for name in _OPTIONAL:
        values[name] = case((better, new[name]), else_=func.coalesce(old[name], new[name]))
    equal = old.trade_count.is_not_distinct_from(new.trade_count)
    fills_in = or_(*(and_(old[name].is_(None), new[name].is_not(None)) for name in _OPTIONAL))
    return values, or_(better, and_(equal, fills_in))

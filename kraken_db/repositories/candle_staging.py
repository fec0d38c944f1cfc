"""Candles in bulk: staged in a temporary table, checked there, merged with one statement."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    MetaData,
    Table,
    Text,
    cast,
    exists,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.db.driver import driver_errors
from kraken_db.errors import DuplicateRowError
from kraken_db.intervals import BASE_INTERVAL, GRID_ORIGIN_EPOCH, interval_length, interval_name
from kraken_db.models import CANDLES, Amount
from kraken_db.repositories.candle_comparison import CandleComparison
from kraken_db.repositories.candle_merge import (
    COLUMN_ORDER,
    prefer_more_trades,
    take_new,
    upsert,
    written_counts,
)
from kraken_db.repositories.pending_refresh import PendingRefreshRepository
from kraken_db.repositories.staging import (
    MILLISECONDS,
    MergeCounts,
    RowProblem,
    Rule,
    create_temporary,
    first_problem,
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
# A hundred times what Kraken has seen; and a week of such minutes still fits an integer.
MOST_TRADES_A_MINUTE = 200_000
# The stored and the new row to the values of the row that is written, and whether one is.
_MergeRule = Callable[[Any, Any], tuple[dict[str, Any], ColumnElement[bool]]]


@dataclass(frozen=True, slots=True)
class StagedCandles:
    """What the staged rows are, all in all."""

    first: datetime
    last: datetime
    """Open times of the first and the last row."""
    quiet: int
    """Rows without a trade: they are not stored, since a quiet interval has no candle here."""


class CandleStaging:
    """One batch of candles of one symbol and interval, inside the caller's transaction; never commits."""

    def __init__(self, connection: AsyncConnection, symbol: str, interval: int) -> None:
        self._connection = connection
        self._symbol = symbol
        self._interval = interval

    @property
    def table(self) -> FromClause:
        """Where the rows are staged, in this transaction: columns as ``copy`` has them."""
        return _STAGED

    async def copy(self, source: AsyncIterable[bytes]) -> int:
        """Stage rows ``timestamp,open,high,low,close,volume,trades`` (seconds); returns their number.

        They must rise strictly in time. Numbers are rounded to ten decimals, as the table keeps them.
        Raises CopyRowError.
        """
        await create_temporary(self._connection, _STAGED)
        return await copy_csv_in(self._connection, _STAGED.name, COLUMNS, source)

    async def inspect(self, now: datetime) -> StagedCandles | RowProblem:
        """Look at all staged rows once: are they closed candles of this interval?

        At least one row must be staged.
        """
        broken = self._is_broken(_STAGED.c, now)
        found = await self._connection.execute(
            select(
                func.count().filter(broken),
                func.count().filter(_STAGED.c.trades == 0),
                func.min(_STAGED.c.timestamp),
                func.max(_STAGED.c.timestamp),
            )
        )
        count, quiet, first, last = found.one()
        if count:
            numbered = select(_STAGED, func.row_number().over().label("line")).subquery("numbered")
            return await first_problem(self._connection, numbered, self._rules(numbered.c, now), count)
        return StagedCandles(datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC), quiet)

    async def merge(self, staged: StagedCandles, read: int, *, force: bool = False) -> MergeCounts:
        """Write what is new or better than what is stored.

        Of two versions of a candle the one with more trades wins; with equal counts only what is missing
        is filled in, and other numbers are counted as ``differing``. ``force`` takes the staged one in any
        case. Identical rows are not written again.
        """
        counts = MergeCounts(read, dropped=staged.quiet)
        if await self._is_range_empty(staged):
            # Without a conflict to look for, PostgreSQL writes a third faster. Should another program
            # have written in between, the merge below sorts it out.
            try:
                with driver_errors(self._connection):
                    async with self._connection.begin_nested():
                        return await self._insert(counts, staged)
            except DuplicateRowError:
                pass
        return await (self._overwrite(counts) if force else self._improve(counts, staged))

    async def _is_range_empty(self, staged: StagedCandles) -> bool:
        stored = exists().where(
            CANDLES.c.symbol == self._symbol,
            CANDLES.c.interval_minutes == self._interval,
            CANDLES.c.timestamp >= staged.first,
            CANDLES.c.timestamp <= staged.last,
        )
        return not await self._connection.scalar(select(stored))

    def _fresh(self, rows: FromClause = _STAGED) -> Any:
        staged = rows.c
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

    async def _insert(self, counts: MergeCounts, staged: StagedCandles) -> MergeCounts:
        new = insert(CANDLES).from_select(COLUMN_ORDER, self._fresh())
        if self._interval != BASE_INTERVAL:
            result = await self._connection.execute(new)
        else:
            end = staged.last + interval_length(BASE_INTERVAL)
            notes = PendingRefreshRepository(self._connection)
            async with notes.writing_within(self._symbol, staged.first, end):
                result = await self._connection.execute(new)
        return replace(counts, new=result.rowcount, oldest=staged.first, newest=staged.last)

    async def _overwrite(self, counts: MergeCounts) -> MergeCounts:
        written = upsert(self._fresh(), take_new)
        row = (await self._connection.execute(select(*written_counts(written)))).one()
        return replace(counts, new=row[0], changed=row[1], oldest=row[2], newest=row[3])

    async def _improve(self, counts: MergeCounts, staged: StagedCandles) -> MergeCounts:
        """One join finds the rows to write, and those to tell of.

        To an upsert that changes nothing, each row is locked, and that is written down: so it gets only
        what is new or better.
        """
        comparison = CandleComparison(_STAGED, self._symbol, self._interval, (staged.first, staged.last))
        beside = comparison.beside()
        stored = func.coalesce(beside.c.stored_trades, -1)
        written = upsert(self._fresh(beside).where(stored < beside.c.trades), prefer_more_trades)
        differing = select(func.count().filter(beside.c.differs)).scalar_subquery()
        first = select(func.min(beside.c.timestamp).filter(beside.c.differs)).scalar_subquery()
        # Right after a bulk load the statistics say that next to nothing is stored, and a planner that
        # believes them joins row by row. A hash join is about linear, whatever there is.
        await self._connection.execute(text("SET LOCAL enable_nestloop = off"))
        row = (await self._connection.execute(select(*written_counts(written), differing, first))).one()
        await self._connection.execute(text("SET LOCAL enable_nestloop TO DEFAULT"))
        counts = replace(counts, new=row[0], changed=row[1], oldest=row[2], newest=row[3])
        if not row[4]:
            return counts
        moment = datetime.fromtimestamp(row[5], UTC)
        difference = await comparison.difference(self._connection, moment)
        return replace(counts, differing=row[4], difference=difference)

    def _is_broken(self, row: Any, now: datetime) -> ColumnElement[bool]:
        """All rules in as few comparisons as there can be: this runs for every row.

        Where the low is above zero and no price is below it, every price is above zero.
        """
        length = self._interval * 60
        return or_(
            row.timestamp <= 0,
            row.timestamp > int(now.timestamp()) - length,
            row.timestamp % length != GRID_ORIGIN_EPOCH % length,
            row.low <= 0,
            row.low > func.least(row.open, row.high, row.close),
            row.high < func.greatest(row.open, row.close),
            row.volume < 0,
            row.trades < 0,
            row.trades > MOST_TRADES_A_MINUTE * self._interval,
        )

    def _rules(self, row: Any, now: datetime) -> list[Rule]:
        """The same, one by one, with what to say of the first row that breaks one."""
        length = self._interval * 60
        prices = [row.open, row.high, row.low, row.close]
        shown = func.concat_ws(" ", *(func.trim_scale(price) for price in prices))
        at = literal("timestamp ") + cast(row.timestamp, Text)
        return [
            Rule(row.timestamp >= MILLISECONDS, at + " looks like milliseconds, expected seconds"),
            Rule(row.timestamp <= 0, at + " is not a Unix time in seconds"),
            Rule(
                row.timestamp % length != GRID_ORIGIN_EPOCH % length,
                at + f" does not lie on the grid of {interval_name(self._interval)}",
            ),
            Rule(
                row.timestamp > int(now.timestamp()) - length,
                at + " lies in the future, or its candle has not closed yet",
            ),
            Rule(or_(*(price <= 0 for price in prices)), literal("a price is not above zero: ") + shown),
            Rule(row.high < func.greatest(*prices), literal("the high is below another price: ") + shown),
            Rule(row.low > func.least(*prices), literal("the low is above another price: ") + shown),
            Rule(row.volume < 0, literal("the volume is negative: ") + cast(row.volume, Text)),
            Rule(row.trades < 0, literal("the number of trades is negative: ") + cast(row.trades, Text)),
            Rule(
                row.trades > MOST_TRADES_A_MINUTE * self._interval,
                literal("the number of trades cannot be: ") + cast(row.trades, Text),
            ),
        ]

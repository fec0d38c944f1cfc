"""How candles get into their table: one staging table for all sources, and the rules by which two versions
meet.

A batch is copied into ``staged_candles`` as its source wrote it, or selected from the stored trades. One
statement joins it with what is stored and writes only what is new or better: to an upsert that changes
nothing, each row is locked and written down, and on a compressed chunk unpacked.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Executable,
    FromClause,
    Integer,
    MetaData,
    Numeric,
    Select,
    SmallInteger,
    Table,
    Text,
    TextClause,
    and_,
    bindparam,
    case,
    cast,
    delete,
    exists,
    extract,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE, Insert, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.rollup import bucket, in_order
from kraken_db.db.copy import copy_csv_in
from kraken_db.db.multiranges import lies_in, to_multirange
from kraken_db.intervals import BASE_INTERVAL, interval_length
from kraken_db.models import AMOUNT_SCALE, CANDLES, TRADES, Amount, Price, Timestamp
from kraken_db.ranges import TimeRange
from kraken_db.repositories.staging import Problem, Rule, broken, first_problem
from kraken_db.repositories.stamp_texts import EPOCH
from kraken_db.tolerances import VOLUME_NOISE
from kraken_db.types import CandleRecord

Rows: TypeAlias = Select[*tuple[Any, ...]]
MergeRule: TypeAlias = Callable[[Any, Any], tuple[dict[str, Any], ColumnElement[bool]]]
"""From the stored row and the new one to the values that are set, and to when they are."""

_KEY = ["timestamp", "symbol", "interval_minutes"]
_PRICES = ["open", "high", "low", "close"]
_NUMBERS = [*_PRICES, "volume"]
_OPTIONAL = ["quote_volume", "vwap"]
_VALUES = [*_NUMBERS, "quote_volume", "trade_count", "vwap"]
_ORDER = ["symbol", "timestamp", "interval_minutes", *_VALUES]

FILE_COLUMNS = ["timestamp", *_NUMBERS, "trades"]
"""A row of Kraken's OHLCVT files."""
_RECORD_COLUMNS = ["symbol", "interval_minutes", *FILE_COLUMNS, "vwap"]
# Kept for the connection, as ``staged_trades`` is. An empty field of COPY is a text here, never NULL: so are
# those that may be empty.
_STAGED = Table(
    "staged_candles",
    MetaData(),
    Column("symbol", Text),
    Column("interval_minutes", Integer),
    Column("timestamp", BigInteger),
    *(Column(name, Numeric) for name in _NUMBERS),
    Column("trades", BigInteger),
    Column("vwap", Text),
    Column("quote_volume", Text),
)
_TABLE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_candles (
        symbol text, interval_minutes integer, timestamp bigint, open numeric, high numeric, low numeric,
        close numeric, volume numeric, trades bigint, vwap text,
        quote_volume text, line bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000)
    ) ON COMMIT DELETE ROWS
"""
_FACTS = """
    SELECT count(*) AS rows, count(*) FILTER (WHERE {broken}) AS broken,
           count(*) FILTER (WHERE trades = 0) AS quiet, min(timestamp) AS first, max(timestamp) AS last
    FROM (SELECT s.*, CAST(NULLIF(vwap, '') AS numeric) AS mean FROM staged_candles s) staged
"""
# COPY puts short rows into what room is left on earlier pages: the order of rows is that of ``line``, which
# counts on from batch to batch.
_NUMBERED = """
    (SELECT timestamp, open, high, low, close, volume, trades, CAST(NULLIF(vwap, '') AS numeric) AS mean,
            line - (SELECT min(line) FROM staged_candles) + 1 AS line
     FROM staged_candles s)
"""


@dataclass(frozen=True, slots=True)
class CandlesWritten:
    """What was written. ``oldest`` and ``newest`` bound it, both inclusive; None if nothing was."""

    new: int = 0
    changed: int = 0
    oldest: datetime | None = None
    newest: datetime | None = None
    differing: int = 0
    """Candles that are stored with as many trades, but with other numbers: they were kept."""
    difference: Difference | None = None
    """The first of these."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One candle that is stored with as many trades as the new version has, but with other numbers."""

    timestamp: datetime
    """Its open time, UTC."""
    numbers: dict[str, tuple[Decimal, Decimal]]
    """Those that differ, by the name of their column: as stored, and new."""

    def __str__(self) -> str:
        """``2023-01-01 00:05 UTC has close 101 (new: 102), volume 2.5 (new: 2.6)``."""
        pairs = [
            f"{name} {old.normalize():f} (new: {new.normalize():f})"
            for name, (old, new) in self.numbers.items()
        ]
        return f"{self.timestamp:%Y-%m-%d %H:%M} UTC has {', '.join(pairs)}"


@dataclass(frozen=True, slots=True)
class StagedCandleFacts:
    """What the staged rows are, all in all. ``first`` and ``last``: open times, both inclusive."""

    rows: int
    quiet: int
    """Rows without a trade: they are not stored, since a quiet interval has no candle here."""
    first: datetime
    last: datetime


class StagedCandles:
    """The candles of one transaction on their way into the table; never commits."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._is_used = False

    @property
    def table(self) -> FromClause:
        """Where the rows are staged: columns as ``FILE_COLUMNS`` names them."""
        return _STAGED

    async def copy_rows(self, source: AsyncIterable[bytes], columns: list[str] = FILE_COLUMNS) -> int:
        """Stage rows of a file (seconds) as they come; returns their number. Raises CopyRowError.

        ``columns``: what the fields of a row are; ``vwap`` and ``quote_volume`` may be among them.
        """
        await self._begin()
        return await copy_csv_in(self._connection, _STAGED.name, columns, source)

    async def copy_records(self, candles: Iterable[CandleRecord]) -> None:
        """Stage candles of any symbols and intervals; what was staged before is gone."""
        await self._begin()
        await copy_csv_in(self._connection, _STAGED.name, _RECORD_COLUMNS, _lines(candles))

    async def inspect(
        self, rules: tuple[Rule, ...], values: Mapping[str, Any]
    ) -> StagedCandleFacts | Problem:
        """Look at all staged rows once: none may break a rule. At least one row must be staged."""
        found = (await self._connection.execute(_facts(rules), values)).one()
        if found.broken:
            return await first_problem(self._connection, _NUMBERED, rules, values, found.broken)
        first, last = (EPOCH + timedelta(seconds=int(seconds)) for seconds in (found.first, found.last))
        return StagedCandleFacts(found.rows, found.quiet, first, last)

    async def _begin(self) -> None:
        await self._connection.execute(text("DELETE FROM staged_candles" if self._is_used else _TABLE))
        self._is_used = True


# Statements are made once: most batches are small, and making one of them takes longer than running it.
# These are the parameters of what is about one series in one range.
SYMBOL = bindparam("symbol", type_=Text)
_INTERVAL = bindparam("interval", type_=SmallInteger)
START, END = bindparam("start", type_=Timestamp), bindparam("end", type_=Timestamp)
_STORED = (
    CANDLES.c.symbol == SYMBOL,
    CANDLES.c.interval_minutes == _INTERVAL,
    CANDLES.c.timestamp >= START,
    CANDLES.c.timestamp < END,
)


@lru_cache
def _facts(rules: tuple[Rule, ...]) -> TextClause:
    return text(_FACTS.format(broken=broken(rules)))


@lru_cache
def _merge(fresh: Rows, rule: MergeRule) -> Select[Any]:
    """One statement, one join, of which only the rows are kept that matter: of a file that is stored already,
    none."""
    differing = _differing(fresh, rule).cte("differing")
    differs, c = differing.c.differs, differing.c
    written = (
        _upsert(select(*(c[name] for name in _ORDER)).where(~differs), rule)
        .returning(CANDLES.c.timestamp, literal_column("xmax = 0").label("is_new"))
        .cte("written")
    )
    return _counts(written, differing)


def _differing(fresh: Rows, rule: MergeRule) -> Rows:
    """The rows that are new or preferred, and those that contradict a stored one (``differs``)."""
    rows = fresh.subquery("fresh")
    stored = select(CANDLES).where(*_STORED).subquery("stored")
    _, prefers = rule(stored.c, rows.c)
    is_lacking = stored.c.timestamp.is_(None)
    return (
        select(
            *(rows.c[name] for name in _ORDER),
            and_(~is_lacking, ~prefers).label("differs"),
            is_lacking.label("is_new"),
        )
        .select_from(rows.outerjoin(stored, rows.c.timestamp == stored.c.timestamp))
        .where(or_(is_lacking, prefers, _contradicts(stored.c, rows.c)))
    )


def _counts(written: FromClause, differing: FromClause) -> Select[Any]:
    """One row: what was written, and what contradicts."""
    c = differing.c
    contradicting = select(
        func.count().label("differing"), func.min(c.timestamp).label("first")
    ).where(c.differs).subquery("contradicting")  # fmt: skip
    time, is_new = written.c.timestamp, written.c.is_new
    counts = select(
        func.count().filter(is_new).label("new"),
        func.count().filter(~is_new).label("changed"),
        func.min(time).label("oldest"),
        func.max(time).label("newest"),
    ).select_from(written).subquery("counts")  # fmt: skip
    return select(counts, contradicting).select_from(counts.join(contradicting, true()))


# In steps, the rows that matter lie here in between.
_MET = Table(
    "met_candles",
    MetaData(),
    *(Column(name, CANDLES.c[name].type) for name in _ORDER),
    Column("differs", Boolean),
    Column("is_new", Boolean),
)
_MET_TABLE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS met_candles (
        LIKE candles, differs boolean, is_new boolean
    ) ON COMMIT DELETE ROWS
"""


@lru_cache
def _steps(fresh: Rows, rule: MergeRule) -> tuple[Executable, ...]:
    """``_merge``, where a statement that writes cannot be a part of another one."""
    met = insert(_MET).from_select([*_ORDER, "differs", "is_new"], _differing(fresh, rule))
    written = select(_MET).where(~_MET.c.differs)
    rows = select(*(_MET.c[name] for name in _ORDER)).where(~_MET.c.differs)
    return text(_MET_TABLE), delete(_MET), met, _upsert(rows, rule), _counts(written.subquery(), _MET)


@lru_cache
def _digest(rows: Rows) -> Rows:
    """One row: how many there are, what the numbers of files are in them, and whether they know more."""
    c = rows.subquery("rows").c
    numbers = (extract("epoch", c.timestamp), *(c[name] for name in _NUMBERS), c.trade_count)
    # As text: the hash of a record is a sum over its columns, which values that have changed places in two
    # rows leave as it is.
    return select(
        func.count(),
        func.sum(func.hashtextextended(cast(func.row(*numbers), Text), literal_column("0"))),
        func.count(func.coalesce(*(c[name] for name in _OPTIONAL))),
    )


_ALL_STORED = select(CANDLES).where(*_STORED)


class CandleMerge:
    """Writes candles of one symbol and interval inside the caller's transaction; never commits.

    One writer of a series at a time: hold the lock of the write unit. All candles open in ``[start, end)``.
    ``in_steps``: on a cluster, which takes no statement that writes inside of another one. Staged rows are
    on another node than the stored ones there: before they meet, their digests do.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        symbol: str,
        interval: int,
        start: datetime,
        end: datetime,
        *,
        in_steps: bool = False,
    ) -> None:
        self.bounds = (start, end - interval_length(interval))
        """Between which all of them open, both inclusive."""
        self._connection = connection
        self._in_steps = in_steps
        self._values = {"symbol": symbol, "interval": interval, "start": start, "end": end}

    async def is_empty(self) -> bool:
        """Whether nothing is stored in the range."""
        found = select(exists(select(literal(1)).where(*_STORED)))
        return not await self._connection.scalar(found, self._values)

    async def insert(self, fresh: Rows) -> int:
        """Write rows where nothing is stored: PostgreSQL need not look for conflicts. How many there are.

        Raises DuplicateRowError where another program has written in between.
        """
        statement = insert(CANDLES).from_select(_ORDER, fresh)
        return (await self._connection.execute(statement, self._values)).rowcount

    async def merge(
        self,
        fresh: Rows,
        rule: MergeRule,
        *,
        inside: Sequence[TimeRange] | None = None,
        is_large: bool = False,
    ) -> CandlesWritten:
        """Write the rows that are new, or that the rule prefers to the stored ones.

        ``inside``: of ``MinutesOf.inside``, the minutes that are meant. ``is_large``: right after a bulk load
        the statistics say that next to nothing is stored, and a planner that believes them joins row by row.
        A hash join is about linear, whatever there is.
        """
        values = self._values if inside is None else self._values | {"inside": to_multirange(inside)}
        if self._in_steps and fresh is STAGED and rule is prefer_more_trades and await self._are_stored():
            return CandlesWritten()
        if is_large:
            await self._connection.execute(text("SET LOCAL enable_nestloop = off"))
        *before, last = _steps(fresh, rule) if self._in_steps else (_merge(fresh, rule),)
        for statement in before:
            await self._connection.execute(statement, values)
        row = (await self._connection.execute(last, values)).one()
        if is_large:
            await self._connection.execute(text("SET LOCAL enable_nestloop TO DEFAULT"))
        difference = await self._difference(fresh, values, row.first) if row.differing else None
        return CandlesWritten(row.new, row.changed, row.oldest, row.newest, row.differing, difference)

    async def _are_stored(self) -> bool:
        """Whether the staged rows are just what is stored in the range, and know no more of it."""
        staged, stored = [
            (await self._connection.execute(_digest(rows), self._values)).one()
            for rows in (STAGED, _ALL_STORED)
        ]
        return not staged[-1] and staged[:-1] == stored[:-1]

    async def _difference(self, fresh: Rows, values: Mapping[str, Any], timestamp: datetime) -> Difference:
        """What is different in the candle of this time, which is stored."""
        rows = fresh.subquery("fresh")
        columns = [side[name] for name in _NUMBERS for side in (CANDLES.c, rows.c)]
        both = rows.join(CANDLES, rows.c.timestamp == CANDLES.c.timestamp)
        statement = select(*columns).select_from(both).where(*_STORED, CANDLES.c.timestamp == timestamp)
        row = (await self._connection.execute(statement, values)).one()
        pairs = zip(_NUMBERS, zip(row[::2], row[1::2], strict=True), strict=True)
        return Difference(timestamp, {name: pair for name, pair in pairs if pair[0] != pair[1]})


class Minutes:
    """The stored minutes of one symbol, beside its trades; never commits."""

    def __init__(self, connection: AsyncConnection, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def count(self, ranges: Sequence[TimeRange]) -> int:
        """How many are stored in some ranges."""
        if not ranges:
            return 0
        return await self._connection.scalar(select(func.count()).where(*self._within(ranges))) or 0

    async def stored(self, ranges: Sequence[TimeRange], *, made_of_trades: bool = False) -> list[datetime]:
        """The open times of those that are stored in some ranges, in order; or of those made of trades."""
        if not ranges:
            return []
        c = CANDLES.c
        found = select(c.timestamp).where(*self._within(ranges)).order_by(c.timestamp)
        if made_of_trades:
            found = found.where(c.quote_volume.is_not(None))
        return list(await self._connection.scalars(found))

    async def outgrown(self, start: datetime, end: datetime) -> list[datetime]:
        """The open times of those in ``[start, end)`` that were made of fewer trades than are stored."""
        c, t = CANDLES.c, TRADES.c
        made = (*self._within([(start, end)]), c.quote_volume.is_not(None))
        edges = select(func.min(c.timestamp), func.max(c.timestamp)).where(*made)
        first, last = (await self._connection.execute(edges)).one()
        if first is None:
            return []
        minute = bucket(t.timestamp, BASE_INTERVAL)
        counted = (
            select(minute.label("minute"), func.count().label("trades"))
            .where(
                t.symbol == self._symbol,
                t.timestamp >= first,
                t.timestamp < last + interval_length(BASE_INTERVAL),
            )
            .group_by(minute)
            .subquery("counted")
        )
        found = select(c.timestamp).join(counted, counted.c.minute == c.timestamp)
        # Right after a bulk load the statistics say that there is next to nothing.
        await self._connection.execute(text("SET LOCAL enable_nestloop = off"))
        minutes = list(await self._connection.scalars(found.where(*made, c.trade_count < counted.c.trades)))
        await self._connection.execute(text("SET LOCAL enable_nestloop TO DEFAULT"))
        return minutes

    async def without_trades(self, ranges: Sequence[TimeRange]) -> list[datetime]:
        """The open times of those in which there is no stored trade."""
        if not ranges:
            return []
        t = TRADES.c
        traded = select(bucket(t.timestamp, BASE_INTERVAL)).where(
            t.symbol == self._symbol, t.timestamp >= ranges[0][0], t.timestamp < ranges[-1][1]
        )
        c = CANDLES.c
        found = (
            select(c.timestamp).where(*self._within(ranges), c.timestamp.not_in(traded)).order_by(c.timestamp)
        )
        return list(await self._connection.scalars(found))

    async def delete(self, opens: Sequence[datetime]) -> int:
        """Delete those that open at these times; returns how many there were."""
        if not opens:
            return 0
        c = CANDLES.c
        done = await self._connection.execute(
            delete(CANDLES).where(
                c.symbol == self._symbol,
                c.interval_minutes == BASE_INTERVAL,
                c.timestamp >= min(opens),
                c.timestamp <= max(opens),
                c.timestamp.in_(opens),
            )
        )
        return done.rowcount

    def _within(self, ranges: Sequence[TimeRange]) -> list[ColumnElement[bool]]:
        c = CANDLES.c
        return [
            c.symbol == self._symbol,
            c.interval_minutes == BASE_INTERVAL,
            lies_in(c.timestamp, ranges),
        ]


def minutes_of_trades(
    symbol: str | ColumnElement[str],
    start: Any,
    end: Any,
    inside: ColumnElement[Any] | None = None,
    *,
    table: Table = TRADES,
) -> Rows:
    """The candle of every minute with trades in ``[start, end)``, or in a set of ranges inside of it.

    Columns as ``candles`` has them. All parameters may be bound parameters. ``table`` has the columns of
    ``trades``.
    """
    c = table.c
    opens_at = bucket(c.timestamp, BASE_INTERVAL)
    value = func.sum(c.price * c.volume)
    # By time and id, never by time alone: trades of one moment have an order.
    prices = in_order(c.price, c.timestamp, c.id)
    rows: Rows = select(
        type_coerce(symbol, Text).label("symbol"),
        opens_at.label("timestamp"),
        literal_column(str(BASE_INTERVAL), SmallInteger).label("interval_minutes"),
        prices[1].label("open"),
        func.max(c.price).label("high"),
        func.min(c.price).label("low"),
        prices[func.count()].label("close"),
        func.sum(c.volume).label("volume"),
        func.round(value, AMOUNT_SCALE).label("quote_volume"),
        cast(func.count(), Integer).label("trade_count"),
        cast(value / func.nullif(func.sum(c.volume), 0), Price).label("vwap"),
    )
    rows = rows.where(c.symbol == symbol, c.timestamp >= start, c.timestamp < end)
    if inside is not None:
        rows = rows.where(c.timestamp.bool_op("<@")(inside))
    return rows.group_by(opens_at)


def _staged() -> Rows:
    c = _STAGED.c
    numbers = [cast(c[name], CANDLES.c[name].type).label(name) for name in _NUMBERS]
    return select(
        SYMBOL.label("symbol"),
        func.to_timestamp(c.timestamp).label("timestamp"),
        _INTERVAL.label("interval_minutes"),
        *numbers,
        cast(func.nullif(c.quote_volume, ""), Amount).label("quote_volume"),
        cast(c.trades, Integer).label("trade_count"),
        cast(func.nullif(c.vwap, ""), Price).label("vwap"),
    ).where(
        c.trades > 0,
        or_(c.symbol.is_(None), c.symbol == SYMBOL),
        or_(c.interval_minutes.is_(None), c.interval_minutes == _INTERVAL),
    )


STAGED = _staged()
"""The staged candles of the merge's series that have trades."""


@dataclass(frozen=True, slots=True, eq=False)
class MinutesOf:
    """The minutes of the merge's range, from the trades of a table: all of it, or ``inside`` some parts."""

    whole: Rows
    inside: Rows

    @classmethod
    def table(cls, table: Table) -> MinutesOf:
        some = bindparam("inside", type_=TSTZMULTIRANGE)
        return cls(
            minutes_of_trades(SYMBOL, START, END, table=table),
            minutes_of_trades(SYMBOL, START, END, some, table=table),
        )


MINUTES = MinutesOf.table(TRADES)
"""From the stored trades."""


def take_new(old: Any, new: Any) -> tuple[dict[str, Any], ColumnElement[bool]]:
    """The new one, whatever is stored."""
    values = {name: new[name] for name in _VALUES}
    return values, or_(*(old[name].is_distinct_from(new[name]) for name in _VALUES))


def prefer_more_trades(old: Any, new: Any) -> tuple[dict[str, Any], ColumnElement[bool]]:
    """The one with more trades; with equal counts only what is missing is filled in.

    Who knows the quote volume knows the trades, their vwap and volume to the last digit; Kraken's own vwap is
    cut to the decimals of the price, and volumes of its archives have float noise. So they go together, and
    in the end it does not matter which came first.
    """
    # Written out, not bound: a cluster passes no parameters on to what is set where rows meet.
    none: ColumnElement[int] = literal_column("-1", Integer)
    better = func.coalesce(new.trade_count, none) > func.coalesce(old.trade_count, none)
    values = {name: case((better, new[name]), else_=old[name]) for name in _VALUES}
    exact = and_(old.quote_volume.is_(None), new.quote_volume.is_not(None))
    values["quote_volume"] = case(
        (better, new.quote_volume), else_=func.coalesce(old.quote_volume, new.quote_volume)
    )
    values["vwap"] = case(
        (or_(better, and_(exact, new.vwap.is_not(None))), new.vwap), else_=func.coalesce(old.vwap, new.vwap)
    )
    is_noise = and_(exact, func.abs(old.volume - new.volume) < literal_column(f"{VOLUME_NOISE:f}", Numeric))
    values["volume"] = case((or_(better, is_noise), new.volume), else_=old.volume)
    equal = old.trade_count.is_not_distinct_from(new.trade_count)
    fills_in = or_(*(and_(old[name].is_(None), new[name].is_not(None)) for name in _OPTIONAL))
    return values, or_(better, and_(equal, fills_in))


def _upsert(fresh: Rows, rule: MergeRule) -> Insert:
    statement = insert(CANDLES).from_select(_ORDER, fresh)
    values, condition = rule(CANDLES.c, statement.excluded)
    return statement.on_conflict_do_update(index_elements=_KEY, set_=values, where=condition)


def _contradicts(old: Any, new: Any) -> ColumnElement[bool]:
    """As many trades, but other numbers; what only one side knows (vwap, quote volume) is no difference."""
    return and_(old.trade_count == new.trade_count, or_(*(old[name] != new[name] for name in _NUMBERS)))


async def _lines(candles: Iterable[CandleRecord]) -> AsyncIterator[bytes]:
    """CSV in the order of ``_RECORD_COLUMNS``."""
    yield "".join(
        f"{c.symbol},{c.interval_minutes},{int(c.timestamp.timestamp())},{c.open},{c.high},{c.low},{c.close},"
        f"{c.volume},{c.trade_count},{'' if c.vwap is None else c.vwap}\n"
        for c in candles
    ).encode()

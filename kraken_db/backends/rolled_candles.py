"""``rolled_candles``, on plain PostgreSQL: the candles of 1h to 1w, and what outlives its minutes.

Candles of 1h and more are stored by every refresh. Where a row of ``pending_refresh`` touches one, what is
stored does not count; the views know that. Those of 5m to 30m are stored only before retention drops their
minutes. What retention has seen is ``kept``: while minutes of it are missing, it stays as it is.

What makes a refresh safe beside whoever writes at the same moment: each change of minutes leaves a note in
``pending_refresh``, in its own transaction. A slice first claims the notes that it can see, and only then
reads minutes: it takes off no note of a change that it may not have read. A note that a writer is just
adding to is left to the next refresh; until then the views compute its candles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeAlias

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Delete,
    FromClause,
    Integer,
    ScalarSelect,
    bindparam,
    delete,
    func,
    literal,
    literal_column,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import TSTZRANGE, VARCHAR, Insert, insert
from sqlalchemy.dialects.postgresql.ranges import Range
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends.base import OldRows, StaleRange
from kraken_db.backends.rollup import AnySelect, Rows, rollup
from kraken_db.data_types import DataType
from kraken_db.db.engine import Database
from kraken_db.db.locks import lock_job
from kraken_db.intervals import (
    BASE_INTERVAL,
    DAY,
    GRID_ORIGIN_EPOCH,
    INTERVAL_SOURCES,
    ceil_to_interval,
    floor_to_interval,
)
from kraken_db.models import CANDLES, DROPPED_RANGES, PENDING_REFRESH, ROLLED_CANDLES, Timestamp
from kraken_db.ranges import TICK, TimeRange, difference, intersection, union, whole_candles

FINEST_STORED = 60
"""The shortest interval whose candles every refresh stores; the shorter ones are not worth the time."""
FROM_MINUTES = [interval for interval, source in INTERVAL_SOURCES.items() if source == BASE_INTERVAL]
NOT_STORED = [interval for interval in FROM_MINUTES if interval < FINEST_STORED]
CANDLE_COLUMNS = [column.name for column in rollup(CANDLES, BASE_INTERVAL).selected_columns]
_KEY = ["symbol", "interval_minutes", "timestamp"]
_VALUES = [name for name in CANDLE_COLUMNS if name not in _KEY]


Moment: TypeAlias = datetime | BindParameter[datetime]


def minutes_between(
    symbol: str | BindParameter[str], start: Moment | None = None, end: Moment | None = None
) -> Rows:
    c = CANDLES.c
    rows = select(CANDLES).where(c.symbol == symbol, c.interval_minutes == BASE_INTERVAL)
    return _bounded(rows, c.timestamp, start, end)


def rolled_between(
    symbol: str | BindParameter[str],
    interval: int,
    start: Moment | None = None,
    end: Moment | None = None,
) -> Rows:
    """All columns of ``candles``, in the order that ``rollup`` has, whether they still count or not."""
    c = ROLLED_CANDLES.c
    columns = (c[name] for name in CANDLE_COLUMNS)
    rows = select(*columns).where(c.symbol == symbol, c.interval_minutes == interval)
    return _bounded(rows, c.timestamp, start, end)


def _bounded(rows: Rows, moment: ColumnElement[datetime], start: Moment | None, end: Moment | None) -> Rows:
    if start is not None:
        rows = rows.where(moment >= start)
    return rows if end is None else rows.where(moment < end)


def is_standing(symbol: str | BindParameter[str], candle: FromClause = ROLLED_CANDLES) -> ColumnElement[bool]:
    """Whether a rolled candle stays as it is: it was kept, and some of its minutes are still missing."""
    c = candle.c
    span = func.tstzrange(c.timestamp, closes_at(c.timestamp, c.interval_minutes))
    return c.kept & _dropped_of(symbol).bool_op("&&")(span).is_(true())


def _dropped_of(symbol: str | BindParameter[str]) -> ScalarSelect[Any]:
    d = DROPPED_RANGES.c
    return select(d.dropped).where(d.symbol == symbol, d.data_type == DataType.CANDLES_1M).scalar_subquery()


def closes_at(opens_at: ColumnElement[Any], minutes: ColumnElement[int]) -> ColumnElement[datetime]:
    """When a candle of so many minutes ends.

    By seconds: what is added to a time follows the session's zone, so a cluster refuses it where rows change.
    """
    since: ColumnElement[Any] = func.date_part("epoch", opens_at - literal_column("to_timestamp(0)"))
    return func.to_timestamp(since + minutes * literal_column("60"), type_=Timestamp)


def write_rolled(
    symbol: str | BindParameter[str],
    interval: int,
    candles: AnySelect,
    start: Moment,
    end: Moment,
    *,
    kept: bool,
) -> Insert:
    """Store candles of a symbol that open in ``[start, end)``, but not in the place of those that stand."""
    fresh, old = candles.subquery("fresh"), ROLLED_CANDLES.alias("old")
    # Only kept ones are joined: where nothing was dropped, which is the rule, there are none. By themselves
    # the fresh ones would bound neither their interval nor their time: it would be a scan of all years.
    standing: Rows = select(literal_column("1")).where(
        _dropped_of(symbol).is_not(None),
        old.c.symbol == symbol,
        old.c.interval_minutes == literal_column(str(interval)),
        old.c.timestamp == fresh.c.timestamp,
        is_standing(symbol, old),
    )
    stands = _bounded(standing, old.c.timestamp, start, end).exists()
    rows = select(*(fresh.c[name] for name in CANDLE_COLUMNS), literal_column(str(kept))).where(~stands)
    new = insert(ROLLED_CANDLES).from_select([*CANDLE_COLUMNS, "kept"], rows)
    values = [*_VALUES, "kept"]
    differs = func.row(*(ROLLED_CANDLES.c[name] for name in values)).is_distinct_from(
        func.row(*(new.excluded[name] for name in values))
    )
    return new.on_conflict_do_update(
        index_elements=_KEY, set_={name: new.excluded[name] for name in values}, where=differs
    )


async def keep_rolled(connection: AsyncConnection, old: OldRows) -> None:
    """Store the candles of minutes before these go: whole days, so that no candle is cut.

    Nothing of them may wait for its refresh, and none may be running: then 1h and more are stored.
    """
    assert old.symbol is not None
    for interval in NOT_STORED:
        minutes = minutes_between(old.symbol, old.start, old.end)
        candles = rollup(minutes.subquery(), interval)
        await connection.execute(write_rolled(old.symbol, interval, candles, old.start, old.end, kept=True))
    c = ROLLED_CANDLES.c
    inside = (c.timestamp >= old.start, c.timestamp < old.end, ~c.kept)
    hours = (c.symbol == old.symbol, c.interval_minutes == FINEST_STORED)
    await connection.execute(update(ROLLED_CANDLES).where(*hours, *inside).values(kept=true()))


# Whole weeks, so that no candle lies in two slices: they can be rolled side by side.
SLICE = timedelta(weeks=12)
_WORKERS = 2
_GRID_ORIGIN = datetime.fromtimestamp(GRID_ORIGIN_EPOCH, UTC)
_Note = tuple[int, datetime, datetime]


async def roll_pending(database: Database, stale: Sequence[StaleRange]) -> None:
    """Roll up these ranges, whether there are notes of them or not, and take their notes off.

    Slice by slice, each in a transaction of its own: may be killed and repeated at any moment.
    """
    spans: dict[str, list[TimeRange]] = {}
    for item in stale:
        spans.setdefault(item.symbol, []).append((item.start, item.end))
    async with database.begin() as connection:
        slices = {symbol: await _note_slices(connection, symbol, spans[symbol]) for symbol in sorted(spans)}
    waiting = ((symbol, piece) for symbol in slices for piece in slices[symbol])

    async def work() -> None:
        for symbol, piece in waiting:
            async with database.begin() as connection:
                await _roll_slice(connection, symbol, piece)

    # The server has more than one core.
    done = await asyncio.gather(*(work() for _ in range(_WORKERS)), return_exceptions=True)
    for failure in done:
        if failure is not None:
            raise failure


async def lock_slice(connection: AsyncConnection, symbol: str, moment: datetime) -> None:
    """Have the slice around a moment alone, until the transaction ends."""
    await lock_job(connection, "roll", of=f"{symbol} {_slice_start(moment).isoformat()}")


def _slice_start(moment: datetime) -> datetime:
    moment = moment.astimezone(UTC)
    return moment - (moment - _GRID_ORIGIN) % SLICE


def _slices(spans: Iterable[TimeRange]) -> Iterator[TimeRange]:
    """The slices that the spans touch, in order of time."""
    last: datetime | None = None
    for start, end in union(spans):
        at = _slice_start(start)
        while at < end:
            if last is None or at > last:
                yield at, at + SLICE
                last = at
            at += SLICE


async def _note_slices(
    connection: AsyncConnection, symbol: str, spans: Sequence[TimeRange]
) -> list[TimeRange]:
    """Cut the notes at the borders of slices, so that each has its own, and add those that are lacking.

    Returns the slices to roll: those that any candle is stored in. One minute of a wrong year makes all the
    years up to it stale.
    """
    c = PENDING_REFRESH.c
    there = await connection.execute(
        select(func.lower(c.stale), func.upper(c.stale)).where(c.symbol == symbol)
    )
    lacking = difference(spans, [(start, end) for start, end in there])
    start, end = min(start for start, _ in spans), max(end for _, end in spans)
    claimed = await _claim(connection, symbol, start, end)
    # Only now: all that the claimed notes speak of can be seen.
    wanted = union(spans, ((first, last) for _, first, last in claimed))
    stored = await _stored_slices(connection, symbol, wanted[0][0], wanted[-1][1])
    parts = {note: intersection([note[1:]], stored) for note in claimed}
    cut = [note for note in claimed if parts[note] != [note[1:]] or _slice_start(note[1]) + SLICE < note[2]]
    fresh = [*intersection(lacking, stored), *(part for note in cut for part in parts[note])]
    await _replace(connection, symbol, cut, fresh)
    return [piece for piece in _slices(spans) if piece in stored]


_FIRST_OF = """(SELECT t.timestamp FROM {table} t WHERE t.symbol = :symbol AND t.interval_minutes = {interval}
                 AND t.timestamp >= f.behind AND t.timestamp < :end ORDER BY t.timestamp LIMIT 1)"""
_FIRSTS = [
    _FIRST_OF.format(table="candles", interval=BASE_INTERVAL),
    *(_FIRST_OF.format(table="rolled_candles", interval=interval) for interval in INTERVAL_SOURCES),
]
# From slice to slice by the index, whatever time lies between them.
_STORED_SLICES = """
    WITH RECURSIVE found(start, behind) AS (
        SELECT CAST(NULL AS timestamptz), CAST(:start AS timestamptz)
        UNION ALL
        SELECT next.start, next.start + INTERVAL '{days} days'
        FROM found f
        CROSS JOIN LATERAL (
            SELECT date_bin(INTERVAL '{days} days', least({firsts}), to_timestamp({origin})) AS start
        ) next
        WHERE next.start IS NOT NULL
    )
    SELECT start FROM found WHERE start IS NOT NULL ORDER BY start
"""
_FIND_STORED_SLICES = text(
    _STORED_SLICES.format(days=SLICE.days, firsts=", ".join(_FIRSTS), origin=GRID_ORIGIN_EPOCH)
).bindparams(bindparam("symbol", type_=VARCHAR), bindparam("end", type_=Timestamp))


async def _stored_slices(
    connection: AsyncConnection, symbol: str, start: datetime, end: datetime
) -> list[TimeRange]:
    """The slices from that of ``start`` to that of ``end`` in which any candle is stored."""
    last = list(_slices([(end - TICK, end)]))[-1][1]
    wanted = {"symbol": symbol, "start": _slice_start(start), "end": last}
    return [(first, first + SLICE) for first in await connection.scalars(_FIND_STORED_SLICES, wanted)]


async def _claim(connection: AsyncConnection, symbol: str, start: datetime, end: datetime) -> list[_Note]:
    """The notes that touch a range, but for those that somebody is at work on; nobody else gets them now."""
    c = PENDING_REFRESH.c
    touched = bindparam("touched", Range(start, end), TSTZRANGE)
    rows = await connection.execute(
        select(c.id, func.lower(c.stale), func.upper(c.stale))
        .where(c.symbol == symbol, c.stale.op("&&")(touched))
        .with_for_update(skip_locked=True)
    )
    return [(number, first, last) for number, first, last in rows]


async def _replace(
    connection: AsyncConnection, symbol: str, notes: Sequence[_Note], spans: Iterable[TimeRange]
) -> None:
    """Notes of these spans, one in each slice, in the place of others."""
    if notes:
        numbers = [number for number, _, _ in notes]
        c = PENDING_REFRESH.c
        await connection.execute(delete(PENDING_REFRESH).where(c.symbol == symbol, c.id.in_(numbers)))
    parts = [part for piece in _slices(spans) for part in intersection(spans, [piece])]
    if parts:
        new = [{"symbol": symbol, "stale": Range(start, end)} for start, end in parts]
        await connection.execute(insert(PENDING_REFRESH), new)


async def _roll_slice(connection: AsyncConnection, symbol: str, piece: TimeRange) -> None:
    await connection.execute(text("SET LOCAL work_mem = '64MB'"))
    await lock_slice(connection, symbol, piece[0])
    notes = await _claim(connection, symbol, *piece)
    spans = union((start, end) for _, start, end in notes)
    # Whole days: a download of a pair that is quiet at times leaves hundreds of notes near each other.
    for start, end in intersection(whole_candles(spans, DAY), [piece]):
        await _roll(connection, symbol, start, end)
    await _replace(connection, symbol, notes, difference(spans, [piece]))


async def _roll(connection: AsyncConnection, symbol: str, start: datetime, end: datetime) -> None:
    """Store all candles of 1h and more that a range touches as they are now."""
    first = floor_to_interval(start, max(NOT_STORED))
    await connection.execute(_forgets_kept(), {_SYMBOL.key: symbol, _FIRST.key: first, _LAST.key: end})
    for interval in INTERVAL_SOURCES:
        if interval in NOT_STORED:
            continue
        first, last = floor_to_interval(start, interval), ceil_to_interval(end, interval)
        for statement in (_forgets_empty(interval), _rolls(interval)):
            await connection.execute(statement, {_SYMBOL.key: symbol, _FIRST.key: first, _LAST.key: last})


# The statements are made once: a recording of all pairs rolls up a thousand of them every minute, and to put
# them together takes longer than to run them.
_SYMBOL = bindparam("of_symbol", type_=VARCHAR)
_FIRST, _LAST = bindparam("first", type_=Timestamp), bindparam("last", type_=Timestamp)


@cache
def _rolls(interval: int) -> Insert:
    """Store the candles from ``first`` to ``last``, whole ones."""
    if interval == FINEST_STORED:
        parts = minutes_between(_SYMBOL, _FIRST, _LAST)
    else:
        parts = rolled_between(_SYMBOL, INTERVAL_SOURCES[interval], _FIRST, _LAST)
    candles = rollup(parts.subquery(), interval)
    return write_rolled(_SYMBOL, interval, candles, _FIRST, _LAST, kept=False)


@cache
def _forgets_kept() -> Delete:
    """What was kept of 5m to 30m and has its minutes back: they speak for themselves."""
    c = ROLLED_CANDLES.c
    return delete(ROLLED_CANDLES).where(
        c.symbol == _SYMBOL,
        c.interval_minutes.in_(NOT_STORED),
        c.timestamp >= _FIRST,
        c.timestamp < _LAST,
        ~is_standing(_SYMBOL),
    )


@cache
def _forgets_empty(interval: int) -> Delete:
    """Delete the candles of which nothing is left."""
    c = ROLLED_CANDLES.c
    source = INTERVAL_SOURCES[interval]
    parts = (CANDLES if source == BASE_INTERVAL else ROLLED_CANDLES).alias("part")
    # As a value: as a join, it would be a matter of statistics how it is done.
    any_part = (
        select(literal(True))
        .where(
            parts.c.symbol == _SYMBOL,
            parts.c.interval_minutes == source,
            parts.c.timestamp >= c.timestamp,
            parts.c.timestamp < closes_at(c.timestamp, literal_column(str(interval), Integer)),
        )
        .limit(1)
        .scalar_subquery()
        .correlate(ROLLED_CANDLES)
    )
    return delete(ROLLED_CANDLES).where(
        c.symbol == _SYMBOL,
        c.interval_minutes == interval,
        c.timestamp >= _FIRST,
        c.timestamp < _LAST,
        any_part.is_(None),
        ~is_standing(_SYMBOL),
    )

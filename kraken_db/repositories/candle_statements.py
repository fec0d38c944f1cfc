"""Statements that read candles of any interval.

They are made once for each kind of interval and not once for each call: to put one together and to render it
takes longer than the database needs for a short list.

A stored interval is read as it is. Any other one is a rollup of a stored one: by ``date_bin`` where all its
candles have one length; else the open times are sent along, and a row belongs to the last one that is not
after it. So no database has to know time zones, and the bounds of a range are bounds of the stored rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Select,
    bindparam,
    func,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.sql.elements import Grouping

from kraken_db.backends import Backend
from kraken_db.backends.rollup import rollup_at
from kraken_db.db.driver import CompiledStatement
from kraken_db.intervals import Interval
from kraken_db.models import CANDLES, Timestamp
from kraken_db.repositories.candle_files import CandleSource
from kraken_db.repositories.text_layouts import (
    checksum,
    epoch_microseconds,
    epoch_seconds,
    kraken_price,
    kraken_volume,
)

Layout: TypeAlias = Literal["values", "frame", "file", "kraken"]
"""Which columns are read: see ``select_candles``."""

_Origin: TypeAlias = Literal["computed", "file", "both"]
"""Where the candles of a range come from: see ``candle_files``."""

# What stands in a statement until it is used. Mondays: candles of every stored interval open there.
_SYMBOL, _LIMIT = "\0symbol", 2**61 + 1
_START, _END = datetime(1970, 1, 5, tzinfo=UTC), datetime(9998, 12, 28, tzinfo=UTC)
_BORDER, _FROM = datetime(1970, 1, 12, tzinfo=UTC), datetime(1970, 1, 19, tzinfo=UTC)
_OPENS = (datetime(1970, 1, 26, tzinfo=UTC),)


@dataclass(frozen=True, slots=True)
class WantedCandles:
    """The candles of a symbol that open in ``[start, end)``, and where they come from."""

    symbol: str
    interval: Interval
    source: CandleSource
    start: datetime
    end: datetime

    @property
    def first(self) -> datetime:
        """To begin between two candles is to begin with the next one, for every kind of database."""
        return self.interval.next_open(self.start)

    @property
    def last(self) -> datetime:
        """When the candle opens that is not read any more."""
        return self.interval.next_open(self.end)

    @property
    def opens(self) -> tuple[datetime, ...]:
        """What rows are sorted by: when candles open; of those of a part of a day, when the days begin."""
        interval, first = self.interval, self.first
        if interval.grid is not None:
            return ()
        if interval.unit == "minute":
            return tuple(interval.day.opens(interval.day.opened_at(first), self.last))
        return tuple(interval.opens(first, self.last))


def select_candles(
    backend: Backend,
    wanted: WantedCandles,
    *,
    limit: int | None = None,
    newest_first: bool = False,
    layout: Layout = "values",
) -> CompiledStatement:
    """These candles in order; with ``limit`` the first so many of them.

    ``values``: timestamp, open, high, low, close, volume, trade_count, vwap, as Python has them. ``frame``:
    the same for a data frame, its time in microseconds since 1970. ``file``: and quote_volume. ``kraken``: a
    row of Kraken's archive, as text.
    """
    statement = _candles(backend, _form(wanted), newest_first, layout, _origin(wanted))
    return statement.replacing({**_values(wanted), _LIMIT: limit})


def select_checksum(backend: Backend, wanted: WantedCandles) -> CompiledStatement:
    """One row about these candles: see ``text_layouts.checksum``."""
    return _checksum(backend, _form(wanted), _origin(wanted)).replacing(_values(wanted))


@dataclass(frozen=True, slots=True)
class _Form:
    """What the text of a statement depends on: the stored interval, and what candles are made of it."""

    level: int
    length: timedelta | None = None
    """Of all candles that do not end before it, with their day."""
    has_opens: bool = False

    @property
    def is_rollup(self) -> bool:
        return self.length is not None or self.has_opens


def _form(wanted: WantedCandles) -> _Form:
    interval, level = wanted.interval, wanted.source.level
    if interval.stored is not None:
        return _Form(level)
    if interval.grid is not None:
        return _Form(level, interval.grid[0])
    return _Form(level, interval.longest if interval.unit == "minute" else None, has_opens=True)


def _origin(wanted: WantedCandles) -> _Origin:
    file = wanted.source.file
    if file is None or (wanted.first >= file.end and not file.is_all):
        return "computed"
    return "file" if file.is_all or wanted.last <= file.end else "both"


def _values(wanted: WantedCandles) -> dict[object, Any]:
    file, grid = wanted.source.file, wanted.interval.grid
    return {
        _SYMBOL: wanted.symbol,
        _START: wanted.first,
        _END: wanted.last,
        _BORDER: file and file.end,
        _FROM: grid and grid[1],
        _OPENS: wanted.opens,
    }


def _columns(c: Any, layout: Layout) -> Sequence[ColumnElement[Any]]:
    trades = func.coalesce(c.trade_count, 0)
    if layout == "kraken":
        prices = (kraken_price(price) for price in (c.open, c.high, c.low, c.close))
        return (epoch_seconds(c.timestamp), *prices, kraken_volume(c.volume), trades)
    moment = c.timestamp if layout == "values" else epoch_microseconds(c.timestamp)
    columns = (moment, c.open, c.high, c.low, c.close, c.volume, trades, c.vwap)
    return (*columns, c.quote_volume) if layout == "file" else columns


@lru_cache(maxsize=256)
def _candles(
    backend: Backend, form: _Form, newest_first: bool, layout: Layout, origin: _Origin
) -> CompiledStatement:
    c = _source(backend, form, origin).c
    order = c.timestamp.desc() if newest_first else c.timestamp
    return _compiled(select(*_columns(c, layout)).order_by(order).limit(_LIMIT))


@lru_cache(maxsize=64)
def _checksum(backend: Backend, form: _Form, origin: _Origin) -> CompiledStatement:
    c = _source(backend, form, origin).c
    return _compiled(checksum(c.timestamp, _columns(c, "file")))


def _source(backend: Backend, form: _Form, origin: _Origin) -> FromClause:
    stored = _stored(backend, form.level, origin)
    if not form.is_rollup:
        return stored
    # As a column: with values in it, GROUP BY would not see that it is the expression of the select list.
    parts = select(stored, _opens_at(stored.c.timestamp, form).label("opens_at")).subquery("parts")
    return rollup_at(parts, parts.c.opens_at, form.level).subquery("rolled")


def _opens_at(moment: ColumnElement[Any], form: _Form) -> ColumnElement[Any]:
    begin: ColumnElement[Any] = bindparam(None, _FROM, Timestamp)
    if form.has_opens:
        opens: ColumnElement[Any] = bindparam(None, _OPENS, ARRAY(Timestamp))
        begin = Grouping(opens)[func.width_bucket(moment, opens)]
    if form.length is None:
        return begin
    length: ColumnElement[Any] = literal_column(f"INTERVAL '{form.length // timedelta(minutes=1)} minutes'")
    return func.date_bin(length, moment, begin, type_=Timestamp)


def _stored(backend: Backend, level: int, origin: _Origin) -> FromClause:
    if origin == "computed":
        return backend.candles_between(_SYMBOL, level, _START, _END).subquery("c")
    if origin == "file":
        return _rows_of_file(level, _START, _END).subquery("c")
    computed = backend.candles_between(_SYMBOL, level, _BORDER, _END).subquery()
    columns = [computed.c[column.name] for column in CANDLES.c]
    return union_all(_rows_of_file(level, _START, _BORDER), select(*columns)).subquery("c")


def _rows_of_file(interval: int, start: datetime, end: datetime) -> Select[*tuple[Any, ...]]:
    c = CANDLES.c
    return select(CANDLES).where(
        c.symbol == _SYMBOL, c.interval_minutes == interval, c.timestamp >= start, c.timestamp < end
    )


def _compiled(statement: Select[*tuple[Any, ...]]) -> CompiledStatement:
    compiled = CompiledStatement.of(statement)
    for value in compiled.values:
        # One that was computed from a marker would stay as it is for every caller.
        assert value in (_START, _END, _BORDER, _FROM) or not isinstance(value, datetime), value
    return compiled

"""Which state of a symbol's candles a snapshot sees: what vouches for copies of them.

Two snapshots that see the same state of a stretch of time see the same candles there. Triggers renew the
versions in ``candle_versions`` in the transaction of whoever writes; what no trigger sees, the backend tells.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import VARCHAR
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.backends import Backend
from kraken_db.db.driver import CompiledStatement, fetch
from kraken_db.intervals import Interval
from kraken_db.models import Timestamp
from kraken_db.ranges import TICK
from kraken_db.repositories.candle_files import CandleSource, candle_source

# One statement, and so one snapshot. The symbol is bound in each part: a cluster asks one node for each.
_OF_ALL = """
    SELECT 'all' AS kind, CAST(version AS text) AS name, '' AS detail, month AS "from",
           CAST(NULL AS timestamptz) AS "to"
    FROM candle_versions WHERE symbol = '' AND month = '-infinity'
"""
# On a cluster what is of all symbols would be on another node than this one.
_OF_ALL_SYMBOLS_HERE = """
    SELECT 'all' AS kind, candle_store() AS name, '' AS detail, CAST('-infinity' AS timestamptz) AS "from",
           CAST(NULL AS timestamptz) AS "to"
"""
_STATE = """
    UNION ALL
    SELECT 'symbol', CAST(version AS text), '', NULL, NULL
    FROM candle_versions WHERE symbol = :symbol AND month = '-infinity'
    UNION ALL
    SELECT 'month', CAST(version AS text), '', month, NULL
    FROM candle_versions WHERE symbol = :symbol AND month >= :first AND month < :last
    UNION ALL
    SELECT 'stored', CAST(data_type AS text), '', oldest_timestamp, newest_timestamp
    FROM data_sync_status WHERE symbol = :symbol AND data_type LIKE 'candles%'
"""
_SYMBOL = "\0symbol"
_FIRST, _LAST = datetime(1970, 1, 5, tzinfo=UTC), datetime(9998, 12, 28, tzinfo=UTC)
_VOUCHES = CompiledStatement(
    "SELECT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass('candles')"
    " AND tgname LIKE 'renew%' AND tgenabled <> 'D')"
    " AND NOT EXISTS (SELECT 1 FROM pg_subscription_rel WHERE srrelid = to_regclass('candles'))",
    (),
)


@dataclass(frozen=True, slots=True)
class Part:
    """See ``Backend.unversioned_parts``. Both times are those of a border."""

    name: str
    detail: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class CandleState:
    """What a snapshot sees of a symbol's candles of an interval, in a stretch of whole months."""

    symbol: str
    interval: Interval
    source: CandleSource
    store: tuple[str, ...]
    """The versions that hold for all symbols. They name the store, too."""
    of_symbol: tuple[str, ...]
    of_months: Mapping[datetime, tuple[str, ...]]
    parts: Sequence[Part]
    borders: Sequence[Part]

    def stamp(self, start: datetime, end: datetime) -> str:
        """A name of the state of the candles of ``[start, end)``, with all that they are computed from.

        No other state of this or of any other store has the same.
        """
        parts = sorted(part.name for part in self.parts if part.start < end and start < part.end)
        borders = sorted((part.name, min(max(part.start, start), end)) for part in self.borders)
        months = [self.of_months.get(month, ()) for month in months_of(start, end)]
        what = (self.symbol, str(self.interval), start, end, self._source_in(start, end))
        state = repr((what, self.store, self.of_symbol, months, parts, borders))
        return hashlib.blake2b(state.encode(), digest_size=16).hexdigest()

    @property
    def of_store(self) -> str:
        """A short name of the store."""
        return hashlib.blake2b(repr(self.store).encode(), digest_size=4).hexdigest()

    @property
    def layout(self) -> object:
        """What no snapshot guards: rows that are truncated, dropped or packed vanish from older ones."""
        parts = sorted((part.name, part.detail) for part in self.parts)
        return self.store, self.of_symbol, parts, sorted((part.name, part.start) for part in self.borders)

    def _source_in(self, start: datetime, end: datetime) -> object:
        # All that opens before the end of a file is taken from the rows of the file.
        file = self.source.file
        if file is None or (start >= file.end and not file.is_all):
            return self.source.level
        return self.source.level, file.is_all or min(file.end, end)


class CandleVersionRepository:
    """Reads states on the caller's connection; never commits."""

    def __init__(self, connection: AsyncConnection, backend: Backend) -> None:
        self._connection = connection
        self._backend = backend

    async def state(self, symbol: str, interval: Interval, start: datetime, end: datetime) -> CandleState:
        """Of the candles that open, and lie, in the months of ``[start, end)``, by one statement."""
        level = interval.level if interval.stored is None else interval.stored
        values = {_SYMBOL: symbol, _FIRST: month_of(start), _LAST: next_month(month_of(end - TICK))}
        rows = await fetch(self._connection, _statement(self._backend, level).replacing(values))
        of_months: dict[datetime, list[str]] = {}
        for _, name, _, month, _ in _of_kind(rows, "month"):
            of_months.setdefault(month, []).append(name)
        counters = {name: (oldest, newest) for _, name, _, oldest, newest in _of_kind(rows, "stored")}
        return CandleState(
            symbol,
            interval,
            candle_source(interval, counters),
            tuple(sorted(row[1] for row in _of_kind(rows, "all"))),
            tuple(sorted(row[1] for row in _of_kind(rows, "symbol"))),
            {month: tuple(sorted(names)) for month, names in of_months.items()},
            [Part(*row[1:]) for row in _of_kind(rows, "part")],
            [Part(name, detail, at, at) for _, name, detail, at, _ in _of_kind(rows, "border")],
        )

    async def are_renewed(self) -> bool:
        """Whether versions are renewed at all.

        They are not where there are no triggers, nor by rows that come by logical replication.
        """
        ((are_renewed,),) = await fetch(self._connection, _VOUCHES)
        return bool(are_renewed)


def _of_kind(rows: Iterable[Sequence[Any]], kind: str) -> list[Sequence[Any]]:
    return [row for row in rows if row[0] == kind]


@lru_cache(maxsize=64)
def _statement(backend: Backend, level: int) -> CompiledStatement:
    """For candles that are read from, or computed from, those of a stored interval."""
    unversioned = backend.unversioned_parts(level)
    statement = (_OF_ALL if backend.shards is None else _OF_ALL_SYMBOLS_HERE) + _STATE
    if unversioned is not None:
        statement += f" UNION ALL {unversioned}"
    return CompiledStatement.of(
        text(statement).bindparams(
            bindparam("symbol", _SYMBOL, VARCHAR),
            bindparam("first", _FIRST, Timestamp),
            bindparam("last", _LAST, Timestamp),
        )
    )


def month_of(moment: datetime) -> datetime:
    """When the month begins, in UTC."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def months_of(start: datetime, end: datetime) -> list[datetime]:
    """When the months begin (UTC) that ``[start, end)`` touches; that of ``start`` at least."""
    months = [month_of(start)]
    while (following := next_month(months[-1])) < end:
        months.append(following)
    return months


def next_month(month: datetime) -> datetime:
    """When the month after the one that begins at ``month`` begins."""
    years, number = divmod(month.month, 12)
    return month.replace(year=month.year + years, month=number + 1)

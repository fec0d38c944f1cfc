"""Stored rows compared where they are: only what is wrong leaves the server.

What the ids and the times of trades say, and candles beside what they should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import (
    ARRAY,
    CTE,
    ColumnElement,
    FromClause,
    and_,
    bindparam,
    case,
    false,
    func,
    literal,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from kraken_db.backends import Backend
from kraken_db.backends.rollup import rollup
from kraken_db.db.multiranges import lies_in, to_multirange
from kraken_db.id_runs import IdRun
from kraken_db.intervals import BASE_INTERVAL, INTERVAL_SOURCES
from kraken_db.models import TRADES, Timestamp
from kraken_db.ranges import TimeRange
from kraken_db.repositories.candle_merge import minutes_of_trades
from kraken_db.repositories.staging import Rule, broken, reasons
from kraken_db.tolerances import LAST_DIGIT, VOLUME_NOISE

# Within a run of ids without a hole, the id less its rank is always the same.
_RUNS = text("""
    SELECT is_real, count(*) AS trades, min(id) AS first, max(id) AS last,
           min(timestamp) AS oldest, max(timestamp) AS newest,
           count(*) - (max(id) - min(id) + 1) AS doubled, count(*) FILTER (WHERE is_backwards) AS backwards
    FROM (
        SELECT id, timestamp, id > 0 AS is_real,
               CASE WHEN id > 0 THEN id - dense_rank() OVER w END AS run,
               id > 0 AND id - 1 = lag(id) OVER v
               AND timestamp < lag(timestamp) OVER v - INTERVAL '1 second' AS is_backwards
        FROM trades
        WHERE symbol = :symbol AND timestamp >= :start AND timestamp < :end
        WINDOW w AS (PARTITION BY id > 0 ORDER BY id),
               v AS (PARTITION BY id > 0 ORDER BY id, timestamp DESC)
    ) ranked
    GROUP BY is_real, run ORDER BY is_real, first
""")
_TWICE = text("""
    SELECT id, min(timestamp) AS first, max(timestamp) AS last
    FROM trades
    WHERE symbol = :symbol AND timestamp >= :start AND timestamp < :end AND id BETWEEN :low AND :high
    GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT :limit
""")
_BACKWARDS = text("""
    SELECT id, timestamp, earlier FROM (
        SELECT id, timestamp, lag(id) OVER v AS before, lag(timestamp) OVER v AS earlier FROM trades
        WHERE symbol = :symbol AND timestamp >= :start AND timestamp < :end AND id > 0
        WINDOW v AS (ORDER BY id, timestamp DESC)
    ) ordered
    WHERE before = id - 1 AND timestamp < earlier - INTERVAL '1 second' ORDER BY id LIMIT :limit
""")
_ANONYMOUS = text("""
    SELECT hole.number, count(t.id)
    FROM unnest(CAST(:afters AS timestamptz[]), CAST(:befores AS timestamptz[])) WITH ORDINALITY
         AS hole(after, before, number)
    LEFT JOIN trades t
        ON t.symbol = :symbol AND t.id < 0 AND t.timestamp >= :start AND t.timestamp <= :end
        AND t.timestamp >= hole.after AND t.timestamp <= hole.before
    GROUP BY hole.number ORDER BY hole.number
""").bindparams(bindparam("afters", type_=ARRAY(Timestamp)), bindparam("befores", type_=ARRAY(Timestamp)))
_EDGES = {
    ending: text(
        f"SELECT timestamp FROM trades WHERE symbol = :symbol AND timestamp >= :start AND timestamp < :end"
        f" ORDER BY timestamp{ending} LIMIT 1"
    )
    for ending in ("", " DESC")
}


@dataclass(frozen=True, slots=True)
class SliceOfTrades:
    """What a stretch of time has: runs of ids in their order, and how many trades have no id."""

    runs: Sequence[IdRun]
    anonymous: int

    @property
    def count(self) -> int:
        return self.anonymous + sum(run.rows for run in self.runs)


class TradeAudit:
    """Looks at the trades of one symbol on the caller's connection; no row leaves the server.

    Ranges are half-open. What a statement costs depends on the rows of its range: keep it short.
    """

    def __init__(self, connection: AsyncConnection | AsyncSession, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def extent(self, start: datetime, end: datetime) -> tuple[datetime, datetime] | None:
        """The times of the oldest and the newest trade, both inclusive; None if there is none."""
        wanted = {"symbol": self._symbol, "start": start, "end": end}
        oldest, newest = [await self._connection.scalar(_EDGES[ending], wanted) for ending in ("", " DESC")]
        return None if oldest is None or newest is None else (oldest, newest)

    async def count(self, ranges: Sequence[TimeRange]) -> int:
        """How many trades there are in some ranges."""
        if not ranges:
            return 0
        c = TRADES.c
        found = select(func.count()).where(c.symbol == self._symbol, lies_in(c.timestamp, ranges))
        return await self._connection.scalar(found) or 0

    async def runs(self, start: datetime, end: datetime) -> SliceOfTrades:
        """The ids of a stretch of time, as runs without a hole."""
        wanted = {"symbol": self._symbol, "start": start, "end": end}
        rows = (await self._connection.execute(_RUNS, wanted)).all()
        return SliceOfTrades(
            [IdRun(*row[2:]) for row in rows if row.is_real],
            sum(row.trades for row in rows if not row.is_real),
        )

    async def stored_twice(
        self, start: datetime, end: datetime, ids: tuple[int, int], limit: int
    ) -> list[tuple[int, datetime, datetime]]:
        """Ids within ``ids``, both inclusive, that several rows have; the first and the last of the times."""
        wanted = {"symbol": self._symbol, "start": start, "end": end, "low": ids[0], "high": ids[1]}
        rows = await self._connection.execute(_TWICE, {**wanted, "limit": limit})
        return [(row.id, row.first, row.last) for row in rows]

    async def backwards(
        self, start: datetime, end: datetime, limit: int
    ) -> list[tuple[int, datetime, datetime]]:
        """Ids whose trade is more than a second older than the one before; its time and that one's."""
        wanted = {"symbol": self._symbol, "start": start, "end": end, "limit": limit}
        return [
            (row.id, row.timestamp, row.earlier) for row in await self._connection.execute(_BACKWARDS, wanted)
        ]

    async def anonymous_within(self, spans: Sequence[tuple[datetime, datetime]]) -> list[int]:
        """How many trades without an id there are in each of these spans, both ends inclusive."""
        if not spans:
            return []
        wanted = {
            "symbol": self._symbol,
            "start": min(start for start, _ in spans),
            "end": max(end for _, end in spans),
            "afters": [start for start, _ in spans],
            "befores": [end for _, end in spans],
        }
        return [count for _, count in await self._connection.execute(_ANONYMOUS, wanted)]


_PRICES = ("open", "high", "low", "close")
_SURE = (*_PRICES, "volume", "trade_count")
_OPTIONAL = ("quote_volume", "vwap")
ALL = (*_SURE, *_OPTIONAL)
Number: TypeAlias = Decimal | int | None


@dataclass(frozen=True, slots=True)
class CandleDifference:
    """One candle that is not what it should be. ``numbers`` is empty where only one side has it."""

    timestamp: datetime
    """Its open time, UTC."""
    numbers: dict[str, tuple[Number, Number]]
    """Those that differ, by the name of their column: as stored, and as they should be."""
    stored_trades: int | None
    """How many trades the stored one has; None: none is stored."""
    expected_trades: int | None
    """How many it should have; None: there should be none."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison has found."""

    compared: int
    """Candles that one of the sides has."""
    differing: int
    missing: int
    """Those of the differing ones that are not stored at all."""
    unexpected: int
    """Those that are stored and not expected; part of the differing ones unless these were tolerated."""
    examples: Sequence[CandleDifference]
    """The first of these, in order of time."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """What stored minutes look like, by themselves."""

    rows: int
    broken: int
    """Those that cannot be."""
    made_of_trades: int
    examples: Sequence[tuple[datetime, str]] = ()
    """The first of the broken ones: when each opens, and why it cannot be."""


_SHAPES = """
    SELECT {what} FROM (
        SELECT timestamp, open, high, low, close, volume, quote_volume, trade_count AS trades, vwap AS mean
        FROM candles
        WHERE symbol = :symbol AND interval_minutes = 1 AND timestamp >= :start AND timestamp < :end
    ) stored WHERE timestamp <@ :inside
"""
_COUNTS = "count(*), count(*) FILTER (WHERE {broken}), count(quote_volume)"
_INSIDE = bindparam("inside", type_=TSTZMULTIRANGE)


class CandleAudit:
    """Compares candles of one symbol on the caller's connection; never writes.

    Ranges are half-open and lie on the grid of the interval; ``inside`` is what of a slice is looked at.
    """

    def __init__(self, connection: AsyncConnection | AsyncSession, backend: Backend, symbol: str) -> None:
        self._connection = connection
        self._backend = backend
        self._symbol = symbol

    async def with_trades(
        self, inside: Sequence[TimeRange], archived: Sequence[TimeRange], limit: int
    ) -> Comparison:
        """The stored minutes beside the candles of the stored trades, which must be complete there.

        One without a quote volume was not made of trades: its vwap may be cut to the decimals of the pair's
        prices, as Kraken's OHLC has it, and its volume may have the float noise of an archive. Only where
        an archive may have brought it (``archived``) it need not have a vwap.
        """
        start, end = inside[0][0], inside[-1][1]
        minutes = minutes_of_trades(self._symbol, start, end).subquery("minutes")
        columns = [minutes.c.timestamp, *(minutes.c[name] for name in ALL)]
        expected = select(*columns).subquery("expected")
        stored = self._between(BASE_INTERVAL, start, end)
        return await self._compare(
            stored, expected, inside, _minute_differs(stored, expected, archived), limit
        )

    async def with_source(self, interval: int, inside: Sequence[TimeRange], limit: int) -> Comparison:
        """A higher interval, as readers get it, beside what the interval that it comes from says."""
        start, end = inside[0][0], inside[-1][1]
        source = self._between(INTERVAL_SOURCES[interval], start, end)
        expected = rollup(source, interval).subquery("expected")
        stored = self._between(interval, start, end)
        differs = or_(*(stored.c[name].is_distinct_from(expected.c[name]) for name in ALL))
        return await self._compare(stored, expected, inside, differs, limit)

    async def with_archive(
        self,
        interval: int,
        staged: FromClause,
        inside: Sequence[TimeRange],
        limit: int,
        *,
        may_lack: bool,
    ) -> Comparison:
        """Candles as readers get them beside staged ones of a file (see ``StagedCandles``).

        A volume that is off by less than Kraken's last digit is float noise of the file. ``may_lack``: that
        the file lacks a stored candle is no difference.
        """
        start, end = inside[0][0], inside[-1][1]
        expected = (
            select(
                func.to_timestamp(staged.c.timestamp).label("timestamp"),
                *(staged.c[name] for name in (*_PRICES, "volume")),
                staged.c.trades.label("trade_count"),
                literal(None).label("quote_volume"),
                literal(None).label("vwap"),
            )
            .where(staged.c.trades > 0)
            .subquery("expected")
        )
        stored = self._between(interval, start, end)
        off = func.abs(stored.c.volume - expected.c.volume)
        noise = func.greatest(VOLUME_NOISE, stored.c.volume * Decimal("1e-13"))
        exact = [stored.c[name].is_distinct_from(expected.c[name]) for name in (*_PRICES, "trade_count")]
        differs = or_(*exact, off >= noise)
        return await self._compare(stored, expected, inside, differs, limit, may_lack=may_lack)

    async def shapes(
        self, inside: Sequence[TimeRange], rules: Sequence[Rule], values: Mapping[str, Any], limit: int
    ) -> Shapes:
        """The minutes in these ranges that break a rule for rows of ``candles`` (see ``_SHAPES``)."""
        wanted = {
            "symbol": self._symbol,
            "start": inside[0][0],
            "end": inside[-1][1],
            "inside": to_multirange(inside),
        }
        counts = text(_SHAPES.format(what=_COUNTS.format(broken=broken(rules)))).bindparams(_INSIDE)
        rows, wrong, made = (await self._connection.execute(counts, {**wanted, **values})).one()
        if not wrong:
            return Shapes(rows, 0, made)
        what = f"timestamp, CASE {reasons(rules)} END"
        first = f"{_SHAPES.format(what=what)} AND ({broken(rules)}) ORDER BY timestamp LIMIT :limit"
        found = await self._connection.execute(
            text(first).bindparams(_INSIDE), {**wanted, **values, "limit": limit}
        )
        return Shapes(rows, wrong, made, [(at, reason) for at, reason in found])

    async def any_between(self, interval: int, start: datetime, end: datetime) -> bool:
        """Whether there is a candle of an interval that opens in a range."""
        one = select(self._between(interval, start, end).c.timestamp).limit(1)
        return await self._connection.scalar(one) is not None

    def _between(self, interval: int, start: datetime, end: datetime) -> FromClause:
        return self._backend.candles_between(self._symbol, interval, start, end).subquery()

    async def _compare(
        self,
        stored: FromClause,
        expected: FromClause,
        inside: Sequence[TimeRange],
        differs: ColumnElement[bool],
        limit: int,
        *,
        may_lack: bool = False,
    ) -> Comparison:
        pairs = _pairs(stored, expected, inside, differs, may_lack=may_lack)
        totals = (
            select(
                func.count().label("compared"),
                func.count().filter(pairs.c.differs).label("differing"),
                func.count().filter(~pairs.c.is_stored).label("missing"),
                func.count().filter(~pairs.c.is_expected).label("unexpected"),
            )
            .select_from(pairs)
            .subquery("totals")
        )
        ordered = select(pairs).where(pairs.c.differs).order_by(pairs.c.timestamp)
        first = ordered.limit(limit).subquery("first")
        both = select(totals, first).select_from(totals.outerjoin(first, true()))
        rows = (await self._connection.execute(both)).mappings().all()
        examples = [_difference(row) for row in rows if row["timestamp"] is not None]
        total = rows[0]
        return Comparison(
            total["compared"], total["differing"], total["missing"], total["unexpected"], examples
        )


def _pairs(
    stored: FromClause,
    expected: FromClause,
    inside: Sequence[TimeRange],
    differs: ColumnElement[bool],
    *,
    may_lack: bool,
) -> CTE:
    """The candles of both sides, each beside its partner, and whether it differs from that."""
    moment = func.coalesce(stored.c.timestamp, expected.c.timestamp)
    is_wrong = case(
        (stored.c.timestamp.is_(None), true()),
        (expected.c.timestamp.is_(None), false() if may_lack else true()),
        else_=differs,
    )
    sides = (("stored", stored), ("expected", expected))
    # A full join is merged or hashed, whatever the statistics of a young table say.
    return (
        select(
            moment.label("timestamp"),
            is_wrong.label("differs"),
            stored.c.timestamp.is_not(None).label("is_stored"),
            expected.c.timestamp.is_not(None).label("is_expected"),
            *(side.c[name].label(f"{which}_{name}") for which, side in sides for name in ALL),
        )
        .select_from(stored.outerjoin(expected, stored.c.timestamp == expected.c.timestamp, full=True))
        .where(lies_in(moment, inside))
        .cte("pairs")
    )


def _minute_differs(
    stored: FromClause, expected: FromClause, archived: Sequence[TimeRange]
) -> ColumnElement[bool]:
    old, new = stored.c, expected.c
    is_made_of_trades = old.quote_volume.is_not(None)
    decimals = func.greatest(func.min_scale(old.vwap), *(func.min_scale(old[name]) for name in _PRICES))
    vwap = case((is_made_of_trades, new.vwap), else_=func.trunc(new.vwap, decimals))
    return or_(
        *(old[name].is_distinct_from(new[name]) for name in (*_PRICES, "trade_count")),
        func.abs(old.volume - new.volume) >= case((is_made_of_trades, LAST_DIGIT), else_=VOLUME_NOISE),
        and_(is_made_of_trades, old.quote_volume != new.quote_volume),
        and_(old.vwap.is_not(None), old.vwap != new.vwap, old.vwap != vwap),
        and_(old.vwap.is_(None), new.vwap.is_not(None), ~lies_in(old.timestamp, archived)),
    )


def _difference(row: Any) -> CandleDifference:
    numbers: dict[str, tuple[Number, Number]] = {}
    if row["is_stored"] and row["is_expected"]:
        pairs = {name: (row[f"stored_{name}"], row[f"expected_{name}"]) for name in ALL}
        differing = {name: (old, new) for name, (old, new) in pairs.items() if old != new}
        # What is not known is reported where it is all that is wrong.
        numbers = {name: pair for name, pair in differing.items() if name in _SURE or pair[0] is not None}
        numbers = numbers or differing
    return CandleDifference(
        row["timestamp"],
        numbers,
        (row["stored_trade_count"] or 0) if row["is_stored"] else None,
        (row["expected_trade_count"] or 0) if row["is_expected"] else None,
    )

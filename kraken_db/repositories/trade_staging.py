"""Trades in bulk: staged in a temporary table, checked there, merged so that no trade is lost or doubled."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    MetaData,
    Numeric,
    Table,
    Text,
    cast,
    func,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.models import Amount
from kraken_db.repositories.coverage import TimeRange
from kraken_db.repositories.staging import (
    MILLISECONDS,
    MergeCounts,
    RowProblem,
    Rule,
    create_temporary,
    first_problem,
    is_nan,
)

_STAGED = Table(
    "staged_trades",
    MetaData(),
    Column("price", Amount, nullable=False),
    Column("volume", Amount, nullable=False),
    Column("time", Numeric, nullable=False),
    Column("side", Text),
    Column("order_type", Text),
    Column("misc", Text),
    Column("trade_id", BigInteger),
    prefixes=["TEMPORARY"],
    postgresql_on_commit="DROP",
)
# The number of fields of a row to its columns; the shapes that Kraken's archives have had.
SHAPES: dict[int, list[str]] = {
    3: ["time", "price", "volume"],
    6: ["price", "volume", "time", "side", "order_type", "misc"],
    7: ["price", "volume", "time", "side", "order_type", "misc", "trade_id"],
}
# REST and WebSocket stamp one trade about a microsecond apart; far less than this, and far more than 0.
_SAME_TRADE = timedelta(seconds=1)

# Kraken's stamps are finer than a microsecond: cut off, never rounded, never through a float.
_STAMP = "TIMESTAMPTZ 'epoch' + CAST(trunc(time * 1000000) AS bigint) * INTERVAL '1 microsecond'"
_ROWS = f"""
    CREATE TEMPORARY TABLE staged_rows ON COMMIT DROP AS
    SELECT row_number() OVER () AS line, {_STAMP} AS timestamp, price, volume,
           CASE side WHEN 'b' THEN 'buy' WHEN 's' THEN 'sell' ELSE '' END AS side,
           CASE order_type WHEN 'm' THEN 'market' WHEN 'l' THEN 'limit' END AS order_type,
           misc, NULLIF(trade_id, 0) AS id
    FROM staged_trades
"""
# A stored trade with the id of a staged one, looked for where it can be: a little around the file.
_STORED = """
    trades t JOIN staged_rows s ON t.id = s.id
    WHERE t.symbol = :symbol AND t.timestamp >= :around_start AND t.timestamp <= :around_end
"""
# Runs of ids without a hole: their ranges are known to be complete.
_RUNS = """
    SELECT min(timestamp) AS first, max(timestamp) AS last, min(id) AS first_id, max(id) AS last_id
    FROM (SELECT timestamp, id, id - row_number() OVER (ORDER BY id) AS run FROM staged_rows WHERE id > 0) r
    GROUP BY run
"""
# Stretches of rows without an id, one behind the other in the file.
_ANONYMOUS_RUNS = """
    SELECT min(timestamp) AS first, max(timestamp) AS last
    FROM (SELECT timestamp, line - row_number() OVER (ORDER BY line) AS run
          FROM staged_rows WHERE id IS NULL) r
    GROUP BY run
"""
# Stored trades without Kraken's id in the ranges that the file shows in full. Stamps of archives may be
# whole seconds: the second in which a range begins belongs to it.
_REPLACEABLE = """
    trades t WHERE t.symbol = :symbol AND t.id < 0
    AND t.timestamp >= :start AND t.timestamp <= :end
    AND EXISTS (SELECT 1 FROM staged_ranges r
                WHERE t.timestamp >= date_bin('1 second', r.first, 'epoch') AND t.timestamp <= r.last)
"""
_CONTENT = "timestamp, price, volume, side"
_COUNTED = f"{_CONTENT}, row_number() OVER (PARTITION BY {_CONTENT}) AS copy"


@dataclass(frozen=True, slots=True)
class _Span:
    first: datetime
    last: datetime
    has_ids: bool


class TradeConflictError(Exception):
    """A trade of the same id is stored with another content; ``line`` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


class TradeStaging:
    """One batch of trades of one symbol, inside the caller's transaction; never commits.

    Call ``copy``, ``find_problem``, ``merge`` and ``complete_ranges`` in this order.
    """

    def __init__(self, connection: AsyncConnection, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def copy(self, fields: int, source: AsyncIterable[bytes]) -> int:
        """Stage rows of the shape with so many fields (see ``SHAPES``). Raises CopyRowError."""
        await create_temporary(self._connection, _STAGED)
        return await copy_csv_in(self._connection, _STAGED.name, SHAPES[fields], source)

    async def find_problem(self, now: datetime) -> RowProblem | None:
        """The first row that cannot be a trade, or that is not in order of time."""
        c = _STAGED.c
        rows = select(
            _STAGED,
            func.lag(c.time).over().label("previous"),
            func.row_number().over().label("line"),
        ).subquery("staged")
        # Twice in a file: an id of two rows. Rows without one (0 in some old files) may be equal.
        ids = select(rows, func.count().over(partition_by=func.nullif(rows.c.trade_id, 0)).label("copies"))
        numbered = ids.subquery("numbered")
        rules = _rules(numbered.c, now)
        broken = or_(*(rule.broken for rule in rules))
        count = await self._connection.scalar(select(func.count()).select_from(numbered).where(broken))
        return await first_problem(self._connection, numbered, rules, count) if count else None

    async def span(self) -> tuple[datetime, datetime]:
        """The stamps of the first and the last staged trade."""
        span = await self._prepare()
        return span.first, span.last

    async def merge(self, read: int, *, force: bool = False) -> MergeCounts:
        """Write the trades that are not stored yet.

        Trades with an id are known by it: a stored one whose stamp differs takes the staged stamp (the
        official record), any other difference raises TradeConflictError unless ``force``. Trades without
        an id replace the stored ones without an id of the same ranges, as a whole, and are left out where
        the same second is stored with ids.
        """
        span = await self._prepare()
        bounds = {
            "symbol": self._symbol,
            "start": span.first.replace(microsecond=0),
            "end": span.last,
            "around_start": span.first - _SAME_TRADE,
            "around_end": span.last + _SAME_TRADE,
        }
        if not force:
            await self._refuse_conflicts(bounds)
        restamped = await self._count(
            f"DELETE FROM trades USING (SELECT t.timestamp, t.symbol, t.id FROM {_STORED}"
            " AND (t.timestamp, t.price, t.volume, t.side) IS DISTINCT FROM"
            " (s.timestamp, s.price, s.volume, s.side)) old"
            " WHERE trades.timestamp = old.timestamp AND trades.symbol = old.symbol AND trades.id = old.id",
            bounds,
        )
        inserted = await self._count(
            "INSERT INTO trades (id, symbol, timestamp, price, volume, side, order_type, misc)"
            " SELECT s.id, :symbol, s.timestamp, s.price, s.volume, s.side, s.order_type, s.misc"
            " FROM staged_rows s WHERE s.id > 0 ON CONFLICT DO NOTHING",
            bounds,
        )
        counts = MergeCounts(
            read, new=inserted - restamped, changed=restamped, oldest=span.first, newest=span.last
        )
        return await self._replace_anonymous(counts, span, bounds)

    async def complete_ranges(self) -> Sequence[TimeRange]:
        """The ranges that the staged trades show in full, as far as their ids prove it.

        Without ids: from the first stamp to the last, exclusive.
        """
        span = await self._prepare()
        if not span.has_ids:
            return [(span.first, span.last)]
        runs = (await self._connection.execute(text(f"{_RUNS} ORDER BY min(id)"))).all()
        tick = timedelta(microseconds=1)
        ranges = [(run.first, run.last + tick) for run in runs]
        before = await self._neighbour(runs[0].first, runs[0].first_id - 1, older=True)
        after = await self._neighbour(runs[-1].last, runs[-1].last_id + 1, older=False)
        if before is not None:
            ranges[0] = (before, ranges[0][1])
        if after is not None:
            ranges[-1] = (ranges[-1][0], after)
        return ranges

    async def _prepare(self) -> _Span:
        if await self._connection.scalar(text("SELECT to_regclass('pg_temp.staged_rows')")) is None:
            await self._connection.execute(text(_ROWS))
            await self._connection.execute(text("ANALYZE staged_rows"))
        row = (
            await self._connection.execute(
                text(
                    "SELECT min(timestamp), max(timestamp), COALESCE(bool_or(id > 0), false) FROM staged_rows"
                )
            )
        ).one()
        return _Span(*row)

    async def _refuse_conflicts(self, bounds: dict[str, Any]) -> None:
        found = (
            await self._connection.execute(
                text(
                    "SELECT s.line, s.id, t.price, t.volume, t.side, s.price, s.volume, s.side"
                    f" FROM {_STORED} AND (t.price, t.volume, t.side) IS DISTINCT FROM"
                    " (s.price, s.volume, s.side) ORDER BY s.line LIMIT 1"
                ),
                bounds,
            )
        ).first()
        if found is not None:
            line, trade_id, *values = found
            stored, staged = (" ".join(map(str, part)) for part in (values[:3], values[3:]))
            reason = f"trade {trade_id} is stored as {stored}, but the file says {staged}"
            raise TradeConflictError(line, reason)

    async def _replace_anonymous(
        self, counts: MergeCounts, span: _Span, bounds: dict[str, Any]
    ) -> MergeCounts:
        await self._connection.execute(
            text(
                "CREATE TEMPORARY TABLE staged_ranges ON COMMIT DROP AS"
                f" SELECT first, last FROM ({_RUNS}) ids UNION ALL {_ANONYMOUS_RUNS}"
            )
        )
        known = 0
        if not span.has_ids:
            known = await self._count(
                "DELETE FROM staged_rows s WHERE EXISTS (SELECT 1 FROM trades t WHERE t.symbol = :symbol"
                " AND t.id > 0 AND t.timestamp >= date_bin('1 second', s.timestamp, 'epoch')"
                " AND t.timestamp < date_bin('1 second', s.timestamp, 'epoch') + INTERVAL '1 second')",
                bounds,
            )
        counts = replace(counts, dropped=known)
        staged = f"SELECT {_COUNTED} FROM staged_rows WHERE id IS NULL"
        stored = f"SELECT {_COUNTED} FROM {_REPLACEABLE}"
        added = await self._connection.scalar(
            text(f"SELECT count(*) FROM ({staged} EXCEPT {stored}) d"), bounds
        )
        removed = await self._connection.scalar(
            text(f"SELECT count(*) FROM ({stored} EXCEPT {staged}) d"), bounds
        )
        if added or removed:
            await self._count(
                f"DELETE FROM trades USING (SELECT t.timestamp, t.id FROM {_REPLACEABLE}) old"
                " WHERE trades.timestamp = old.timestamp AND trades.symbol = :symbol AND trades.id = old.id",
                bounds,
            )
            await self._count(
                "INSERT INTO trades (symbol, timestamp, price, volume, side, order_type, misc)"
                " SELECT :symbol, timestamp, price, volume, side, order_type, misc"
                " FROM (SELECT * FROM staged_rows WHERE id IS NULL ORDER BY line) s",
                bounds,
            )
        return replace(counts, new=counts.new + (added or 0), removed=removed or 0)

    async def _neighbour(self, moment: datetime, trade_id: int, *, older: bool) -> datetime | None:
        """The stamp of the trade with this id if it is the next one stored before or after ``moment``."""
        beyond, order = ("<=", "DESC") if older else (">=", "ASC")
        statement = (
            f"SELECT id, timestamp FROM trades WHERE symbol = :symbol AND timestamp {beyond} :moment"
            f" AND id > 0 AND id {beyond} :id ORDER BY timestamp {order}, id {order} LIMIT 1"
        )
        bounds = {"symbol": self._symbol, "moment": moment, "id": trade_id}
        found = (await self._connection.execute(text(statement), bounds)).first()
        return found.timestamp if found is not None and found.id == trade_id else None

    async def _count(self, statement: str, parameters: dict[str, Any]) -> int:
        bound = text(statement)
        used = {name: value for name, value in parameters.items() if name in bound._bindparams}
        return (await self._connection.execute(bound, used)).rowcount


def _rules(row: Any, now: datetime) -> list[Rule]:
    stamp = cast(row.time, Text)
    return [
        Rule(or_(is_nan(row.price), is_nan(row.volume), is_nan(row.time)), literal("NaN is not a number")),
        Rule(
            row.time >= MILLISECONDS, literal("time ") + stamp + " looks like milliseconds, expected seconds"
        ),
        Rule(row.time <= 0, literal("time ") + stamp + " is not a Unix time in seconds"),
        Rule(row.time > now.timestamp(), literal("time ") + stamp + " lies in the future"),
        Rule(row.time < row.previous, literal("time ") + stamp + " is earlier than that of the line before"),
        Rule(row.price <= 0, literal("the price is not above zero: ") + cast(row.price, Text)),
        Rule(row.volume < 0, literal("the volume is negative: ") + cast(row.volume, Text)),
        Rule(row.side.not_in(["b", "s"]), literal("the side is neither b nor s: ") + row.side),
        Rule(
            row.order_type.not_in(["m", "l"]), literal("the order type is neither m nor l: ") + row.order_type
        ),
        Rule(func.length(row.misc) > 50, literal("the flags are longer than 50 characters")),
        Rule(row.trade_id < 0, literal("the trade id is negative: ") + cast(row.trade_id, Text)),
        Rule(
            (row.copies > 1) & (row.trade_id > 0),
            literal("the trade id ") + cast(row.trade_id, Text) + " is there twice",
        ),
    ]

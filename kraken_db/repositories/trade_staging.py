"""Trades in bulk: staged in a temporary table, checked there, merged so that no trade is lost or doubled."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    MetaData,
    Numeric,
    Table,
    Text,
    bindparam,
    cast,
    func,
    literal,
    or_,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.db.multiranges import to_multirange
from kraken_db.models import Amount, Price
from kraken_db.ranges import TICK, TimeRange
from kraken_db.repositories.staging import (
    MILLISECONDS,
    MergeCounts,
    RowProblem,
    Rule,
    create_temporary,
    first_problem,
    is_nan,
)
from kraken_db.repositories.trade_merge import Anonymous, TradeConflictError, TradeMerge

__all__ = ["SHAPES", "TradeConflictError", "TradeCounts", "TradeStaging"]

_STAGED = Table(
    "staged_trades",
    MetaData(),
    Column("price", Price, nullable=False),
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
# Far above any id of Kraken's, and far enough below the largest bigint to count on.
_LARGEST_ID = 2**62

# Kraken's stamps are finer than a microsecond: cut off, never rounded, never through a float.
_STAMP = "TIMESTAMPTZ 'epoch' + CAST(trunc(time * 1000000) AS bigint) * INTERVAL '1 microsecond'"
_ROWS = f"""
    CREATE TEMPORARY TABLE staged_rows ON COMMIT DROP AS
    SELECT *, date_bin('1 second', timestamp, 'epoch') AS second FROM (
        SELECT row_number() OVER () AS line, {_STAMP} AS timestamp, price, volume,
               CASE side WHEN 'b' THEN 'buy' WHEN 's' THEN 'sell' ELSE '' END AS side,
               CASE order_type WHEN 'm' THEN 'market' WHEN 'l' THEN 'limit' END AS order_type,
               misc, NULLIF(trade_id, 0) AS id
        FROM staged_trades
    ) r
"""
_SPAN = "SELECT min(timestamp), max(timestamp), COALESCE(bool_or(id > 0), false) FROM staged_rows"
# Runs of ids without a hole: their ranges are known to be complete.
_RUNS = """
    SELECT min(timestamp) AS first, max(timestamp) AS last, min(id) AS first_id, max(id) AS last_id
    FROM (SELECT timestamp, id, id - row_number() OVER (ORDER BY id) AS run FROM staged_rows WHERE id > 0) r
    GROUP BY run ORDER BY min(id)
"""
_WITHOUT_DISPUTED = """
    SELECT lower(r), upper(r) FROM unnest(:claimed - (
        SELECT range_agg(tstzrange(second, second + INTERVAL '1 second')) FROM staged_disputed)) r
"""


@dataclass(frozen=True, slots=True)
class _Span:
    first: datetime
    last: datetime
    has_ids: bool


@dataclass(frozen=True, slots=True)
class TradeCounts(MergeCounts):
    disputed: int = 0
    """Rows without an id, part of ``dropped``, of seconds for which other trades are stored with ids."""


class TradeStaging:
    """One batch of trades of one symbol, inside the caller's transaction; never commits.

    Call ``copy``, ``find_problem``, ``merge`` and ``complete_ranges`` in this order.
    """

    def __init__(self, connection: AsyncConnection, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol
        self._span: _Span | None = None
        self._any_disputed = False
        self._may_have_ids = True

    async def copy(self, fields: int, source: AsyncIterable[bytes]) -> int:
        """Stage rows of the shape with so many fields (see ``SHAPES``). Raises CopyRowError."""
        await create_temporary(self._connection, _STAGED)
        self._may_have_ids = _STAGED.c.trade_id.name in SHAPES[fields]
        return await copy_csv_in(self._connection, _STAGED.name, SHAPES[fields], source)

    async def find_problem(self, now: datetime) -> RowProblem | None:
        """The first row that cannot be a trade, or that is not in order of time."""
        c = _STAGED.c
        rows = select(
            _STAGED,
            func.lag(c.time).over().label("previous"),
            func.row_number().over().label("line"),
        ).subquery("staged")
        # Twice in a file: an id of two rows. Rows without one (0 in some old files) may be equal. Counting
        # sorts all rows, so it is done only where there can be an id.
        copies = func.count().over(partition_by=func.nullif(rows.c.trade_id, 0))
        counted = copies if self._may_have_ids else literal(1)
        numbered = select(rows, counted.label("copies")).subquery("numbered")
        rules = _rules(numbered.c, now)
        broken = or_(*(rule.broken for rule in rules))
        count = await self._connection.scalar(select(func.count()).select_from(numbered).where(broken))
        return await first_problem(self._connection, numbered, rules, count) if count else None

    async def span(self) -> tuple[datetime, datetime]:
        """The stamps of the first and the last staged trade."""
        span = await self._prepare()
        return span.first, span.last

    async def merge(self, read: int, *, force: bool = False) -> TradeCounts:
        """Write the trades that are not stored yet.

        Trades with an id are known by it: a stored one takes the stamp of the staged one (the official
        record) and what it lacks; any other difference raises TradeConflictError unless ``force``. Of
        trades without an id see ``trade_merge``.
        """
        span = await self._prepare()
        start, end = span.first - _SAME_TRADE, span.last + _SAME_TRADE
        merge = TradeMerge(self._connection, {"symbol": self._symbol, "start": start, "end": end})
        outdated, anonymous = 0, Anonymous()
        any_stored = await merge.look() > 0
        if any_stored:
            if not force:
                await merge.refuse_conflicts()
            outdated = await merge.find_outdated()
            anonymous = await merge.decide_anonymous()
            await merge.delete_obsolete()
        inserted = await merge.insert_with_ids() if span.has_ids else 0
        written = await merge.insert_anonymous(everything=not any_stored)
        self._any_disputed = anonymous.disputed > 0
        return TradeCounts(
            read,
            new=inserted - outdated + (anonymous.added if any_stored else written),
            changed=outdated,
            dropped=anonymous.known + anonymous.disputed,
            removed=anonymous.removed,
            disputed=anonymous.disputed,
            oldest=span.first,
            newest=span.last,
        )

    async def complete_ranges(self) -> Sequence[TimeRange]:
        """The ranges that the staged trades show in full, as far as their ids prove it.

        Without ids: from the first stamp to the last, exclusive. Never a second that is disputed.
        """
        span = await self._prepare()
        ranges = await self._proven_by_ids() if span.has_ids else [(span.first, span.last)]
        if not self._any_disputed:
            return ranges
        claimed = to_multirange(ranges)
        statement = text(_WITHOUT_DISPUTED).bindparams(bindparam("claimed", claimed, TSTZMULTIRANGE))
        return [(first, last) for first, last in await self._connection.execute(statement)]

    async def _proven_by_ids(self) -> list[TimeRange]:
        runs = (await self._connection.execute(text(_RUNS))).all()
        ranges = [(run.first, run.last + TICK) for run in runs]
        before = await self._neighbour(runs[0].first, runs[0].first_id - 1, older=True)
        after = await self._neighbour(runs[-1].last, runs[-1].last_id + 1, older=False)
        if before is not None:
            ranges[0] = (before, ranges[0][1])
        if after is not None:
            ranges[-1] = (ranges[-1][0], after)
        return ranges

    async def _prepare(self) -> _Span:
        if self._span is None:
            await self._connection.execute(text(_ROWS))
            await self._connection.execute(text("ANALYZE staged_rows"))
            self._span = _Span(*(await self._connection.execute(text(_SPAN))).one())
        return self._span

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
        # Empty is unknown: so an export writes trades that came from a file of three fields.
        Rule(row.side.not_in(["b", "s", ""]), literal("the side is neither b nor s: ") + row.side),
        Rule(
            row.order_type.not_in(["m", "l", ""]),
            literal("the order type is neither m nor l: ") + row.order_type,
        ),
        Rule(func.length(row.misc) > 50, literal("the flags are longer than 50 characters")),
        Rule(row.trade_id > _LARGEST_ID, literal("no trade id is as large as ") + cast(row.trade_id, Text)),
        Rule(row.trade_id < 0, literal("the trade id is negative: ") + cast(row.trade_id, Text)),
        Rule(
            (row.copies > 1) & (row.trade_id > 0),
            literal("the trade id ") + cast(row.trade_id, Text) + " is there twice",
        ),
    ]

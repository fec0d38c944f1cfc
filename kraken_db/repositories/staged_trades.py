"""How trades get into their table: one staging table for all sources, one insert, one merge.

A batch is copied into ``staged_trades`` as its source wrote it. Where nothing is stored around it, one INSERT
does the rest; else a ``TradeMerge`` decides row by row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.db.multiranges import to_multirange
from kraken_db.models import AMOUNT_SCALE
from kraken_db.ranges import TimeRange
from kraken_db.repositories.staging import Problem, Rule, broken, first_problem
from kraken_db.repositories.stamp_texts import EPOCH
from kraken_db.repositories.trade_merge import TradeMerge, Window

_RECORD_COLUMNS = ["symbol", "time", "price", "volume", "side", "order_type", "misc", "trade_id"]
# Kept for the connection: made for each batch it would be a third of a page's time. Numbers have no width
# here: what does not fit the table is told by its name. ``line`` counts on from batch to batch; without it
# nobody could tell the order of the rows, for COPY puts short ones into what room is left on earlier pages.
_TABLE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_trades (
        symbol text, time numeric, price numeric, volume numeric, side text, order_type text, misc text,
        trade_id bigint, line bigint GENERATED ALWAYS AS IDENTITY (CACHE 1000)
    ) ON COMMIT DELETE ROWS
"""
_LINE = "s.line - (SELECT min(line) FROM staged_trades) + 1"
# Kraken's stamps are finer than a microsecond: cut off, never rounded, never through a float.
_STAMP = "TIMESTAMPTZ 'epoch' + CAST(trunc(s.time * 1000000) AS bigint) * INTERVAL '1 microsecond'"
_CONTENT = f"""
    {_STAMP} AS timestamp, round(s.price, {AMOUNT_SCALE}) AS price, round(s.volume, {AMOUNT_SCALE}) AS volume,
    CASE s.side WHEN 'b' THEN 'buy' WHEN 's' THEN 'sell' ELSE COALESCE(s.side, '') END AS side,
    CASE s.order_type WHEN 'm' THEN 'market' WHEN 'l' THEN 'limit' ELSE NULLIF(s.order_type, '') END
        AS order_type,
    s.misc, NULLIF(s.trade_id, 0) AS id
"""
_FACTS = """
    SELECT count(*) AS rows, count(*) FILTER (WHERE {broken}) AS broken,
           count(*) FILTER (WHERE trade_id > 0) AS identified,
           COALESCE(bool_or(trade_id > 0 AND trade_id <= highest), false) AS may_repeat,
           min(time) AS first, max(time) AS last, min(trade_id) FILTER (WHERE trade_id > 0) AS first_id
    FROM (SELECT s.*, {previous} AS previous,
                 max(trade_id) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest
          FROM staged_trades s) staged
"""
_PREVIOUS = "lag(time) OVER (ORDER BY line)"
_NUMBERED = f"""
    (SELECT time, price, volume, side, order_type, misc, trade_id, {_LINE} AS line, {_PREVIOUS} AS previous
     FROM staged_trades s)
"""
# The same trade twice is one trade.
_REPEATED = """
    DELETE FROM staged_trades WHERE ctid IN (
        SELECT ctid FROM (
            SELECT ctid, row_number() OVER (
                PARTITION BY trade_id, time, price, volume, side, order_type, misc ORDER BY ctid) AS copy
            FROM staged_trades WHERE trade_id > 0
        ) copies WHERE copy > 1)
"""
_CONTRADICTING_IDS = f"""
    SELECT trade_id, min({_LINE}) AS line
    FROM staged_trades s
    WHERE trade_id > 0 GROUP BY trade_id
    HAVING count(DISTINCT (time, price, volume, side, order_type, misc)) > 1 ORDER BY 2 LIMIT 1
"""
# A look-up for each symbol, not a join: right after a start the statistics say nothing.
_IS_FREE = """
    (s.symbol IS NULL OR s.symbol = :symbol{n}) AND NOT EXISTS (
        SELECT 1 FROM trades
        WHERE symbol = :symbol{n} AND timestamp >= :start{n} AND timestamp <= :end{n}
          AND (id >= :first{n} OR id < :below{n}))
"""
_INSERT = f"""
    INSERT INTO trades (id, symbol, timestamp, price, volume, side, order_type, misc)
    SELECT COALESCE(id, nextval('trades_id_seq')), COALESCE(symbol, :symbol0),
           timestamp, price, volume, side, order_type, misc
    FROM (SELECT s.symbol, {_CONTENT} FROM staged_trades s WHERE {{are_free}} ORDER BY s.line) fresh
    ON CONFLICT DO NOTHING
"""
_PUT_ASIDE = f"""
    INSERT INTO trades_aside (id, symbol, timestamp, price, volume, side, order_type, misc)
    SELECT COALESCE(id, line - :huge), :symbol, timestamp, price, volume, side, order_type, misc
    FROM (SELECT s.line, {_CONTENT} FROM staged_trades s) content
"""
_ROWS = f"""
    CREATE TEMPORARY TABLE staged_rows ON COMMIT DROP AS
    SELECT *, date_bin('1 second', timestamp, 'epoch') AS second
    FROM (SELECT {_LINE} AS line, {_CONTENT} FROM staged_trades s
          WHERE s.symbol IS NULL OR s.symbol = :symbol) content
"""
_WITHOUT_DISPUTED = text("""
    SELECT lower(r), upper(r) FROM unnest(:claimed - (
        SELECT range_agg(tstzrange(second, second + INTERVAL '1 second')) FROM staged_disputed)) r
""").bindparams(bindparam("claimed", type_=TSTZMULTIRANGE))


class StorableTrade(Protocol):
    """What a trade needs to be stored: a ``TradeRecord`` has it, and so has a trade of Kraken's REST."""

    @property
    def timestamp(self) -> datetime: ...
    @property
    def price(self) -> Decimal: ...
    @property
    def volume(self) -> Decimal: ...
    @property
    def side(self) -> str: ...
    @property
    def order_type(self) -> str | None: ...
    @property
    def misc(self) -> str | None: ...
    @property
    def trade_id(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class StagedFacts:
    """What the staged rows are, all in all. ``first`` and ``last``: their stamps, both inclusive."""

    rows: int
    identified: int
    """How many have an id."""
    first: datetime
    last: datetime
    first_id: int
    """The smallest id; 0 without any."""


@lru_cache
def _facts(rules: tuple[Rule, ...]) -> TextClause:
    does_order_matter = any("previous" in rule.broken for rule in rules)
    previous = _PREVIOUS if does_order_matter else "CAST(NULL AS numeric)"
    return text(_FACTS.format(broken=broken(rules), previous=previous))


# A statement for each number of symbols would fill the caches of the process and of all its sessions.
_MOST_WINDOWS = 64


def _round_up(number: int) -> int:
    """To a power of two."""
    return 1 << (number - 1).bit_length()


@lru_cache
def _insert(windows: int) -> str:
    return _INSERT.format(are_free=" OR ".join(f"({_IS_FREE.format(n=n)})" for n in range(windows)))


def _values(windows: Sequence[Window]) -> dict[str, Any]:
    return {
        f"{name}{n}": value
        for n, one in enumerate(windows)
        for name, value in (
            ("symbol", one.symbol), ("start", one.start), ("end", one.end),
            ("first", one.first_id), ("below", one.below),
        )
    }  # fmt: skip


class StagedTrades:
    """The trades of one transaction on their way into the table; never commits.

    One writer of a symbol at a time: hold the lock of the write unit.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._is_used = False

    async def copy_records(self, trades: Mapping[str, Sequence[StorableTrade]]) -> None:
        """Stage trades that are Python objects, by symbol; what was staged before is gone."""
        await self._begin()
        await copy_csv_in(self._connection, "staged_trades", _RECORD_COLUMNS, _lines(trades))

    async def copy_rows(self, columns: list[str], source: AsyncIterable[bytes]) -> int:
        """Stage CSV of one symbol as it comes, by the names of its columns; returns the number of rows.

        ``time`` is in seconds since 1970. Raises CopyRowError.
        """
        await self._begin()
        return await copy_csv_in(self._connection, "staged_trades", columns, source, nullable=["trade_id"])

    async def inspect(self, rules: tuple[Rule, ...], values: Mapping[str, Any]) -> StagedFacts | Problem:
        """Look at all staged rows once: none may break a rule. ``values`` are what the rules compare with.

        A trade that is there twice, the same both times, is one from here on.
        """
        found = (await self._connection.execute(_facts(rules), values)).one()
        if found.broken:
            return await first_problem(self._connection, _NUMBERED, rules, values, found.broken)
        rows, identified = found.rows, found.identified
        if found.may_repeat:
            # Before the copies go: the lines are those of the batch.
            twice = (await self._connection.execute(text(_CONTRADICTING_IDS))).first()
            if twice is not None:
                return Problem(
                    twice.line, f"the trade id {twice.trade_id} is there twice, with other content", 1
                )
            repeated = (await self._connection.execute(text(_REPEATED))).rowcount
            rows, identified = rows - repeated, identified - repeated
        return StagedFacts(rows, identified, _stamp(found.first), _stamp(found.last), found.first_id or 0)

    async def insert(self, window: Window) -> int:
        """Write all that is staged, of one symbol, unless there are stored trades that matter; how many."""
        return (await self._connection.execute(text(_insert(1)), _values([window]))).rowcount

    async def insert_each(self, windows: Sequence[Window]) -> dict[str, int]:
        """The same of several symbols; how many rows, by symbol: all of it or nothing."""
        written: Counter[str] = Counter()
        for at in range(0, len(windows), _MOST_WINDOWS):
            some = windows[at : at + _MOST_WINDOWS]
            padded = [*some, *[some[-1]] * (_round_up(len(some)) - len(some))]
            statement = text(f"{_insert(len(padded))} RETURNING symbol")
            written.update(await self._connection.scalars(statement, _values(padded)))
        return written

    async def put_aside(self, symbol: str) -> None:
        """Copy what is staged to the table of ``trade_load`` that no trade is stored from."""
        await self._connection.execute(text(_PUT_ASIDE), {"symbol": symbol, "huge": 2**62})

    async def merge(self, window: Window, *, may_have_ids: bool, jitter: timedelta) -> TradeMerge:
        """Begin to merge the staged rows of one symbol with what is stored."""
        await self._connection.execute(text("DROP TABLE IF EXISTS pg_temp.staged_rows"))
        await self._connection.execute(text(_ROWS), {"symbol": window.symbol})
        await self._connection.execute(text("ANALYZE staged_rows"))
        merge = TradeMerge(self._connection, window, may_have_ids=may_have_ids, jitter=jitter)
        await merge.begin()
        return merge

    async def without_disputed(self, ranges: Sequence[TimeRange]) -> list[TimeRange]:
        """Ranges without the seconds that the merge has found disputed."""
        rows = await self._connection.execute(_WITHOUT_DISPUTED, {"claimed": to_multirange(ranges)})
        return [(first, last) for first, last in rows]

    async def _begin(self) -> None:
        await self._connection.execute(text("DELETE FROM staged_trades" if self._is_used else _TABLE))
        self._is_used = True


async def _lines(trades: Mapping[str, Iterable[StorableTrade]]) -> AsyncIterator[bytes]:
    """CSV in the order of ``_RECORD_COLUMNS``; the id 0 stands for none."""
    for symbol, own in trades.items():
        yield "".join([_line(symbol, trade) for trade in own]).encode()


def _line(symbol: str, trade: StorableTrade) -> str:
    since = trade.timestamp - EPOCH
    return (
        f"{symbol},{since.days * 86400 + since.seconds}.{since.microseconds:06},{trade.price},{trade.volume},"
        f"{trade.side},{trade.order_type or ''},{_quoted(trade.misc)},{trade.trade_id or 0}\n"
    )


def _quoted(flags: str | None) -> str:
    return '"' + flags.replace('"', '""') + '"' if flags else ""


def _stamp(seconds: Decimal) -> datetime:
    return EPOCH + timedelta(microseconds=int(seconds * 1_000_000))

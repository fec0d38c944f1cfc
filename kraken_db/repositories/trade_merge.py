"""How trades get into their table: one staging table for all sources, one insert, one merge.

A batch is copied into ``staged_trades`` as its source wrote it. Where nothing is stored around it, one
INSERT does the rest. Else the stored trades around it are copied to ``stored_trades`` and analyzed, and no
decision looks at ``trades`` again: right after a bulk load its statistics say that there is nothing, and a
planner that believes them joins row by row. Trades without ids are paired by window functions, not by
joins.

Trades without ids are compared second by second, as multisets, for archives may have whole seconds:

- A row that a stored trade with an id of the same second, price and volume accounts for is *known*.
  Trades whose id is in the batch itself account for nothing: the row beside them is another trade.
- A second *inside* what the batch shows gets what the batch has. If the batch and the stored ids each have
  trades that the other lacks, the second is *disputed*: it stays as it is and is not claimed as complete.
- The first and the last second of a stretch may have been cut anywhere: there nothing is taken away
  but what a trade with an id replaces, and only what is missing is added.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Protocol

from sqlalchemy import BigInteger, Interval, TextClause, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.db.multiranges import to_multirange
from kraken_db.id_runs import IdRun
from kraken_db.models import AMOUNT_SCALE
from kraken_db.ranges import TimeRange
from kraken_db.repositories.staging import Problem, Rule, broken, first_problem

NO_ID = -(2**63)
"""Smaller than every id."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RECORD_COLUMNS = ["symbol", "time", "price", "volume", "side", "order_type", "misc", "trade_id"]
# Kept for the connection: made for each batch it would be a third of a page's time. Numbers have no width
# here: what does not fit the table is told by its name.
_TABLE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS staged_trades (
        symbol text, time numeric, price numeric, volume numeric, side text, order_type text, misc text,
        trade_id bigint
    ) ON COMMIT DELETE ROWS
"""
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
    FROM (SELECT s.*, lag(time) OVER () AS previous,
                 max(trade_id) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS highest
          FROM staged_trades s) staged
"""
_NUMBERED = """
    (SELECT s.*, row_number() OVER () AS line, lag(time) OVER () AS previous FROM staged_trades s)
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
_CONTRADICTING_IDS = """
    SELECT trade_id, min(line) AS line
    FROM (SELECT trade_id, row_number() OVER () AS line FROM staged_trades) s
    WHERE trade_id > 0 GROUP BY trade_id HAVING count(*) > 1 ORDER BY 2 LIMIT 1
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
    FROM (SELECT s.symbol, {_CONTENT} FROM staged_trades s WHERE {{are_free}}) fresh
    ON CONFLICT DO NOTHING
"""
_ROWS = f"""
    CREATE TEMPORARY TABLE staged_rows ON COMMIT DROP AS
    SELECT *, date_bin('1 second', timestamp, 'epoch') AS second
    FROM (SELECT row_number() OVER () AS line, {_CONTENT} FROM staged_trades s
          WHERE s.symbol IS NULL OR s.symbol = :symbol) content
"""
# Runs of ids without a hole.
_RUNS = f"""
    SELECT min(id), max(id), min(timestamp), max(timestamp)
    FROM (SELECT timestamp, id, id - row_number() OVER (ORDER BY id) AS run
          FROM (SELECT NULLIF(s.trade_id, 0) AS id, {_STAMP} AS timestamp FROM staged_trades s) s
          WHERE id > 0) r
    GROUP BY run ORDER BY min(id)
"""
_WITHOUT_DISPUTED = text("""
    SELECT lower(r), upper(r) FROM unnest(:claimed - (
        SELECT range_agg(tstzrange(second, second + INTERVAL '1 second')) FROM staged_disputed)) r
""").bindparams(bindparam("claimed", type_=TSTZMULTIRANGE))

# --- the merge ---

_SNAPSHOT = """
    CREATE TEMPORARY TABLE stored_trades ON COMMIT DROP AS
    SELECT timestamp, date_bin('1 second', timestamp, 'epoch') AS second,
           price, volume, side, order_type, misc, id
    FROM trades
    WHERE symbol = :symbol AND timestamp >= :start AND timestamp <= :end
"""
_OBSOLETE = "CREATE TEMPORARY TABLE obsolete_trades (timestamp timestamptz, id bigint) ON COMMIT DROP"
# What the batch shows in full: runs of ids without a hole, and stretches of rows without ids.
_INSIDE = """
    CREATE TEMPORARY TABLE staged_inside ON COMMIT DROP AS
    SELECT tstzrange(first + INTERVAL '1 second', last) AS seconds FROM (
        SELECT min(second) AS first, max(second) AS last
        FROM (SELECT second, id - row_number() OVER (ORDER BY id) AS run FROM staged_rows WHERE id > 0) r
        GROUP BY run
        UNION ALL
        SELECT min(second), max(second)
        FROM (SELECT second, line - row_number() OVER (ORDER BY line) AS run
              FROM staged_rows WHERE id IS NULL) r
        GROUP BY run
    ) stretches
    WHERE first + INTERVAL '1 second' < last
"""
# Rows with ids have all fields. What is NULL or empty in the store was not known there and is filled.
_CONTRADICTS = """
    t.id = s.id
    AND (t.price <> s.price OR t.volume <> s.volume OR NULLIF(t.side, '') <> s.side
         OR NULLIF(t.order_type, '') <> s.order_type OR NULLIF(t.misc, '') <> s.misc)
"""
_BOTH = """
    s.line, s.id,
    concat_ws(' ', trim_scale(t.price), trim_scale(t.volume), t.side, t.order_type, NULLIF(t.misc, '')),
    concat_ws(' ', trim_scale(s.price), trim_scale(s.volume), s.side, s.order_type, NULLIF(s.misc, ''))
"""
_CONFLICT = f"""
    SELECT {_BOTH} FROM staged_rows s JOIN stored_trades t ON {_CONTRADICTS} ORDER BY s.line LIMIT 1
"""
_SET_ASIDE = f"DELETE FROM staged_rows s USING stored_trades t WHERE {_CONTRADICTS} RETURNING {_BOTH}"
# The live feed is no official record: the stored stamp stays, and what it does not say is as stored.
_ADOPT = """
    UPDATE staged_rows s SET timestamp = t.timestamp, side = COALESCE(NULLIF(s.side, ''), t.side),
           order_type = COALESCE(s.order_type, t.order_type), misc = COALESCE(NULLIF(s.misc, ''), t.misc)
    FROM stored_trades t WHERE t.id = s.id
"""
_OUTDATED = """
    INSERT INTO obsolete_trades SELECT t.timestamp, t.id
    FROM staged_rows s JOIN stored_trades t ON t.id = s.id
    WHERE (t.timestamp, t.price, t.volume, t.side, t.order_type, t.misc)
          IS DISTINCT FROM (s.timestamp, s.price, s.volume, s.side, s.order_type, s.misc)
"""
# Of two equal multisets every row has a partner; of others as many as the smaller one has. First those
# of the same moment are paired, then the others of the same second. A moment are equal trades of a second
# whose stamps are next to each other: a live stamp is off by about a microsecond.
_ANONYMOUS = """
    CREATE TEMPORARY TABLE staged_anonymous ON COMMIT DROP AS
    WITH seen AS (
        SELECT line, timestamp, second, price, volume, side, order_type, misc, false AS stored
        FROM staged_rows WHERE id IS NULL
        UNION ALL
        SELECT NULL, timestamp, second, price, volume, side, order_type, misc, true
        FROM stored_trades t
        WHERE id > 0 AND CAST(:may_have_ids AS boolean)
          AND NOT EXISTS (SELECT 1 FROM staged_rows s WHERE s.id = t.id)
    ), gaps AS (
        SELECT *, timestamp - lag(timestamp) OVER w < CAST(:jitter AS interval) AS goes_on FROM seen
        WINDOW w AS (PARTITION BY second, price, volume ORDER BY timestamp)
    ), moments AS (
        SELECT *, count(*) FILTER (WHERE goes_on IS NOT TRUE)
                  OVER (PARTITION BY second, price, volume ORDER BY timestamp) AS moment
        FROM gaps
    ), exact AS (
        SELECT *, row_number() OVER (PARTITION BY second, moment, price, volume, stored ORDER BY line)
                  <= LEAST(count(*) FILTER (WHERE stored) OVER w, count(*) FILTER (WHERE NOT stored) OVER w)
                  AS same
        FROM moments WINDOW w AS (PARTITION BY second, moment, price, volume)
    ), loose AS (
        SELECT *, same OR row_number() OVER (PARTITION BY second, price, volume, same, stored ORDER BY line)
                  <= LEAST(count(*) FILTER (WHERE stored) OVER w, count(*) FILTER (WHERE NOT stored) OVER w)
                  AS known
        FROM exact WINDOW w AS (PARTITION BY second, price, volume, same)
    ), told AS (
        SELECT *, COALESCE(second <@ (SELECT range_agg(seconds) FROM staged_inside), false) AS inside,
               bool_or(stored AND NOT known) OVER (PARTITION BY second) AS more_stored
        FROM loose
    )
    SELECT line, timestamp, second, price, volume, side, order_type, misc, inside, known,
           inside AND more_stored AND NOT known AS disputed
    FROM told WHERE NOT stored
"""
_DISPUTED = """
    CREATE TEMPORARY TABLE staged_disputed ON COMMIT DROP AS
    SELECT second FROM staged_anonymous WHERE disputed GROUP BY second
"""
# Whole seconds are replaced, not single rows: the order within a second is the order of the ids given.
_REPLACED = """
    CREATE TEMPORARY TABLE staged_replaced ON COMMIT DROP AS
    SELECT second, sum(GREATEST(balance, 0)) AS added, sum(GREATEST(-balance, 0)) AS removed
    FROM (
        SELECT second, sum(change) AS balance FROM (
            SELECT 1 AS change, second, timestamp, price, volume, side, order_type, misc
            FROM staged_anonymous WHERE inside AND NOT known AND NOT disputed
            UNION ALL
            SELECT -1, second, timestamp, price, volume, side, order_type, misc
            FROM stored_trades t
            WHERE id < 0 AND second <@ (SELECT range_agg(seconds) FROM staged_inside)
              AND NOT EXISTS (SELECT 1 FROM staged_disputed d WHERE d.second = t.second)
        ) both_sides
        GROUP BY second, timestamp, price, volume, side, order_type, misc
    ) contents
    GROUP BY second HAVING bool_or(balance <> 0)
"""
# The seconds at the edges. Stored trades without ids are paired with those of the batch: at first those
# of the same moment, then a whole second with a fine stamp (two fine stamps are two trades). Of the batch,
# trades with ids come first, and only those not stored before: the others have had their partner.
_EDGES = """
    CREATE TEMPORARY TABLE staged_edges ON COMMIT DROP AS
    WITH seen AS (
        SELECT 'id' AS kind, line, id, timestamp, second, price, volume FROM staged_rows s
        WHERE id > 0 AND NOT EXISTS (SELECT 1 FROM stored_trades t WHERE t.id = s.id)
        UNION ALL
        SELECT 'row', line, NULL, timestamp, second, price, volume FROM staged_anonymous
        WHERE NOT inside AND NOT known
        UNION ALL
        SELECT 'stored', NULL, id, timestamp, second, price, volume FROM stored_trades WHERE id < 0
    ), gaps AS (
        SELECT *, (timestamp = second) = (kind = 'stored') AS class,
               timestamp - lag(timestamp) OVER w < CAST(:jitter AS interval) AS goes_on
        FROM seen
        WHERE COALESCE(NOT second <@ (SELECT range_agg(seconds) FROM staged_inside), true)
        WINDOW w AS (PARTITION BY second, price, volume ORDER BY timestamp)
    ), moments AS (
        SELECT *, count(*) FILTER (WHERE goes_on IS NOT TRUE)
                  OVER (PARTITION BY second, price, volume ORDER BY timestamp) AS moment
        FROM gaps
    ), exact AS (
        SELECT *, row_number() OVER (PARTITION BY second, moment, price, volume, kind ORDER BY line, id)
                  AS number,
               count(*) FILTER (WHERE kind = 'id') OVER w AS ids,
               count(*) FILTER (WHERE kind = 'row') OVER w AS rows,
               count(*) FILTER (WHERE kind = 'stored') OVER w AS olds
        FROM moments WINDOW w AS (PARTITION BY second, moment, price, volume)
    ), paired AS (
        SELECT kind, line, id, timestamp, second, price, volume, class,
               kind = 'stored' AND number <= ids AS gone,
               number <= CASE kind WHEN 'id' THEN olds WHEN 'row' THEN olds - ids ELSE ids + rows END AS same
        FROM exact
    ), loose AS (
        SELECT *, row_number() OVER (PARTITION BY second, price, volume, class, same, kind
                                     ORDER BY line, id) AS number,
               count(*) FILTER (WHERE kind = 'id') OVER w AS ids,
               count(*) FILTER (WHERE kind = 'stored') OVER w AS olds
        FROM paired WINDOW w AS (PARTITION BY second, price, volume, class, same)
    )
    SELECT kind, line, id, timestamp,
           kind = 'stored' AND (gone OR NOT same AND number <= ids) AS gone,
           kind = 'row' AND NOT same AND number > olds - ids AS missing
    FROM loose WHERE kind <> 'id'
"""
_GONE = """
    INSERT INTO obsolete_trades
    SELECT timestamp, id FROM staged_edges WHERE gone
    UNION ALL
    SELECT t.timestamp, t.id FROM stored_trades t JOIN staged_replaced r ON r.second = t.second WHERE t.id < 0
"""
_COUNTS = """
    SELECT (SELECT count(*) FILTER (WHERE missing) FROM staged_edges)
             + (SELECT COALESCE(sum(added), 0) FROM staged_replaced) AS added,
           (SELECT count(*) FILTER (WHERE gone) FROM staged_edges)
             + (SELECT COALESCE(sum(removed), 0) FROM staged_replaced) AS removed,
           (SELECT count(*) FILTER (WHERE known) FROM staged_anonymous) AS known,
           (SELECT count(*) FILTER (WHERE disputed) FROM staged_anonymous) AS disputed
"""
# Two equal trades are two trades, also of one moment: so each stored one accounts for one of the new ones.
_KNOWN = """
    DELETE FROM staged_rows WHERE line IN (
        WITH seen AS (
            SELECT line, timestamp, price, volume, false AS stored FROM staged_rows
            UNION ALL
            SELECT NULL, timestamp, price, volume, true FROM stored_trades WHERE id > 0
        ), gaps AS (
            SELECT *, timestamp - lag(timestamp) OVER (PARTITION BY price, volume ORDER BY timestamp)
                      < CAST(:jitter AS interval) AS goes_on
            FROM seen
        ), moments AS (
            SELECT *, count(*) FILTER (WHERE goes_on IS NOT TRUE)
                      OVER (PARTITION BY price, volume ORDER BY timestamp) AS moment
            FROM gaps
        ), numbered AS (
            SELECT line, stored,
                   row_number() OVER (PARTITION BY price, volume, moment, stored ORDER BY line) AS number,
                   count(*) FILTER (WHERE stored) OVER (PARTITION BY price, volume, moment) AS accounted
            FROM moments
        )
        SELECT line FROM numbered WHERE NOT stored AND number <= accounted)
"""
# What a row that goes, or the one that takes its place, has been part of.
_TOUCHED = """
    SELECT DISTINCT date_bin('1 minute', timestamp, 'epoch') AS minute FROM (
        SELECT timestamp FROM obsolete_trades
        UNION ALL
        SELECT s.timestamp FROM staged_rows s JOIN obsolete_trades o ON o.id = s.id
    ) rows ORDER BY minute
"""
_DELETE = """
    DELETE FROM trades USING obsolete_trades old
    WHERE trades.symbol = :symbol AND trades.timestamp >= :start AND trades.timestamp <= :end
      AND trades.timestamp = old.timestamp AND trades.id = old.id
"""
_INSERT_IDS = """
    INSERT INTO trades (id, symbol, timestamp, price, volume, side, order_type, misc)
    SELECT s.id, :symbol, s.timestamp, s.price, s.volume, s.side, s.order_type, s.misc
    FROM staged_rows s
    WHERE s.id > 0 AND NOT EXISTS (
        SELECT 1 FROM stored_trades t
        WHERE t.id = s.id AND (t.timestamp, t.price, t.volume, t.side, t.order_type, t.misc)
              IS NOT DISTINCT FROM (s.timestamp, s.price, s.volume, s.side, s.order_type, s.misc))
    ON CONFLICT DO NOTHING
"""
_INSERT_ANONYMOUS = """
    INSERT INTO trades (symbol, timestamp, price, volume, side, order_type, misc)
    SELECT :symbol, timestamp, price, volume, side, order_type, misc FROM (
        SELECT a.* FROM staged_anonymous a JOIN staged_replaced r ON r.second = a.second
        WHERE a.inside AND NOT a.known
        UNION ALL
        SELECT a.* FROM staged_anonymous a JOIN staged_edges e ON e.line = a.line WHERE e.missing
    ) wanted ORDER BY line
"""
_APPEND_ANONYMOUS = """
    INSERT INTO trades (symbol, timestamp, price, volume, side, order_type, misc)
    SELECT :symbol, timestamp, price, volume, side, order_type, misc
    FROM (SELECT * FROM staged_rows WHERE id IS NULL ORDER BY line) s
"""


# What a stored trade does not know contradicts nothing.
_SAME_CONTENT = """
    t.price = s.price AND t.volume = s.volume AND COALESCE(NULLIF(t.side, '') = s.side, true)
    AND COALESCE(NULLIF(t.order_type, '') = s.order_type, true)
    AND COALESCE(NULLIF(t.misc, '') = NULLIF(s.misc, ''), true)
"""
_AGREEMENT = f"""
    SELECT count(*) FILTER (WHERE {_SAME_CONTENT}) AS same,
           count(*) FILTER (WHERE NOT ({_SAME_CONTENT})) AS other
    FROM stored_trades t JOIN staged_rows s ON s.id = t.id
"""
# Trades without an id are compared as multisets: of equal ones as many stay as the official record has.
_UNOFFICIAL = text(f"""
    INSERT INTO obsolete_trades
    SELECT t.timestamp, t.id FROM stored_trades t
    WHERE t.timestamp <@ :minutes AND t.id > 0
      AND NOT EXISTS (SELECT 1 FROM unnest(:firsts, :lasts) AS unserved(first, last)
                      WHERE t.id BETWEEN unserved.first AND unserved.last)
      AND NOT EXISTS (SELECT 1 FROM staged_rows s
                      WHERE s.id = t.id AND {_SAME_CONTENT}
                        AND s.timestamp BETWEEN t.timestamp - :apart AND t.timestamp + :apart)
    UNION ALL
    SELECT timestamp, id FROM (
        SELECT t.timestamp, t.id,
               row_number() OVER (PARTITION BY t.timestamp, t.price, t.volume, t.side, t.order_type
                                  ORDER BY t.id) > COALESCE(o.count, 0) AS is_too_many
        FROM stored_trades t LEFT JOIN (
            SELECT timestamp, price, volume, side, order_type, count(*) AS count
            FROM staged_rows WHERE id IS NULL GROUP BY 1, 2, 3, 4, 5
        ) o ON (o.timestamp, o.price, o.volume, o.side, o.order_type)
             = (t.timestamp, t.price, t.volume, t.side, t.order_type)
        WHERE t.timestamp <@ :minutes AND t.id < 0
    ) anonymous WHERE is_too_many
""").bindparams(
    bindparam("minutes", type_=TSTZMULTIRANGE),
    bindparam("firsts", type_=ARRAY(BigInteger)),
    bindparam("lasts", type_=ARRAY(BigInteger)),
    bindparam("apart", type_=Interval),
)
_CONTRADICTING = f"""
    SELECT count(*) FROM stored_trades t JOIN staged_rows s ON s.id = t.id WHERE NOT ({_SAME_CONTENT})
"""
_ONLY_INSIDE = text("DELETE FROM staged_rows WHERE NOT timestamp <@ :minutes").bindparams(
    bindparam("minutes", type_=TSTZMULTIRANGE)
)
_FORGET_OBSOLETE = """
    DELETE FROM stored_trades t USING obsolete_trades o WHERE t.id = o.id AND t.timestamp = o.timestamp
"""


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


@dataclass(frozen=True, slots=True)
class Anonymous:
    """What is to become of the trades without ids."""

    added: int = 0
    removed: int = 0
    known: int = 0
    disputed: int = 0


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A staged trade that is stored under the same id with another content; ``line`` counts from 1."""

    line: int
    trade_id: int
    stored: str
    staged: str


@dataclass(frozen=True, slots=True)
class Window:
    """Where stored trades matter to a batch: all that may be the same. Times are inclusive."""

    symbol: str
    start: datetime
    end: datetime
    first_id: int
    """Stored trades with smaller ids are none of the batch; 0 where one without an id may be any."""
    below: int = 0
    """Stored trades with smaller ids matter too: all that have none of Kraken's, unless it is said
    otherwise."""


@lru_cache
def _facts(rules: tuple[Rule, ...]) -> TextClause:
    return text(_FACTS.format(broken=broken(rules)))


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
        return await copy_csv_in(self._connection, "staged_trades", columns, source)

    async def inspect(self, rules: tuple[Rule, ...], values: Mapping[str, Any]) -> StagedFacts | Problem:
        """Look at all staged rows once: none may break a rule. ``values`` are what the rules compare with.

        A trade that is there twice, the same both times, is one from here on.
        """
        found = (await self._connection.execute(_facts(rules), values)).one()
        if found.broken:
            return await first_problem(self._connection, _NUMBERED, rules, values, found.broken)
        rows, identified = found.rows, found.identified
        if found.may_repeat:
            repeated = (await self._connection.execute(text(_REPEATED))).rowcount
            rows, identified = rows - repeated, identified - repeated
            twice = (await self._connection.execute(text(_CONTRADICTING_IDS))).first()
            if twice is not None:
                return Problem(
                    twice.line, f"the trade id {twice.trade_id} is there twice, with other content", 1
                )
        return StagedFacts(rows, identified, _stamp(found.first), _stamp(found.last), found.first_id or 0)

    async def insert(self, window: Window) -> int:
        """Write all that is staged, of one symbol, unless there are stored trades that matter; how many."""
        return (await self._connection.execute(text(_insert(1)), _values([window]))).rowcount

    async def insert_each(self, windows: Sequence[Window]) -> dict[str, int]:
        """The same of several symbols; how many rows, by symbol: all of it or nothing."""
        counted = f"WITH done AS ({_insert(len(windows))} RETURNING symbol)"
        rows = await self._connection.execute(
            text(f"{counted} SELECT symbol, count(*) FROM done GROUP BY symbol"), _values(windows)
        )
        return {name: count for name, count in rows}  # noqa: C416

    async def id_runs(self) -> list[IdRun]:
        """The staged ids as runs without a hole, in their order."""
        return [IdRun(*row) for row in await self._connection.execute(text(_RUNS))]

    async def merge(self, window: Window, *, may_have_ids: bool, jitter: timedelta) -> TradeMerge:
        """Begin to merge the staged rows of one symbol with what is stored."""
        await self._connection.execute(
            text("DROP TABLE IF EXISTS pg_temp.staged_rows, pg_temp.stored_trades")
        )
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


class TradeMerge:
    """The steps of a merge of the staged rows of one symbol, in about the order in which they are taken.

    ``may_have_ids``: whether a row without an id may be of a trade that is stored with one, as in archives
    and recordings. Where Kraken's REST gives a trade no id, it is none of those that have. ``jitter``: stamps
    of one trade are at most so far apart.
    """

    def __init__(
        self, connection: AsyncConnection, window: Window, *, may_have_ids: bool, jitter: timedelta
    ) -> None:
        self._connection = connection
        self._values = {
            "symbol": window.symbol,
            "start": window.start,
            "end": window.end,
            "may_have_ids": may_have_ids,
            "jitter": jitter,
        }
        self._obsolete = 0

    async def begin(self) -> None:
        """Copy the staged and the stored trades that matter."""
        await self._run(_ROWS)
        await self._run("ANALYZE staged_rows")
        await self._run("DROP TABLE IF EXISTS pg_temp.obsolete_trades")
        await self._run(_OBSOLETE)
        await self._run(_SNAPSHOT)
        await self._run("ANALYZE stored_trades")

    async def adopt_stored(self) -> None:
        """Where a trade is stored, take its stamp, and what the new row does not say."""
        await self._run(_ADOPT)

    async def first_contradiction(self) -> Contradiction | None:
        """The first row that is stored under its id with another content."""
        found = (await self._connection.execute(text(_CONFLICT))).first()
        return None if found is None else Contradiction(*found)

    async def set_contradictions_aside(self) -> list[Contradiction]:
        """Take the rows that contradict a stored trade out of what is merged."""
        found = (await self._connection.execute(text(_SET_ASIDE))).all()
        return [
            Contradiction(line, number, old.strip(), new.strip()) for line, number, old, new in sorted(found)
        ]

    async def agreement(self) -> tuple[int, int]:
        """How many staged trades are stored with the same content, and how many with another one."""
        same, other = (await self._connection.execute(text(_AGREEMENT))).one()
        return same, other

    async def keep_only(
        self, minutes: Sequence[TimeRange], unserved: Sequence[tuple[int, int]], apart: timedelta
    ) -> int:
        """The staged trades are all that the official record has of these minutes: nothing else may stay.

        What is staged beyond the minutes only shows what lies near their borders. Stored trades stay whose
        ids the record itself does not have (``unserved``, both ends inclusive). Returns how many have to
        go.
        """
        inside = to_multirange(minutes)
        done = await self._connection.execute(
            _UNOFFICIAL,
            {
                "minutes": inside,
                "firsts": [first for first, _ in unserved],
                "lasts": [last for _, last in unserved],
                "apart": apart,
            },
        )
        self._obsolete += done.rowcount
        await self._run(_FORGET_OBSOLETE)
        await self._connection.execute(_ONLY_INSIDE, {"minutes": inside})
        return done.rowcount

    async def contradictions(self) -> int:
        """How many staged trades are stored with another content."""
        return await self._connection.scalar(text(_CONTRADICTING)) or 0

    async def find_outdated(self) -> int:
        """How many stored trades are not just as the batch has them."""
        count = await self._run(_OUTDATED)
        self._obsolete += count
        return count

    async def decide_anonymous(self) -> Anonymous:
        """Pair the trades without ids, here and there, with each other and with those that have one."""
        tables = {
            "staged_inside": _INSIDE,
            "staged_anonymous": _ANONYMOUS,
            "staged_disputed": _DISPUTED,
            "staged_replaced": _REPLACED,
            "staged_edges": _EDGES,
        }
        for name, statement in tables.items():
            await self._run(f"DROP TABLE IF EXISTS pg_temp.{name}")
            await self._run(statement)
            await self._run(f"ANALYZE {name}")
        self._obsolete += await self._run(_GONE)
        counts = (await self._connection.execute(text(_COUNTS))).one()
        return Anonymous(*map(int, counts))

    async def forget_known(self) -> None:
        """Take out the rows without ids that stored trades with ids account for."""
        await self._run(_KNOWN)

    async def touched_minutes(self) -> list[datetime]:
        """The minutes that a stored trade leaves, or that its new version enters."""
        return list(await self._connection.scalars(text(_TOUCHED))) if self._obsolete else []

    async def delete_obsolete(self) -> None:
        # A DELETE that finds nothing would still unpack every compressed chunk in its range.
        if not self._obsolete:
            return
        # With the index, every plan for the join is about linear, whatever is believed of ``trades``.
        await self._run("CREATE INDEX ON obsolete_trades (id)")
        await self._run("ANALYZE obsolete_trades")
        await self._run(_DELETE)

    async def insert_with_ids(self) -> int:
        return await self._run(_INSERT_IDS)

    async def insert_anonymous(self) -> int:
        """Those that ``decide_anonymous`` has found missing, in their order."""
        return await self._run(_INSERT_ANONYMOUS)

    async def append_anonymous(self) -> int:
        """All rows without an id, in their order."""
        return await self._run(_APPEND_ANONYMOUS)

    async def _run(self, statement: str) -> int:
        used = {name: value for name, value in self._values.items() if f":{name}" in statement}
        return (await self._connection.execute(text(statement), used)).rowcount


async def _lines(trades: Mapping[str, Iterable[StorableTrade]]) -> AsyncIterator[bytes]:
    """CSV in the order of ``_RECORD_COLUMNS``; the id 0 stands for none."""
    for symbol, own in trades.items():
        yield "".join([_line(symbol, trade) for trade in own]).encode()


def _line(symbol: str, trade: StorableTrade) -> str:
    since = trade.timestamp - _EPOCH
    return (
        f"{symbol},{since.days * 86400 + since.seconds}.{since.microseconds:06},{trade.price},{trade.volume},"
        f"{trade.side},{trade.order_type or ''},{_quoted(trade.misc)},{trade.trade_id or 0}\n"
    )


def _quoted(flags: str | None) -> str:
    return '"' + flags.replace('"', '""') + '"' if flags else ""


def _stamp(seconds: Decimal) -> datetime:
    return _EPOCH + timedelta(microseconds=int(seconds * 1_000_000))

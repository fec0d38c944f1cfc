"""Trades without ids, as they meet the stored ones: steps of a ``TradeMerge``.

They are compared second by second, as multisets, for archives may have whole seconds:

- A row that a stored trade with an id of the same second, price and volume accounts for is *known*.
  Trades whose id is in the batch itself account for nothing: the row beside them is another trade.
- A second *inside* what the batch shows gets what the batch has. If the batch and the stored ids each have
  trades that the other lacks, the second is *disputed*: it stays as it is and is not claimed as complete.
- The first and the last second of a stretch may have been cut anywhere: there nothing is taken away
  but what a trade with an id replaces, and only what is missing is added.

Rows are paired by window functions, not by joins: after a bulk load the statistics of a table say that it is
empty, and a planner that believes them joins row by row.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

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


@dataclass(frozen=True, slots=True)
class Anonymous:
    """What is to become of the trades without ids."""

    added: int = 0
    removed: int = 0
    known: int = 0
    disputed: int = 0


class AnonymousMerge:
    """The steps for trades without ids. ``run``: runs a statement, with the parameters of the merge."""

    def __init__(self, connection: AsyncConnection, run: Callable[[str], Awaitable[int]]) -> None:
        self._connection = connection
        self._run = run
        self.obsolete = 0
        """How many stored rows have to go."""

    async def decide(self) -> Anonymous:
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
        self.obsolete += await self._run(_GONE)
        counts = (await self._connection.execute(text(_COUNTS))).one()
        return Anonymous(*map(int, counts))

    async def forget_known(self) -> None:
        """Take out the rows without ids that stored trades with ids account for."""
        await self._run(_KNOWN)

    async def insert(self) -> int:
        """Those that ``decide`` has found missing, in their order."""
        return await self._run(_INSERT_ANONYMOUS)

    async def append(self) -> int:
        """All rows without an id, in their order."""
        return await self._run(_APPEND_ANONYMOUS)

"""How staged trades meet the stored ones: decided in temporary tables, then one DELETE and the INSERTs.

The stored trades around the file are copied to ``stored_trades`` and analyzed first, and no decision
looks at ``trades`` again: right after a bulk load its statistics say that there is nothing, and a planner
that believes them joins row by row. Trades without ids are paired by window functions, not by joins.

Trades without ids are compared second by second, as multisets, for archives may have whole seconds:

- A row that a stored trade with an id of the same second, price and volume accounts for is *known*.
  Trades whose id is in the file itself account for nothing: the row beside them is another trade.
- A second *inside* what the file shows gets what the file has. If the file and the stored ids each have
  trades that the other lacks, the second is *disputed*: it stays as it is and is not claimed as complete.
- The first and the last second of a stretch may have been cut anywhere: there nothing is taken away
  but what a trade with an id replaces, and only what is missing is added.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_SNAPSHOT = """
    CREATE TEMPORARY TABLE stored_trades ON COMMIT DROP AS
    SELECT timestamp, date_bin('1 second', timestamp, 'epoch') AS second,
           price, volume, side, order_type, misc, id
    FROM trades
    WHERE symbol = :symbol AND timestamp >= :start AND timestamp <= :end
"""
_OBSOLETE = "CREATE TEMPORARY TABLE obsolete_trades (timestamp timestamptz, id bigint) ON COMMIT DROP"
# What the file shows in full: runs of ids without a hole, and stretches of rows without ids.
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
          AND NOT EXISTS (SELECT FROM staged_rows s WHERE s.id = t.id)
    ), gaps AS (
        SELECT *, timestamp - lag(timestamp) OVER w < INTERVAL '5 microseconds' AS goes_on FROM seen
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
              AND NOT EXISTS (SELECT FROM staged_disputed d WHERE d.second = t.second)
        ) both_sides
        GROUP BY second, timestamp, price, volume, side, order_type, misc
    ) contents
    GROUP BY second HAVING bool_or(balance <> 0)
"""
# The seconds at the edges. Stored trades without ids are paired with those of the file: at first those
# of the same moment, then a whole second with a fine stamp (two fine stamps are two trades). Of the file,
# trades with ids come first, and only those not stored before: the others have had their partner.
_EDGES = """
    CREATE TEMPORARY TABLE staged_edges ON COMMIT DROP AS
    WITH seen AS (
        SELECT 'id' AS kind, line, id, timestamp, second, price, volume FROM staged_rows s
        WHERE id > 0 AND NOT EXISTS (SELECT FROM stored_trades t WHERE t.id = s.id)
        UNION ALL
        SELECT 'row', line, NULL, timestamp, second, price, volume FROM staged_anonymous
        WHERE NOT inside AND NOT known
        UNION ALL
        SELECT 'stored', NULL, id, timestamp, second, price, volume FROM stored_trades WHERE id < 0
    ), gaps AS (
        SELECT *, (timestamp = second) = (kind = 'stored') AS class,
               timestamp - lag(timestamp) OVER w < INTERVAL '5 microseconds' AS goes_on
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
        SELECT FROM stored_trades t
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
_INSERT_ALL_ANONYMOUS = """
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


class TradeConflictError(Exception):
    """A trade of the same id is stored with another content; ``line`` counts from 1."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


class TradeMerge:
    """The steps of a merge of ``staged_rows``; ``bounds`` are symbol, start and end of the stored trades.

    ``may_have_ids``: whether a row without an id may be of a trade that is stored with one, as in archives
    and recordings. Where Kraken's REST gives a trade no id, it is none of those that have.

    Call ``look``, then the others in the order in which they stand here.
    """

    def __init__(
        self, connection: AsyncConnection, bounds: dict[str, object], *, may_have_ids: bool = True
    ) -> None:
        self._connection = connection
        self._bounds = {**bounds, "may_have_ids": may_have_ids}

    async def look(self) -> int:
        """Copy the stored trades that matter; how many there are."""
        await self._run(_OBSOLETE)
        count = await self._run(_SNAPSHOT)
        await self._run("ANALYZE stored_trades")
        return count

    async def adopt_stored(self) -> None:
        """Where a trade is stored, take its stamp, and what the new row does not say."""
        await self._run(_ADOPT)

    async def refuse_conflicts(self) -> None:
        found = (await self._connection.execute(text(_CONFLICT))).first()
        if found is not None:
            line, trade_id, stored, staged = found
            raise TradeConflictError(
                line, f"trade {trade_id} is stored as {stored}, but the file says {staged}"
            )

    async def set_conflicts_aside(self) -> list[str]:
        """Take the rows that contradict a stored trade out of what is merged; what each of them says."""
        found = (await self._connection.execute(text(_SET_ASIDE))).all()
        return [
            f"trade {trade_id} is stored as {stored.strip()}, but came as {staged.strip()}"
            for _, trade_id, stored, staged in sorted(found)
        ]

    async def find_outdated(self) -> int:
        """How many stored trades are not just as the file has them."""
        return await self._run(_OUTDATED)

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
            await self._run(statement)
            await self._run(f"ANALYZE {name}")
        await self._run(_GONE)
        counts = (await self._connection.execute(text(_COUNTS))).one()
        return Anonymous(*map(int, counts))

    async def delete_obsolete(self) -> None:
        # With the index, every plan for the join is about linear, whatever is believed of ``trades``.
        await self._run("CREATE INDEX ON obsolete_trades (id)")
        await self._run("ANALYZE obsolete_trades")
        await self._run(_DELETE)

    async def insert_with_ids(self) -> int:
        return await self._run(_INSERT_IDS)

    async def insert_anonymous(self, *, everything: bool) -> int:
        """In the order of the file. ``everything``: there was nothing stored to compare with."""
        return await self._run(_INSERT_ALL_ANONYMOUS if everything else _INSERT_ANONYMOUS)

    async def _run(self, statement: str) -> int:
        bound = text(statement)
        used = {name: value for name, value in self._bounds.items() if f":{name}" in statement}
        return (await self._connection.execute(bound, used)).rowcount

"""Staged trades meet the stored ones: which of them is new, the same, outdated or a contradiction.

The staged rows of a symbol are in ``staged_rows``, and the stored trades around them are copied to
``stored_trades`` and analyzed. No decision looks at ``trades`` again: right after a bulk load its statistics
say that there is nothing, and a planner that believes them joins row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import BigInteger, Interval, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.multiranges import to_multirange
from kraken_db.ranges import TimeRange
from kraken_db.repositories.anonymous_merge import AnonymousMerge

NO_ID = -(2**63)
"""Smaller than every id."""
_SNAPSHOT = """
    CREATE TEMPORARY TABLE stored_trades ON COMMIT DROP AS
    SELECT timestamp, date_bin('1 second', timestamp, 'epoch') AS second,
           price, volume, side, order_type, misc, id
    FROM trades
    WHERE symbol = :symbol AND timestamp >= :start AND timestamp <= :end
"""
_OBSOLETE = "CREATE TEMPORARY TABLE obsolete_trades (timestamp timestamptz, id bigint) ON COMMIT DROP"
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
        self.anonymous = AnonymousMerge(connection, self._run)

    async def begin(self) -> None:
        """Copy the stored trades that matter."""
        await self._run("DROP TABLE IF EXISTS pg_temp.obsolete_trades, pg_temp.stored_trades")
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

    async def touched_minutes(self) -> list[datetime]:
        """The minutes that a stored trade leaves, or that its new version enters."""
        return list(await self._connection.scalars(text(_TOUCHED))) if self._any_obsolete else []

    async def delete_obsolete(self) -> None:
        # A DELETE that finds nothing would still unpack every compressed chunk in its range.
        if not self._any_obsolete:
            return
        # With the index, every plan for the join is about linear, whatever is believed of ``trades``.
        await self._run("CREATE INDEX ON obsolete_trades (id)")
        await self._run("ANALYZE obsolete_trades")
        await self._run(_DELETE)

    async def insert_with_ids(self) -> int:
        return await self._run(_INSERT_IDS)

    @property
    def _any_obsolete(self) -> bool:
        return self._obsolete + self.anonymous.obsolete > 0

    async def _run(self, statement: str) -> int:
        used = {name: value for name, value in self._values.items() if f":{name}" in statement}
        return (await self._connection.execute(text(statement), used)).rowcount

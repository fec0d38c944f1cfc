"""Kraken's own record of some minutes takes the place of what is stored of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, Interval, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TSTZMULTIRANGE
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.db.multiranges import to_multirange
from kraken_db.errors import ConflictingTradesError
from kraken_db.ranges import TimeRange
from kraken_db.repositories.trade_batch import (
    MOST_CONFLICTS,
    SAME_TRADE,
    StorableTrade,
    TradeBatch,
    trade_lines,
)

_COLUMNS = ["line", "timestamp", "price", "volume", "side", "order_type", "misc", "id"]
_TABLE = """
    CREATE TEMPORARY TABLE official_trades (
        line integer, timestamp timestamptz, price numeric, volume numeric, side text, order_type text,
        misc text, id bigint
    ) ON COMMIT DROP
"""
# What a stored trade does not know contradicts nothing.
_SAME_CONTENT = """
    t.price = o.price AND t.volume = o.volume AND COALESCE(NULLIF(t.side, '') = o.side, true)
    AND COALESCE(NULLIF(t.order_type, '') = o.order_type, true)
    AND COALESCE(NULLIF(t.misc, '') = NULLIF(o.misc, ''), true)
"""
_INSIDE = "t.symbol = :symbol AND t.timestamp >= :start AND t.timestamp < :end AND t.timestamp <@ :minutes"
_CONTRADICTING = text(f"""
    SELECT count(*) FROM trades t JOIN official_trades o ON o.id = t.id
    WHERE {_INSIDE} AND t.id > 0 AND NOT ({_SAME_CONTENT})
""").bindparams(bindparam("minutes", type_=TSTZMULTIRANGE))
_AGREEMENT = text(f"""
    SELECT count(*) FILTER (WHERE {_SAME_CONTENT}) AS same,
           count(*) FILTER (WHERE NOT ({_SAME_CONTENT})) AS other
    FROM trades t JOIN official_trades o ON o.id = t.id
    WHERE t.symbol = :symbol AND t.timestamp >= :start AND t.timestamp <= :end AND t.id > 0
""")
_DELETE = text(f"""
    DELETE FROM trades t
    WHERE {_INSIDE} AND t.id > 0
      AND NOT EXISTS (SELECT FROM unnest(:firsts, :lasts) AS unserved(first, last)
                      WHERE t.id BETWEEN unserved.first AND unserved.last)
      AND NOT EXISTS (SELECT FROM official_trades o
                      WHERE o.id = t.id AND {_SAME_CONTENT}
                        AND o.timestamp BETWEEN t.timestamp - :apart AND t.timestamp + :apart)
""").bindparams(
    bindparam("minutes", type_=TSTZMULTIRANGE),
    bindparam("firsts", type_=ARRAY(BigInteger)),
    bindparam("lasts", type_=ARRAY(BigInteger)),
    bindparam("apart", SAME_TRADE, Interval),
)
# Trades without an id are compared as multisets: of equal ones as many stay as Kraken has.
_DELETE_ANONYMOUS = text(f"""
    DELETE FROM trades d USING (
        SELECT t.timestamp, t.id,
               row_number() OVER (PARTITION BY t.timestamp, t.price, t.volume, t.side, t.order_type
                                  ORDER BY t.id) > COALESCE(o.count, 0) AS is_too_many
        FROM trades t LEFT JOIN (
            SELECT timestamp, price, volume, side, order_type, count(*) AS count
            FROM official_trades WHERE id = 0 GROUP BY 1, 2, 3, 4, 5
        ) o ON (o.timestamp, o.price, o.volume, o.side, o.order_type)
             = (t.timestamp, t.price, t.volume, t.side, t.order_type)
        WHERE {_INSIDE} AND t.id < 0
    ) old
    WHERE old.is_too_many AND d.symbol = :symbol AND d.timestamp >= :start AND d.timestamp < :end
      AND d.timestamp = old.timestamp AND d.id = old.id
""").bindparams(bindparam("minutes", type_=TSTZMULTIRANGE))


@dataclass(frozen=True, slots=True)
class Replaced:
    """What was done to the table."""

    deleted: int
    """Trades that Kraken does not have, or not so."""
    new: int
    changed: int
    """Trades that took Kraken's time stamp, or what they lacked."""


class OfficialRecord:
    """Replaces trades of one symbol inside the caller's transaction; never commits.

    Hold ``lock_job(connection, "trades", of=symbol)``, as for ``TradeBatch``.
    """

    def __init__(self, connection: AsyncConnection, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def agrees(self, trades: Sequence[StorableTrade]) -> bool:
        """Whether trades of Kraken's, in order of time, are of the market that is stored: most ids that both
        have are of the same trade. True where they have none in common.
        """
        if not trades:
            return True
        await self._stage(trades)
        start, end = trades[0].timestamp - SAME_TRADE, trades[-1].timestamp + SAME_TRADE
        wanted = {"symbol": self._symbol, "start": start, "end": end}
        row = (await self._connection.execute(_AGREEMENT, wanted)).one()
        return bool(row.same >= row.other)

    async def replace(
        self,
        trades: Sequence[StorableTrade],
        minutes: Sequence[TimeRange],
        unserved: Sequence[tuple[int, int]],
    ) -> Replaced:
        """Make what is stored of ``minutes`` what ``trades`` have of them, which is all that Kraken has.

        ``trades``, in order of time, reach a second beyond the minutes at both ends: a live stamp may lie on
        the other side of a border. Stored trades whose ids Kraken itself does not have (``unserved``, both
        ends inclusive) stay.

        Raises ConflictingTradesError where so much differs that this is another market.
        """
        wanted = {
            "symbol": self._symbol,
            "start": minutes[0][0],
            "end": minutes[-1][1],
            "minutes": to_multirange(minutes),
        }
        await self._stage(trades)
        await self._refuse_another_market(wanted)
        ids = {"firsts": [first for first, _ in unserved], "lasts": [last for _, last in unserved]}
        deleted = (await self._connection.execute(_DELETE, {**wanted, **ids})).rowcount
        deleted += (await self._connection.execute(_DELETE_ANONYMOUS, wanted)).rowcount
        inside = [trade for trade in trades if _is_in(trade.timestamp, minutes)]
        written = await TradeBatch(self._connection, self._symbol).write(inside, may_have_ids=False)
        return Replaced(deleted + written.removed, written.new, written.changed)

    async def _stage(self, trades: Sequence[StorableTrade]) -> None:
        await self._connection.execute(text("DROP TABLE IF EXISTS pg_temp.official_trades"))
        await self._connection.execute(text(_TABLE))
        if trades:
            await copy_csv_in(self._connection, "official_trades", _COLUMNS, trade_lines(trades))
        await self._connection.execute(text("CREATE INDEX ON official_trades (id)"))
        await self._connection.execute(text("ANALYZE official_trades"))

    async def _refuse_another_market(self, wanted: dict[str, object]) -> None:
        count = await self._connection.scalar(_CONTRADICTING, wanted) or 0
        if count > MOST_CONFLICTS:
            raise another_market(self._symbol)


def another_market(symbol: str) -> ConflictingTradesError:
    return ConflictingTradesError(
        f"{symbol}: the stored trades are not those of this exchange; nothing was replaced",
        hint="this database was filled from another exchange or simulator: see KRAKEN_BASE_URL",
    )


def _is_in(moment: datetime, ranges: Sequence[TimeRange]) -> bool:
    return any(start <= moment < end for start, end in ranges)

"""Trades in small batches, as they come from Kraken: pages of REST, and whatever else has them as objects.

What a batch costs decides how fast history is downloaded. So the usual batch, newer than all that is stored,
is one COPY and one INSERT. Where the store has trades around it, it goes the long way of ``trade_merge``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Protocol

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from kraken_db.db.copy import copy_csv_in
from kraken_db.errors import ConflictingTradesError, ValueDoesNotFitError
from kraken_db.models import AMOUNT_PRECISION, AMOUNT_SCALE, PRICE_PRECISION, PRICE_SCALE
from kraken_db.repositories.trade_merge import Anonymous, TradeMerge

SAME_TRADE = timedelta(seconds=1)
"""How far apart two stamps of one trade are at most: REST and WebSocket differ by about a microsecond."""
MOST_CONFLICTS = 100
"""Contradictions in one batch that are still taken for single mistakes."""

_COLUMNS = ["line", "timestamp", "price", "volume", "side", "order_type", "misc", "id"]
# Kept for the connection: made for each batch it would be a third of the batch's time. Amounts have no width
# here: what does not fit the table is told by its name, and never rounded.
_TABLE = """
    CREATE TEMPORARY TABLE IF NOT EXISTS batch_trades (
        line integer, timestamp timestamptz, price numeric, volume numeric, side text, order_type text,
        misc text, id bigint
    ) ON COMMIT DELETE ROWS
"""
_PRICE_BOUND = 10 ** (PRICE_PRECISION - PRICE_SCALE)
_AMOUNT_BOUND = 10 ** (AMOUNT_PRECISION - AMOUNT_SCALE)
_UNFIT = f"""
    scale(price) > {PRICE_SCALE} AND price <> round(price, {PRICE_SCALE}) OR price >= {_PRICE_BOUND}
    OR scale(volume) > {AMOUNT_SCALE} AND volume <> round(volume, {AMOUNT_SCALE}) OR volume >= {_AMOUNT_BOUND}
"""
_LOOK = f"""
    SELECT EXISTS (SELECT FROM batch_trades WHERE {_UNFIT}),
           EXISTS (SELECT FROM trades WHERE symbol = :symbol AND timestamp >= :start AND timestamp <= :end
                   AND (id < 0 OR id >= :first_id))
"""
_FIRST_UNFIT = f"SELECT id, timestamp, price, volume FROM batch_trades WHERE {_UNFIT} ORDER BY line LIMIT 1"
_FIELDS = "price, volume, side, NULLIF(order_type, '') AS order_type, misc"
INSERT_STAGED = f"""
    INSERT INTO trades (id, symbol, timestamp, price, volume, side, order_type, misc)
    SELECT COALESCE(NULLIF(id, 0), nextval('trades_id_seq')), :symbol, timestamp, {_FIELDS}
    FROM (SELECT * FROM batch_trades ORDER BY line) b
    ON CONFLICT DO NOTHING
"""
_ROWS = f"""
    CREATE TEMPORARY TABLE staged_rows ON COMMIT DROP AS
    SELECT line, timestamp, {_FIELDS}, NULLIF(id, 0) AS id, date_bin('1 second', timestamp, 'epoch') AS second
    FROM batch_trades
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
class TradesWritten:
    """What a batch did to the table."""

    new: int = 0
    changed: int = 0
    """Stored trades that took the official stamp, or what they lacked."""
    removed: int = 0
    """Stored trades without an id that the new ones took the place of."""
    conflicts: tuple[str, ...] = ()
    """Trades that are stored under the same id with another content, one line each: left as they are."""


class TradeBatch:
    """Writes trades of one symbol inside the caller's transaction; never commits.

    One writer of a symbol at a time: hold ``lock_job(connection, "trades", of=symbol)``.
    """

    def __init__(self, connection: AsyncConnection, symbol: str) -> None:
        self._connection = connection
        self._symbol = symbol

    async def write(
        self, trades: Sequence[StorableTrade], *, may_have_ids: bool = True, is_official: bool = True
    ) -> TradesWritten:
        """Write the trades, in order of time, that are not stored yet.

        Trades with an id are known by it: a stored one takes the stamp of the new one, which is the official
        record, and what it lacks. Unless ``is_official``, the stored stamp stays. Trades without an id meet
        stored ones as ``trade_merge`` says, and only those without one where the source would give them
        theirs (``may_have_ids=False``).

        Raises ValueDoesNotFitError for a price or volume that the table cannot hold, and
        ConflictingTradesError where more than ``MOST_CONFLICTS`` official ones contradict the stored ones.
        """
        if not trades:
            return TradesWritten()
        await stage_trades(self._connection, trades)
        bounds: dict[str, object] = {
            "symbol": self._symbol,
            "start": trades[0].timestamp - SAME_TRADE,
            "end": trades[-1].timestamp + SAME_TRADE,
        }
        ids = [trade.trade_id or 0 for trade in trades]
        # Stored trades from before the first id matter where one without an id may be one of them.
        first_id = min(ids if may_have_ids else filter(None, ids), default=0)
        unfit, any_stored = (
            await self._connection.execute(text(_LOOK), {**bounds, "first_id": first_id})
        ).one()
        if unfit:
            await self._refuse_unfit()
        if not any_stored:
            result = await self._connection.execute(text(INSERT_STAGED), {"symbol": self._symbol})
            if result.rowcount == len(trades):
                return TradesWritten(new=result.rowcount)
        return await self._merge(bounds, may_have_ids, is_official)

    async def _refuse_unfit(self) -> None:
        trade = (await self._connection.execute(text(_FIRST_UNFIT))).one()
        raise ValueDoesNotFitError(
            f"trade {trade.id or 'without an id'} of {self._symbol} at {trade.timestamp.isoformat()}:"
            f" price {trade.price} does not fit NUMERIC({PRICE_PRECISION},{PRICE_SCALE}), or"
            f" volume {trade.volume} does not fit NUMERIC({AMOUNT_PRECISION},{AMOUNT_SCALE})"
        )

    async def _merge(self, bounds: dict[str, object], may_have_ids: bool, is_official: bool) -> TradesWritten:
        """The long way: decide for each trade what it is to the stored ones."""
        await self._connection.execute(text("DROP TABLE IF EXISTS pg_temp.staged_rows"))
        await self._connection.execute(text(_ROWS))
        await self._connection.execute(text("ANALYZE staged_rows"))
        merge = TradeMerge(self._connection, bounds, may_have_ids=may_have_ids)
        await merge.look()
        if not is_official:
            await merge.adopt_stored()
        conflicts = await merge.set_conflicts_aside()
        if is_official and len(conflicts) > MOST_CONFLICTS:
            raise ConflictingTradesError(
                f"{self._symbol}: {len(conflicts)} trades contradict the stored ones; {conflicts[0]}",
                hint="this database was filled from another exchange or simulator: use a database for each",
            )
        outdated = await merge.find_outdated()
        anonymous: Anonymous = await merge.decide_anonymous()
        await merge.delete_obsolete()
        inserted = await merge.insert_with_ids()
        await merge.insert_anonymous(everything=False)
        return replace(
            TradesWritten(conflicts=tuple(conflicts)),
            new=inserted - outdated + anonymous.added,
            changed=outdated,
            removed=anonymous.removed,
        )


async def stage_trades(connection: AsyncConnection, trades: Sequence[StorableTrade]) -> None:
    """Have these trades, and no others, in the table ``batch_trades``."""
    await connection.execute(text(_TABLE))
    await connection.execute(text("DELETE FROM batch_trades"))
    await copy_csv_in(connection, "batch_trades", _COLUMNS, trade_lines(trades))


async def trade_lines(trades: Sequence[StorableTrade]) -> AsyncIterator[bytes]:
    """As CSV, in their order: number, time, price, volume, side, order type, misc and id (0: none)."""
    yield "".join([csv_line(line, trade) for line, trade in enumerate(trades)]).encode()


def csv_line(line: int, trade: StorableTrade) -> str:
    """A trade as COPY takes it, in the order of the staging tables' columns."""
    return (
        f"{line},{trade.timestamp.isoformat()},{trade.price},{trade.volume},{trade.side},"
        f"{trade.order_type or ''},{_quoted(trade.misc)},{trade.trade_id or 0}\n"
    )


def _quoted(flags: str | None) -> str:
    return '"' + flags.replace('"', '""') + '"' if flags else ""

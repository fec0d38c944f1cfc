"""Kraken's own record of some minutes takes the place of what is stored of them: trades and their candles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kraken_db.data_types import DataType
from kraken_db.errors import ConflictingTradesError
from kraken_db.ingest.candles import overwrite_from_trades
from kraken_db.ingest.trades import MOST_CONFLICTS, REST, finish_merge, rebuild_touched, stage_trades
from kraken_db.ingest.write_unit import WriteTransaction
from kraken_db.ranges import TimeRange, difference
from kraken_db.repositories.audit import TradeAudit
from kraken_db.repositories.trade_merge import StagedTrades, StorableTrade, Window
from kraken_db.store import Store
from kraken_db.tolerances import SAME_TRADE, STAMP_JITTER


@dataclass(frozen=True, slots=True)
class Replaced:
    """What was done to the tables."""

    deleted: int
    """Trades that Kraken does not have, or not so."""
    new: int
    changed: int
    """Trades that took Kraken's time stamp, or what they lacked."""
    candles: int
    """Candles that were not what the trades say."""


async def is_same_market(store: Store, symbol: str, trades: Sequence[StorableTrade]) -> bool:
    """Whether trades of Kraken's, in order of time, are of the market that is stored: most ids that both
    have are of the same trade. True where they have none in common.
    """
    if not trades:
        return True
    async with store.database.read() as connection:
        staged = StagedTrades(connection)
        await staged.copy_records({symbol: trades})
        window = Window(symbol, trades[0].timestamp - SAME_TRADE, trades[-1].timestamp + SAME_TRADE, 0)
        merge = await staged.merge(window, may_have_ids=False, jitter=STAMP_JITTER)
        same, other = await merge.agreement()
    return same >= other


def another_market(symbol: str) -> ConflictingTradesError:
    return ConflictingTradesError(
        f"{symbol}: the stored trades are not those of this exchange; nothing was replaced",
        hint="this database was filled from another exchange or simulator: see KRAKEN_BASE_URL",
    )


async def replace_minutes(
    transaction: WriteTransaction,
    symbol: str,
    trades: Sequence[StorableTrade],
    minutes: Sequence[TimeRange],
    *,
    unserved: Sequence[tuple[int, int]],
    missing: Sequence[TimeRange],
    candles: Sequence[TimeRange],
) -> Replaced:
    """Make what is stored of ``minutes`` what ``trades`` have of them, which is all that Kraken has.

    ``trades``, in order of time, reach a second beyond the minutes at both ends: a live stamp may lie on
    the other side of a border. ``unserved``: ids that Kraken itself does not have, both ends inclusive;
    ``missing``: the minutes that these lie in, which do not count as complete. ``candles``: of which of the
    minutes there have to be candles.

    Raises ConflictingTradesError where so much differs that this is another market.
    """
    unit = transaction.unit(symbol, DataType.TRADES)
    start, end = minutes[0][0], minutes[-1][1]
    # What was covered has been counted when it was stored.
    uncounted = difference(minutes, await unit.covered())
    audit = TradeAudit(transaction.connection, symbol)
    before = await audit.count(uncounted)
    await unit.begin(start, end)
    if trades:
        await stage_trades(transaction, symbol, REST, trades)
    else:
        await transaction.trades.copy_records({})
    window = Window(symbol, start - SAME_TRADE, end + SAME_TRADE, 0)
    merge = await transaction.trades.merge(window, may_have_ids=False, jitter=STAMP_JITTER)
    if await merge.contradictions() > MOST_CONFLICTS:
        raise another_market(symbol)
    deleted = await merge.keep_only(minutes, unserved, SAME_TRADE)
    await merge.set_contradictions_aside()
    written = await finish_merge(merge, REST)
    added = await audit.count(uncounted) - before
    inside = [one for one in trades if any(first <= one.timestamp < last for first, last in minutes)]
    if inside:
        unit.wrote(inside[0].timestamp, inside[-1].timestamp, added)
    unit.mark_complete(REST.source, difference(minutes, missing))
    wanted = difference(candles, missing)
    rebuilt = await overwrite_from_trades(transaction, symbol, wanted, REST.source)
    # A trade may have come from the minute next to these.
    await rebuild_touched(transaction, symbol, written, REST.source)
    return Replaced(deleted + written.removed, written.new, written.changed, rebuilt)

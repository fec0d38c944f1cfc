"""The end of a pair that Kraken has delisted: what is stored is all that there will be."""

from __future__ import annotations

from datetime import datetime

from kraken_db.data_types import DataType
from kraken_db.ingest.write_unit import keys_with_trades, write_transaction
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval
from kraken_db.ranges import TICK, TimeRange, difference
from kraken_db.repositories.coverage import CoverageRepository, Source
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.store import Store
from kraken_db.tolerances import SAME_TRADE


async def note_end(
    store: Store,
    symbol: str,
    last: datetime,
    end: datetime,
    source: Source,
    *,
    has_moment: bool = False,
) -> bool:
    """A pair is off Kraken's list, and no source has a trade of it behind ``last``.

    ``source`` has shown that there is none up to ``end``: that is covered, and nothing is expected from then
    on. ``has_moment``: by their ids, all trades of the moment of the last one are stored; a claim of the live
    feed ends before it, as others might have come. Returns whether it was noted: it is not where the stored
    trades are not known up to ``last``, or one of them is newer. A newer one that is written later takes it
    back.
    """
    async with write_transaction(store, keys_with_trades(symbol)) as transaction:
        connection = transaction.connection
        status = await SyncStatusRepository(connection).get(symbol, DataType.TRADES)
        covered = await CoverageRepository(connection).covered(symbol, DataType.TRADES)
        newest = status.newest if status else None
        if newest is None or abs(newest - last) > SAME_TRADE:
            return False
        first = newest if has_moment else newest + TICK
        if not any(start <= newest and first <= stop for start, stop in covered):
            return False
        quiet = {
            DataType.TRADES: (first, end),
            DataType.CANDLES_1M: (
                ceil_to_interval(newest + TICK, BASE_INTERVAL),
                floor_to_interval(end, BASE_INTERVAL),
            ),
        }
        for data_type, span in quiet.items():
            known = await CoverageRepository(connection).covered(symbol, data_type)
            spans: list[TimeRange] = [span] if span[0] < span[1] else []
            transaction.unit(symbol, data_type).mark_complete(source, difference(spans, known))
        await transaction.ledger.end(symbol, end)
    return True


async def note_listed(store: Store, symbol: str) -> None:
    """A pair that had ended is on Kraken's list again."""
    async with write_transaction(store, keys_with_trades(symbol)) as transaction:
        await transaction.ledger.end(symbol, None)

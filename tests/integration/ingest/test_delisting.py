"""The end of a pair: what is covered then, what takes it back, and when it is not noted at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kraken_db.data_types import DataType
from kraken_db.ingest.delisting import note_end, note_listed
from kraken_db.ingest.pages import store_rows
from kraken_db.ingest.write_unit import Ingest, keys_with_trades
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.store import Store
from tests.support.downloading import coverage, ended
from tests.support.stores import opened

SYMBOL = "BTC/USD"
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
FIRST = BEGIN + timedelta(seconds=10.5)
LAST = BEGIN + timedelta(minutes=3, seconds=20.25)
END = datetime(2024, 1, 3, tzinfo=UTC)


def trade(moment: datetime, trade_id: int) -> KrakenTrade:
    return KrakenTrade.from_raw(["100.0", "1.0", moment.timestamp(), "b", "l", "", trade_id])


async def fill(store: Store, known_to: datetime) -> None:
    """Two trades; they are known from the first minute on."""
    await store_rows(store, SYMBOL, [trade(FIRST, 1), trade(LAST, 2)])
    async with Ingest(store) as ingest, ingest.transaction(keys_with_trades(SYMBOL), BEGIN) as transaction:
        for data_type in (DataType.TRADES, DataType.CANDLES_1M):
            transaction.unit(SYMBOL, data_type).mark_complete("rest_trades", [(BEGIN, known_to)])


async def test_the_time_after_the_last_trade_is_known(db_url: str) -> None:
    async with opened(db_url) as store:
        await fill(store, BEGIN + timedelta(minutes=4))
        assert await note_end(store, SYMBOL, LAST, END, "csv")
        assert await ended(db_url) == END
        for data_type in (DataType.TRADES, DataType.CANDLES_1M):
            assert await coverage(db_url, SYMBOL, data_type) == [(BEGIN, END)]
        # The next archive shows more quiet time.
        later = END + timedelta(days=91)
        assert await note_end(store, SYMBOL, LAST, later, "csv")
        assert await ended(db_url) == later
        await note_listed(store, SYMBOL)
        assert await ended(db_url) is None


async def test_a_newer_trade_takes_it_back(db_url: str) -> None:
    async with opened(db_url) as store:
        await fill(store, BEGIN + timedelta(minutes=4))
        assert await note_end(store, SYMBOL, LAST, END, "csv")
        await store_rows(store, SYMBOL, [trade(FIRST, 1), trade(LAST, 2)])  # these are known
        assert await ended(db_url) == END
        await store_rows(store, SYMBOL, [trade(LAST, 2), trade(LAST + timedelta(hours=1), 3)])
        assert await ended(db_url) is None


async def test_it_is_not_noted_where_the_last_trade_is_not_known(db_url: str) -> None:
    async with opened(db_url) as store:
        assert not await note_end(store, SYMBOL, LAST, END, "csv")  # nothing is stored
        await store_rows(store, SYMBOL, [trade(FIRST, 1), trade(LAST, 2)])
        # Others may have the stamp of the last one.
        assert not await note_end(store, SYMBOL, LAST, END, "csv")
        await fill(store, BEGIN + timedelta(minutes=4))
        # Another one is said to be the last: an older one, or one that is not stored.
        assert not await note_end(store, SYMBOL, FIRST, END, "csv")
        assert not await note_end(store, SYMBOL, LAST + timedelta(minutes=1), END, "csv")
        assert await ended(db_url) is None
        assert await coverage(db_url, SYMBOL) == [(BEGIN, BEGIN + timedelta(minutes=4))]

"""Batches of trades as they meet what is stored: by id, or by content where there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from kraken_db.data_types import DataType
from kraken_db.errors import ConflictingTradesError
from kraken_db.ingest.trades import HANDED_OVER, REST, TradesWritten, stage_trades
from kraken_db.ingest.write_unit import Ingest
from kraken_db.types import TradeRecord
from tests.support.archives import query
from tests.support.factories import EPOCH
from tests.support.stores import opened


def trade(milliseconds: int, trade_id: int | None, volume: str = "1") -> TradeRecord:
    stamp = EPOCH + timedelta(milliseconds=milliseconds)
    return TradeRecord("BTC/USD", stamp, Decimal(100), Decimal(volume), "buy", trade_id, "limit", "")


async def write(url: str, *trades: TradeRecord, may_have_ids: bool = False) -> TradesWritten:
    policy = HANDED_OVER if may_have_ids else REST
    keys = [("BTC/USD", data_type) for data_type in (DataType.TRADES, DataType.CANDLES_1M)]
    async with (
        opened(url) as store,
        Ingest(store) as ingest,
        ingest.transaction(keys, EPOCH) as transaction,
    ):
        batch = await stage_trades(transaction, "BTC/USD", policy, trades)
        return replace(await batch.store(), touched=())


@pytest.mark.parametrize(("may_have_ids", "stored"), [(True, 2), (False, 3)])
async def test_a_trade_without_an_id_beside_its_like_that_has_one(
    db_url: str, may_have_ids: bool, stored: int
) -> None:
    """A recording may show the stored trade once more; Kraken's REST shows another one."""
    await write(db_url, trade(100, 7))
    written = await write(db_url, trade(200, None), trade(1900, 8), may_have_ids=may_have_ids)
    known = int(may_have_ids)
    assert written == TradesWritten(new=stored - 1, known=known)
    again = await write(db_url, trade(200, None), trade(1900, 8), may_have_ids=may_have_ids)
    assert again == TradesWritten(known=known)
    assert await query(db_url, "SELECT count(*) FROM trades") == [(stored,)]


async def test_a_batch_twice_and_a_stamp_that_is_official(db_url: str) -> None:
    live = trade(0, 1)
    live.timestamp -= timedelta(microseconds=1)
    assert await write(db_url, live) == TradesWritten(new=1)
    assert await write(db_url, trade(0, 1), trade(5, 2)) == TradesWritten(new=1, changed=1)
    assert await write(db_url, trade(0, 1), trade(5, 2)) == TradesWritten()
    assert await query(db_url, "SELECT id, timestamp FROM trades ORDER BY id") == [
        (1, EPOCH),
        (2, EPOCH + timedelta(milliseconds=5)),
    ]


async def test_a_contradiction_is_told_and_left(db_url: str) -> None:
    await write(db_url, trade(0, 1))
    written = await write(db_url, trade(0, 1, "2"), trade(5, 2))
    assert written.new == 1
    assert written.conflicts == ("trade 1 is stored as 100 1 buy limit, but came as 100 2 buy limit",)
    assert await query(db_url, "SELECT volume FROM trades WHERE id = 1") == [(Decimal(1),)]


async def test_more_than_a_hundred_contradictions_are_another_market(db_url: str) -> None:
    """A hundred are told and left; with one more nothing of the batch is stored."""
    numbers = range(1, 102)
    await write(db_url, *(trade(number, number) for number in numbers))
    others = [trade(number, number, "2") for number in numbers]
    new = trade(200, 200)
    assert len((await write(db_url, *others[1:], new)).conflicts) == 100
    told = "BTC/USD: 101 trades contradict the stored ones; trade 1 is stored as 100 1 buy limit, but came as"
    with pytest.raises(ConflictingTradesError, match=told):
        await write(db_url, *others, trade(201, 201))
    assert await query(db_url, "SELECT max(id), max(volume) FROM trades") == [(200, Decimal(1))]

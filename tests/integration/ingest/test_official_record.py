"""Kraken's record of some minutes takes the place of what is stored of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial

import pytest

from kraken_db.errors import ConflictingTradesError
from kraken_db.ingest.official import Replaced, is_same_market, replace_minutes
from kraken_db.ingest.write_unit import Ingest, keys_with_trades
from kraken_db.ranges import TimeRange
from kraken_db.types import TradeRecord
from tests.support.archives import checksums
from tests.support.downloading import MINUTE, stored
from tests.support.factories import EPOCH
from tests.support.stores import opened

SYMBOL = "BTC/USD"
BOTH_MINUTES = (EPOCH, EPOCH + 2 * MINUTE)


def trade(seconds: float, trade_id: int, volume: int = 1) -> TradeRecord:
    stamp = EPOCH + timedelta(seconds=seconds)
    return TradeRecord(SYMBOL, stamp, Decimal(100), Decimal(volume), "buy", trade_id, "limit", "")


async def replace(url: str, trades: Sequence[TradeRecord], minutes: TimeRange) -> Replaced:
    work = partial(
        replace_minutes,
        symbol=SYMBOL,
        trades=trades,
        minutes=[minutes],
        unserved=[],
        missing=[],
        candles=[minutes],
    )
    async with opened(url) as store, Ingest(store) as ingest:
        return await ingest.write(keys_with_trades(SYMBOL), minutes[0], work)


async def test_a_minute_of_which_kraken_has_no_trade(db_url: str) -> None:
    """Its trade and its candle go; that there is nothing is known then. The minute behind it stays."""
    first, second = trade(10, 1), trade(70, 2)
    assert await replace(db_url, [first, second], BOTH_MINUTES) == Replaced(
        deleted=0, new=2, changed=0, candles=2
    )
    assert await replace(db_url, [], (EPOCH, EPOCH + MINUTE)) == Replaced(
        deleted=1, new=0, changed=0, candles=1
    )
    found = await stored(db_url, SYMBOL)
    assert [one.id for one in found.trades] == [2]
    assert [candle.timestamp for candle in found.candles] == [EPOCH + MINUTE]
    assert found.coverage == {"trades": [BOTH_MINUTES], "candles_1m": [BOTH_MINUTES]}


async def test_minutes_of_another_market_are_not_replaced(db_url: str) -> None:
    """A hundred trades of other contents are mistakes of the store, one more is another exchange."""
    await replace(db_url, [trade(number, number) for number in range(1, 102)], BOTH_MINUTES)
    before = await checksums(db_url)
    others = [trade(number, number, 2) for number in range(1, 102)]
    with pytest.raises(ConflictingTradesError, match=r"not those of this exchange; nothing was replaced"):
        await replace(db_url, others, BOTH_MINUTES)
    assert await checksums(db_url) == before
    right = trade(1, 1)
    assert await replace(db_url, [right, *others[1:]], BOTH_MINUTES) == Replaced(
        deleted=100, new=100, changed=0, candles=2
    )


async def test_most_ids_of_both_say_whether_it_is_the_same_market(db_url: str) -> None:
    await replace(db_url, [trade(number, number) for number in range(1, 4)], BOTH_MINUTES)
    same, other, another, unknown = trade(1, 1), trade(2, 2, 5), trade(3, 3, 5), trade(4, 4)
    async with opened(db_url) as store:
        assert await is_same_market(store, SYMBOL, [])
        assert await is_same_market(store, SYMBOL, [unknown])
        assert await is_same_market(store, SYMBOL, [same, other, unknown])
        assert not await is_same_market(store, SYMBOL, [same, other, another, unknown])

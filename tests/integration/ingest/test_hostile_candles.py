"""Kraken's candles that cannot be: none of an answer is stored or covered, and it is said which one it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from kraken_db.errors import ExchangeFormatError
from kraken_db.gap_filler.by_candles import CandleFiller
from kraken_db.ingest.write_unit import Ingest
from kraken_db.kraken.messages import KrakenOhlc, OhlcPage
from tests.support.archives import query
from tests.support.downloading import MINUTE, coverage
from tests.support.gap_filling import START
from tests.support.stores import opened

SYMBOL = "BTC/USD"
Rows = list[KrakenOhlc]
FIRST, HIGH, LOW, CLOSE, MEAN, VOLUME = map(Decimal, ("100", "102", "99", "101", "100.5", "2.5"))
GOOD: Rows = [KrakenOhlc(START + MINUTE * at, FIRST, HIGH, LOW, CLOSE, MEAN, VOLUME, 7) for at in range(10)]


def spoiled(**fields: Any) -> Callable[[Rows], Rows]:
    return lambda rows: [*rows[:4], replace(rows[4], **fields), *rows[5:]]


BAD: dict[str, Callable[[Rows], Rows]] = {
    "high below low": spoiled(high=Decimal(98)),
    "high below open": spoiled(open=Decimal(103)),
    "open below low": spoiled(open=Decimal(98)),
    "close above high": spoiled(close=Decimal(103)),
    "close below low": spoiled(close=Decimal("98.9999999999")),
    "vwap of 5000": spoiled(vwap=Decimal(5000)),
    "vwap of 0": spoiled(vwap=Decimal(0)),
    "vwap a little above": spoiled(vwap=Decimal("102.0000000001")),
    "a count of 10^9": spoiled(trade_count=10**9),
    "a count of 2^40": spoiled(trade_count=2**40),
    "a count of 2^63 - 1": spoiled(trade_count=2**63 - 1),
    "a negative count": spoiled(trade_count=-1),
    "a negative volume": spoiled(volume=Decimal(-1)),
    "a price of 0": spoiled(low=Decimal(0)),
    "prices of 0": spoiled(**dict.fromkeys(("open", "high", "low", "close", "vwap"), Decimal(0))),
    "a price that does not fit": spoiled(high=Decimal("1E+10")),
    "eleven decimals": spoiled(low=Decimal("98.99999999999")),
    "a volume that does not fit": spoiled(volume=Decimal("1E+28")),
    "02:12:07": spoiled(timestamp=START + MINUTE * 4.5),
    "a second off": spoiled(timestamp=START + MINUTE * 4 + MINUTE / 60),
    "two of one minute": lambda rows: [*rows[:5], replace(rows[4], close=Decimal(100)), *rows[5:]],
    "two of one minute, one with more trades": lambda rows: [*rows, replace(rows[2], trade_count=9)],
}


async def fill(url: str, rows: Sequence[KrakenOhlc]) -> None:
    page = OhlcPage("XXBTZUSD", 1, list(rows), None, None)

    async def ohlc(*_: object) -> OhlcPage:
        return page

    async with opened(url) as store, Ingest(store) as ingest:
        filler = CandleFiller(ingest, cast("Any", SimpleNamespace(ohlc=ohlc)))
        await filler.fill(SYMBOL, "XBTUSD", START, START + 10 * MINUTE)


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
async def test_a_row_that_cannot_be(plain_url: str, spoil: Callable[[Rows], Rows]) -> None:
    with pytest.raises(ExchangeFormatError, match=SYMBOL):
        await fill(plain_url, spoil(GOOD))
    assert await query(plain_url, "SELECT count(*) FROM candles") == [(0,)]
    assert await coverage(plain_url, SYMBOL, "candles_1m") == []


@pytest.mark.parametrize(
    "rows",
    [GOOD, GOOD[::-1], GOOD * 2, GOOD[:1] * 500 + GOOD[1:]],
    ids=["as it is", "newest first", "twice", "one 500 times"],
)
async def test_what_is_the_same_is_one(plain_url: str, rows: Rows) -> None:
    await fill(plain_url, rows)
    assert await query(plain_url, "SELECT count(*), sum(trade_count), min(vwap) FROM candles") == [
        (10, 70, Decimal("100.5"))
    ]
    assert await query(plain_url, "SELECT total_records FROM data_sync_status") == [(10,)]

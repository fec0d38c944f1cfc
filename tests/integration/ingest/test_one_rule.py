"""One rule of what may be stored, whoever brings it: a file, Kraken's REST or the live feed.

All of them refuse the same records, in the same words. Of a batch with such a record nothing is stored; of
what a live writer is given, all the rest is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kraken_db.data_types import DataType
from kraken_db.errors import ExchangeFormatError
from kraken_db.ingest import candles
from kraken_db.ingest.trades import REST, TradesWritten, stage_trades
from kraken_db.ingest.write_unit import Ingest, WriteTransaction
from kraken_db.types import CandleRecord, TradeRecord
from tests.support.archives import import_file, query, write
from tests.support.factories import EPOCH
from tests.support.live_writing import BTC, ids, total, writing
from tests.support.stores import opened

MINUTE = timedelta(minutes=1)
IN_2100 = datetime(2100, 1, 1, tzinfo=UTC)
IN_2012 = datetime(2012, 1, 1, tzinfo=UTC)
NOTHING = dict.fromkeys(
    ("trades", "candles", "data_sync_status", "data_coverage", "unproven_ranges", "dropped_ranges"), 0
)

WRONG_TRADES: list[tuple[str, Any, str]] = [
    ("price", Decimal(0), "the price is not above zero: 0"),
    ("price", Decimal(-1), "the price is not above zero: -1"),
    ("price", Decimal("NaN"), "price NaN does not fit NUMERIC(20,10)"),
    ("price", Decimal(10**10), "price 10000000000 does not fit NUMERIC(20,10)"),
    ("volume", Decimal(0), "the volume is not above zero: 0"),
    ("volume", Decimal("-0.5"), "the volume is not above zero: -0.5"),
    ("volume", Decimal("NaN"), "volume NaN does not fit: below 1E+18, 10 decimals at most"),
    ("volume", Decimal(10**18), f"volume 1{18 * '0'} does not fit: below 1E+18"),
    ("volume", Decimal(10**16), f"price 100 times volume 1{16 * '0'} is not below 1E+18"),
    ("timestamp", IN_2100, "lies in the future"),
    ("timestamp", IN_2012, "is before September 2013, when Kraken's history begins"),
    ("trade_id", 2**62 + 1, "no trade id is as large as 4611686018427387905"),
    ("trade_id", -7, "the trade id is negative: -7"),
    ("side", "x", "the side is neither buy (b) nor sell (s): "),
    ("order_type", "much-too-long", "the order type is no word such as market or limit: "),
    ("misc", "x" * 51, "the flags are longer than 50 characters"),
]
WRONG_CANDLES: list[tuple[str, Any, str]] = [
    ("open", Decimal(0), "a price is not above zero: 0"),
    ("low", Decimal(-1), "a price is not above zero: 100.5 102 -1 101"),
    ("close", Decimal("NaN"), "close NaN does not fit NUMERIC(20,10)"),
    ("high", Decimal(90), "the high is below another price: 100.5 90 99.5 101"),
    ("open", Decimal(103), "the high is below another price: 103 102 99.5 101"),
    ("open", Decimal(99), "the low is above another price: 99 102 99.5 101"),
    ("volume", Decimal(-1), "the volume is negative: -1"),
    ("volume", Decimal("NaN"), "volume NaN does not fit: below 2E+23, 10 decimals at most"),
    ("volume", Decimal(2 * 10**23), f"volume 2{23 * '0'} does not fit: below 2E+23"),
    ("volume", Decimal(2 * 10**21), f"high 102 times volume 2{21 * '0'} is not below 2E+23"),
    ("vwap", Decimal(5000), "the vwap is not between low and high: 5000"),
    ("timestamp", EPOCH + timedelta(seconds=150), "does not lie on the grid of 1m"),
    ("timestamp", IN_2100, "lies in the future"),
    ("timestamp", IN_2012, "is before September 2013, when Kraken's history begins"),
    ("trade_count", -1, "the number of trades is negative: -1"),
    ("trade_count", 200_001, "the number of trades cannot be: 200001"),
    ("trade_count", 2**40, "the number of trades cannot be: 1099511627776"),
]


def trade(number: int, **fields: Any) -> TradeRecord:
    stamp = EPOCH + timedelta(seconds=number)
    made = TradeRecord(BTC, stamp, Decimal(100), Decimal(1), "buy", number, "limit", "")
    return replace(made, **fields)


def candle(number: int, **fields: Any) -> CandleRecord:
    numbers = (Decimal("100.5"), Decimal(102), Decimal("99.5"), Decimal(101), Decimal("2.5"))
    return replace(CandleRecord(BTC, EPOCH + number * MINUTE, 1, *numbers, 7, Decimal(100)), **fields)


def trade_rows(trades: Sequence[TradeRecord]) -> str:
    """As Kraken's archives have them."""
    return "".join(
        f"{t.price},{t.volume},{t.timestamp.timestamp():.4f},{t.side[:1]},"
        f"{'l' if t.order_type == 'limit' else t.order_type},{t.misc},{t.trade_id}\n"
        for t in trades
    )


def candle_rows(rows: Sequence[CandleRecord]) -> str:
    return "".join(
        f"{int(c.timestamp.timestamp())},{c.open},{c.high},{c.low},{c.close},{c.volume},{c.trade_count}\n"
        for c in rows
    )


async def by_rest(url: str, trades: Sequence[TradeRecord]) -> TradesWritten:
    keys = [(BTC, data_type) for data_type in (DataType.TRADES, DataType.CANDLES_1M)]

    async def work(transaction: WriteTransaction) -> TradesWritten:
        written = await (await stage_trades(transaction, BTC, REST, trades)).store()
        transaction.unit(BTC, DataType.TRADES).mark_complete("rest_trades", [(EPOCH, EPOCH + MINUTE)])
        return written

    async with opened(url) as store, Ingest(store) as ingest:
        return await ingest.write(keys, EPOCH, work)


async def candles_by_rest(url: str, rows: Sequence[CandleRecord]) -> None:
    async def work(transaction: WriteTransaction) -> None:
        await candles.stage_records(transaction, BTC, 1, rows)
        span = (EPOCH, EPOCH + 10 * MINUTE)
        await candles.store_staged(transaction, BTC, 1, span, rows=len(rows))
        transaction.unit(BTC, DataType.CANDLES_1M).mark_complete("rest_ohlc", [span])

    async with opened(url) as store, Ingest(store) as ingest:
        await ingest.write([(BTC, DataType.CANDLES_1M)], EPOCH, work)


async def rows_of(url: str, tables: Sequence[str] = tuple(NOTHING)) -> dict[str, int]:
    counts = ", ".join(f"(SELECT count(*) FROM {table})" for table in tables)
    (found,) = await query(url, f"SELECT {counts}")
    return dict(zip(tables, found, strict=True))


async def test_flags(plain_url: str, tmp_path: Path) -> None:
    """What no field of a file holds is refused of every source: an export can always be imported again."""
    for misc, words in (
        ("a\x07b", "the flags are not printable ASCII"),
        ("a\u202eb", "the flags are not printable ASCII"),
        ("\u0661", "the flags are not printable ASCII"),
        ("a,b", "the flags have a comma, a quote or a backslash"),
        ('a"b', "the flags have a comma, a quote or a backslash"),
        ("a\\b", "the flags have a comma, a quote or a backslash"),
    ):
        batch = [trade(1), trade(2, misc=misc), trade(3)]
        done = await import_file(plain_url, write(tmp_path, "XBTUSD.csv", trade_rows(batch)))
        assert "line 2: " in str(done.error) or "does not follow" in str(done.error), done.error
        with pytest.raises(ExchangeFormatError, match=words):
            await by_rest(plain_url, batch)
        assert await rows_of(plain_url) == NOTHING, misc
    async with writing(plain_url, tmp_path) as writer:
        await writer.write_trade(trade(1, misc="a,b"))
        assert "a comma, a quote or a backslash" in writer.get_stats()["rejections"][-1]
    right = [trade(1), trade(2, misc="x y!#$%&'()*+-./:;<=>?@[]^_`{|}~"), trade(3)]
    done = await import_file(plain_url, write(tmp_path, "XBTUSD.csv", trade_rows(right)))
    assert (done.error, done.new) == (None, 3)


async def test_trades(plain_url: str, tmp_path: Path) -> None:
    for field, value, words in WRONG_TRADES:
        batch = [trade(1), trade(2, **{field: value}), trade(3)]
        done = await import_file(plain_url, write(tmp_path, "XBTUSD.csv", trade_rows(batch)))
        assert f"line 2: {'' if field != 'timestamp' else 'time '}" in str(done.error), done.error
        # What is no number is seen before the columns are known.
        said = f"{field} 'NaN' is not a number" if value != value else words
        assert said in str(done.error), done.error
        with pytest.raises(ExchangeFormatError) as refused:
            await by_rest(plain_url, batch)
        assert f"trade {batch[1].trade_id} of {BTC} at {batch[1].timestamp.isoformat()}: " in str(
            refused.value
        )
        assert words in str(refused.value), refused.value
        assert await rows_of(plain_url) == NOTHING, (field, value)
    async with writing(plain_url, tmp_path) as writer:
        for number, (field, value, words) in enumerate(WRONG_TRADES, 1):
            await writer.write_trade(trade(2, **{field: value}))
            assert words in writer.get_stats()["rejections"][-1]
            assert writer.get_stats()["rejected_count"] == number
        await writer.flush()
        assert await rows_of(plain_url) == NOTHING
        await writer.write_trade(trade(1))
        await writer.write_trade(trade(3))
        await writer.flush()
    assert await ids(plain_url) == [1, 3]
    assert await total(plain_url) == 2


async def test_candles(plain_url: str, tmp_path: Path) -> None:
    for field, value, words in WRONG_CANDLES:
        wrong = candle(2, **{field: value})
        batch = sorted([candle(1), wrong, candle(3)], key=lambda one: one.timestamp)
        line = 1 + batch.index(wrong)
        if field != "vwap":  # files have none
            done = await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", candle_rows(batch)))
            # The reader of files knows what no number is by its look.
            said = "'NaN' where a number belongs" if "NaN" in words else words
            assert f"line {line}: " in str(done.error) and said in str(done.error), done.error
        with pytest.raises(ExchangeFormatError) as refused:
            await candles_by_rest(plain_url, batch)
        assert f"{BTC}: candle {line} of 3: " in str(refused.value)
        assert words in str(refused.value), refused.value
        assert await rows_of(plain_url) == NOTHING, (field, value)
    async with writing(plain_url, tmp_path) as writer:
        for field, value, words in WRONG_CANDLES:
            await writer.write_candle(candle(2, **{field: value}))
            assert words in writer.get_stats()["rejections"][-1]
        await writer.flush()
        assert await rows_of(plain_url) == NOTHING
        await writer.write_candle(candle(1))
        await writer.flush()
    assert await query(plain_url, "SELECT timestamp, vwap FROM candles") == [(EPOCH + MINUTE, Decimal(100))]


@pytest.mark.parametrize("source", ["file", "rest", "feed"])
async def test_a_trade_500_times_is_one(db_url: str, tmp_path: Path, source: str) -> None:
    batch = [trade(7)] * 500
    if source == "file":
        done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", trade_rows(batch)))
        assert (done.error, done.read, done.new) == (None, 500, 1)
    elif source == "rest":
        assert await by_rest(db_url, batch) == TradesWritten(new=1)
    else:
        async with writing(db_url, tmp_path) as writer:
            for one in batch:
                await writer.write_trade(one)
            await writer.flush()
            assert writer.get_stats()["conflict_count"] == 0
    assert await ids(db_url) == [7]
    assert await total(db_url) == 1


async def test_one_id_with_two_contents(db_url: str, tmp_path: Path) -> None:
    batch = [trade(6), trade(7), trade(7, price=Decimal(101)), trade(8)]
    words = "the trade id 7 is there twice, with other content"
    done = await import_file(db_url, write(tmp_path, "XBTUSD.csv", trade_rows(batch)))
    assert words in str(done.error)
    with pytest.raises(ExchangeFormatError, match=words):
        await by_rest(db_url, batch)
    assert await rows_of(db_url) == NOTHING
    async with writing(db_url, tmp_path) as writer:
        for one in batch:
            await writer.write_trade(one)
        await writer.flush()
        assert writer.get_stats()["conflict_count"] == 1
    assert await query(db_url, "SELECT id, price FROM trades ORDER BY id") == [(6, 100), (7, 100), (8, 100)]
    assert await total(db_url) == 3


async def test_what_is_right_is_stored_by_all(plain_url: str, tmp_path: Path) -> None:
    """The batches above without their wrong record: it was that alone."""
    await import_file(plain_url, write(tmp_path, "XBTUSD.csv", trade_rows([trade(1), trade(2), trade(3)])))
    assert await by_rest(plain_url, [trade(3), trade(4)]) == TradesWritten(new=1)
    await candles_by_rest(plain_url, [candle(1), candle(2)])
    await import_file(plain_url, write(tmp_path, "XBTUSD_1.csv", candle_rows([candle(2), candle(3)])))
    assert await ids(plain_url) == [1, 2, 3, 4]
    assert await rows_of(plain_url, ("candles",)) == {"candles": 3}

"""Data frames against the objects of the same provider, and against numbers by hand, on both lanes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from kraken_db.db import copy
from kraken_db.db.driver import CompiledStatement, fetch
from kraken_db.db.engine import Database
from kraken_db.errors import ConfigurationError, PairError
from kraken_db.historical_provider import HistoricalDataProvider
from kraken_db.types import Candle
from tests.support.archives import EVER, START, at, import_texts, query
from tests.support.lanes import Lane

# Digits to the tenth decimal, a quiet minute, a number of the longest kind, and one without fraction.
MINUTES = (
    f"{START},16535.97,16536.9700000001,0.0000000001,16522.66,0.01429883,2\n"
    f"{START + 120},9999999999.9999999999,9999999999.9999999999,1,2,9999999999.9999999999,1\n"
    f"{START + 180},3,3,3,3,9999999999.9999999999,7\n"
)
TRADES = (
    f"16535.97,0.01,{START}.123456,b,l,,7\n"
    f"0.0000000001,9999999999.9999999999,{START}.999999,s,m,x y,8\n"
    f"2,3,{START + 100},s,m,,9\n"
)


async def fill(url: str) -> None:
    await import_texts(url, {"XBTUSD_1.csv": MINUTES, "XBTUSD.csv": TRADES})


async def fill_minutes(url: str) -> None:
    await import_texts(url, {"XBTUSD_1.csv": MINUTES})


@pytest.fixture
async def provider(lane: Lane) -> AsyncIterator[HistoricalDataProvider]:
    with lane.filled_database(fill) as url:
        async with HistoricalDataProvider(url) as connected:
            yield connected


@pytest.fixture
async def plain(plain_lane: Lane) -> AsyncIterator[HistoricalDataProvider]:
    """On one lane, for what has nothing to do with the kind of database."""
    with plain_lane.filled_database(fill_minutes) as url:
        async with HistoricalDataProvider(url) as connected:
            yield connected


def fields(candle: Candle) -> tuple[Any, ...]:
    shape = (candle.open, candle.high, candle.low, candle.close)
    return (candle.timestamp, *shape, candle.volume, candle.trade_count, candle.vwap)


async def test_a_frame_by_hand(provider: HistoricalDataProvider) -> None:
    frame = await provider.get_candles_frame("BTC/USD", 1, *EVER)
    most = Decimal("9999999999.9999999999")
    assert frame.rows() == [
        (
            at(START),
            Decimal("16535.97"),
            Decimal("16536.9700000001"),
            Decimal("0.0000000001"),
            Decimal("16522.66"),
            Decimal("0.01429883"),
            2,
            None,
        ),
        (at(START + 120), most, most, Decimal(1), Decimal(2), most, 1, None),
        (at(START + 180), *[Decimal(3)] * 4, most, 7, None),
    ]
    assert frame.schema["timestamp"] == pl.Datetime("us", "UTC")
    # The sum of two of the longest volumes: exact to the last digit.
    (volume,) = (await provider.get_candles_frame("BTC/USD", 60, *EVER))["volume"].to_list()
    assert volume == most + most + Decimal("0.01429883")


async def test_frames_of_all_kinds_hold_what_the_objects_hold(provider: HistoricalDataProvider) -> None:
    await query(provider._db_url, "UPDATE candles SET vwap = close, quote_volume = 1 WHERE trade_count > 1")
    for interval in (1, 5, 60, 1440, 10080):
        expected = [fields(c) for c in await provider.get_candles("BTC/USD", interval, *EVER)]
        assert expected
        polars = await provider.get_candles_frame("BTC/USD", interval, *EVER)
        assert polars.rows() == expected
        arrow = await provider.get_candles_frame("BTC/USD", interval, *EVER, backend="arrow")
        assert [tuple(row.values()) for row in arrow.to_pylist()] == expected
        pandas = await provider.get_candles_frame("BTC/USD", interval, *EVER, backend="pandas")
        assert (pandas.index.name, str(pandas.index.tz)) == ("timestamp", "UTC")
        assert list(pandas.index) == [row[0] for row in expected]
        assert list(pandas["close"]) == [row[4] for row in expected]
        floats = await provider.get_candles_frame(
            "BTC/USD", interval, *EVER, backend="pandas", numbers="float"
        )
        assert list(floats["high"]) == [float(row[2]) for row in expected]


async def test_ranges_and_limits_are_those_of_the_objects(provider: HistoricalDataProvider) -> None:
    minute = timedelta(minutes=1)
    cut = await provider.get_candles_frame("BTC/USD", 1, at(START) + minute, at(START) + 3 * minute)
    assert cut["timestamp"].to_list() == [at(START + 120)]
    assert len(await provider.get_candles_frame("BTC/USD", 1, *EVER, limit=2)) == 2
    for backend in ("polars", "pandas", "arrow"):
        assert len(await provider.get_candles_frame("BTC/USD", 1, *EVER[::-1], backend=backend)) == 0
        assert len(await provider.get_candles_frame("ETH/USD", 60, *EVER, backend=backend)) == 0
        assert len(await provider.get_trades_frame("ETH/USD", *EVER, backend=backend)) == 0


async def test_quiet_minutes_are_filled_on_request(provider: HistoricalDataProvider) -> None:
    expected = [fields(c) for c in await provider.get_candles("BTC/USD", 1, *EVER, fill="previous")]
    assert len(expected) == 4
    frame = await provider.get_candles_frame("BTC/USD", 1, *EVER, fill="previous")
    assert frame.rows() == expected
    assert frame.schema == (await provider.get_candles_frame("BTC/USD", 1, *EVER)).schema
    assert len(await provider.get_candles_frame("BTC/USD", 1, *EVER, limit=2, fill="previous")) == 2


async def test_trades_as_frames(provider: HistoricalDataProvider) -> None:
    trades = await provider.get_trades("BTC/USD", *EVER)
    expected = [(t.timestamp, t.id, t.price, t.volume, t.side, t.order_type, t.misc) for t in trades]
    assert expected[1] == (
        datetime(2023, 1, 1, 0, 0, 0, 999999, tzinfo=UTC),
        8,
        Decimal("0.0000000001"),
        Decimal("9999999999.9999999999"),
        "sell",
        "market",
        "x y",
    )
    assert (await provider.get_trades_frame("BTC/USD", *EVER)).rows() == expected
    arrow = await provider.get_trades_frame("BTC/USD", *EVER, limit=2, backend="arrow")
    assert [tuple(row.values()) for row in arrow.to_pylist()] == expected[:2]
    floats = await provider.get_trades_frame("BTC/USD", *EVER, backend="pandas", numbers="float")
    assert list(floats["volume"]) == [0.01, 9999999999.9999999999, 3.0]


async def test_blocks_do_not_show(plain: HistoricalDataProvider, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of every size between one row and all of them."""
    whole = await plain.get_candles_frame("BTC/USD", 1, *EVER)
    for size in (1, 150):
        monkeypatch.setattr(
            "kraken_db.repositories.candles.copy_csv_out",
            lambda connection, statement, _, size=size: copy.copy_csv_out(connection, statement, size),
        )
        assert (await plain.get_candles_frame("BTC/USD", 1, *EVER)).equals(whole)


async def test_wrong_arguments(plain: HistoricalDataProvider) -> None:
    naive = datetime(2023, 1, 1)  # noqa: DTZ001 (that is the point)
    with pytest.raises(ConfigurationError, match="start has no time zone"):
        await plain.get_candles_frame("BTC/USD", 1, naive, EVER[1])
    with pytest.raises(ConfigurationError, match="no interval"):
        await plain.get_candles_frame("BTC/USD", 0, *EVER)
    with pytest.raises(ConfigurationError, match="backend='spark'"):
        await plain.get_trades_frame("BTC/USD", *EVER, backend="spark")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="negative"):
        await plain.get_candles_frame("BTC/USD", 1, *EVER, limit=-1)
    with pytest.raises(PairError):
        await plain.get_candles_frame("'; DROP TABLE candles; --", 1, *EVER)


ROWS = CompiledStatement("SELECT n, repeat('x', 100) FROM generate_series(1, $1::bigint) n", (300_000,))


async def test_a_slow_reader_makes_the_server_wait(plain_url: str) -> None:
    """So that memory does not grow with the rows: 30 MB here, in blocks of 64 kB."""
    database = await Database.open(plain_url)
    async with database.read() as connection, aclosing(copy.copy_csv_out(connection, ROWS, 65_536)) as blocks:
        sizes = [len(await anext(blocks))]
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite' AND query LIKE 'COPY%'"
        )
        for _ in range(400):
            if await query(plain_url, waiting) == [(1,)]:
                break
            await asyncio.sleep(0.05)
        else:
            pytest.fail("the server does not wait")
        sizes += [len(block) async for block in blocks]
    assert max(sizes) < 20 * 65_536
    assert sum(sizes) == sum(len(str(n)) for n in range(1, 300_001)) + 300_000 * 102
    await database.close()


async def test_a_reader_may_leave_early(plain_url: str) -> None:
    database = await Database.open(plain_url, pool_max_size=1)
    for _ in range(3):
        async with database.read() as connection, aclosing(copy.copy_csv_out(connection, ROWS)) as blocks:
            assert (await anext(blocks)).startswith(b"1,xxx")
    async with database.read() as connection:
        assert [row[0] for row in await fetch(connection, CompiledStatement("SELECT 1", ()))] == [1]
    await database.close()

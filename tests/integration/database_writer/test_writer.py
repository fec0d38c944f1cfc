"""DatabaseWriter on both kinds of database: rows, counters, and what it claims to be complete."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kraken_db import CandleRecord, DatabaseWriter, HistoricalDataProvider, TradeRecord
from kraken_db.errors import ConfigurationError, NotConnectedError
from kraken_db.ranges import TICK
from tests.support.archives import query
from tests.support.downloading import coverage
from tests.support.factories import EPOCH
from tests.support.live_writing import BTC, ids, total, trade, write, writing


def at(number: int) -> datetime:
    return trade(number).timestamp


async def test_trades_are_stored_counted_and_claimed(db_url: str, tmp_path: Path) -> None:
    async with writing(db_url, tmp_path) as writer:
        await write(writer, map(trade, range(1, 51)))
        await write(writer, map(trade, range(51, 61)))
        stored = writer.stored_trades(BTC)
        assert stored is not None
        assert (stored.newest_id, stored.contiguous_until, stored.holes) == (60, 60, ())
        statistics = writer.get_stats()
    assert {key: statistics[key] for key in ("trades_written", "flush_count", "error_count")} == {
        "trades_written": 60,
        "flush_count": 2,
        "error_count": 0,
    }
    rows = await query(
        db_url, "SELECT id, timestamp, price, volume, side, order_type FROM trades ORDER BY id"
    )
    expected = [trade(number) for number in range(1, 61)]
    assert rows == [
        (one.trade_id, one.timestamp, one.price, one.volume, one.side, one.order_type) for one in expected
    ]
    assert await total(db_url) == 60
    # Of the moment of the first and the last trade nobody knows whether there is another one.
    assert await coverage(db_url, BTC) == [(at(1) + TICK, at(60))]
    assert await query(db_url, "SELECT count(*) FROM flush_positions") == [(0,)]


async def test_what_comes_twice_or_late_is_stored_once(plain_url: str, tmp_path: Path) -> None:
    async with writing(plain_url, tmp_path) as writer:
        await write(writer, map(trade, (1, 2, 5, 3, 2, 8)))
        stored = writer.stored_trades(BTC)
        assert stored is not None
        assert [(hole.first, hole.last) for hole in stored.holes] == [(4, 4), (6, 7)]
        await write(writer, map(trade, (8, 4, 1, 7, 6, 9)))
        stored = writer.stored_trades(BTC)
        assert stored is not None and stored.holes == ()
        assert writer.get_stats()["known_count"] == 3
    assert await ids(plain_url) == list(range(1, 10))
    assert await total(plain_url) == 9
    assert await coverage(plain_url, BTC) == [(at(1) + TICK, at(9))]


async def test_a_hole_is_told_and_never_claimed(plain_url: str, tmp_path: Path) -> None:
    """Also the one between what another program stored and the first live trade."""
    told: list[tuple[str, int, int]] = []
    async with writing(plain_url, tmp_path) as writer:
        await write(writer, map(trade, range(1, 11)))
    async with writing(
        plain_url, tmp_path, on_hole=lambda symbol, hole: told.append((symbol, hole.first, hole.last))
    ) as writer:
        await write(writer, map(trade, range(21, 31)))
        await write(writer, map(trade, range(41, 51)))
        assert told == [(BTC, 11, 20), (BTC, 31, 40)]
        assert await coverage(plain_url, BTC) == [
            (at(1) + TICK, at(10)),
            (at(21) + TICK, at(30)),
            (at(41) + TICK, at(50)),
        ]
        # One is filled through this writer, the other by somebody else.
        await write(writer, map(trade, range(11, 21)), is_official=True)
        async with writing(plain_url, tmp_path) as other:
            await write(other, map(trade, range(31, 41)))
        assert await writer.check_holes(BTC) == []
        stored = writer.stored_trades(BTC)
        assert stored is not None and (stored.contiguous_until, stored.holes) == (50, ())
    assert len(told) == 2
    assert await coverage(plain_url, BTC) == [(at(1) + TICK, at(50))]


async def test_a_hole_that_is_filled_in_part_stays_one(plain_url: str, tmp_path: Path) -> None:
    async with writing(plain_url, tmp_path) as writer:
        await write(writer, map(trade, (1, 2, 9, 10)))
        async with writing(plain_url, tmp_path) as other:
            await write(other, map(trade, (4, 5)))
        assert [(hole.first, hole.last) for hole in await writer.check_holes(BTC)] == [(3, 8)]
        await write(writer, [trade(5)])
        stored = writer.stored_trades(BTC)
        assert stored is not None
        assert [(hole.first, hole.last) for hole in stored.holes] == [(6, 8)] or len(stored.holes) == 2
    assert not any(start <= at(3) < end for start, end in await coverage(plain_url, BTC))


async def test_the_official_stamp_wins_whichever_comes_first(db_url: str, tmp_path: Path) -> None:
    def official(number: int) -> TradeRecord:
        live = trade(number)
        return replace(live, timestamp=live.timestamp + TICK, misc="x")

    async with writing(db_url, tmp_path) as writer:
        await write(writer, [trade(1), trade(2)])
        await write(writer, [official(2), official(3)], is_official=True)
        await write(writer, [trade(2), trade(3), trade(4)])
        assert writer.get_stats()["conflict_count"] == 0
    rows = await query(db_url, "SELECT id, timestamp, misc FROM trades ORDER BY id")
    assert rows == [(1, at(1), ""), (2, at(2) + TICK, "x"), (3, at(3) + TICK, "x"), (4, at(4), "")]
    assert await coverage(db_url, BTC) == [(at(1) + TICK, at(4))]
    assert await total(db_url) == 4


async def test_a_contradiction_is_told_and_left(
    plain_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with writing(plain_url, tmp_path) as writer:
        await write(writer, [trade(1), trade(2)])
        await write(writer, [trade(2, volume=Decimal(9)), trade(3), trade(3, price=Decimal(5))])
        assert writer.get_stats()["conflict_count"] == 2
        assert writer.get_stats()["trades_written"] == 3
    assert "trade 2 is stored as" in caplog.text
    assert await query(plain_url, "SELECT volume FROM trades WHERE id = 2") == [(Decimal("0.25"),)]


async def test_trades_without_ids_are_all_stored_and_claim_nothing(plain_url: str, tmp_path: Path) -> None:
    """Two trades that are equal in all fields are two trades, in one flush and in two."""
    equal = [trade(7, has_id=False)] * 2
    async with writing(plain_url, tmp_path) as writer:
        await write(writer, [trade(5, has_id=False), *equal])
        await write(writer, [*equal, trade(9, has_id=False)])
        assert writer.get_stats()["trades_written"] == 6
        assert writer.stored_trades(BTC) is None
    rows = await query(plain_url, "SELECT timestamp, id < 0 FROM trades ORDER BY timestamp, id")
    assert rows == [(at(5), True), *[(at(7), True)] * 4, (at(9), True)]
    assert await coverage(plain_url, BTC) == []
    assert await total(plain_url) == 6
    assert await query(plain_url, "SELECT lower(unproven), upper(unproven) FROM unproven_ranges") == [
        (at(5), at(9) + TICK)
    ]


async def test_trades_without_ids_beside_their_likes_that_have_one(db_url: str, tmp_path: Path) -> None:
    """What REST brought before is known; what it brings later takes their place."""
    async with writing(db_url, tmp_path) as writer:
        await write(writer, map(trade, (1, 2, 3)), is_official=True)
        off_by_one = replace(trade(2, has_id=False), timestamp=at(2) - TICK)
        await write(writer, [off_by_one, trade(40, has_id=False)])
        assert await ids(db_url) == [1, 2, 3, -(2**63)]
        await write(writer, map(trade, range(4, 80)), is_official=True)
    assert await ids(db_url) == list(range(1, 80))
    assert await total(db_url) == 79


async def test_a_bad_record_does_not_take_its_batch_with_it(
    plain_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with writing(plain_url, tmp_path) as writer:
        list_of_sides: Any = ["buy"]
        bad: list[Any] = [
            trade(2, price=Decimal("1e12")),
            trade(3, side="sideways"),
            replace(trade(4), timestamp=datetime(2024, 1, 1)),  # noqa: DTZ001
            replace(trade(5), side=list_of_sides),
            None,
        ]
        await write(writer, [trade(1), *bad, trade(6)])
        statistics = writer.get_stats()
    assert await ids(plain_url) == [1, 6]
    assert (statistics["rejected_count"], statistics["trades_written"]) == (5, 2)
    assert "price 1E+12 does not fit NUMERIC(20,10)" in statistics["rejections"][0]
    assert "is rejected" in caplog.text
    assert await coverage(plain_url, BTC) == []


async def test_many_symbols_in_one_flush(plain_url: str, tmp_path: Path) -> None:
    symbols = ["ETH/USD", "BTC/USD", "SOL/USD"]
    async with writing(plain_url, tmp_path) as writer:
        await write(writer, [trade(n, symbol=symbol) for n in range(1, 21) for symbol in symbols])
        assert writer.get_stats()["flush_count"] == 1
    for symbol in symbols:
        assert await ids(plain_url, symbol) == list(range(1, 21))
        assert await coverage(plain_url, symbol) == [(at(1) + TICK, at(20))]


def candle(count: int, *, minute: int = 0, close: str = "1.5", vwap: str | None = "1.25") -> CandleRecord:
    values = {"open": "1", "high": "2", "low": "1", "close": close, "volume": str(count)}
    numbers = {name: Decimal(value) for name, value in values.items()}
    opens = EPOCH + timedelta(minutes=minute)
    return CandleRecord(
        BTC, opens, 1, **numbers, trade_count=count, vwap=None if vwap is None else Decimal(vwap)
    )


async def test_a_running_candle_grows_and_is_never_claimed(db_url: str, tmp_path: Path) -> None:
    async with writing(db_url, tmp_path) as writer:
        for count in (1, 2, 3):
            await writer.write_candle(candle(count))
        await writer.flush()
        stored = "SELECT trade_count, close, volume, vwap FROM candles ORDER BY timestamp"
        assert await query(db_url, stored) == [(3, Decimal("1.5"), Decimal(3), Decimal("1.25"))]
        await writer.write_candle(candle(5, close="1.75", vwap=None))
        await writer.write_candle(candle(4))  # late
        await writer.write_candle(candle(0, minute=1))  # there is no such candle
        await writer.write_candle(candle(1, minute=2))
        await writer.write_candle(candle(7, minute=90))
        await writer.flush()
        assert writer.get_stats()["candles_written"] == 4
    rows = await query(db_url, stored)
    assert [row[0] for row in rows] == [5, 1, 7]
    assert rows[0] == (5, Decimal("1.75"), Decimal(5), None)
    assert await coverage(db_url, BTC, "candles_1m") == []
    assert await total(db_url, "candles_1m") == 3
    async with HistoricalDataProvider(db_url) as history:
        hours = await history.get_candles(BTC, 60, EPOCH, EPOCH + timedelta(days=1))
    assert [(one.timestamp, one.trade_count) for one in hours] == [
        (EPOCH, 6),
        (EPOCH + timedelta(hours=1), 7),
    ]


async def test_candles_that_have_overflowed(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory holds two of them: another one, in all its versions, comes out of the journal."""
    monkeypatch.setattr(DatabaseWriter, "MAX_CANDLE_BUFFER_SIZE", 2)
    async with writing(plain_url, tmp_path) as writer:
        writer.put_candle(candle(1))
        writer.put_candle(candle(9, minute=2))
        for count in (2, 3, 5, 4):
            writer.put_candle(candle(count, minute=1))
            writer.put_candle(candle(count))
        statistics = writer.get_stats()
        assert (statistics["candle_buffer_size"], statistics["overflow_count"]) == (2, 4)
        await writer.flush()
    rows = await query(plain_url, "SELECT trade_count FROM candles ORDER BY timestamp")
    assert rows == [(5,), (5,), (9,)]


async def test_candles_are_built_from_the_stored_trades(db_url: str, tmp_path: Path) -> None:
    """A minute counts as complete when the trade behind it is there; its candle may be there before."""
    first_minute = EPOCH + timedelta(minutes=1)
    async with writing(db_url, tmp_path) as writer:
        await write(writer, map(trade, range(0 + 1, 1000)))
        await writer.build_candles(BTC, EPOCH, EPOCH + timedelta(minutes=2))
        counts = await query(db_url, "SELECT timestamp, trade_count FROM candles ORDER BY timestamp")
        assert counts == [(EPOCH, 599), (first_minute, 400)]
        assert await coverage(db_url, BTC, "candles_1m") == []
        await write(writer, map(trade, range(1000, 1300)))
        await writer.build_candles(BTC, EPOCH, EPOCH + timedelta(minutes=2))
    (row,) = await query(
        db_url, "SELECT trade_count, quote_volume FROM candles WHERE timestamp = :minute", minute=first_minute
    )
    prices = [trade(number).price for number in range(600, 1200)]
    assert row == (600, sum(prices) * Decimal("0.25"))
    assert await coverage(db_url, BTC, "candles_1m") == [(first_minute, first_minute + timedelta(minutes=1))]


async def test_a_flush_comes_by_itself(plain_url: str, tmp_path: Path) -> None:
    async with writing(
        plain_url, tmp_path, trade_buffer_size=5, candle_flush_interval=0.05, trade_flush_interval=0.05
    ) as writer:
        await writer.write_trade(trade(1))
        await writer.write_candle(candle(1))
        async with asyncio.timeout(20):
            while writer.get_stats()["flush_count"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert await ids(plain_url) == [1]


async def test_sync_status_by_hand(plain_url: str, tmp_path: Path) -> None:
    async with writing(plain_url, tmp_path) as writer:
        await write(writer, [trade(1)])
        await writer.update_sync_status("xbt/usd", "trades", at(50))
        await writer.update_sync_status(BTC, "candles_1m", EPOCH)
        with pytest.raises(ConfigurationError, match="no data type 'quotes'"):
            await writer.update_sync_status(BTC, "quotes", EPOCH)
        with pytest.raises(ConfigurationError, match="timestamp has no time zone"):
            await writer.update_sync_status(BTC, "trades", datetime(2024, 1, 1))  # noqa: DTZ001
    rows = await query(
        plain_url,
        "SELECT data_type, oldest_timestamp, newest_timestamp, total_records FROM data_sync_status"
        " ORDER BY data_type",
    )
    assert rows == [("candles_1m", EPOCH, EPOCH, 0), ("trades", at(1), at(50), 1)]


async def test_before_start_and_after_stop(plain_url: str, tmp_path: Path) -> None:
    writer = DatabaseWriter(plain_url, journal_dir=tmp_path)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"call start\(\) first"):
            await writer.write_trade(trade(1))
        with pytest.raises(NotConnectedError):
            await writer.write_candle(candle(1))
        with pytest.raises(NotConnectedError):
            await writer.update_sync_status(BTC, "trades", EPOCH)
        await writer.stop()
        await writer.start()
        await writer.start()
        await writer.write_trade(trade(1))
        await writer.stop()
        assert writer.get_stats()["trade_buffer_size"] == 0
    assert await ids(plain_url) == [1]
    assert writer.get_stats()["known_count"] == 1


@pytest.mark.parametrize(
    "options",
    [
        {"trade_buffer_size": 0},
        {"trade_flush_interval": 0},
        {"trade_buffer_size": "many"},
        {"candle_flush_interval": -1},
        {"candle_flush_interval": float("nan")},
        {"journal": "sometimes"},
        {"journal_max_bytes": -1},
        {"journal_sync": -1},
    ],
)
def test_options_that_cannot_work(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        DatabaseWriter("embedded:", **options)  # type: ignore[arg-type]


def test_the_specification(tmp_path: Path) -> None:
    parameters = inspect.signature(DatabaseWriter.__init__).parameters
    defaults = {name: one.default for name, one in list(parameters.items())[2:7]}
    assert defaults == {
        "trade_buffer_size": 100,
        "trade_flush_interval": 5.0,
        "candle_flush_interval": 1.0,
        "pool_min_size": 2,
        "pool_max_size": 10,
    }
    assert (DatabaseWriter.MAX_TRADE_BUFFER_SIZE, DatabaseWriter.MAX_CANDLE_BUFFER_SIZE) == (10000, 1000)
    statistics = DatabaseWriter("embedded:").get_stats()
    specified = (
        "trades_written",
        "candles_written",
        "flush_count",
        "error_count",
        "overflow_count",
        "trade_buffer_size",
        "candle_buffer_size",
    )
    assert [statistics[key] for key in specified] == [0] * 7

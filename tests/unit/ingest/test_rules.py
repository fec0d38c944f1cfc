"""What a writer takes, and what it rejects and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any

import msgspec
import pytest

from kraken_db.database_writer.records import QueuedTrade, RejectedRecordError, queued_candle, queued_trade
from tests.support.factories import EPOCH, CandleRecordFactory, TradeRecordFactory

LARGEST = Decimal("9999999999.9999999999")


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("price", Decimal("1e10"), r"price 1E\+10 does not fit NUMERIC\(20,10\)"),
        ("price", Decimal("1.00000000001"), "price 1.00000000001 does not fit"),
        ("price", Decimal(0), "price is zero"),
        ("price", Decimal("-1"), "price is negative: -1"),
        ("price", Decimal("NaN"), "price NaN does not fit"),
        ("price", Decimal("sNaN"), "price sNaN does not fit"),
        ("price", Decimal("Infinity"), "price Infinity does not fit"),
        ("price", "abc", "price is 'abc': it is a number"),
        ("price", None, "price is None: it is a number"),
        ("price", True, "price is True: it is a number"),
        ("volume", Decimal("1e-11"), "volume 1E-11 does not fit"),
        ("volume", Decimal("1e28"), r"volume 1E\+28 does not fit NUMERIC\(38,10\)"),
        ("side", "hold", "side is 'hold'"),
        ("side", None, "side is None"),
        ("timestamp", datetime(2024, 1, 1), "has no time zone"),  # noqa: DTZ001
        ("timestamp", datetime.min.replace(tzinfo=UTC), "cannot be"),
        ("timestamp", datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))), "cannot be"),
        ("timestamp", 1.5, "it is an aware datetime"),
        ("symbol", "nonsense", "NONSENSE.* is not a pair"),
        ("symbol", None, "symbol is None"),
        ("symbol", ["BTC"], "symbol is"),
        ("trade_id", -3, "trade_id is -3"),
        ("trade_id", 2**63, "trade_id is 9223372036854775808"),
        ("trade_id", "7", "trade_id is '7'"),
        ("order_type", "much-too-long", "order_type is"),
        ("order_type", "a,b", "order_type is"),
        ("misc", "x" * 51, "misc is"),
        ("misc", "a\0b", "misc is"),
    ],
)
def test_a_trade_that_cannot_be_stored(field: str, value: Any, reason: str) -> None:
    with pytest.raises(RejectedRecordError, match=reason):
        queued_trade(TradeRecordFactory.build(**{field: value}), False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (LARGEST, "9999999999.9999999999"),
        (Decimal("1E+9"), "1000000000"),
        (0.1, "0.1"),
        ("0.10", "0.10"),
        (3, "3"),
        (64000.123456789, "64000.123456789"),
    ],
)
def test_numbers_are_taken_as_they_were_printed(value: Any, text: str) -> None:
    with localcontext(prec=4):  # the caller's context plays no part
        queued = queued_trade(TradeRecordFactory.build(price=value), False)
    assert queued.price == Decimal(text)


@pytest.mark.parametrize("volume", ["1.2e10", "9999999999999999999999999999.9999999999"])
def test_volumes_may_be_larger_than_prices(volume: str) -> None:
    with localcontext(prec=4):  # the caller's context plays no part
        assert queued_trade(TradeRecordFactory(volume=volume), False).volume == Decimal(volume)
        assert queued_candle(CandleRecordFactory(timestamp=EPOCH, volume=volume)).volume == Decimal(volume)


def test_a_trade_is_copied_in_utc_with_our_symbol() -> None:
    record = TradeRecordFactory.build(symbol="xbt/usd", trade_id=0, volume=Decimal(0))
    record.timestamp = EPOCH.astimezone(timezone(timedelta(hours=5)))
    queued = queued_trade(record, True)
    record.price = Decimal(0)
    assert (queued.symbol, queued.timestamp, queued.trade_id, queued.is_official) == (
        "BTC/USD",
        EPOCH,
        None,
        True,
    )
    assert queued.timestamp.tzinfo is UTC and queued.price > 0


def test_finer_times_are_cut_off() -> None:
    class Stamp(datetime):
        """As pandas has it."""

        nanosecond = 999

        def isoformat(self, *arguments: Any, **named: Any) -> str:
            return "wrong"

    queued = queued_trade(TradeRecordFactory.build(timestamp=Stamp(2024, 1, 1, 0, 0, 1, 5, UTC)), False)
    assert type(queued.timestamp) is datetime
    assert queued.timestamp == datetime(2024, 1, 1, 0, 0, 1, 5, UTC)


def test_a_trade_survives_the_journal() -> None:
    for record in TradeRecordFactory.build_batch(2, price=LARGEST, misc="a,\"b'"):
        queued = queued_trade(record, False)
        decoded = msgspec.msgpack.Decoder(QueuedTrade).decode(msgspec.msgpack.encode(queued))
        assert decoded == queued
        assert str(decoded.price) == str(queued.price)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("interval_minutes", 7, "no interval of 7 minutes"),
        ("interval_minutes", True, "interval_minutes is True"),
        ("timestamp", EPOCH + timedelta(seconds=30), "does not lie on the grid of 1m"),
        ("timestamp", datetime(2024, 1, 1), "has no time zone"),  # noqa: DTZ001
        ("high", Decimal(1), "high or low is beside the other prices"),
        ("low", Decimal(99999), "high or low is beside the other prices"),
        ("open", Decimal(0), "open is zero"),
        ("volume", Decimal(-1), "volume is negative"),
        ("trade_count", -1, "trade_count is -1"),
        ("trade_count", 10**9, "trade_count is 1000000000"),
        ("trade_count", None, "trade_count is None"),
        ("vwap", Decimal("1e10"), "vwap 10000000000.* does not fit"),
        ("vwap", "x", "vwap is 'x'"),
    ],
)
def test_a_candle_that_cannot_be_stored(field: str, value: Any, reason: str) -> None:
    with pytest.raises(RejectedRecordError, match=reason):
        queued_candle(CandleRecordFactory.build(**{field: value}))


def test_a_mean_is_rounded_and_nothing_else() -> None:
    candle = CandleRecordFactory.build(timestamp=EPOCH, vwap=Decimal(42000) + Decimal(2) / 3)
    assert queued_candle(candle).vwap == Decimal("42000.6666666667")
    with pytest.raises(RejectedRecordError, match="does not fit"):
        queued_candle(CandleRecordFactory.build(timestamp=EPOCH, close=Decimal("42000.12345678901")))

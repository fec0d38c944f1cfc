"""What a writer takes, and what it rejects and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any

import pytest

from kraken_db.errors import RejectedRecordError
from kraken_db.ingest.rules import check_candle, check_trade
from tests.support.factories import EPOCH, CandleRecordFactory, TradeRecordFactory

LARGEST = Decimal("9999999999.9999999999")
NOW = EPOCH + timedelta(days=365)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("price", Decimal("1e10"), r"price 1E\+10 does not fit NUMERIC\(20,10\)"),
        ("price", Decimal("1.00000000001"), "price 1.00000000001 does not fit"),
        ("price", Decimal(0), "the price is not above zero: 0"),
        ("price", Decimal("-1"), "the price is not above zero: -1"),
        ("price", Decimal("NaN"), "price NaN does not fit"),
        ("price", Decimal("sNaN"), "price sNaN does not fit"),
        ("price", Decimal("Infinity"), "price Infinity does not fit"),
        ("price", "abc", "price is 'abc': it is a number"),
        ("price", None, "price is None: it is a number"),
        ("price", True, "price is True: it is a number"),
        ("volume", Decimal("1e-11"), "volume 1E-11 does not fit"),
        ("volume", Decimal("1e18"), r"volume 1E\+18 does not fit: below 1E\+18, 10 decimals at most"),
        ("volume", Decimal(0), "the volume is not above zero: 0"),
        ("side", "hold", r"the side is neither buy \(b\) nor sell \(s\): 'hold'"),
        ("side", None, "the side is neither .*: None"),
        ("timestamp", datetime(2024, 1, 1), "has no time zone"),  # noqa: DTZ001
        ("timestamp", datetime.min.replace(tzinfo=UTC), "time .* is before September 2013"),
        ("timestamp", datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))), "lies in the future"),
        ("timestamp", datetime(2013, 8, 31, 23, 59, 59, tzinfo=UTC), "is before September 2013"),
        ("timestamp", NOW + timedelta(seconds=6), "lies in the future"),
        ("timestamp", 1.5, "it is an aware datetime"),
        ("symbol", "nonsense", "NONSENSE.* is not a pair"),
        ("symbol", None, "symbol is None"),
        ("symbol", ["BTC"], "symbol is"),
        ("trade_id", -3, "the trade id is negative: -3"),
        ("trade_id", 2**62 + 1, "no trade id is as large as 4611686018427387905"),
        ("trade_id", "7", "the trade id is '7'"),
        ("order_type", "much-too-long", "the order type is no word .*: 'much-too-long'"),
        ("order_type", "a,b", "the order type is no word"),
        ("misc", "x" * 51, "the flags are longer than 50"),
        ("misc", "a\0b", "the flags are not printable"),
        ("misc", "a\x1b[2J", "the flags are not printable"),
        ("misc", "a\u202eb", "the flags are not printable ASCII"),
        ("misc", "\u0661", "the flags are not printable ASCII"),
        ("misc", "a,b", "the flags have a comma, a quote or a backslash"),
        ("misc", 'a"b', "the flags have a comma, a quote or a backslash"),
        ("misc", "a\\b", "the flags have a comma, a quote or a backslash"),
    ],
)
def test_a_trade_that_cannot_be_stored(field: str, value: Any, reason: str) -> None:
    with pytest.raises(RejectedRecordError, match=reason):
        check_trade(TradeRecordFactory.build(**{field: value}), NOW)


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
        checked = check_trade(TradeRecordFactory.build(price=value), NOW)
    assert checked.price == Decimal(text)


@pytest.mark.parametrize("volume", ["1.2e10", "999999999999999999.9999999999"])
def test_volumes_may_be_larger_than_prices(volume: str) -> None:
    with localcontext(prec=4):  # the caller's context plays no part
        trade = TradeRecordFactory.build(price="0.5", volume=volume)
        assert check_trade(trade, NOW).volume == Decimal(volume)
        candle = CandleRecordFactory.build(timestamp=EPOCH, volume=volume)
        assert check_candle(candle, NOW).volume == Decimal(volume)


def test_a_trade_is_copied_in_utc_with_our_symbol() -> None:
    record = TradeRecordFactory.build(symbol="xbt/usd", trade_id=0)
    record.timestamp = EPOCH.astimezone(timezone(timedelta(hours=5)))
    checked = check_trade(record, NOW)
    record.price = Decimal(0)
    assert (checked.symbol, checked.timestamp, checked.trade_id) == ("BTC/USD", EPOCH, None)
    assert checked.timestamp.tzinfo is UTC and checked.price > 0


def test_finer_times_are_cut_off() -> None:
    class Stamp(datetime):
        """As pandas has it."""

        nanosecond = 999

        def isoformat(self, *arguments: Any, **named: Any) -> str:
            return "wrong"

    checked = check_trade(TradeRecordFactory.build(timestamp=Stamp(2024, 1, 1, 0, 0, 1, 5, UTC)), NOW)
    assert type(checked.timestamp) is datetime
    assert checked.timestamp == datetime(2024, 1, 1, 0, 0, 1, 5, UTC)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("interval_minutes", 7, "no interval of 7 minutes"),
        ("interval_minutes", True, "interval_minutes is True"),
        ("timestamp", EPOCH + timedelta(seconds=30), "does not lie on the grid of 1m"),
        ("timestamp", datetime(2024, 1, 1), "has no time zone"),  # noqa: DTZ001
        ("high", Decimal(1), r"the high is below another price: \S+ 1 "),
        ("low", Decimal(99999), "the high is below another price: "),
        ("open", Decimal(0), "a price is not above zero: 0 "),
        ("volume", Decimal(-1), "volume is negative"),
        ("trade_count", -1, "the number of trades is negative: -1"),
        ("trade_count", 10**9, "the number of trades cannot be: 1000000000"),
        ("trade_count", None, "the number of trades cannot be: None"),
        ("vwap", Decimal("1e10"), "vwap 10000000000.* does not fit"),
        ("vwap", "x", "vwap is 'x'"),
    ],
)
def test_a_candle_that_cannot_be_stored(field: str, value: Any, reason: str) -> None:
    with pytest.raises(RejectedRecordError, match=reason):
        check_candle(CandleRecordFactory.build(**{field: value}), NOW)


def test_a_mean_is_rounded_and_nothing_else() -> None:
    prices = {"open": Decimal(42000), "high": Decimal(42001), "low": Decimal(42000), "close": Decimal(42001)}
    candle = CandleRecordFactory.build(timestamp=EPOCH, **prices, vwap=Decimal(42000) + Decimal(2) / 3)
    assert check_candle(candle, NOW).vwap == Decimal("42000.6666666667")
    candle.vwap = Decimal("41999.99")
    with pytest.raises(RejectedRecordError, match=r"the vwap is not between low and high: 41999\.99"):
        check_candle(candle, NOW)
    candle.vwap, candle.low = None, Decimal("42000.5")
    with pytest.raises(RejectedRecordError, match="the low is above another price: 42000 42001 42000"):
        check_candle(candle, NOW)
    with pytest.raises(RejectedRecordError, match="does not fit"):
        check_candle(CandleRecordFactory.build(timestamp=EPOCH, close=Decimal("42000.12345678901")), NOW)

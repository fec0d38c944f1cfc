"""The truth of a small market, worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from kraken_db.simulator import Market, TradeText, TrueCandle, TrueTrade

# 1704067200 is 2024-01-01 00:00:00 UTC.
SMALL = [
    TradeText("100.0", "1.00000000", "1704067200.000000000", "b", "l", "", 0),
    TradeText("103.0", "0.50000000", "1704067230.123456999", "s", "m", "", 0),
    TradeText("99.5", "0.00000001", "1704067259.999999400", "b", "m", "", 0),
    # no trade in 00:01
    TradeText("101.0", "2.00000000", "1704067320.000000400", "s", "l", "", 0),
    TradeText("101.0", "1.00000000", "1704067320.000000400", "s", "l", "", 0),
]


@pytest.fixture
def market() -> Market:
    return Market.scripted("BTC/USD", SMALL, first_id=3)


def at(minute: int, second: int = 0, microsecond: int = 0) -> datetime:
    return datetime(2024, 1, 1, 0, minute, second, microsecond, UTC)


def test_trades(market: Market) -> None:
    def trade(number: int, when: datetime, price: str, volume: str, side: str, kind: str) -> TrueTrade:
        return TrueTrade(number, "BTC/USD", when, Decimal(price), Decimal(volume), side, kind, "")

    assert list(market.truth_trades()) == [
        trade(3, at(0), "100", "1", "buy", "limit"),
        # The float64 next to .123456999 is written .123457 (its steps are 238 ns).
        trade(4, at(0, 30, 123457), "103", "0.5", "sell", "market"),
        trade(5, at(0, 59, 999999), "99.5", "0.00000001", "buy", "market"),
        trade(6, at(2), "101", "2", "sell", "limit"),
        trade(7, at(2), "101", "1", "sell", "limit"),
    ]


def candle(opens_at: datetime, *numbers: str, trade_count: int) -> TrueCandle:
    opening, high, low, close, volume, quote_volume, vwap = map(Decimal, numbers)
    return TrueCandle(
        "BTC/USD", opens_at, 1, opening, high, low, close, volume, quote_volume, vwap, trade_count
    )


def test_candles(market: Market) -> None:
    first, second = market.truth_candles()
    # 100 x 1 + 103 x 0.5 + 99.5 x 0.00000001 = 151.500000995; / 1.50000001 = 100.99999999
    assert first == candle(
        at(0), "100", "103", "99.5", "99.5", "1.50000001", "151.500000995", "100.9999999900", trade_count=3
    )
    assert second == candle(at(2), "101", "101", "101", "101", "3", "303", "101", trade_count=2)


def test_candles_of_higher_intervals(market: Market) -> None:
    (candle,) = market.truth_candles(60)
    assert (candle.timestamp, candle.interval_minutes, candle.trade_count) == (at(0), 60, 5)
    assert candle.close == 101
    assert candle.quote_volume == Decimal("454.500000995")
    # 454.500000995 / 4.50000001 = 100.99999999666..., whose tenth decimal is rounded up
    assert candle.vwap == Decimal("100.9999999967")


def test_until_leaves_out_what_comes_later(market: Market) -> None:
    assert len(list(market.truth_trades(until=at(2)))) == 3
    assert len(list(market.truth_candles(until=at(2)))) == 1

"""The domain types: their shape as the specification has it, and what their properties compute."""

from __future__ import annotations

import dataclasses
import decimal
import itertools
import pickle
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_db.errors import ConfigurationError
from kraken_db.types import Candle, CandleRecord, DataGap, HistoricalCandle, HistoricalTrade, TradeRecord
from tests.support.factories import (
    CandleFactory,
    CandleRecordFactory,
    DataGapFactory,
    HistoricalCandleFactory,
    HistoricalTradeFactory,
    TradeRecordFactory,
)

D = Decimal
MOMENT = datetime(2023, 3, 11, 7, 0, tzinfo=UTC)

# All that NUMERIC(20,10) can hold of a price or volume.
column_values = st.decimals(min_value=0, max_value=D("9999999999.9999999999"), places=10)

FIELDS = {
    HistoricalTrade: "id symbol timestamp price volume side order_type misc",
    HistoricalCandle: (
        "symbol timestamp interval_minutes open high low close volume quote_volume trade_count vwap"
    ),
    Candle: "symbol timestamp interval_minutes open high low close volume trade_count vwap",
    DataGap: "symbol data_type start_time end_time duration",
    TradeRecord: "symbol timestamp price volume side trade_id order_type misc",
    CandleRecord: "symbol timestamp interval_minutes open high low close volume trade_count vwap",
}
FACTORIES = [HistoricalTradeFactory, HistoricalCandleFactory, CandleFactory, DataGapFactory]


def example_candle(**changes: Any) -> Candle:
    values: dict[str, Any] = {
        "symbol": "BTC/USDC",
        "timestamp": MOMENT,
        "interval_minutes": 60,
        "open": D("20300.5"),
        "high": D("20410"),
        "low": D("20275.25"),
        "close": D("20350"),
        "volume": D("3.5"),
        "trade_count": 12,
        "vwap": None,
    }
    return Candle(**(values | changes))


@pytest.mark.parametrize("kind", FIELDS)
def test_fields_and_their_order(kind: type) -> None:
    assert [field.name for field in dataclasses.fields(kind)] == FIELDS[kind].split()


@pytest.mark.parametrize("factory", FACTORIES)
def test_what_is_read_is_frozen_slotted_and_can_cross_processes(factory: type) -> None:
    thing = factory()
    with pytest.raises(dataclasses.FrozenInstanceError):
        thing.symbol = "ETH/USD"
    assert not hasattr(thing, "__dict__")
    assert pickle.loads(pickle.dumps(thing)) == thing
    assert hash(thing) == hash(dataclasses.replace(thing))


def test_a_candle_is_what_its_prices_say() -> None:
    candle = example_candle()
    assert candle.typical_price == D("20345.08333333333333333333333")  # (20410 + 20275.25 + 20350) / 3
    assert candle.range == D("134.75")
    assert candle.body_size == D("49.5")
    assert candle.is_bullish


@pytest.mark.parametrize(
    ("open_", "close", "bullish", "body", "upper", "lower"),
    [
        ("101", "105", True, "4", "5", "1"),
        ("105", "101", False, "4", "5", "1"),
        ("103", "103", False, "0", "7", "3"),
        ("100", "110", True, "10", "0", "0"),
    ],
)
def test_wicks_and_body(open_: str, close: str, bullish: bool, body: str, upper: str, lower: str) -> None:
    candle = HistoricalCandleFactory.build(open=D(open_), close=D(close), high=D(110), low=D(100))
    assert candle.is_bullish is bullish
    assert (candle.body_size, candle.upper_wick, candle.lower_wick) == (D(body), D(upper), D(lower))


@given(prices=st.lists(column_values, min_size=4, max_size=4))
def test_a_candle_is_the_sum_of_its_parts(prices: list[D]) -> None:
    low, first, second, high = sorted(prices)
    for open_, close in ((first, second), (second, first)):
        candle = HistoricalCandleFactory.build(open=open_, close=close, high=high, low=low)
        assert candle.upper_wick + candle.body_size + candle.lower_wick == candle.range
        exact = Fraction(high + low + close) / 3
        assert abs(Fraction(candle.typical_price) - exact) <= abs(exact) * Fraction(1, 10**27)


def test_to_dict_gives_floats_and_leaves_the_rest() -> None:
    assert example_candle(vwap=D("20333.3")).to_dict() == {
        "symbol": "BTC/USDC",
        "timestamp": MOMENT,
        "interval_minutes": 60,
        "open": 20300.5,
        "high": 20410.0,
        "low": 20275.25,
        "close": 20350.0,
        "volume": 3.5,
        "trade_count": 12,
        "vwap": 20333.3,
    }
    values = example_candle().to_dict()
    assert values["vwap"] is None
    assert {name for name, value in values.items() if type(value) is float} == {
        "open", "high", "low", "close", "volume"
    }  # fmt: skip
    assert type(values["trade_count"]) is int


def test_from_row_takes_columns_by_name() -> None:
    candle = example_candle(vwap=D("20333.3"))
    row = {name: getattr(candle, name) for name in FIELDS[Candle].split()}
    assert Candle.from_row(dict(reversed(row.items())) | {"quote_volume": None}) == candle
    assert Candle.from_row(row | {"trade_count": None}).trade_count == 0
    with pytest.raises(KeyError):
        Candle.from_row({"symbol": "BTC/USD"})


def test_the_value_of_a_trade_is_exact() -> None:
    largest = D("9999999999.9999999999")
    trade = HistoricalTradeFactory.build(price=largest, volume=largest)
    assert trade.value == D("99999999999999999998.00000000000000000001")


@given(price=column_values, volume=column_values)
def test_values_do_not_depend_on_the_callers_decimal_context(price: D, volume: D) -> None:
    trade = HistoricalTradeFactory.build(price=price, volume=volume)
    candle = HistoricalCandleFactory.build(
        open=price, close=volume, high=max(price, volume), low=min(price, volume)
    )
    with decimal.localcontext(decimal.Context(prec=3, traps=[decimal.Inexact])):
        assert Fraction(trade.value) == Fraction(price) * Fraction(volume)
        assert Fraction(candle.body_size) == abs(Fraction(price) - Fraction(volume))
        assert candle.range == candle.body_size
        assert candle.upper_wick == candle.lower_wick == 0


@pytest.mark.parametrize(
    ("duration", "small", "candles", "hours"),
    [
        (timedelta(0), True, 0, 0.0),
        (timedelta(seconds=1), True, 1, 1 / 3600),
        (timedelta(minutes=2), True, 2, 2 / 60),
        (timedelta(minutes=2, microseconds=1), True, 3, 2 / 60),
        (timedelta(hours=12) - timedelta(microseconds=1), True, 720, 12.0),
        (timedelta(hours=12), False, 720, 12.0),
        (timedelta(days=2, minutes=30), False, 2910, 48.5),
    ],
)
def test_the_size_of_a_gap(duration: timedelta, small: bool, candles: int, hours: float) -> None:
    gap = DataGapFactory.build(duration=duration)
    assert (gap.is_small, gap.candles_needed) == (small, candles)
    assert gap.hours == pytest.approx(hours)
    assert isinstance(gap.hours, float)


def test_a_gap_without_a_zone_or_running_backwards_is_refused() -> None:
    naive = MOMENT.replace(tzinfo=None)
    hour = timedelta(hours=1)
    with pytest.raises(ConfigurationError, match=r"BTC/USD has a time without a zone: 2023-03-11T07:00:00"):
        DataGap("BTC/USD", "trades", naive, MOMENT, hour)
    with pytest.raises(ConfigurationError, match="without a zone"):
        DataGap("BTC/USD", "trades", MOMENT, naive, hour)
    with pytest.raises(ConfigurationError, match="ends before it starts"):
        DataGap("BTC/USD", "trades", MOMENT, MOMENT - hour, -hour)


def test_records_are_tuples_in_the_order_of_the_columns() -> None:
    trade = TradeRecord("XRP/BTC", MOMENT, D("0.00001"), D("250"), "sell", trade_id=17, order_type="market")
    assert trade.to_tuple() == ("XRP/BTC", MOMENT, D("0.00001"), D("250"), "sell")
    candle = CandleRecord("XRP/BTC", MOMENT, 1, D(1), D(4), D("0.5"), D(2), D(9), 3)
    assert candle.to_tuple() == ("XRP/BTC", MOMENT, 1, D(1), D(4), D("0.5"), D(2), D(9), 3, None)


def test_records_can_be_changed_and_need_only_what_the_specification_asks() -> None:
    trade = TradeRecord(symbol="XRP/BTC", timestamp=MOMENT, price=D(1), volume=D(2), side="buy")
    assert (trade.trade_id, trade.order_type, trade.misc) == (None, None, None)
    trade.volume += 1
    assert trade.to_tuple()[3] == D(3)
    candle = CandleRecordFactory.build()
    candle.close = D(7)
    assert candle.to_tuple()[6] == D(7)


def test_factories_make_distinct_consistent_objects() -> None:
    candles = CandleRecordFactory.build_batch(3, interval_minutes=5)
    assert [after.timestamp - before.timestamp for before, after in itertools.pairwise(candles)] == [
        timedelta(minutes=5)
    ] * 2
    assert all(c.low <= min(c.open, c.close) <= max(c.open, c.close) <= c.high for c in candles)
    assert len({trade.trade_id for trade in TradeRecordFactory.build_batch(5)}) == 5


def test_a_notebook_shows_a_record_as_a_table() -> None:
    trade = HistoricalTrade(7, "BTC/USD", MOMENT, D("1E-7"), D("2.50"), "buy", "limit", "<b>")
    shown = trade._repr_html_()
    assert shown.startswith("<table><caption>HistoricalTrade</caption><tr><th>id</th><td>7</td></tr>")
    assert "<th>timestamp</th><td>2023-03-11 07:00:00+00:00</td>" in shown
    assert "<th>price</th><td>0.0000001</td>" in shown
    assert "<th>misc</th><td>&lt;b&gt;</td>" in shown
    assert "<th>vwap</th><td></td>" in example_candle(vwap=None)._repr_html_()
    kinds: list[Any] = [DataGapFactory, TradeRecordFactory, CandleRecordFactory, HistoricalCandleFactory]
    for record in (kind() for kind in kinds):
        assert record._repr_html_().count("<tr>") == len(dataclasses.fields(record))

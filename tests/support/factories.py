"""Factories of the domain types, with values that are valid and consistent unless a test says otherwise.

Each object lies one minute (trades: one second) after the last one, so a batch has no duplicate key::

    CandleRecordFactory.build_batch(60, symbol="ETH/USD")
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from factory.base import Factory
from factory.declarations import Iterator, LazyAttribute, LazyAttributeSequence, Sequence

from kraken_db.types import Candle, CandleRecord, DataGap, HistoricalCandle, HistoricalTrade, TradeRecord

T = TypeVar("T")

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
"""The time of the first object of every factory; a Monday, so candles of all intervals open here."""


class _TradeFields(Factory[T]):
    class Meta:
        abstract = True

    symbol = "BTC/USD"
    timestamp = Sequence(lambda n: EPOCH + timedelta(seconds=n))
    price = Sequence(lambda n: Decimal("42000.1") + n % 50)
    volume = Decimal("0.01250000")
    side = Iterator(["buy", "sell"])
    order_type = "limit"
    misc = ""


class HistoricalTradeFactory(_TradeFields[HistoricalTrade]):
    class Meta:
        model = HistoricalTrade

    id = Sequence(lambda n: n + 1)


class TradeRecordFactory(_TradeFields[TradeRecord]):
    class Meta:
        model = TradeRecord

    trade_id = Sequence(lambda n: n + 1)


class _CandleFields(Factory[T]):
    class Meta:
        abstract = True

    symbol = "BTC/USD"
    interval_minutes = 1
    timestamp = LazyAttributeSequence(lambda it, n: EPOCH + n * timedelta(minutes=it.interval_minutes))
    open = Sequence(lambda n: Decimal("42000.0") + n % 50)
    high = LazyAttribute(lambda it: max(it.open, it.close) + Decimal("2.5"))
    low = LazyAttribute(lambda it: min(it.open, it.close) - Decimal("1.5"))
    close = LazyAttribute(lambda it: it.open + Decimal("0.5"))
    volume = Decimal("1.25000000")
    trade_count = 7
    vwap = LazyAttribute(lambda it: (it.open + it.close) / 2)


class CandleFactory(_CandleFields[Candle]):
    class Meta:
        model = Candle


class HistoricalCandleFactory(_CandleFields[HistoricalCandle]):
    class Meta:
        model = HistoricalCandle

    quote_volume = LazyAttribute(lambda it: None if it.vwap is None else it.vwap * it.volume)


class CandleRecordFactory(_CandleFields[CandleRecord]):
    class Meta:
        model = CandleRecord


class DataGapFactory(Factory[DataGap]):
    class Meta:
        model = DataGap

    symbol = "BTC/USD"
    data_type = "candles_1m"
    start_time = EPOCH
    duration = timedelta(hours=1)
    end_time = LazyAttribute(lambda it: it.start_time + it.duration)

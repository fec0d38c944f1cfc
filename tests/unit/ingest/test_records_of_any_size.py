"""Whatever is handed over as a record is taken or rejected at once: size is looked at before arithmetic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from kraken_db.database_writer.messages import candle_of, moment_of, trade_of
from kraken_db.errors import RejectedRecordError
from kraken_db.ingest.rules import check_candle, check_trade, shown
from tests.support.factories import CandleRecordFactory, TradeRecordFactory

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MILLION = 10**6
ONE = Decimal("1." + "0" * MILLION)


class Liar:
    """Raises, whatever it is asked."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    def __str__(self) -> str:
        raise RuntimeError("no")


NUMBERS: list[Any] = [
    Decimal("1E+100000"),
    Decimal("1E+999999999999999999"),
    Decimal("1E-100000"),
    Decimal("1E-999999999999999999"),
    Decimal("1" * MILLION),
    ONE,
    Decimal("0." + "0" * MILLION + "1"),
    Decimal("NaN"),
    Decimal("sNaN"),
    Decimal("Infinity"),
    Decimal("-Infinity"),
    10**5000,
    1 << 10**7,
    -(10**5000),
    float("inf"),
    float("nan"),
    1e300,
    5e-324,
    True,
    None,
    "1E+100000",
    "1" * MILLION,
    "0." + "0" * MILLION,
    "NaN",
    "Infinity",
    "0x10",
    "1_0",
    " 2.0",
    "2.0\n",
    "٣",  # an Arabic three
    "",
    "1e5e5",
    (0, (1,), 100_000),
    Fraction(1, 3),
    b"1.5",
    [1],
    Liar(),
]


@contextmanager
def at_once() -> Iterator[None]:
    """A second is ten thousand times more than a record takes, and a hundredth of what it once took."""
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("value", NUMBERS, ids=shown)
@pytest.mark.parametrize("field", ["price", "volume"])
def test_a_number_of_a_trade(field: str, value: Any) -> None:
    with at_once(), pytest.raises(RejectedRecordError) as refused:
        check_trade(TradeRecordFactory.build(**{field: value}), NOW)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("value", [one for one in NUMBERS if one is not None], ids=shown)
@pytest.mark.parametrize("field", ["open", "high", "low", "close", "volume", "vwap"])
def test_a_number_of_a_candle(field: str, value: Any) -> None:
    record = CandleRecordFactory.build()
    setattr(record, field, value)
    with at_once(), pytest.raises(RejectedRecordError) as refused:
        check_candle(record, NOW)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "value", ["1E+1", "5.5E+2", "100", ".5", "7.", 3, 0.1, Decimal("2.50"), Decimal("1E+1")]
)
def test_what_was_a_number_is_one(value: Any) -> None:
    assert check_trade(TradeRecordFactory.build(price=value), NOW).price == Decimal(str(value))


@pytest.mark.parametrize("value", [one for one in NUMBERS if one is not None and one is not ONE], ids=shown)
def test_a_trade_id_of_a_message(value: Any) -> None:
    """It is none, or one that the writer rejects: nothing is computed with it before its size is known."""
    message = {"price": "1.5", "qty": "1", "timestamp": "2025-01-01T00:00:00Z", "trade_id": value}
    with at_once(), pytest.raises(Exception) as refused:
        check_trade(trade_of("BTC/USD", message), NOW)
    assert isinstance(refused.value, RejectedRecordError | ValueError | TypeError | ArithmeticError)


@pytest.mark.parametrize("value", [7, "7", 7.0, Decimal("7"), Decimal("7.00"), Decimal("0.7E+1")])
def test_a_trade_id_that_is_one(value: Any) -> None:
    message = {"price": "1.5", "qty": "1", "timestamp": "2025-01-01T00:00:00Z", "trade_id": value}
    assert trade_of("BTC/USD", message).trade_id == 7


@pytest.mark.parametrize("value", [one for one in NUMBERS if one is not True], ids=shown)
@pytest.mark.parametrize("field", ["trades", "interval", "timestamp", "interval_begin", "vwap"])
def test_a_candle_of_a_message(field: str, value: Any) -> None:
    """An error, or a candle that can be: never a wait."""
    message = {
        **dict.fromkeys(("open", "high", "low", "close"), "1.5"),
        "volume": "2",
        "vwap": "1.5",
        "trades": 3,
        "timestamp": "2025-01-01T00:00:00Z",
        field: value,
    }
    with at_once():
        try:
            check_candle(candle_of("BTC/USD", message, 1), NOW)
        except Exception as error:
            assert not isinstance(error, MemoryError | RecursionError)


@pytest.mark.parametrize(
    "value", [*NUMBERS, "2025-01-01T00:00:00Z" + "0" * MILLION, "2025" * MILLION, 10**12 + 1], ids=shown
)
def test_a_time_of_a_message(value: Any) -> None:
    with at_once(), pytest.raises(Exception) as refused:
        check_trade(TradeRecordFactory.build(timestamp=moment_of(value)), NOW)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1, 1, 1),  # noqa: DTZ001
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
        datetime(2025, 1, 1),  # noqa: DTZ001
    ],
)
def test_a_moment_at_the_ends_of_time(moment: datetime) -> None:
    with pytest.raises(RejectedRecordError):
        check_trade(TradeRecordFactory.build(timestamp=moment), NOW)


def test_whatever_it_is_it_can_be_shown() -> None:
    shown_values = [shown(value) for value in (*NUMBERS, "x" * MILLION, b"y" * MILLION)]
    assert all(len(text) <= 60 for text in shown_values)
    assert "a Liar" in shown_values
    assert "a whole number of 16,610 bits" in shown_values

"""Kraken's answers: every digit kept, every wrong shape told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kraken_db.errors import ExchangeFormatError, ExchangeUnavailableError, UnknownPairError
from kraken_db.kraken import messages
from kraken_db.kraken.messages import KrakenTrade, time_of
from kraken_db.types import CandleRecord, TradeRecord

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ROW = '["96543.10000","0.00012345",1762820035.9822779,"b","l","",82345678]'


def trades(rows: str, *, key: str = "XXBTZUSD", last: str = ',"last":"1762820035982277754"') -> bytes:
    return f'{{"{key}":[{rows}]{last}}}'.encode()


def decode(rows: str, **more: str) -> messages.TradesPage:
    return messages.decode_trades(trades(rows, **more), "Trades of XBTUSD")


# --- trades ---


def test_a_trade_keeps_every_digit() -> None:
    page = decode(ROW)
    assert (page.key, page.last) == ("XXBTZUSD", 1762820035982277754)
    (trade,) = page.trades
    assert (str(trade.price), str(trade.volume)) == ("96543.10000", "0.00012345")
    assert trade.timestamp == datetime(2025, 11, 11, 0, 13, 55, 982277, tzinfo=UTC)
    assert (trade.side, trade.order_type, trade.misc, trade.trade_id) == ("buy", "limit", "", 82345678)
    assert page.raw == json.loads(f"[{ROW}]")


def test_a_trade_as_the_store_takes_it() -> None:
    assert decode(ROW).records("BTC/USD") == [
        TradeRecord(
            "BTC/USD",
            datetime(2025, 11, 11, 0, 13, 55, 982277, tzinfo=UTC),
            Decimal("96543.10000"),
            Decimal("0.00012345"),
            "buy",
            82345678,
            "limit",
            "",
        )
    ]


def test_exponents_are_numbers_too() -> None:
    trade = decode('["1E+1","2.5e-7",3,"b","m","",1]').trades[0]
    assert (trade.price, trade.volume) == (Decimal(10), Decimal("0.00000025"))


def test_rows_of_six_fields_and_of_more_than_seven() -> None:
    page = decode('["1","2",3.5,"s","m",""],["1","2",3.5,"s","m","",9,"new"]')
    assert [trade.trade_id for trade in page.trades] == [None, 9]
    assert page.trades[0].side == "sell"
    assert page.trades[0].order_type == "market"


def test_id_0_is_none() -> None:
    assert decode('["1","2",3,"s","m","",0]').trades[0].trade_id is None


@pytest.mark.parametrize(("last", "cursor"), [("", None), (',"last":"17"', 17), (',"last":17', 17)])
def test_last_as_it_was_given(last: str, cursor: int | None) -> None:
    assert decode(ROW, last=last).last == cursor


def test_last_may_come_first_and_the_page_may_be_empty() -> None:
    page = messages.decode_trades(b'{"last":"123","SOLUSD":[]}', "x")
    assert (page.key, page.trades, page.last, page.raw) == ("SOLUSD", [], 123, [])


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("1762820035.9822779", 982277),
        ("1762820035.9999999", 999999),  # rounded, it would be another second
        ("1762820035.99999999999999999999999999999999999999", 999999),
        ("1762820035.0000009", 0),
        ("1762820035.1", 100000),
        ("1762820035", 0),
        ("1.7628200355E9", 500000),
    ],
)
def test_times_are_cut_to_microseconds(text: str, microsecond: int) -> None:
    moment = decode(f'["1","2",{text},"b","m","",1]').trades[0].timestamp
    assert moment == datetime(2025, 11, 11, 0, 13, 55, microsecond, tzinfo=UTC)


@given(st.integers(0, 253_402_300_799), st.text("0123456789", max_size=40))
def test_any_text_of_a_time_is_cut_exactly(seconds: int, fraction: str) -> None:
    text = f"{seconds}.{fraction}" if fraction else str(seconds)
    moment = decode(f'["1","2",{text},"b","m","",1]').trades[0].timestamp
    assert (moment - EPOCH) // timedelta(microseconds=1) == Fraction(text) * 1_000_000 // 1


@given(st.decimals(min_value=0, max_value=10**10, places=10), st.integers(1_300_000_000, 2_000_000_000))
def test_numbers_come_back_as_they_were_written(number: Decimal, second: int) -> None:
    trade = decode(f'["{number:f}","{number:f}",{second},"b","m","",1]').trades[0]
    assert (format(trade.price, "f"), format(trade.volume, "f")) == (f"{number:f}", f"{number:f}")


@given(st.floats(1_300_000_000, 2_000_000_000))
def test_a_raw_row_gives_the_same_trade_whatever_decoded_it(moment: float) -> None:
    row = f'["1.50","2",{moment!r},"b","m","",7]'
    trade = decode(row).trades[0]
    assert KrakenTrade.from_raw(json.loads(row)) == trade
    assert KrakenTrade.from_raw(json.loads(row, parse_float=Decimal)) == trade
    assert KrakenTrade.from_raw(json.loads(row, parse_float=str)) == trade
    assert KrakenTrade.from_raw(decode(row).raw[0]) == trade


@pytest.mark.parametrize(
    "row",
    [
        [],
        ["1", "2", 3, "b", "m"],
        ["1", "2", 3, "x", "m", ""],
        ["1", "2", 3, "b", "m", None],
        ["nan", "2", 3, "b", "m", ""],
        ["1", "-2", 3, "b", "m", ""],
        ["1", "2", float("nan"), "b", "m", ""],
        ["1", "2", True, "b", "m", ""],
        ["1", "2", 3, "b", "m", "", -1],
        ["1", "2", 3, "b", "m", "", "7"],
        [None, "2", 3, "b", "m", ""],
        ["1", "2", 3, [], "m", ""],
        ["1", "2", 3, "b", "m", "\x00"],
        ["1", "2", 3, "b", "m", "\x1b[0m"],
        ["1", "2", 3, "b", "m", "", 2**62 + 1],
        ["1", "2", 3, "b", "m", "", 10**400],
        ["1" * 31, "2", 3, "b", "m", ""],
        ["1" * 1_000_000, "2", 3, "b", "m", ""],
        ["1", "1e100", 3, "b", "m", ""],
        ["1_0", "2", 3, "b", "m", ""],
        ["0x10", "2", 3, "b", "m", ""],
        ["١", "2", 3, "b", "m", ""],
        ["1", "2", "1" * 31, "b", "m", ""],
    ],
    ids=lambda row: f"{row!r:.60}",
)
def test_a_raw_row_of_another_shape(row: list[object]) -> None:
    with pytest.raises(ExchangeFormatError, match="is not a trade of Kraken"):
        KrakenTrade.from_raw(row)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ('["1","2",3,"b","m","",1],["1",2,3,"b","m","",1]', r"XXBTZUSD\[1\]\[1\]: expected `str`, got `int`"),
        ('["NaN","2",3,"b","m","",1]', "'NaN' is not a number"),
        ('["-1","2",3,"b","m","",1]', "'-1' is not a number"),
        ('["1_0","2",3,"b","m","",1]', "'1_0' is not a number"),
        ('[" 1","2",3,"b","m","",1]', "' 1' is not a number"),
        ('["1\\n","2",3,"b","m","",1]', "is not a number"),
        ('["1.2.3","2",3,"b","m","",1]', "'1.2.3' is not a number"),
        ('["","2",3,"b","m","",1]', "'' is not a number"),
        ('["1","1E",3,"b","m","",1]', "'1E' is not a number"),
        ('["1","2","x","b","m","",1]', r"\[0\]\[2\]"),
        ('["1","2",-1,"b","m","",1]', "not a time in unix seconds"),
        ('["1","2",1e300,"b","m","",1]', "not a time in unix seconds"),
        ('["1","2","NaN","b","m","",1]', "not a time in unix seconds"),
        ('["1","2",3,"buy","m","",1]', r"\[0\]\[3\]: invalid enum value 'buy'"),
        ('["1","2",3,"b","m",null,1]', r"\[0\]\[5\]: expected `str`, got `null`"),
        ('["1","2",3,"b","m","",-1]', r"\[0\]\[6\]"),
        ('["1","2",3,"b","m","",1.5]', r"\[0\]\[6\]: expected `int`, got `float`"),
        ('["1","2",3,"b","m"]', "expected `array` of at least length 6, got 5"),
        ('{"price":"1"}', r"\[0\]: expected `array`, got `object`"),
        ("7", r"\[0\]: expected `array`, got `int`"),
    ],
)
def test_rows_of_another_shape(rows: str, told: str) -> None:
    with pytest.raises(ExchangeFormatError, match=told) as error:
        decode(rows)
    assert str(error.value).startswith("Trades of XBTUSD: result.XXBTZUSD")
    assert len(error.value.message) < 400


@pytest.mark.parametrize(
    ("result", "told"),
    [
        (b'{"last":"1"}', "no key beside 'last'"),
        (b'{"A":[],"B":[],"last":"1"}', "2 keys"),
        (b'{"A":[],"last":"x"}', "result.last"),
        (b'{"A":[],"last":-1.5}', "result.last"),
        (b"[]", "expected `object`, got `array`"),
        (b'{"A":"no"}', "result.A: expected `array`, got `str`"),
        (b'{"A":["\xff"]}', "result.A"),
    ],
)
def test_results_of_another_shape(result: bytes, told: str) -> None:
    with pytest.raises(ExchangeFormatError, match=told):
        messages.decode_trades(result, "Trades of XBTUSD")


# --- the answer around it ---


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b'{"error":[],"result":{"X":[[',
        b"<html>502</html>",
        b"\xff\xfe",
        b'{"error":[],"new":' + b"[" * 100_000,
        b"no",
    ],
)
def test_what_is_no_json_may_be_tried_again(body: bytes) -> None:
    with pytest.raises(ExchangeUnavailableError, match="no whole JSON") as error:
        messages.decode_result(body, "Time", 0.0)
    assert "html" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    "body", [b"[]", b"17", b"{}", b'{"error":"no"}', b'{"error":[1]}', b'{"error":null}', b'{"error":[]}']
)
def test_answers_of_another_shape(body: bytes) -> None:
    with pytest.raises(ExchangeFormatError):
        messages.decode_result(body, "Time", 0.0)


def test_a_warning_is_no_error() -> None:
    assert bytes(messages.decode_result(b'{"error":["WGeneral:x"],"result":{"a":1},"new":2}', "x", 0.0))


# --- the others, as Kraken sent them ---


def result_of(path: Path) -> bytes:
    return bytes(messages.decode_result(path.read_bytes(), path.name, 0.0))


def test_recorded_pairs(real_data: Path) -> None:
    found = messages.decode_asset_pairs(result_of(real_data / "rest" / "asset_pairs_XBTUSDT.json"), "x")
    pair = found["XBTUSDT"]
    assert list(found) == ["XBTUSDT"]
    assert (pair.altname, pair.wsname, pair.base, pair.quote) == ("XBTUSDT", "XBT/USDT", "XXBT", "USDT")
    assert (pair.pair_decimals, pair.lot_decimals) == (1, 8)
    assert (pair.status, pair.ordermin) == ("online", "0.00005")


def test_recorded_time_and_status(real_data: Path) -> None:
    moment = messages.decode_time(result_of(real_data / "rest" / "time.json"), "Time")
    assert moment == datetime(2025, 11, 11, 0, 17, 4, tzinfo=UTC)
    status = messages.decode_system_status(result_of(real_data / "rest" / "system_status.json"), "x")
    assert status == messages.SystemStatus("online", datetime(2025, 11, 11, 0, 17, 10, tzinfo=UTC))


def test_recorded_candles(real_data: Path) -> None:
    page = messages.decode_ohlc(result_of(real_data / "rest" / "ohlc_XBTUSD_1m.json"), "x", 1)
    assert (page.key, page.last, len(page.committed)) == ("XXBTZUSD", 1790446140, 4)
    assert page.records("BTC/USD")[0] == CandleRecord(
        "BTC/USD",
        datetime.fromtimestamp(1790445600, UTC),
        1,
        Decimal("84125.9"),
        Decimal("84125.9"),
        Decimal("84111.8"),
        Decimal("84111.9"),
        Decimal("0.37798365"),
        71,
        Decimal("84117.2"),
    )
    assert page.running is not None
    assert page.running.timestamp == datetime.fromtimestamp(1790445840, UTC)


def test_a_recorded_refusal(real_data: Path) -> None:
    with pytest.raises(UnknownPairError, match="EQuery:Invalid asset pair"):
        result_of(real_data / "rest" / "error_invalid_pair.json")


def test_recorded_trades_without_ids(real_data: Path) -> None:
    """The recorder of these wrote CSV: as rows of six they are what REST gave."""
    lines = (real_data / "trades" / "kraken_eth_usd_historical_price_source.csv").read_text().splitlines()[1:]
    rows = []
    for line in lines:
        price, volume, time, side, kind, misc = line.split(",")[:6]
        rows.append(f'["{price}","{volume}",{time},"{side}","{kind}","{misc}"]')
    page = decode(",".join(rows), key="XETHZUSD", last="")
    assert len(page.trades) == 1000
    hour = [t for t in page.trades if t.timestamp.hour == 11]
    assert (len(hour), sum(t.volume for t in hour)) == (559, Decimal("820.18040605"))


OHLC_ROW = '[{},"1","2","0.5","1.5","1.2","3.25",{}]'


def test_candles_that_are_empty_or_running() -> None:
    rows = ",".join(OHLC_ROW.format(60 * i, i % 2) for i in range(1, 5))
    page = messages.decode_ohlc(f'{{"X":[{rows}],"last":180}}'.encode(), "x", 1)
    assert [row.trade_count for row in page.committed] == [1, 0, 1]
    assert page.running is not None and page.running.timestamp == EPOCH + timedelta(minutes=4)
    assert [record.timestamp.minute for record in page.records("A/USD")] == [1, 3]


def test_the_last_row_is_running_whatever_last_says() -> None:
    for last in (",", ',"last":60,', ',"last":9999999999,'):
        body = f'{{"a":0{last}"X":0}}'.replace('"a":0,', "").replace('"X":0', f'"X":[{OHLC_ROW}]')
        page = messages.decode_ohlc(body.replace("{}", "60", 1).replace("{}", "1").encode(), "x", 1)
        assert page.committed == []
        assert page.running is not None


def test_rows_behind_last_are_not_committed() -> None:
    rows = ",".join(OHLC_ROW.format(60 * i, 1) for i in range(1, 5))
    page = messages.decode_ohlc(f'{{"X":[{rows}],"last":60}}'.encode(), "x", 1)
    assert [row.timestamp.minute for row in page.committed] == [1]


def test_no_candles() -> None:
    page = messages.decode_ohlc(b'{"X":[],"last":0}', "x", 1)
    assert (page.committed, page.running) == ([], None)


def test_a_status_without_a_zone() -> None:
    with pytest.raises(ExchangeFormatError, match="no time zone"):
        messages.decode_system_status(b'{"status":"online","timestamp":"2025-11-11T00:17:10"}', "x")


@pytest.mark.parametrize("seconds", ["1e10000", "-1", "NaN", "Infinity", "253402300800"])
def test_what_is_no_time(seconds: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        time_of(Decimal(seconds))

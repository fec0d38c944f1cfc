"""Frames of WebSocket v2: every digit kept, every time cut and not rounded, every refusal an error."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from kraken_db.errors import (
    ExchangeFormatError,
    ExchangeRequestError,
    ExchangeThrottledError,
    UnknownPairError,
)
from kraken_db.kraken.websocket_messages import (
    Answer,
    Candles,
    Other,
    StatusChanged,
    Topic,
    Trades,
    decode_frame,
    subscription_request,
)

TRADE = (
    '{"symbol":"BTC/USD","side":"buy","price":84098.4,"qty":0.00010900,"ord_type":"limit",'
    '"trade_id":109183836,"timestamp":"2026-09-26T18:07:54.626190Z"}'
)


def frame(row: str = TRADE, kind: str = "update") -> str:
    return f'{{"channel":"trade","type":"{kind}","data":[{row}]}}'


def test_a_trade_keeps_every_digit() -> None:
    (event,) = decode_frame(frame())
    assert isinstance(event, Trades)
    assert (event.symbol, event.is_snapshot) == ("BTC/USD", False)
    (trade,) = event.trades
    assert (str(trade.price), str(trade.volume)) == ("84098.4", "0.00010900")
    assert (trade.side, trade.order_type, trade.trade_id) == ("buy", "limit", 109183836)
    assert trade.timestamp == datetime(2026, 9, 26, 18, 7, 54, 626190, UTC)
    record = trade.to_record(event.symbol)
    assert (record.symbol, record.volume, record.trade_id) == ("BTC/USD", Decimal("0.00010900"), 109183836)


@pytest.mark.parametrize(
    ("number", "exact"),
    [("12345678.12345678", "12345678.12345678"), ("1e-8", "1E-8"), ("77400.0", "77400.0"), ("3", "3")],
)
def test_numbers_are_never_floats(number: str, exact: str) -> None:
    (event,) = decode_frame(frame(TRADE.replace("84098.4", number)))
    assert isinstance(event, Trades)
    assert str(event.trades[0].price) == exact


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [("54.626190999Z", 626190), ("54.9999999Z", 999999), ("54Z", 0), ("54.5+00:00", 500000)],
)
def test_times_are_cut_off(text: str, microseconds: int) -> None:
    (event,) = decode_frame(frame(TRADE.replace("54.626190Z", text)))
    assert isinstance(event, Trades)
    assert event.trades[0].timestamp == datetime(2026, 9, 26, 18, 7, 54, microseconds, UTC)


def test_another_zone_is_told_in_utc() -> None:
    (event,) = decode_frame(frame(TRADE.replace("54.626190Z", "54+02:00")))
    assert isinstance(event, Trades)
    assert event.trades[0].timestamp == datetime(2026, 9, 26, 16, 7, 54, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "nonsense",
        "[]",
        '{"channel":"trade","type":"update"}',
        '{"channel":"trade","type":"update","data":{}}',
        frame(TRADE.replace("84098.4", "null")),
        frame(TRADE.replace("84098.4", '"NaN"')),
        frame(TRADE.replace("84098.4", "-1")),
        frame(TRADE.replace("109183836", "0")),
        frame(TRADE.replace("109183836", '"x"')),
        frame(TRADE.replace('"buy"', '"b"')),
        frame(TRADE.replace("54.626190Z", "54.626190")),
        frame(TRADE.replace("2026-09-26T", "yesterday ")),
        '{"channel":' + "[" * 2000,
    ],
)
def test_what_is_no_frame(wrong: str) -> None:
    with pytest.raises(ExchangeFormatError) as caught:
        decode_frame(wrong)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_several_symbols_in_a_frame() -> None:
    both = f"{TRADE},{TRADE.replace('BTC/USD', 'ETH/USD')}"
    assert [event.symbol for event in decode_frame(frame(both)) if isinstance(event, Trades)] == [
        "BTC/USD",
        "ETH/USD",
    ]


def test_answers() -> None:
    (pong,) = decode_frame('{"method":"pong","req_id":7,"time_out":"2026-09-26T18:09:11.775279Z"}')
    assert pong == Answer("pong", None, None, None, 7, datetime(2026, 9, 26, 18, 9, 11, 775279, UTC))
    (ack,) = decode_frame(
        '{"method":"subscribe","result":{"channel":"ohlc","interval":5,"symbol":"BTC/USD"},"success":true}'
    )
    assert isinstance(ack, Answer)
    assert (ack.error, ack.topic) == (None, Topic("ohlc", "BTC/USD", 5))
    assert decode_frame('{"channel":"heartbeat"}') == [Other("heartbeat")]
    assert decode_frame('{"channel":"brand-new","data":[1]}') == [Other("brand-new")]


def test_refusals_are_errors() -> None:
    (unknown,) = decode_frame(
        '{"error":"Currency pair not supported XBT/USDT","method":"subscribe","success":false,'
        '"symbol":"XBT/USDT"}'
    )
    assert isinstance(unknown, Answer)
    assert isinstance(unknown.error, UnknownPairError)
    assert "XBT/USDT" in str(unknown.error)
    (other,) = decode_frame(
        '{"error":"Subscription depth not supported","method":"subscribe","success":false}'
    )
    assert isinstance(other, Answer)
    assert isinstance(other.error, ExchangeRequestError)
    assert not isinstance(other.error, UnknownPairError)


def test_requests() -> None:
    topics = [Topic("ohlc", "BTC/USD", 5), Topic("ohlc", "ETH/USD", 5)]
    assert json.loads(subscription_request("subscribe", topics, 3, snapshot=False)) == {
        "method": "subscribe",
        "params": {"channel": "ohlc", "symbol": ["BTC/USD", "ETH/USD"], "interval": 5, "snapshot": False},
        "req_id": 3,
    }


def test_recorded_trades(real_data: Path) -> None:
    """The ids that the recording's notes name, and prices and volumes as the text of the frames has them."""
    ids: dict[str, list[int]] = {}
    texts: list[tuple[str, str]] = []
    path = real_data / "ws_v2" / "trades_BTCUSD_ETHUSD_2026-09-26.jsonl"
    for line in path.read_text().splitlines():
        for message in decode_frame(line):
            if isinstance(message, Trades):
                ids.setdefault(message.symbol, []).extend(trade.trade_id for trade in message.trades)
                texts += [(f"{trade.price:f}", f"{trade.volume:f}") for trade in message.trades]
        if line.startswith('{"channel":"trade"'):
            rows = json.loads(line, parse_float=str, parse_int=str)["data"]
            assert texts[-len(rows) :] == [(row["price"], row["qty"]) for row in rows]
    assert ids["BTC/USD"][:50] == list(range(109183836, 109183886))
    assert ids["ETH/USD"][:50] == list(range(66819466, 66819516))
    for found in ids.values():
        assert found == list(range(found[0], found[0] + len(found)))
    assert sum(map(len, ids.values())) > 100


def test_other_recorded_frames(real_data: Path) -> None:
    lines = (real_data / "ws_v2" / "misc_captured_frames.jsonl").read_text().splitlines()
    messages = [message for line in lines for message in decode_frame(line)]
    assert messages[0] == StatusChanged("online")
    refusals = [str(one.error) for one in messages if isinstance(one, Answer) and one.error is not None]
    assert ["XBT/USDT" in text for text in refusals] == [True, False]
    candles = [message for message in messages if isinstance(message, Candles)]
    assert [(len(one.candles), one.is_snapshot) for one in candles] == [(9, True), (1, False)]
    first = candles[0].candles[0]
    assert (str(first.open), str(first.vwap), first.trade_count) == ("77400.0", "77416.2", 15)
    assert first.timestamp == datetime(2026, 9, 10, 17, 32, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        '{"Error":"Exceeded msg rate"}',
        '{"error":"Exceeded msg rate"}',
        '{"error":"EXCEEDED  MSG RATE","method":"subscribe","success":false,"req_id":7}',
        '{"error":"EAPI:Exceeded msg rate, slow down","method":"subscribe","success":false}',
        '{"Error":"EAPI:Rate limit exceeded"}',
    ],
)
def test_too_many_frames_in_every_spelling(text: str) -> None:
    (answer,) = decode_frame(text)
    assert isinstance(answer, Answer)
    assert isinstance(answer.error, ExchangeThrottledError)
    assert answer.req_id == (7 if "req_id" in text else None)


def test_already_subscribed_is_a_yes() -> None:
    (answer,) = decode_frame(
        '{"error":"Already subscribed","method":"subscribe","success":false,"symbol":"BTC/USD","req_id":3}'
    )
    assert answer == Answer("subscribe", None, None, "BTC/USD", 3, None, is_known=True)


@pytest.mark.parametrize(
    "text", ["Currency pair not supported NOPE/USD", "Currency pair not in ISO 4217-A3 format XBTUSD"]
)
def test_refusals_that_are_final(text: str) -> None:
    (answer,) = decode_frame(f'{{"error":"{text}","method":"subscribe","success":false}}')
    assert isinstance(answer, Answer)
    assert isinstance(answer.error, UnknownPairError)


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_moment_outside_of_all_years_is_a_malformed_frame(moment: str) -> None:
    with pytest.raises(ExchangeFormatError, match="is not a time"):
        decode_frame(frame(TRADE.replace("2026-09-26T18:07:54.626190Z", moment)))

"""What is asked for, and when it is asked again; the clock is a number."""

from __future__ import annotations

import json
from typing import Any

from kraken_db.errors import ExchangeRequestError, UnknownPairError
from kraken_db.kraken.websocket_messages import Answer, Quiet, Refused, Subscribed, Topic, Unsubscribed
from kraken_db.kraken.websocket_subscriptions import SubscriptionBook, Watch

BTC, ETH = Topic("trade", "BTC/USD"), Topic("trade", "ETH/USD")
REFUSED = ExchangeRequestError("no")
UNKNOWN = UnknownPairError("no such pair")


def book(*topics: Topic) -> SubscriptionBook:
    found = SubscriptionBook(Watch())
    for topic in topics:
        found.add(topic, snapshot=True)
    return found


def sent(frames: list[str]) -> list[tuple[str, list[str]]]:
    documents: list[dict[str, Any]] = [json.loads(frame) for frame in frames]
    return [(one["method"], one["params"]["symbol"]) for one in documents]


def ack(topic: Topic) -> Answer:
    return Answer("subscribe", None, topic, None, None, None)


def no(error: ExchangeRequestError, symbol: str | None, req_id: int | None = None) -> Answer:
    return Answer("subscribe", error, None, symbol, req_id, None)


def test_asked_once_and_again_without_an_answer() -> None:
    mine = book(BTC, ETH)
    assert sent(mine.due(0.0)[0]) == [("subscribe", ["BTC/USD", "ETH/USD"])]
    assert mine.answered(ack(BTC), 1.0) == [Subscribed(BTC)]
    assert mine.due(5.0) == ([], [])
    assert sent(mine.due(10.0)[0]) == [("subscribe", ["ETH/USD"])]


def test_a_refusal_hits_its_symbol_alone() -> None:
    mine = book(BTC, ETH)
    mine.due(0.0)
    assert mine.answered(no(UNKNOWN, "ETH/USD"), 1.0) == [Refused(ETH, UNKNOWN, None)]
    assert mine.answered(ack(BTC), 1.0) == [Subscribed(BTC)]
    assert mine.due(50.0)[0] == []
    mine.disconnected()
    assert sent(mine.due(100.0)[0]) == [("subscribe", ["BTC/USD"])], "it stays refused"


def test_a_refusal_that_may_pass_is_tried_again() -> None:
    mine = book(BTC)
    mine.due(0.0)
    assert mine.answered(no(REFUSED, "BTC/USD"), 1.0) == [Refused(BTC, REFUSED, 30.0)]
    assert mine.due(30.0)[0] == []
    assert sent(mine.due(31.0)[0]) == [("subscribe", ["BTC/USD"])]


def test_a_refusal_without_a_symbol_is_that_of_the_request() -> None:
    mine = book(BTC, Topic("ohlc", "BTC/USD", 1))
    first, second = (json.loads(frame) for frame in mine.due(0.0)[0])
    assert first["params"]["channel"] == "trade"
    assert mine.answered(no(REFUSED, None, second["req_id"]), 0.0) == [
        Refused(Topic("ohlc", "BTC/USD", 1), REFUSED, 30.0)
    ]
    assert mine.answered(no(REFUSED, None), 0.0) == [Refused(None, REFUSED, None)]


def test_silence_is_looked_into_and_less_often_where_there_was_nothing() -> None:
    mine = book(BTC)
    mine.due(0.0)
    mine.answered(ack(BTC), 0.0)
    mine.heard(BTC, 0.0, newest_id=50, is_snapshot=True)
    looks = []
    for now in range(1, 700):
        frames, events = mine.due(float(now))
        if frames:
            looks.append(now)
            assert sent(frames) == [("unsubscribe", ["BTC/USD"]), ("subscribe", ["BTC/USD"])]
            assert [type(event) for event in events] == [Quiet]
            mine.answered(ack(BTC), float(now))
            mine.heard(BTC, float(now), newest_id=50, is_snapshot=True)
    assert looks == [60, 180, 420]


def test_a_trade_that_comes_resets_the_quiet_limit() -> None:
    mine = book(BTC)
    mine.due(0.0)
    mine.answered(ack(BTC), 0.0)
    mine.due(60.0)
    mine.answered(ack(BTC), 60.0)
    mine.heard(BTC, 60.0, newest_id=51, is_snapshot=True)
    assert mine.due(119.0)[0] == []
    assert mine.due(120.0)[0] != []


def test_leaving() -> None:
    mine = book(BTC, ETH)
    mine.due(0.0)
    mine.answered(ack(BTC), 0.0)
    mine.answered(ack(ETH), 0.0)
    assert sent(list(mine.leave([BTC]))) == [("unsubscribe", ["BTC/USD"])]
    assert mine.topics == [ETH]
    assert mine.due(1.0) == ([], [])
    assert mine.answered(Answer("unsubscribe", None, BTC, None, 9, None), 1.0) == [Unsubscribed(BTC)]
    list(mine.leave([ETH]))
    mine.answered(Answer("unsubscribe", REFUSED, None, "ETH/USD", 10, None), 1.0)
    assert mine.is_empty


def test_many_symbols_are_asked_for_in_parts() -> None:
    mine = book(*(Topic("trade", f"A{number}/USD") for number in range(120)))
    assert [len(symbols) for _, symbols in sent(mine.due(0.0)[0])] == [50, 50, 20]

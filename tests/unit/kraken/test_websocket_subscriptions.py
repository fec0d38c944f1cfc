"""What is asked for, and when it is asked again; the clock is a number."""

from __future__ import annotations

import json
from typing import Any

from kraken_db.errors import ExchangeError, ExchangeRequestError, ExchangeThrottledError, UnknownPairError
from kraken_db.kraken.websocket_messages import Answer, Quiet, Refused, Subscribed, Topic, Unsubscribed
from kraken_db.kraken.websocket_subscriptions import SubscriptionBook, Watch

BTC, ETH = Topic("trade", "BTC/USD"), Topic("trade", "ETH/USD")
REFUSED = ExchangeRequestError("no")
UNKNOWN = UnknownPairError("no such pair")
TOO_FAST = ExchangeThrottledError("too many frames")


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


def no(error: ExchangeError, symbol: str | None, req_id: int | None = None) -> Answer:
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


def test_a_refusal_that_may_pass_is_tried_again_at_growing_intervals() -> None:
    mine = book(BTC)
    mine.due(0.0)
    now = 1.0
    for pause in (2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        assert mine.answered(no(REFUSED, "BTC/USD"), now) == [Refused(BTC, REFUSED, pause)]
        assert mine.due(now + pause - 0.1)[0] == []
        now += pause
        assert sent(mine.due(now)[0]) == [("subscribe", ["BTC/USD"])]
    mine.answered(ack(BTC), now)
    mine.disconnected()
    mine.due(now)
    assert mine.answered(no(REFUSED, "BTC/USD"), now) == [Refused(BTC, REFUSED, 2.0)], "it counts anew"


def test_a_refusal_without_a_symbol_is_that_of_the_request() -> None:
    mine = book(BTC, Topic("ohlc", "BTC/USD", 1))
    first, second = (json.loads(frame) for frame in mine.due(0.0)[0])
    assert first["params"]["channel"] == "trade"
    assert mine.answered(no(REFUSED, None, second["req_id"]), 0.0) == [
        Refused(Topic("ohlc", "BTC/USD", 1), REFUSED, 2.0)
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


def many(count: int) -> list[Topic]:
    return [Topic("trade", f"C{number}/USD") for number in range(count)]


def subscribe_all(mine: SubscriptionBook, begin: float = 0.0) -> tuple[float, int]:
    """Accept all that is asked, with a trade each; returns when the last was, and the frames."""
    now, frames = begin, 0
    active: set[Topic] = set()
    while len(active) < len(mine.topics):
        for _, symbols in sent(mine.due(now)[0]):
            frames += 1
            for symbol in symbols:
                topic = Topic("trade", symbol)
                active.add(topic)
                mine.answered(ack(topic), now)
                mine.heard(topic, now, newest_id=50, is_snapshot=True)
        now += 0.05
    return now, frames


def test_1635_pairs_are_asked_for_within_ten_seconds_in_33_frames() -> None:
    mine = book(*many(1_635))
    done_at, frames = subscribe_all(mine)
    assert frames == 33
    assert done_at < 10


def test_the_looks_after_1000_quiet_pairs_cost_a_frame_a_second() -> None:
    """Where nothing ever comes: each pair has its turn all the same, and less and less often."""
    mine = book(*many(1_000))
    subscribe_all(mine)
    frames: list[float] = []
    looked_after: dict[str, int] = {}
    for tick in range(20 * 20, 20 * 1_000):
        now = tick / 20
        for method, symbols in sent(mine.due(now)[0]):
            frames.append(now)
            assert len(symbols) <= 50
            for symbol in symbols if method == "subscribe" else ():
                looked_after[symbol] = looked_after.get(symbol, 0) + 1
                mine.answered(ack(Topic("trade", symbol)), now)
                mine.heard(Topic("trade", symbol), now, newest_id=50, is_snapshot=True)
    for second in range(20, 1_000, 10):
        assert sum(second <= one < second + 10 for one in frames) <= 11
    assert len(looked_after) == 1_000
    assert set(looked_after.values()) == {4}, "after 1, 2, 4 and 8 minutes"
    assert min(frames) >= 60


def test_no_look_where_it_may_not_be() -> None:
    mine = book(BTC)
    subscribe_all(mine)
    assert mine.due(500.0, may_look=False) == ([], [])
    assert len(mine.due(500.0)[0]) == 2


def test_what_was_too_fast_is_asked_again_and_more_slowly() -> None:
    mine = book(*many(120))
    first, second, third = (json.loads(frame) for frame in mine.due(0.0)[0])
    for symbol in first["params"]["symbol"]:
        mine.answered(ack(Topic("trade", symbol)), 0.1)
    # One refusal says of which request it is, the other does not: then it is what is unanswered.
    (told,) = mine.answered(no(TOO_FAST, None, third["req_id"]), 0.1)
    assert told == Refused(None, TOO_FAST, 1.0)
    mine.answered(Answer(None, TOO_FAST, None, None, None, None), 0.2)
    again: list[tuple[float, int]] = []
    for tick in range(3, 100):
        now = tick / 20
        for frame in mine.due(now)[0]:
            document = json.loads(frame)
            again.append((now, len(document["params"]["symbol"])))
            for symbol in document["params"]["symbol"]:
                mine.answered(ack(Topic("trade", symbol)), now)
    assert [symbols for _, symbols in again] == [50, 20]
    assert again[0][0] >= 1.1
    assert again[1][0] >= again[0][0] + 0.5
    assert mine.due(50.0, may_look=False) == ([], [])
    assert len(second["params"]["symbol"]) == 50


def test_already_subscribed_is_subscribed() -> None:
    mine = book(BTC, ETH)
    mine.due(0.0)
    known = Answer("subscribe", None, None, "BTC/USD", None, None, is_known=True)
    assert mine.answered(known, 1.0) == [Subscribed(BTC)]
    assert mine.due(30.0, may_look=False)[0] != [], "the other was not answered"
    assert mine.missing_snapshot(100.0) is None, "no snapshot follows on that"


def test_a_snapshot_that_does_not_come_proves_the_connection_dead_once() -> None:
    mine = book(BTC, ETH)
    subscribe_all(mine)
    mine.disconnected()
    mine.due(20.0)
    mine.answered(ack(BTC), 20.0)
    mine.answered(ack(ETH), 20.0)
    mine.heard(ETH, 20.1, newest_id=51, is_snapshot=True)
    assert mine.missing_snapshot(29.0) is None
    assert mine.missing_snapshot(30.0) == BTC
    mine.disconnected()
    subscribed = mine.due(31.0)[0]
    assert sent(subscribed) == [("subscribe", ["BTC/USD", "ETH/USD"])]
    mine.answered(ack(BTC), 31.0)
    mine.answered(ack(ETH), 31.0)
    mine.heard(ETH, 31.1, newest_id=51, is_snapshot=True)
    # It was not the connection, then: the one topic is asked for again, and after twice the time again.
    assert mine.missing_snapshot(42.0) is None
    looks = []
    for now in range(42, 140):
        for method, symbols in sent(mine.due(float(now))[0]):
            if symbols == ["BTC/USD"] and method == "subscribe":
                looks.append(now)
                mine.answered(ack(BTC), float(now))
        mine.heard(ETH, float(now), newest_id=52, is_snapshot=False)
    assert looks == [42, 62, 102]


def test_the_first_snapshot_of_a_pair_is_not_waited_for() -> None:
    """A pair that has never traded has none."""
    mine = book(BTC)
    mine.due(0.0)
    mine.answered(ack(BTC), 0.0)
    assert mine.missing_snapshot(59.0) is None


def test_heartbeats_are_expected_where_something_is_subscribed_to() -> None:
    mine = book(BTC)
    assert not mine.expects_more
    mine.due(0.0)
    assert mine.expects_more
    mine.answered(no(UNKNOWN, "BTC/USD"), 1.0)
    assert not mine.expects_more

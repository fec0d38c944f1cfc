"""What ends no pair of a recording: refusals of Kraken's, ids that cannot be, and mistakes of our own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from aiohttp import web

from kraken_db.recorder import RecorderStatus, rejoin
from kraken_db.recorder.rejoin import CatchUp
from kraken_db.recorder.symbol_feed import SymbolFeed
from kraken_db.simulator import FeedFaults, Market
from tests.support.downloading import download_one
from tests.support.recording import (
    MINUTE,
    SPEED,
    START,
    StartedClock,
    all_is_there,
    assert_recorded,
    exchange_of,
    is_live,
    market,
    recorder_of,
    recording,
    until,
)
from tests.support.spoiling import RefusingExchange

ANSWERS: dict[str, Callable[[], web.Response]] = {
    "403": lambda: web.Response(status=403, text="<html>"),
    "lockout": lambda: web.json_response({"error": ["EGeneral:Temporary lockout"]}),
    "null": lambda: web.json_response(None),
    "null result": lambda: web.json_response({"error": [], "result": None}),
    "invalid arguments": lambda: web.json_response({"error": ["EGeneral:Invalid arguments"]}),
    "unknown method": lambda: web.json_response({"error": ["EGeneral:Unknown method"]}),
    "another pair": lambda: web.json_response({"error": [], "result": {"XETHZUSD": [], "last": "0"}}),
    "a wait of years": lambda: web.Response(status=429, headers={"Retry-After": "1000000000"}),
    "a redirect": lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_refusal_while_a_hole_is_repaired(
    plain_url: str, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pair catches up, what the feed brings waits, and all is stored when the refusal ends."""
    monkeypatch.setattr(rejoin, "LONGEST_PAUSE_REFUSED", 0.5)
    wanted = market(trades=1_500)
    await download_one(plain_url, wanted, end_timestamp=START + MINUTE / 2)
    clock = StartedClock(START + MINUTE, SPEED)
    exchange = RefusingExchange([wanted], clock=clock, feed_faults=FeedFaults(lost=0.05))
    exchange.feed.heartbeat_seconds = 0.1
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, [wanted.symbol], tmp_path)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            exchange.answer = ANSWERS[name]
            clock.go()

            def is_refused(status: RecorderStatus) -> bool:
                (pair,) = status.pairs
                return bool(pair.error and pair.waiting and recorder.is_flawed == (name != "a wait of years"))

            await until(recorder, is_refused, running)
            assert recorder.status().pairs[0].state == "catching up"
            exchange.answer = None
            await until(recorder, all_is_there(wanted), running)
        assert not recorder.is_flawed
    await assert_recorded(plain_url, wanted, 1)


async def test_an_id_of_the_feed_that_cannot_be(plain_url: str, tmp_path: Path) -> None:
    """It is left out: the pair stays live, and the next recording goes on."""
    wanted = market(trades=2_000)
    exchange, clock = exchange_of(wanted)
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, [wanted.symbol], tmp_path)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            clock.go()
            await until(recorder, lambda status: status.received > 100, running)
            exchange.feed._to_all(lambda socket: socket.send(frame_of(2**62, clock.now())))
            await until(recorder, lambda status: status.malformed == 1, running)
            await until(recorder, all_is_there(wanted), running)
            (pair,) = recorder.status().pairs
            assert (pair.holes, pair.waiting) == (0, 0)
    await assert_recorded(plain_url, wanted, first_of(wanted, recorder.status()))


def frame_of(trade_id: int, moment: datetime) -> str:
    trade = {"symbol": "BTC/USD", "side": "buy", "price": 1.5, "qty": 2.0, "ord_type": "limit"}
    row = trade | {"trade_id": trade_id, "timestamp": moment.isoformat()}
    return json.dumps({"channel": "trade", "type": "update", "data": [row]})


async def test_a_mistake_at_one_pair_leaves_the_others(
    plain_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {"BTC/USD"}
    right = CatchUp.run

    async def run(self: CatchUp, symbol_feed: SymbolFeed) -> datetime | None:
        if symbol_feed.symbol in wrong:
            raise OverflowError("date value out of range")
        return await right(self, symbol_feed)

    monkeypatch.setattr(CatchUp, "run", run)
    monkeypatch.setattr(rejoin, "LONGEST_PAUSE_REFUSED", 0.5)
    one, other = market(trades=3_000), market("ETH/USD", trades=3_000)
    exchange, clock = exchange_of(one, other)
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, [one.symbol, other.symbol], tmp_path)
        async with recording(recorder) as running:
            clock.go()
            await until(recorder, lambda status: status.pairs[1].received > 500, running)
            pair = recorder.status().pairs[0]
            assert (pair.state, recorder.is_flawed) == ("catching up", True)
            assert pair.error == "internal error OverflowError: date value out of range; the others went on"
            wrong.clear()
            await until(recorder, all_is_there(one, other), running)
        assert not recorder.is_flawed
    for wanted in (one, other):
        await assert_recorded(plain_url, wanted, first_of(wanted, recorder.status()))


def first_of(wanted: Market, status: RecorderStatus) -> int:
    (pair,) = [pair for pair in status.pairs if pair.symbol == wanted.symbol]
    assert pair.last_id is not None
    return pair.last_id - pair.received - pair.repaired + 1

"""Trades of the feed that cannot be stored: REST is asked for them, and what it has wrong too stays a gap."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from kraken_db.recorder import rejected
from kraken_db.simulator.feed import FeedSocket, Key
from tests.support.downloading import stored
from tests.support.recording import (
    MINUTE,
    SPEED,
    STAMPS_APART,
    START,
    StartedClock,
    all_is_there,
    assert_recorded,
    is_live,
    market,
    recorder_of,
    recording,
    until,
)
from tests.support.spoiling import Spoil, SpoilingExchange, rows_of

MARKET = market(trades=1_500)
_TRUTH = list(MARKET.truth_trades())
WRONG = next(
    two.id or 0
    for one, two, three in zip(_TRUTH[900:], _TRUTH[901:], _TRUTH[902:], strict=False)
    if two.timestamp - one.timestamp > STAMPS_APART < three.timestamp - two.timestamp
)
"""The id of the trade: about 600 have come before the recording."""


@pytest.fixture(autouse=True)
def spoilt_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed has a price for it that no column holds."""
    send = FeedSocket.send_trades

    def spoilt(self: FeedSocket, key: Key, frame: str, trades: int) -> None:
        message: dict[str, Any] = json.loads(frame)
        if key.channel == "trade" and any(row["trade_id"] == WRONG for row in message["data"]):
            for row in message["data"]:
                row["price"] = 1e15 if row["trade_id"] == WRONG else row["price"]
            frame = json.dumps(message)
        send(self, key, frame, trades)

    monkeypatch.setattr(FeedSocket, "send_trades", spoilt)
    monkeypatch.setattr(rejected, "PAUSES", (0.1, 0.2, 0.4, 0.8))


def no_spoil(_result: dict[str, Any], _params: object) -> None: ...


def also_wrong(result: dict[str, Any], _params: object) -> None:
    for row in rows_of(result):
        row[0] = "1000000000000000" if row[6] == WRONG else row[0]


@pytest.mark.parametrize("spoil", [no_spoil, also_wrong])
async def test_it_is_asked_for(
    plain_url: str, tmp_path: Path, spoil: Spoil, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "kraken_db")
    wanted, clock = MARKET, StartedClock(START + MINUTE, SPEED)
    exchange = SpoilingExchange(wanted, spoil=spoil, clock=clock)
    exchange.feed.heartbeat_seconds = 0.1
    async with exchange.serve() as base_url:
        recorder = recorder_of(plain_url, base_url, clock, [wanted.symbol], tmp_path)
        async with recording(recorder) as running:
            await until(recorder, is_live, running)
            clock.go()
            await until(recorder, all_is_there(wanted), running)

            def is_decided(_status: object) -> bool:
                return recorder.status().pairs[0].repaired > 0 or "a gap" in caplog.text

            await until(recorder, is_decided, running)
    told = [line for line in caplog.messages if "a gap" in line]
    if spoil is no_spoil:
        assert told == []
        pair = recorder.status().pairs[0]
        assert pair.last_id is not None
        await assert_recorded(plain_url, wanted, pair.last_id - pair.received + 1)
        return
    assert told == [f"BTC/USD: trade {WRONG} cannot be stored, and stays a gap: REST has it so, too"]
    found = await stored(plain_url, wanted.symbol)
    assert WRONG not in [trade.id for trade in found.trades]
    missing = _TRUTH[WRONG - wanted.first_id]
    assert not [1 for start, end in found.coverage["trades"] if start <= missing.timestamp < end]

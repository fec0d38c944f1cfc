"""The open minutes of a pair: trades that come through REST while its minutes are built are not forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kraken_db.errors import InternalError
from kraken_db.recorder import candle_closer
from kraken_db.recorder.candle_closer import CandleCloser, OpenMinutes
from kraken_db.recorder.symbol_feed import SymbolFeed

START = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_what_is_closed_is_due_again_only_when_something_has_come() -> None:
    minutes = OpenMinutes("BTC/USD")
    minutes.reopen(START + MINUTE / 2)
    assert minutes.is_due(START + MINUTE, 7, START + MINUTE / 2)
    minutes.closed(START + MINUTE, 7, [(START - MINUTE, START)])
    assert not minutes.is_due(START + MINUTE, 7, START + MINUTE / 2)
    assert minutes.is_due(START + MINUTE, 8, START + MINUTE), "the next trade proves it"
    minutes.closed(START + MINUTE, 8, [(START - MINUTE, START + MINUTE)])
    assert minutes.since == START + MINUTE


def test_a_minute_that_was_reopened_is_due() -> None:
    minutes = OpenMinutes("BTC/USD")
    minutes.reopen(START)
    minutes.closed(START + MINUTE, 7, [])
    before = minutes.reopened
    minutes.reopen(START - 5 * MINUTE)
    assert minutes.reopened != before
    assert minutes.is_due(START + MINUTE, 7, START)
    assert minutes.since == START - 5 * MINUTE


async def test_a_pair_that_cannot_be_closed_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs are closed together; where that fails, each alone."""
    feeds = {symbol: live(symbol) for symbol in ("BTC/USD", "ETH/USD", "SOL/USD")}
    closer = CandleCloser(feeds, cast("Any", SimpleNamespace(flush=_nothing)), timedelta())
    closed: list[str] = []

    async def close(_store: object, _until: datetime, due: Sequence[tuple[int, OpenMinutes]]) -> int:
        symbols = [minutes.symbol for _, minutes in due]
        if "ETH/USD" in symbols:
            raise OverflowError("date value out of range")
        closed.extend(symbols)
        return len(symbols)

    monkeypatch.setattr(candle_closer, "_close_together", close)
    for feed in feeds.values():
        closer.heard(feed, START)
    with pytest.raises(InternalError, match="ETH/USD: internal error OverflowError: date value"):
        await closer.close_due(cast("Any", None), START + 2 * MINUTE)
    assert (closed, closer.minutes) == (["BTC/USD", "SOL/USD"], 2)


def live(symbol: str) -> SymbolFeed:
    feed = SymbolFeed(symbol, is_subscribed=True)
    feed.reach(7, START)
    feed.join()
    return feed


async def _nothing() -> None: ...

"""What ends a pair and what does not: the errors of its attempts to catch up, in a script."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from kraken_db.errors import (
    ConfigurationError,
    DatabaseUnavailableError,
    DataRefusedError,
    ExchangeFormatError,
    ExchangeLockoutError,
    ExchangeRequestError,
    ExchangeThrottledError,
    ExchangeUnavailableError,
    KrakenDBError,
    UnknownPairError,
)
from kraken_db.kraken.websocket_messages import LiveTrade
from kraken_db.recorder import rejoin as rejoining
from kraken_db.recorder.rejoin import BehindError, CatchUp, Rejoin
from kraken_db.recorder.symbol_feed import SymbolFeed
from tests.support.recording import START

FORBIDDEN = ExchangeRequestError("HTTP 403")


def trade(number: int) -> LiveTrade:
    moment = START + timedelta(microseconds=10 * number)
    return LiveTrade(Decimal(1), Decimal(1), moment, "buy", "limit", number)


class Script:
    """The errors of the attempts, one after the other; then it works."""

    def __init__(self, *errors: Exception, then: Callable[[SymbolFeed], None] | None = None) -> None:
        self.errors = list(errors)
        self.pauses: list[float] = []
        self.then = then
        self.store = SimpleNamespace(database=SimpleNamespace(revive=self._revive))

    async def run(self, symbol_feed: SymbolFeed) -> datetime | None:
        if self.errors:
            raise self.errors.pop(0)
        symbol_feed.reach(10, START)
        return None

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self.then is not None:
            self.then(SYMBOL_FEED[0])
        await asyncio.sleep(0)

    async def _revive(self) -> None: ...


SYMBOL_FEED: list[SymbolFeed] = []


async def joined(script: Script) -> tuple[SymbolFeed, list[int], list[str]]:
    """The pair after its attempts, the ids that it has written, and who has doubted or refused it."""
    symbol_feed = SymbolFeed("BTC/USD", last_id=10, last_time=START)
    SYMBOL_FEED[:] = [symbol_feed]
    written: list[int] = []
    told: list[str] = []

    def write(_symbol_feed: SymbolFeed, trades: Any) -> bool:
        written.extend(one.trade_id for one in trades)
        return True

    def refuse(symbol_feed: SymbolFeed, _error: KrakenDBError) -> None:
        symbol_feed.stage = "refused"
        told.append("refused")

    rejoin = Rejoin(
        cast("CatchUp", script),
        cast("Any", SimpleNamespace(reopen=lambda *_: None)),
        write,
        doubt=lambda *_: told.append("doubted"),
        refuse=refuse,
    )
    rejoin.begin(symbol_feed)
    trades: list[LiveTrade] = [trade(11), trade(12)]
    symbol_feed.take(trades, is_snapshot=False)
    await asyncio.wait_for(asyncio.gather(*rejoin._tasks.values()), 5)
    return symbol_feed, written, told


@pytest.mark.parametrize(
    "error",
    [
        FORBIDDEN,
        ExchangeRequestError("EGeneral:Invalid arguments"),
        ExchangeFormatError("the body is null"),
        ExchangeUnavailableError("EService:Busy"),
        ExchangeThrottledError("HTTP 429", retry_after=30),
        DatabaseUnavailableError("nobody answers"),
        DataRefusedError("a value that does not fit"),
        OverflowError("date value out of range"),
        ValueError("a bug"),
        ExceptionGroup("bugs", [KeyError("x")]),
    ],
)
async def test_it_is_tried_again_and_what_waited_is_written(error: Exception) -> None:
    script = Script(error, error)
    symbol_feed, written, told = await joined(script)
    assert (symbol_feed.stage, symbol_feed.error, told) == ("live", None, [])
    assert written == [11, 12]
    assert script.pauses == [1.0, 2.0]


async def test_pauses_grow_up_to_a_quarter_of_an_hour_where_kraken_refuses() -> None:
    script = Script(*[FORBIDDEN] * 13)
    await joined(script)
    assert script.pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]
    script = Script(*[ExchangeUnavailableError("down")] * 9)
    await joined(script)
    assert script.pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


async def test_a_lockout_is_waited_for_before_anything_else_is_asked() -> None:
    script = Script(ExchangeLockoutError("EGeneral:Temporary lockout"))
    symbol_feed, written, _ = await joined(script)
    assert (symbol_feed.stage, written) == ("live", [11, 12])
    assert script.pauses == [900]


async def test_a_rest_that_lags_is_asked_again_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    script = Script(*[BehindError("it lags")] * 3)
    await joined(script)
    assert script.pauses == [1, 2, 4]
    assert caplog.records == []
    await joined(Script(*[BehindError("it lags")] * 4))
    assert len(caplog.records) == 1, "it has lagged for long"


@pytest.mark.parametrize("wait", [901.0, 1e9, math.inf])
async def test_a_long_wait_that_kraken_asks_for_is_a_quarter_of_an_hour(wait: float) -> None:
    script = Script(ExchangeThrottledError("HTTP 429", retry_after=wait))
    await joined(script)
    assert script.pauses == [900]


async def test_a_mistake_of_ours_is_told_with_its_pair(caplog: pytest.LogCaptureFixture) -> None:
    script = Script(OverflowError("date value out of range"))
    await joined(script)
    assert caplog.messages == [
        "trades are missing: BTC/USD: internal error OverflowError: date value out of range;"
        " the others went on; trying again in 1 s"
    ]


async def test_an_unknown_pair_is_doubted_and_does_not_end_by_that() -> None:
    script = Script(UnknownPairError("no such pair"))
    symbol_feed, written, told = await joined(script)
    assert (symbol_feed.stage, told, written) == ("live", ["doubted"], [11, 12])


async def test_it_ends_when_the_list_says_so() -> None:
    def delist(symbol_feed: SymbolFeed) -> None:
        symbol_feed.stage = "delisted"

    script = Script(*[UnknownPairError("no such pair")] * 5, then=delist)
    symbol_feed, written, told = await joined(script)
    assert (symbol_feed.stage, told, written) == ("delisted", ["doubted"], [])


async def test_a_wrong_address_of_ours_ends_it() -> None:
    symbol_feed, _, told = await joined(Script(ConfigurationError("KRAKEN_BASE_URL")))
    assert (symbol_feed.stage, told) == ("refused", ["refused"])


async def test_the_snapshot_is_waited_for_before_rest_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair that is stored asks the database only when the feed has shown where it is."""
    monkeypatch.setattr(rejoining, "build_missing", _nothing)
    monkeypatch.setattr(rejoining, "Ingest", lambda _store: nullcontext())
    script = Script()
    symbol_feed = SymbolFeed("BTC/USD")
    asked: list[int] = []
    rejoin = Rejoin(
        cast("CatchUp", script),
        cast("Any", SimpleNamespace(reopen=lambda *_: None)),
        lambda _symbol_feed, trades: not asked.append(len(trades)),  # type: ignore[func-returns-value]
        doubt=lambda *_: None,
        refuse=lambda *_: None,
    )
    rejoin.begin(symbol_feed)
    for _ in range(20):
        await asyncio.sleep(0)
    assert asked == []
    symbol_feed.take([trade(11)], is_snapshot=True)
    rejoin.heard(symbol_feed)
    await asyncio.wait_for(asyncio.gather(*rejoin._tasks.values()), 5)
    assert asked == [1]


async def _nothing(*_: object) -> None: ...

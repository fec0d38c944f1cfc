"""Trades that the feed had wrong are asked for by REST, in a script: what it answers, and what is told."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from kraken_db.errors import ExchangeUnavailableError
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.recorder.rejected import MOST, PAUSES, RejectedTrades
from tests.support.recording import START

SYMBOL = "BTC/USD"


class Script:
    """REST's answers one after the other: the ids of the trades on a page, or an error; then empty pages."""

    def __init__(self, *answers: list[int] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []
        self.pauses: list[float] = []
        self.stored: list[int] = []
        self.refused: set[int] = set()
        client: Any = SimpleNamespace(trades=self._trades)
        exchange: Any = SimpleNamespace(rest_name=self._name)
        self.rejected = RejectedTrades(client, exchange, self._put, self._sleep)

    async def _name(self, symbol: str) -> str:
        return f"name of {symbol}"

    async def _trades(self, name: str, since: int) -> Any:
        self.asked.append((name, since))
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(trades=[SimpleNamespace(trade_id=number) for number in answer])

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    def _put(self, symbol: str, trade: Any) -> bool:
        assert symbol == SYMBOL
        if trade.trade_id in self.refused:
            return False
        self.stored.append(trade.trade_id)
        return True

    def ask_for(self, *ids: int) -> None:
        """Each came a second after the one with the id before."""
        for number in ids:
            self.rejected.ask_for(SYMBOL, number, START + timedelta(seconds=number))

    async def done(self) -> None:
        await asyncio.gather(*self.rejected._tasks.values())


async def test_one_answer_brings_them_all() -> None:
    """It is asked from the first of them on; what else is on the page is not touched."""
    script = Script([3, 4, 5, 6, 7])
    script.ask_for(6, 4)
    await script.done()
    assert script.stored == [4, 6]
    assert script.asked == [(f"name of {SYMBOL}", to_cursor(START + timedelta(seconds=4)))]
    assert script.pauses == [PAUSES[0]]


async def test_an_error_and_a_page_without_it_are_no_end(caplog: pytest.LogCaptureFixture) -> None:
    script = Script(ExchangeUnavailableError("HTTP 502"), [3, 5], [4])
    script.ask_for(4)
    await script.done()
    assert (script.stored, script.pauses) == ([4], [*PAUSES[:3]])
    assert caplog.messages == []


async def test_what_rest_never_has_stays_a_gap(caplog: pytest.LogCaptureFixture) -> None:
    script = Script([5])
    script.ask_for(4, 5, 9)
    await script.done()
    assert (script.stored, script.pauses) == ([5], [*PAUSES])
    assert caplog.messages == [
        f"{SYMBOL}: 2 trades from 4 to 9 cannot be stored, and stay a gap: REST does not have it"
    ]


async def test_the_last_error_is_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    script = Script(*(ExchangeUnavailableError(f"HTTP 50{number}") for number in range(len(PAUSES))))
    script.ask_for(4)
    await script.done()
    assert caplog.messages == [f"{SYMBOL}: trade 4 cannot be stored, and stays a gap: HTTP 503"]


async def test_what_rest_has_wrong_too_is_not_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    script = Script([4])
    script.refused = {4}
    script.ask_for(4)
    await script.done()
    assert script.pauses == [PAUSES[0]]
    assert caplog.messages == [f"{SYMBOL}: trade 4 cannot be stored, and stays a gap: REST has it so, too"]


async def test_one_that_comes_while_others_are_asked_for_has_its_turn() -> None:
    script = Script([4], [5])
    script.ask_for(4)
    await asyncio.sleep(0)  # the pause before the first one is under way
    script.ask_for(5)
    await script.done()
    assert script.stored == [4, 5]
    assert len(script.asked) == 2


async def test_more_than_can_be_an_accident_are_not_asked_for() -> None:
    script = Script([*range(1, MOST + 3)])
    script.ask_for(*range(1, MOST + 3))
    await script.done()
    assert script.stored == [*range(1, MOST + 1)]


async def test_the_end_gives_up_what_is_under_way(caplog: pytest.LogCaptureFixture) -> None:
    script = Script([4])
    script.ask_for(4)
    await asyncio.sleep(0)
    await script.rejected.end()
    assert script.pauses == [PAUSES[0]]
    assert (script.stored, script.asked, caplog.messages) == ([], [], [])

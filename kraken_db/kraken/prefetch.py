"""Pages one after the other, the next one asked for before anybody looks at the last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from kraken_db.kraken.messages import TradesPage

FetchPage: TypeAlias = Callable[[int], Awaitable[TradesPage]]

START = 0.002
"""Seconds in which a question gets on its way, before a page is decoded and the event loop is busy."""


@dataclass(frozen=True, slots=True)
class _Request:
    since: int
    asked_at: datetime
    answer: asyncio.Future[TradesPage]


class Prefetch:
    """Asks ``ask`` for pages by their ``since``; ``now`` is the exchange's time. ``close`` it in the end."""

    def __init__(self, ask: FetchPage, now: Callable[[], datetime]) -> None:
        self._ask = ask
        self._now = now
        self._ahead: _Request | None = None

    def begin(self, since: int) -> None:
        """Send a question off whose answer will be wanted first."""
        self._ahead = self._ahead or self._question(since)

    async def answer(self, since: int, *, lead: int, ahead: bool) -> tuple[datetime, TradesPage]:
        """The page of ``since``, and when it was asked for.

        The question after it will be its cursor less ``lead``: with ``ahead`` that one is sent off at once.
        Where something else is asked then, its answer is not waited for.
        """
        if self._ahead is None or self._ahead.since != since:
            await self.close()
            self._ahead = self._question(since)
        question = self._ahead
        page = await question.answer
        following = (page.last or 0) - lead if ahead else 0
        self._ahead = self._question(following) if following > question.since else None
        if self._ahead is not None:
            await asyncio.sleep(START)
        return question.asked_at, page

    async def close(self) -> None:
        """Give up the question that is on its way."""
        question, self._ahead = self._ahead, None
        if question is not None:
            question.answer.cancel()
            await asyncio.gather(question.answer, return_exceptions=True)

    def _question(self, since: int) -> _Request:
        return _Request(since, self._now(), asyncio.ensure_future(self._ask(since)))

"""A webhook that keeps what it was sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

SECRET = "T0SECRET/B0SECRET"


@dataclass
class Hook:
    """``statuses``: of the next answers, 200 behind them. ``received``: the bodies, in order."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    is_strict: bool = False
    """Whether it takes the field ``text`` alone, as Google Chat does."""

    @property
    def texts(self) -> list[str]:
        """What was received since the last look; each without its first line, which says who speaks."""
        found = ["\n".join(body["text"].splitlines()[1:]) for body in self.received]
        self.received.clear()
        return found

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.is_strict and set(body) != {"text"}:
            return web.Response(status=400)
        status = self.statuses.pop(0) if self.statuses else 200
        if status == 200:
            self.received.append(body)
        headers = {"Location": "/elsewhere"} if 300 <= status < 400 else None
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def webhook() -> AsyncIterator[Hook]:
    hook = Hook()
    app = web.Application()
    app.router.add_post(f"/{SECRET}", hook.answer)
    app.router.add_post("/elsewhere", hook.answer)
    async with TestServer(app) as server:
        hook.url = str(server.make_url(f"/{SECRET}"))
        yield hook

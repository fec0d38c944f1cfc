"""A scripted exchange on loopback: it answers request after request with what the test has put in."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


def ok(result: Any) -> Reply:
    return text(json.dumps({"error": [], "result": result}))


def refused(*errors: str, status: int = 200) -> Reply:
    return text(json.dumps({"error": list(errors)}), status=status)


def text(
    body: str | bytes,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    kind: str = "application/json",
) -> Reply:
    async def reply(_request: web.Request) -> web.StreamResponse:
        data = body if isinstance(body, bytes) else body.encode()
        return web.Response(status=status, body=data, headers=headers, content_type=kind)

    return reply


def html(status: int) -> Reply:
    page = "<!DOCTYPE html><html><title>kraken.com | 520</title><p>secret-ray-id</p></html>"
    return text(page, status=status, kind="text/html")


def zipped(body: str) -> Reply:
    async def reply(_request: web.Request) -> web.StreamResponse:
        response = web.Response(text=body, content_type="application/json")
        response.enable_compression(web.ContentCoding.gzip)
        return response

    return reply


def truncated(body: str, promised: int = 100_000) -> Reply:
    """Says it sends more than it sends, and closes."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(promised)})
        await response.prepare(request)
        await response.write(body.encode())
        assert request.transport is not None
        request.transport.close()
        return response

    return reply


async def reset(request: web.Request) -> web.StreamResponse:
    """Closes without a word."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def hang(_request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


def endless(piece: bytes = b"x" * 65_536) -> Reply:
    """Sends without an end, and without saying how much it will be."""

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(piece)

    return reply


@dataclass
class FakeKraken:
    """``replies`` are used up one a request; the last one stays. ``seen``: time, path and query of each."""

    url: str = ""
    replies: list[Reply] = field(default_factory=list)
    seen: list[tuple[float, str, dict[str, str]]] = field(default_factory=list)

    def script(self, *replies: Reply) -> None:
        self.replies = list(replies)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((time.monotonic(), request.path, dict(request.query)))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return await reply(request)


@asynccontextmanager
async def serve() -> AsyncIterator[FakeKraken]:
    fake = FakeKraken()
    app = web.Application()
    app.router.add_get("/{path:.*}", fake.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield fake
    finally:
        await runner.cleanup()

"""A web server of files on loopback that serves ranges, and breaks every rule of them when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from aiohttp import web

_PIECE = 64 << 10
_ETAG = '"1"'


@dataclass(slots=True)
class Request:
    """A request as it came, and how many bytes of its body went out. ``end``: exclusive."""

    method: str
    path: str
    start: int
    end: int
    sent: int = 0
    agent: str = ""


Fault: TypeAlias = Callable[[web.Request, Request, bytes], Awaitable[web.StreamResponse]]
"""Answers in place of the server; the bytes are those of the whole file."""


@dataclass(slots=True)
class FileServer:
    """``faults``: for the next GETs, one after the other, None for a right answer; ``always``: for all."""

    files: dict[str, bytes]
    url: str = ""
    faults: list[Fault | None] = field(default_factory=list)
    always: Fault | None = None
    head: Fault | None = None
    requests: list[Request] = field(default_factory=list)

    @property
    def sent(self) -> int:
        return sum(request.sent for request in self.requests)

    @property
    def gets(self) -> list[tuple[int, int]]:
        return [(request.start, request.end) for request in self.requests if request.method == "GET"]

    def next_fault(self) -> Fault | None:
        return self.faults.pop(0) if self.faults else self.always

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path.lstrip("/")
        data = self.files.get(path)
        asked = request.http_range
        start = asked.start or 0
        end = len(data or b"") if asked.stop is None else min(asked.stop, len(data or b""))
        seen = Request(request.method, path, start, end, agent=request.headers.get("User-Agent", ""))
        self.requests.append(seen)
        fault = self.head if request.method == "HEAD" else self.next_fault()
        if fault is not None:
            return await fault(request, seen, data or b"")
        if data is None:
            return web.Response(status=404, text="<html>not found</html>", content_type="text/html")
        if request.method == "HEAD":
            return web.Response(headers={"Content-Length": str(len(data)), "ETag": _ETAG})
        if "Range" not in request.headers:
            return web.Response(body=data)
        if start >= len(data):
            return web.Response(status=416, headers={"Content-Range": f"bytes */{len(data)}"})
        return await send(request, seen, data)


async def send(
    request: web.Request,
    seen: Request,
    data: bytes,
    *,
    stop: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """The piece asked for; ``stop``: after so many bytes of it the connection is cut.

    ``headers``: others instead, ``_`` for ``-``.
    """
    start, end = seen.start, seen.end
    response = web.StreamResponse(status=206)
    response.content_length = end - start
    response.headers["ETag"] = _ETAG
    response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
    for name, value in (headers or {}).items():
        response.headers[name.replace("_", "-")] = value
    await response.prepare(request)
    for at in range(start, end if stop is None else min(end, start + stop), _PIECE):
        block = data[at : min(at + _PIECE, end, end if stop is None else start + stop)]
        await response.write(block)
        seen.sent += len(block)
    if stop is not None:
        await asyncio.sleep(0.1)  # aiohttp's client forgets what it got and nobody has read yet
        assert request.transport is not None
        request.transport.close()  # what was written is sent before
    return response


def cut_after(count: int) -> Fault:
    """The connection is lost after so many bytes."""
    return lambda request, seen, data: send(request, seen, data, stop=count)


def says(**headers: str) -> Fault:
    """The right body under these headers."""
    return lambda request, seen, data: send(request, seen, data, headers=headers)


def status(code: int, body: str = "", **headers: str) -> Fault:
    async def answer(_request: web.Request, _seen: Request, _data: bytes) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, body=body, headers=named)

    return answer


def never_ending(code: int, **headers: str) -> Fault:
    """A body that goes on for ever, behind the right head but for the length."""

    async def answer(request: web.Request, seen: Request, data: bytes) -> web.StreamResponse:
        response = web.StreamResponse(status=code)
        response.headers["Content-Range"] = f"bytes {seen.start}-{seen.end - 1}/{len(data)}"
        response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(data[seen.start : seen.end])
        while True:
            await response.write(bytes(_PIECE))
            seen.sent += _PIECE

    return answer


def stalls_after(count: int) -> Fault:
    """So many bytes, and then none; the connection stays open."""

    async def answer(request: web.Request, seen: Request, data: bytes) -> web.StreamResponse:
        response = web.StreamResponse(status=206)
        response.content_length = seen.end - seen.start
        response.headers["Content-Range"] = f"bytes {seen.start}-{seen.end - 1}/{len(data)}"
        await response.prepare(request)
        await response.write(data[seen.start : seen.start + count])
        await asyncio.sleep(60)
        return response

    return answer


def short(count: int) -> Fault:
    """A body that ends properly, so many bytes before it should: without a length nobody can tell."""

    async def answer(request: web.Request, seen: Request, data: bytes) -> web.StreamResponse:
        response = web.StreamResponse(status=206)
        response.headers["Content-Range"] = f"bytes {seen.start}-{seen.end - 1}/{len(data)}"
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(data[seen.start : seen.end - count])
        seen.sent += seen.end - count - seen.start
        return response

    return answer


@asynccontextmanager
async def serving(files: Mapping[str, bytes]) -> AsyncIterator[FileServer]:
    """A server of these files, by their paths; ``url`` ends with a slash."""
    server = FileServer(dict(files))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}/"
        yield server
    finally:
        await runner.cleanup()

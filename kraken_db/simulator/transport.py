"""Answers that are broken below Kraken's own level: status codes, silence, cut connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from random import Random

from aiohttp import web

from kraken_db.simulator.faults import Fault

_HTML = (
    "<!DOCTYPE html><html><head><title>api.kraken.com | {0}: {1}</title></head>"
    "<body><h1>{1} Error code {0}</h1><p>cloudflare</p></body></html>"
)
_CLOUDFLARE = {
    520: "Web server is returning an unknown error",
    521: "Web server is down",
    522: "Connection timed out",
    523: "Origin is unreachable",
    524: "A timeout occurred",
    525: "SSL handshake failed",
}
_SERVER_ERRORS = {
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


def json_response(text: str) -> web.Response:
    return web.Response(text=text, content_type="application/json")


def too_many(retry_after: float) -> web.Response:
    """HTTP 429; ``Retry-After`` is in whole seconds, at least 1."""
    seconds = str(max(1, round(retry_after)))
    return web.Response(status=429, text="Too Many Requests", headers={"Retry-After": seconds})


def html_error(fault: Fault, random: Random) -> web.Response:
    known = _CLOUDFLARE if fault is Fault.CLOUDFLARE else _SERVER_ERRORS
    status = random.choice(sorted(known))
    return web.Response(status=status, text=_HTML.format(status, known[status]), content_type="text/html")


def reset(connection: asyncio.Transport | None) -> web.Response:
    """Cut the connection so that the other side gets a reset; what is returned goes nowhere."""
    if connection is not None:
        endpoint: socket.socket | None = connection.get_extra_info("socket")
        if endpoint is not None and not connection.is_closing():
            endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.abort()
    return web.Response()


async def truncated(request: web.Request, text: str) -> web.StreamResponse:
    """Announce all of an answer, send half of it and close."""
    body = text.encode()
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


async def hang(request: web.Request, closing: asyncio.Event, seconds: float) -> web.Response:
    """Say nothing for that long, or until the exchange closes; then cut the connection."""
    connection = request.transport  # a server that shuts down takes it away from the request
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await closing.wait()
    return reset(connection)

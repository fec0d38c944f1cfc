"""How an answer is sent: documents and errors as JSON, and long ones piece by piece.

A reader that is slower than the least pace is cut off. It holds a socket and some memory of its own, never
a connection to the database.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from kraken_db.errors import KrakenDBError
from kraken_db.json_values import json_value
from kraken_db.web.connections import cut_off
from kraken_db.web.site import SITE

PATIENCE = 30.0
"""Seconds that a reader may take for a piece."""
_WORTH_PACKING = 4096
_SHORT = 512 * 1024
"""Bytes up to which an answer is sent as a whole: it takes no place among the long ones."""
_JSON = "application/json"


def text_of(document: Any) -> str:
    """JSON; what is no ASCII is escaped, so that it is the same in every context."""
    return json.dumps(document, default=json_value, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Packed:
    """A document as it is sent, and its version."""

    body: bytes
    tag: str

    @classmethod
    def of(cls, content: Any) -> Packed:
        body = text_of(content).encode()
        return cls(body, hashlib.blake2b(body, digest_size=12).hexdigest())


def document(
    request: web.Request,
    content: Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.StreamResponse:
    """A whole answer; its own text is its version."""
    packed = content if isinstance(content, Packed) else Packed.of(content)
    if status == 200 and is_known(request, packed.tag):
        return unchanged(packed.tag)
    response = web.Response(body=packed.body, status=status, content_type=_JSON, headers=headers)
    if status == 200:
        response.etag = packed.tag
    if len(packed.body) >= _WORTH_PACKING:
        response.enable_compression()
    return response


def refusal(status: int, message: str, hint: str | None = None, *, wait: int | None = None) -> web.Response:
    """An error as every one of them is sent; ``wait``: seconds after which to try again."""
    body = text_of({"error": {"message": message, "hint": hint}}).encode()
    response = web.Response(body=body, status=status, content_type=_JSON)
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    return response


def refusal_of(status: int, error: KrakenDBError) -> web.Response:
    return refusal(status, error.message, error.hint)


def is_known(request: web.Request, tag: str) -> bool:
    """Whether the client says that it has this version."""
    return request.method in ("GET", "HEAD") and any(
        one.value in (tag, "*") for one in request.if_none_match or ()
    )


def unchanged(tag: str) -> web.Response:
    response = web.Response(status=304)
    response.etag = tag
    return response


async def stream(
    request: web.Request,
    pieces: AsyncIterator[bytes],
    content_type: str,
    *,
    version: str | None = None,
    file_name: str | None = None,
) -> web.StreamResponse:
    """Send pieces as they are made; a short answer at once, when all of it is there.

    What fails after the first piece ends the connection: half an answer must not read as a whole one.
    """
    headers = {"Content-Type": content_type}
    if file_name is not None:
        headers["Content-Disposition"] = f'attachment; filename="{file_name}"'
    begun = bytearray()
    async for piece in pieces:
        begun += piece
        if len(begun) >= _SHORT:
            with request.app[SITE].streams.one():
                return await _stream(request, bytes(begun), pieces, headers, version)
    response = web.Response(body=bytes(begun), headers=headers)
    if version is not None:
        response.etag = version
    if len(begun) >= _WORTH_PACKING:
        response.enable_compression()
    return response


async def _stream(
    request: web.Request,
    begun: bytes,
    pieces: AsyncIterator[bytes],
    headers: Mapping[str, str],
    version: str | None,
) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    if version is not None:
        response.etag = version
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    await send(request, response, begun)
    async for piece in pieces:
        await send(request, response, piece)
    await response.write_eof()
    return response


async def send(request: web.Request, response: web.StreamResponse, piece: bytes) -> None:
    """Raises ConnectionResetError for a reader that has gone, or does not take it in time."""
    try:
        async with asyncio.timeout(PATIENCE):
            await response.write(piece)
    except TimeoutError:
        if request.transport is not None:
            cut_off(request.transport)
        raise ConnectionResetError("the reader is too slow") from None

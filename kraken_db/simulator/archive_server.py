"""Kraken's file server: a folder of archives, served whole or by range, with what can go wrong there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from kraken_db.simulator import transport
from kraken_db.simulator.archive_faults import ArchiveFault, ArchiveFaultPlan, ArchiveFaults

ARCHIVE_PATH = "/marketing/institutions/"
_PIECE = 1 << 18
_TICK = 0.05
"""Seconds of data that are sent at once where the pace is limited."""
_KEPT_REQUESTS = 100_000
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PAGE = "<!DOCTYPE html><html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"
_TYPES = {".zip": "application/zip", ".txt": "text/plain"}


@dataclass(slots=True)
class ArchiveRequest:
    """One line of the log."""

    at: float
    """Seconds of a clock that never runs backwards (``time.monotonic``), when the request came."""
    method: str
    name: str
    asked: tuple[int, int] | None
    """The range that was asked for, half-open; None: the whole file."""
    status: int = 0
    answer: str = "ok"
    """``ok``, the name of an ``ArchiveFault``, or the words of the status."""
    sent: int = 0
    """Bytes of the file that went out."""


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    size: int
    headers: dict[str, str]
    """ETag and Last-Modified among them."""

    @classmethod
    def find(cls, folder: Path, name: str) -> _File | None:
        path = folder / name
        if name.startswith(".") or path.name != name or not path.is_file():
            return None
        known = path.stat()
        mark = hashlib.sha256(f"{name}/{known.st_size}/{known.st_mtime_ns}".encode()).hexdigest()
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Type": _TYPES.get(path.suffix, "binary/octet-stream"),
            "ETag": f'"{mark[:32]}"',
            "Last-Modified": formatdate(known.st_mtime, usegmt=True),
        }
        return cls(path, known.st_size, headers)

    def validates(self, condition: str) -> bool:
        """Whether an If-Range or If-Match means this very file."""
        marks = {mark.strip() for mark in condition.split(",")}  # a date has a comma too
        return condition == self.headers["Last-Modified"] or bool(marks & {"*", self.headers["ETag"]})


class _RefusedError(Exception):
    """An answer without the file: a status and a page that says it."""

    def __init__(self, status: HTTPStatus, **headers: str) -> None:
        super().__init__(status)
        self.status = status.value
        self.phrase = status.phrase
        self.headers = headers


class ArchiveServer:
    """Serves the files of a folder; those added later too. ``requests`` is the log, oldest first."""

    def __init__(self, folder: Path, faults: ArchiveFaults | None = None) -> None:
        self.folder = folder
        self.faults = faults or ArchiveFaults()
        self.requests: deque[ArchiveRequest] = deque(maxlen=_KEPT_REQUESTS)
        self.closing = asyncio.Event()
        self._plan = ArchiveFaultPlan(self.faults)

    def route(self, application: web.Application) -> None:
        """Let the application serve the folder below ``ARCHIVE_PATH``, until ``closing`` is set."""
        self.closing = asyncio.Event()
        application.router.add_route("*", ARCHIVE_PATH + "{name:.*}", self._handle)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        entry = ArchiveRequest(time.monotonic(), request.method, name, None)
        self.requests.append(entry)
        answer: web.StreamResponse
        try:
            answer = await self._answer(request, entry)
        except _RefusedError as refusal:
            entry.answer = refusal.phrase if entry.answer == "ok" else entry.answer
            answer = web.Response(
                status=refusal.status,
                headers=refusal.headers,
                text=_PAGE.format(refusal.phrase),
                content_type="text/html",
            )
        except ConnectionError:
            return web.Response()  # the client has gone: nobody gets this
        entry.status = answer.status
        return answer

    async def _answer(self, request: web.Request, entry: ArchiveRequest) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise _RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        file = _File.find(self.folder, entry.name)
        if file is None:
            raise _RefusedError(HTTPStatus.NOT_FOUND)
        if "If-Match" in request.headers and not file.validates(request.headers["If-Match"]):
            raise _RefusedError(HTTPStatus.PRECONDITION_FAILED)
        is_head = request.method == "HEAD"
        if not is_head:
            entry.asked = _asked(request, file)
        fault = self._plan.next(entry.name, is_head=is_head)
        if fault is not None:
            entry.answer = str(fault)
        if (refusal := self._refusal(fault, file)) is not None:
            return refusal
        if is_head:
            return web.Response(headers=file.headers | {"Content-Length": str(file.size)})
        return await self._send(request, file, entry, fault)

    def _refusal(self, fault: ArchiveFault | None, file: _File) -> web.Response | None:
        """The answer to faults that need no content of the file."""
        match fault:
            case ArchiveFault.HTTP_416:
                raise _no_such_range(file)
            case ArchiveFault.HTTP_503:
                raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE)
            case ArchiveFault.HTTP_429:
                return transport.too_many(self.faults.wait_seconds)
            case ArchiveFault.REDIRECT:
                target = f"{self.faults.redirect_to.rstrip('/')}{ARCHIVE_PATH}{file.path.name}"
                raise _RefusedError(HTTPStatus.FOUND, Location=target)
            case ArchiveFault.HTML:
                return web.Response(text=_PAGE.format("Just a moment..."), content_type="text/html")
        return None

    async def _send(
        self, request: web.Request, file: _File, entry: ArchiveRequest, fault: ArchiveFault | None
    ) -> web.StreamResponse:
        asked = None if fault is ArchiveFault.RANGE_IGNORED else entry.asked
        start, stop = asked or (0, file.size)
        middle = start + (stop - start) // 2
        response = web.StreamResponse(status=200 if asked is None else 206, headers=file.headers)
        if asked is not None:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
        if fault is ArchiveFault.ENDLESS:
            response.enable_chunked_encoding()
        else:
            response.content_length = (middle if fault is ArchiveFault.SHORT_LENGTH else stop) - start
        entry.status = response.status
        await response.prepare(request)
        is_halved = fault in (ArchiveFault.CUT, ArchiveFault.STALL, ArchiveFault.SHORT_LENGTH)
        wrong = middle if fault is ArchiveFault.WRONG_BYTES and start < stop else None
        pace = self.faults.bytes_per_second
        if fault is ArchiveFault.SLOW:
            pace = self.faults.slow_bytes_per_second
        async for piece in self._pieces(file, start, middle if is_halved else stop, pace, wrong):
            await response.write(piece)
            entry.sent += len(piece)
        await self._end(request, response, fault)
        return response

    async def _end(
        self, request: web.Request, response: web.StreamResponse, fault: ArchiveFault | None
    ) -> None:
        """What comes after the content."""
        connection = request.transport
        if fault is ArchiveFault.CUT and connection is not None:
            connection.close()
        elif fault is ArchiveFault.STALL:
            await transport.hang(request, self.closing, self.faults.stall_seconds)
        elif fault is ArchiveFault.ENDLESS:
            while not self.closing.is_set() and connection is not None and not connection.is_closing():
                await response.write(b"0" * _PIECE)
                await asyncio.sleep(0)

    async def _pieces(
        self, file: _File, start: int, stop: int, pace: float | None, wrong: int | None
    ) -> AsyncIterator[bytes]:
        """The bytes ``[start, stop)`` of the file, no faster than the pace; ``wrong`` is a byte to change."""
        size = _PIECE if pace is None else max(1, min(_PIECE, int(pace * _TICK)))
        begun, position = time.monotonic(), start
        with file.path.open("rb") as content:
            content.seek(start)
            while position < stop and not self.closing.is_set():
                piece = await asyncio.to_thread(content.read, min(size, stop - position))
                if not piece:
                    return
                if wrong is not None and position <= wrong < position + len(piece):
                    changed = bytearray(piece)
                    changed[wrong - position] ^= 0xFF
                    piece = bytes(changed)
                position += len(piece)
                yield piece
                if pace is not None:
                    await self._wait_until(begun + (position - start) / pace)

    async def _wait_until(self, moment: float) -> None:
        """Until then, or until the server closes."""
        if (left := moment - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self.closing.wait()


def _asked(request: web.Request, file: _File) -> tuple[int, int] | None:
    """The range that the request may have, half-open; None for the whole file.

    What is no single range of bytes is not looked at, as the standard allows.
    """
    condition = request.headers.get("If-Range")
    found = _RANGE.fullmatch(request.headers.get("Range", "").replace(" ", ""))
    if found is None or (condition is not None and not file.validates(condition)):
        return None
    first, last = found.groups()
    if not first and not last:
        return None
    if not first:
        start, stop = max(0, file.size - int(last)), file.size
    else:
        start, stop = int(first), min(file.size, int(last) + 1 if last else file.size)
        if last and int(last) < start:
            return None
    if start >= file.size or start == stop:
        raise _no_such_range(file)
    return start, stop


def _no_such_range(file: _File) -> _RefusedError:
    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    return _RefusedError(status, **{"Content-Range": f"bytes */{file.size}"})

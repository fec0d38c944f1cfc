"""A file on a web server, read by Range requests: exactly the bytes that are wanted, and on after a lost
connection where it was lost.

Every answer must be the piece that was asked for (206, ``Content-Range``) of the file that was met first
(size, ``ETag``, ``Last-Modified``). What may pass is tried again by ``kraken_db.retry``; all else is an
ImportFileError.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import TypeVar

import aiohttp
from yarl import URL

from kraken_db.archives.byte_source import check_range, whole
from kraken_db.errors import ExchangeError, ExchangeThrottledError, ExchangeUnavailableError, ImportFileError
from kraken_db.kraken.transport import excerpt, network_failure, open_session, status_error
from kraken_db.retry import DOWNLOAD, MAX_WAIT, REQUEST, Retry

VARIABLE = "KRAKEN_ARCHIVE_URL"
"""Where the address of a server of archives comes from."""

PIECE = 4 << 20
"""Bytes that each of several connections asks for at once: at 20 MB/s a fifth of a second."""
STALL = 30.0
"""Seconds without a byte, after which a connection counts as lost."""

_BLOCK = 256 << 10  # twice as much waits in aiohttp's buffer, and is asked for again after a lost connection
_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d{1,18})-(?P<last>\d{1,18})/(?P<size>\d{1,18})", re.ASCII)
_HEADERS = {"Accept-Encoding": "identity"}  # packed once more, the bytes would be others
_NOT_THERE = (403, 404, 410)  # 403: what a store of files says whose list is not public
_NO_HEAD = (400, 403, 405, 501)
_NETWORK_HINT = "check the network, then run it again"
_CHANGED_HINT = "run it again: it begins with what the server has now"
_DOWNLOAD_IT = f"download the archive and name the file or its folder, or set {VARIABLE} to another address"

_T = TypeVar("_T")


def shown(url: str, base: str = "") -> str:
    """The address as people may see it: no user, password, query. ``base``: what it may be relative to."""
    try:
        return str(URL(base).join(URL(url)).with_user(None).with_query(None).with_fragment(None))
    except ValueError:
        return "an address that is not one"


def time_limits(stall: float = STALL) -> aiohttp.ClientTimeout:
    """For a request whose answer may take hours: no limit in all, but none may stand still."""
    return aiohttp.ClientTimeout(total=None, connect=20, sock_connect=10, sock_read=stall)


def final(name: str, error: ExchangeError) -> ImportFileError:
    """An error of the exchange's, after all attempts, as one about a file."""
    return ImportFileError(name, error.message.removeprefix(f"{name}: "), hint=error.hint)


def refuse_status(name: str, response: aiohttp.ClientResponse) -> None:
    """Raises for every status that is no 2xx: an ExchangeError what may pass, else ImportFileError."""
    status, headers = response.status, response.headers
    if 300 <= status < 400:
        target = headers.get("Location", "")
        where = f" to {shown(target, str(response.url))}" if target else ""
        reason = f"HTTP {status}, a redirect{where}, is not followed"
        raise ImportFileError(name, reason, hint=f"set {VARIABLE} to the right address")
    if status in _NOT_THERE:
        raise ImportFileError(name, f"HTTP {status}: the server does not have it", hint=f"check {VARIABLE}")
    error = status_error(status, headers.get("Retry-After"), name, time.time(), VARIABLE)
    if isinstance(error, ExchangeThrottledError | ExchangeUnavailableError):
        raise error
    if error is not None:
        raise final(name, error)


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a server shows: the size of a file, or why there is none."""

    size: int | None
    reason: str = ""


class _Patience:
    """A policy of attempts; it also waits as long as the server asks (``Retry-After``), for all who ask."""

    def __init__(self, retry: Retry) -> None:
        self._retry = retry
        self._not_before = 0.0

    async def run(self, attempt: Callable[[], Awaitable[_T]]) -> _T:
        async def one() -> _T:
            if (wait := self._not_before - time.monotonic()) > 0:
                await self._retry.sleep(wait)
            try:
                return await attempt()
            except ExchangeThrottledError as error:
                self._not_before = time.monotonic() + min(error.retry_after or 0.0, MAX_WAIT)
                raise

        return await self._retry.run(one)


_log = logging.getLogger(__name__)


@asynccontextmanager
async def _answer(
    session: aiohttp.ClientSession, method: str, url: str, headers: Mapping[str, str]
) -> AsyncGenerator[aiohttp.ClientResponse]:
    """An answer, whatever its status; what fails on the network is an ExchangeError."""
    try:
        async with session.request(
            method, url, headers={**_HEADERS, **headers}, allow_redirects=False, timeout=time_limits()
        ) as response:
            part = f" {headers['Range']}" if "Range" in headers else ""
            _log.info("%s %s%s: HTTP %d", method, shown(url), part, response.status)
            yield response
    except (aiohttp.ClientError, OSError) as error:  # time-outs too
        raise network_failure(error, shown(url), VARIABLE) from error


def _is_page(response: aiohttp.ClientResponse) -> bool:
    return response.content_type == "text/html"


async def look(session: aiohttp.ClientSession, url: str, *, retry: Retry = REQUEST) -> Look:
    """Whether a file is there, by HEAD, or by asking for its first byte where HEAD is refused.

    A redirect or a web page in its place counts as not there. Raises ImportFileError for a server that cannot
    be reached.
    """
    name = shown(url)

    async def attempt() -> Look:
        async with _answer(session, "HEAD", url, {}) as response:
            if response.status not in _NO_HEAD:
                refuse_status(name, response)
                if _is_page(response):
                    raise ImportFileError(name, "the server has a web page in its place")
                if response.content_length:
                    return Look(response.content_length)
        async with _answer(session, "GET", url, {"Range": "bytes=0-0"}) as response:
            return Look(checked_range(name, response, 0, 1))

    try:
        return await _Patience(retry).run(attempt)
    except ImportFileError as error:
        return Look(None, error.reason)
    except ExchangeError as error:
        raise final(name, error) from error


async def fetch_text(
    session: aiohttp.ClientSession, url: str, limit: int, *, retry: Retry = REQUEST
) -> str | None:
    """A small text file; None where it is not there, or a web page is in its place.

    Raises ImportFileError for a redirect, and for a server that cannot be reached.
    """
    name = shown(url)

    async def attempt() -> str | None:
        async with _answer(session, "GET", url, {}) as response:
            if response.status in _NOT_THERE:
                return None
            refuse_status(name, response)
            body = bytearray()
            while piece := await response.content.readany():
                body += piece
                if len(body) > limit:
                    raise ImportFileError(name, f"it has more than {limit:,} bytes", hint=f"check {VARIABLE}")
            is_page = _is_page(response) or body.lstrip().startswith(b"<")
            return None if is_page else body.decode("utf-8", "replace")

    try:
        return await _Patience(retry).run(attempt)
    except ExchangeError as error:
        raise final(name, error) from error


def checked_range(name: str, response: aiohttp.ClientResponse, start: int, end: int) -> int:
    """The size of the whole file, from an answer that is the piece asked for: ``start`` up to before ``end``.

    Raises ImportFileError for every other answer, but an ExchangeError for what may pass.
    """
    status, headers = response.status, response.headers
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise ImportFileError(
            name, f"the server does not have its bytes from {start:,} on (HTTP 416)", hint=_CHANGED_HINT
        )
    refuse_status(name, response)
    if _is_page(response):
        raise ImportFileError(name, "the server sends a web page instead of the file", hint=_DOWNLOAD_IT)
    if status != HTTPStatus.PARTIAL_CONTENT:
        reason = f"the server, or a proxy, ignores Range (HTTP {status}): it would send all of it"
        raise ImportFileError(name, reason, hint=_DOWNLOAD_IT)
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", "").strip())
    is_packed = headers.get("Content-Encoding", "identity") != "identity"
    if found is None or is_packed or (int(found["first"]), int(found["last"])) != (start, end - 1):
        said = excerpt(headers.get("Content-Range", ""))
        raise ImportFileError(
            name, f"the server sends another piece than bytes {start}-{end - 1}: {said}", hint=_DOWNLOAD_IT
        )
    return int(found["size"])


class HttpSource:
    """A file on a web server, whose ``size`` is known (or see ``open``).

    ``connections``: how many bring one stream, each ``piece`` bytes at once; so many pieces and one more are
    in memory at most. ``retry``: for what may pass; the count begins anew with every block that has come.
    ``stall``: seconds without a byte, after which a connection is lost.
    """

    def __init__(
        self,
        url: str,
        size: int,
        *,
        connections: int = 1,
        piece: int = PIECE,
        retry: Retry = DOWNLOAD,
        stall: float = STALL,
    ) -> None:
        self.name = shown(url)
        self.size = size
        self._url = url
        self._connections = connections
        self._piece = piece
        self._limits = time_limits(stall)
        self._patience = _Patience(retry)
        self._session: aiohttp.ClientSession | None = None
        self._version: tuple[str | None, str | None] | None = None

    @classmethod
    async def open(cls, url: str, *, connections: int = 1, retry: Retry = DOWNLOAD) -> HttpSource:
        """Raises ImportFileError where the file is not there or cannot be read in ranges."""
        async with open_session() as session:
            found = await look(session, url)
        if found.size is None:
            raise ImportFileError(shown(url), found.reason, hint=f"check {VARIABLE}")
        return cls(url, found.size, connections=connections, retry=retry)

    async def read(self, start: int, length: int) -> bytes:
        return await whole(self.stream(start, length))

    def stream(self, start: int, length: int) -> AsyncGenerator[bytes]:
        check_range(self, start, length)
        if self._connections == 1 or length <= self._piece:
            return self._one(start, length)
        return self._several(start, length)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _one(self, start: int, length: int) -> AsyncGenerator[bytes]:
        try:
            async with aclosing(_Range(self, start, start + length).blocks()) as blocks:
                async for block in blocks:
                    yield block
        except ExchangeError as error:
            raise final(self.name, error) from error

    async def _several(self, start: int, length: int) -> AsyncGenerator[bytes]:
        """Pieces on several connections at once, handed out in their order."""
        end = start + length
        pieces = ((at, min(self._piece, end - at)) for at in range(start, end, self._piece))
        running: deque[asyncio.Task[list[bytes]]] = deque()

        def fill() -> None:
            for at, size in islice(pieces, self._connections - len(running)):
                running.append(asyncio.create_task(self._blocks_of(at, size)))

        try:
            fill()
            while running:
                blocks = await running[0]
                running.popleft()
                fill()  # before these are used: no connection stands still meanwhile
                for block in blocks:
                    yield block
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _blocks_of(self, start: int, length: int) -> list[bytes]:
        async with aclosing(self._one(start, length)) as blocks:
            return [block async for block in blocks]

    async def _ask(self, start: int, end: int) -> aiohttp.ClientResponse:
        """An answer that is the piece asked for, of the file that was met first; its body is to be read."""
        if self._session is None:
            self._session = open_session()
        response = await self._session.get(
            self._url,
            headers={**_HEADERS, "Range": f"bytes={start}-{end - 1}"},
            allow_redirects=False,
            timeout=self._limits,
            read_bufsize=_BLOCK,
        )
        try:
            size = checked_range(self.name, response, start, end)
            version = (response.headers.get("ETag"), response.headers.get("Last-Modified"))
            self._version = self._version or version
            known = zip((str(size), *version), (str(self.size), *self._version), strict=True)
            if any(new != old for new, old in known if new is not None and old is not None):
                raise ImportFileError(self.name, "the file on the server has changed", hint=_CHANGED_HINT)
        except BaseException:
            response.close()
            raise
        return response


class _Range:
    """One range of a file, block by block."""

    def __init__(self, source: HttpSource, start: int, end: int) -> None:
        self._source = source
        self._at = start
        self._end = end
        self._block = bytearray()
        self._response: aiohttp.ClientResponse | None = None

    async def blocks(self) -> AsyncGenerator[bytes]:
        try:
            while self._at < self._end:
                yield await self._source._patience.run(self._next)
        finally:
            self._drop()

    async def _next(self) -> bytes:
        """The next block. Called again after a failure, it goes on at the byte that did not come."""
        name = self._source.name
        try:
            while (room := min(_BLOCK - len(self._block), self._end - self._at)) > 0:
                if self._response is None:
                    self._response = await self._source._ask(self._at, self._end)
                piece = await self._response.content.read(room)
                if not piece:
                    raise ExchangeUnavailableError(f"{name}: the answer broke off", hint=_NETWORK_HINT)
                self._block += piece
                self._at += len(piece)
        except (aiohttp.ClientError, OSError) as error:  # time-outs too
            self._drop()
            raise network_failure(error, name, VARIABLE) from error
        except ExchangeError:
            self._drop()
            raise
        block, self._block = bytes(self._block), bytearray()
        return block

    def _drop(self) -> None:
        """Give the connection up; one whose answer was read to its end is back in the pool already."""
        response, self._response = self._response, None
        if response is not None:
            response.close()

"""How many may be connected, and for how long without a word: the server has a place for everybody's request
because nobody keeps one that does not use it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from kraken_db.errors import KrakenDBError, TransientError

MOST_CONNECTIONS = 512
SILENCE = 20.0
"""Seconds that a connection may be open without a request, or between two."""
MOST_WAITING = 256
"""Requests that wait for the database; each of the others is asked to come back."""
MOST_STREAMS = 32
"""Long answers at a time: each of them has a page of rows in memory."""
_SWEEP = 5.0
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class BusyError(KrakenDBError, TransientError):
    """So many ask at once that another one would only wait."""


class Places:
    """A number of places; whoever finds none is refused at once."""

    def __init__(self, most: int, message: str) -> None:
        self._most = most
        self._message = message
        self.taken = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place within the block. Raises BusyError."""
        if self.taken >= self._most:
            raise BusyError(self._message, hint="try again in a moment")
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1


class Guard:
    """Makes the protocol of each connection of a server; ``watch`` ends those that say nothing."""

    def __init__(self, server: web.Server, most: int = MOST_CONNECTIONS) -> None:
        self._server = server
        self._most = most
        self._quiet_since: dict[object, float] = {}
        self._unsent: dict[object, int] = {}
        self._busy: dict[object, int] = {}

    def __call__(self) -> asyncio.Protocol:
        return _Refused() if len(self._server.connections) >= self._most else self._server()

    @contextmanager
    def serving(self, request: web.Request) -> Iterator[None]:
        """Within it the connection of a request is not quiet."""
        protocol = request.protocol
        self._busy[protocol] = self._busy.get(protocol, 0) + 1
        try:
            yield
        finally:
            self._busy[protocol] -= 1
            if not self._busy[protocol]:
                del self._busy[protocol]
            self._quiet_since[protocol] = time.monotonic()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP)
            self.sweep(time.monotonic())

    def sweep(self, now: float) -> None:
        """End every connection that has been quiet for too long."""
        before, self._unsent = self._unsent, {}
        there = [one for one in self._server.connections if one.transport is not None]
        self._quiet_since = {one: self._quiet_since.get(one, now) for one in there}
        for one in there:
            assert one.transport is not None
            self._unsent[one] = one.transport.get_write_buffer_size()
            if self._unsent[one] < before.get(one, 0):  # somebody reads what was sent
                self._quiet_since[one] = now
            elif one not in self._busy and now - self._quiet_since[one] > SILENCE:
                cut_off(one.transport)


def cut_off(transport: asyncio.Transport) -> None:
    """End a connection at once. What was not read yet is forgotten, by the system too."""
    if (found := transport.get_extra_info("socket")) is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Refused(asyncio.Protocol):
    """One more than there are places."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(_REFUSAL)
        transport.close()

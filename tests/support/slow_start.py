"""A server that is starting: a port that refuses connections as PostgreSQL does, and then leads there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


def refusal(code: str, message: str) -> bytes:
    """PostgreSQL's message for a connection that it does not take."""
    fields = f"SFATAL\0VFATAL\0C{code}\0M{message}\0\0".encode()
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


@dataclass
class SlowStart:
    """``answers``: what the first connections are told, each once; the others reach the server.

    ``started_with`` has the parameters that each connection asked for at its start.
    """

    url: str
    answers: list[bytes]
    started_with: list[dict[str, str]] = field(default_factory=list)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            packet = await _packet(reader)
            if packet == _SSL_REQUEST:
                writer.write(b"N")
                packet = await _packet(reader)
            words = packet[8:].decode().rstrip("\0").split("\0")
            self.started_with.append(dict(zip(words[::2], words[1::2], strict=True)))
            if self.answers:
                writer.write(self.answers.pop(0))
                await writer.drain()
                return
            server = urlsplit(self.url)
            there, back = await asyncio.open_connection(server.hostname, server.port)
            back.write(packet)
            with contextlib.closing(back):
                await asyncio.gather(_copy(reader, back), _copy(there, writer))


async def _packet(reader: asyncio.StreamReader) -> bytes:
    size = await reader.readexactly(4)
    return size + await reader.readexactly(int.from_bytes(size, "big") - 4)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    target.close()


@contextlib.asynccontextmanager
async def slow_start(url: str, *answers: bytes) -> AsyncIterator[tuple[str, SlowStart]]:
    """The address of such a server in front of ``url``, and the server itself."""
    slow = SlowStart(url, list(answers))
    server = await asyncio.start_server(slow.take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    parts = urlsplit(url)
    credentials = parts.netloc.rpartition("@")[0]
    try:
        yield urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{port}")), slow
    finally:
        server.close()

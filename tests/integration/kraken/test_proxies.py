"""Kraken is asked through the proxy that the environment names."""

from __future__ import annotations

import asyncio

import pytest

from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.rest import KrakenRestClient

_BODY = b'{"error":[],"result":{"unixtime":1762820035,"rfc1123":"Tue, 11 Nov 25 00:13:55 +0000"}}'


class Proxy:
    """Answers every request itself, and keeps the first line and the headers of each."""

    def __init__(self) -> None:
        self.heads: list[str] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(_BODY), _BODY))
        await writer.drain()
        writer.close()


@pytest.mark.parametrize("bypassed", [False, True])
async def test_a_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch, bypassed: bool) -> None:
    proxy, kraken = Proxy(), Proxy()
    async with (
        await asyncio.start_server(proxy, "127.0.0.1", 0) as between,
        await asyncio.start_server(kraken, "127.0.0.1", 0) as behind,
    ):
        port, other = (server.sockets[0].getsockname()[1] for server in (between, behind))
        monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1" if bypassed else "")
        base_url = f"http://127.0.0.1:{other}" if bypassed else "http://kraken.invalid"
        async with KrakenRestClient(base_url, rate_limit_delay=0, limiter=RateLimiter()) as client:
            assert (await client.time()).timestamp() == 1762820035
    if bypassed:
        assert (len(proxy.heads), len(kraken.heads)) == (0, 1)
    else:
        (head,) = proxy.heads
        assert head.startswith("GET http://kraken.invalid/0/public/Time ")
        assert "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=" in head

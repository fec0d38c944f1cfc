"""Answers without an end, byte by byte or as fast as the line is: each ends within the request's time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from kraken_db.errors import ExchangeFormatError, ExchangeThrottledError, ExchangeUnavailableError
from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.rest import KrakenRestClient
from tests.support.fake_kraken import FakeKraken, text, zipped

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@asynccontextmanager
async def saying(first: bytes, again: bytes, pause: float) -> AsyncIterator[str]:
    """A server that says ``first``, and then the same again and again."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):  # 3.11 logs a handler that ends so
            await reader.readline()
            writer.write(first)
            while True:
                writer.write(again)
                await writer.drain()
                await asyncio.sleep(pause)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


ENDLESS = {
    "bytes of a status": (b"HTTP/1.1 200 ", b"O"),
    "headers": (HEAD, b"X-A: b\r\n"),
    "one header": (HEAD + b"X-A: ", b"b"),
    "100 Continue": (b"", CONTINUE),
    "100 Continue with a header": (b"", b"HTTP/1.1 100 Continue\r\nX-A: b\r\n\r\n"),
    "102 Processing": (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "103 Early Hints": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "a body": (HEAD + b"Content-Length: 900000\r\n\r\n", b" "),
    "a body without a length": (HEAD + b"\r\n", b" "),
    "chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "the size of a chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
    "trailers": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-A: b\r\n"),
    "nothing": (b"", b""),
    "noise": (b"", b"\x00\xff"),
}


@pytest.mark.parametrize(
    ("name", "pause"),
    [(name, pause) for name in ENDLESS for pause in (0.02, 0.0) if pause or name != "nothing"],
)
async def test_it_ends_in_time(name: str, pause: float) -> None:
    first, again = ENDLESS[name]
    async with (
        asyncio.timeout(30),
        saying(first, again, pause) as url,
        KrakenRestClient(
            url,
            rate_limit_delay=0,
            max_retries=0,
            limiter=RateLimiter(),
            timeout=aiohttp.ClientTimeout(total=1),
        ) as client,
    ):
        with pytest.raises((ExchangeUnavailableError, ExchangeFormatError)) as error:
            await client.trades("XBTUSD")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "after",
    ["901", "1000000000", "9" * 400, "1 Jan 99999999999999999999999", "Wed, 1 Jan 99999 00:00:00 GMT"],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_wait_of_more_than_15_minutes_is_an_error(
    kraken: FakeKraken, client: KrakenRestClient, after: str, status: int
) -> None:
    kraken.script(text("", status=status, headers={"Retry-After": after}))
    with pytest.raises(ExchangeThrottledError, match=f"HTTP {status}; it asks to wait for "):
        await client.trades("XBTUSD")
    assert len(kraken.seen) == 1


async def test_a_list_of_pairs_may_be_larger_than_a_page(kraken: FakeKraken) -> None:
    body = '{"error":[],"result":{}' + " " * 2_000_000 + "}"
    kraken.script(text(body))
    async with KrakenRestClient(kraken.url, rate_limit_delay=0, limiter=RateLimiter()) as client:
        assert await client.asset_pairs() == {}
        kraken.script(zipped(body))
        with pytest.raises(ExchangeFormatError, match="larger than 1,000,000 bytes"):
            await client.trades("XBTUSD")

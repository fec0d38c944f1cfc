"""The scripted exchange, and clients that ask it without long pauses."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from kraken_db.kraken.limiter import RateLimiter
from kraken_db.kraken.rest import KrakenRestClient
from tests.support.fake_kraken import FakeKraken, serve


@pytest.fixture
async def kraken() -> AsyncIterator[FakeKraken]:
    async with serve() as fake:
        yield fake


@pytest.fixture
async def client(kraken: FakeKraken) -> AsyncIterator[KrakenRestClient]:
    async with KrakenRestClient(
        kraken.url,
        rate_limit_delay=0,
        backoff=0.001,
        limiter=RateLimiter(),
        timeout=aiohttp.ClientTimeout(total=0.5),
        max_body=1_000_000,
    ) as found:
        yield found

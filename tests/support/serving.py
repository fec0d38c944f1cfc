"""``kraken-db serve`` in the test's own event loop, and requests to it over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from kraken_db.web.app import ServeOptions, serving


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        found: str = self.json["error"]["message"]
        return found


class Served:
    def __init__(self, base: str, session: aiohttp.ClientSession) -> None:
        self.base = base.rstrip("/")
        self.session = session
        parts = urlsplit(base)
        assert parts.hostname is not None and parts.port is not None
        self.address: tuple[str, int] = (parts.hostname, parts.port)

    async def get(self, path: str, *, headers: Any = None, **query: Any) -> Answer:
        return await self.ask("GET", path, headers=headers, params=query)

    async def post(self, path: str, content: Any, *, headers: Mapping[str, str] | None = None) -> Answer:
        return await self.ask("POST", path, json=content, headers=headers)

    async def ask(self, method: str, path: str, **options: Any) -> Answer:
        address = URL(self.base + path, encoded="%" in path)
        async with self.session.request(method, address, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def raw(self, data: bytes, *, within: float = 10.0) -> bytes:
        """What comes for these bytes, until the server closes or is silent for so long."""
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            writer.write(data)
            found = b""
            try:
                async with asyncio.timeout(within):
                    while piece := await reader.read(65_536):
                        found += piece
            except (TimeoutError, ConnectionError):
                pass
            return found
        finally:
            writer.close()


@asynccontextmanager
async def served(url: str, **options: Any) -> AsyncIterator[Served]:
    """``options``: those of ``ServeOptions``; a free port by default."""
    wanted: dict[str, Any] = {"port": 0} | options
    async with (
        serving(url, ServeOptions(**wanted)) as base,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(60)) as session,
    ):
        yield Served(base, session)

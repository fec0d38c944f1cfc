"""``/metrics`` of a process: its sources are asked when somebody fetches, and none keeps the others back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeAlias

from aiohttp import web
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from kraken_db.db.disk import DiskRoom
from kraken_db.errors import ConfigurationError, KrakenDBError, NotConnectedError, unforeseen
from kraken_db.log_throttle import LogThrottle
from kraken_db.metrics.families import PREFIX, about, of_store
from kraken_db.status import StoreStatus, read_status
from kraken_db.store import Store

Source: TypeAlias = Callable[[], Awaitable[Iterable[Metric]]]
PATH = "/metrics"
LONGEST = 8.0
"""Seconds that a source has: Prometheus waits 10."""
FRESH = 5.0
"""Seconds for which the state of the store is told again, however many ask."""
_log = logging.getLogger(__name__)


class StoreSource:
    """The state of a store, read once for all who ask at the same time.

    ``store``: None while it is not connected.
    """

    def __init__(self, store: Callable[[], Store | None]) -> None:
        self._store = store
        self._turn = asyncio.Lock()
        self._read_at = float("-inf")
        self._status: StoreStatus | None = None

    async def __call__(self) -> Iterable[Metric]:
        """Raises a DatabaseError, and NotConnectedError."""
        async with self._turn:
            now = asyncio.get_running_loop().time()
            if self._status is None or now - self._read_at > FRESH:
                self._status = None  # what cannot be read is not told from memory
                self._status = await self._read()
                self._read_at = now
            return of_store(self._status)

    async def _read(self) -> StoreStatus:
        store = self._store()
        if store is None:
            raise NotConnectedError("the database is not connected")
        async with store.database.read() as connection:
            status = await read_status(connection, store.backend, store.clock(), months=False)
        disk: DiskRoom | None = store.database.disk
        return replace(status, disk=disk)


class MetricsEndpoint:
    """Answers with all sources. One that fails or takes too long is told as down; the others go on."""

    def __init__(self, sources: Mapping[str, Source], longest: float = LONGEST) -> None:
        self._sources = sources
        self._longest = longest
        self._throttle = LogThrottle(_log)
        self._turn = asyncio.Lock()

    async def handle(self, request: web.Request) -> web.Response:
        """In the format that the asker accepts: Prometheus' own, or OpenMetrics. One asker at a time."""
        async with self._turn:
            found = _Found([family async for family in self._families()])
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(found), headers={"Content-Type": content_type})

    async def _families(self) -> AsyncIterator[Metric]:
        for family in about():
            yield family
        up = GaugeMetricFamily(
            f"{PREFIX}_source_up", "Whether this part of the metrics could be read.", labels=["source"]
        )
        answers = await asyncio.gather(*(self._ask(name, source) for name, source in self._sources.items()))
        for name, families in zip(self._sources, answers, strict=True):
            up.add_metric([name], float(families is not None))
            for family in families or ():
                yield family
        yield up

    async def _ask(self, name: str, source: Source) -> Sequence[Metric] | None:
        try:
            async with asyncio.timeout(self._longest):
                return list(await source())
        except TimeoutError:
            reason = f"no answer within {self._longest:g} s"
        except KrakenDBError as error:
            reason = error.message
        except Exception as error:
            reason = unforeseen(error)
        self._throttle.say(logging.WARNING, f"no metrics of the {name}", reason)
        return None


class _Found:
    """What an encoder takes: a registry of what was found."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


@asynccontextmanager
async def serving(host: str, port: int, sources: Mapping[str, Source]) -> AsyncIterator[str]:
    """Have the endpoint for as long as this lasts; gives its address. ``port`` 0 takes a free one.

    Raises ConfigurationError where the address is taken, or none of this machine.
    """
    application = web.Application(client_max_size=0)
    application.router.add_get(PATH, MetricsEndpoint(sources).handle)
    runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigurationError(
                f"the metrics cannot be served on {host}:{port}: {error.strerror or error}",
                hint="another process has the port, or the address is none of this machine",
            ) from None
        address = runner.addresses[0]
        shown = f"[{address[0]}]" if ":" in address[0] else address[0]
        yield f"http://{shown}:{address[1]}{PATH}"
    finally:
        await runner.cleanup()

"""``--metrics-port`` of the commands that run for long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from kraken_db.cli.output import note
from kraken_db.extras import require

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kraken_db.store import StoreService

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])
_LOOPBACK = "127.0.0.1"


class Address(NamedTuple):
    host: str
    port: int


class _AddressType(click.ParamType):  # type: ignore[type-arg]
    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Address:
        if isinstance(value, Address):
            return value
        host, _, port = str(value).strip().rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65_535):
            self.fail(f"{value!r:.100} is no port: 9464, or with an address 0.0.0.0:9464", param, ctx)
        return Address(host or _LOOPBACK, int(port))


def metrics_option(command: _Decorated) -> _Decorated:
    return click.option(
        "--metrics-port",
        "metrics",
        type=_AddressType(),
        metavar="[ADDRESS:]PORT",
        help="Serve numbers for Prometheus there, at /metrics. Without an address: this machine alone.",
    )(command)


@asynccontextmanager
async def metrics_of(
    service: StoreService,
    name: str,
    families: Callable[[], Iterable[Metric]],
    address: Address | None,
    tell: Callable[[str], None] = note,
) -> AsyncIterator[None]:
    """Serve the metrics of a service, and of its store, for as long as this lasts, if there is an address.

    ``tell`` is called with where they are. Raises ConfigurationError.
    """
    if address is None:
        yield
        return
    require("prometheus_client", "metrics", "metrics")
    from kraken_db.metrics.endpoint import Source, StoreSource, serving

    async def own() -> Iterable[Metric]:
        return families()

    sources: dict[str, Source] = {name: own, "store": StoreSource(lambda: service.store)}
    async with serving(address.host, address.port, sources) as url:
        tell(f"metrics at {url}")
        yield

"""``/metrics`` of the page, where Prometheus' package is installed: the store, and the page itself."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from kraken_db.web.parameters import Given
from kraken_db.web.routes import Route
from kraken_db.web.site import Site

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from kraken_db.metrics.endpoint import MetricsEndpoint


def endpoint_of(site: Site) -> MetricsEndpoint:
    """The state of the store is the one that the overview shows: it is not read again for this."""
    from kraken_db.metrics.endpoint import MetricsEndpoint
    from kraken_db.metrics.families import of_store

    async def page() -> Iterable[Metric]:
        return _of_page(site)

    async def store() -> Iterable[Metric]:
        return of_store(await site.overview.status())

    return MetricsEndpoint({"page": page, "store": store})


def _of_page(site: Site) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    from kraken_db.metrics.families import PREFIX, of_pools

    jobs = GaugeMetricFamily(f"{PREFIX}_page_jobs", "Jobs of the page.", labels=["job", "state"])
    for (kind, state), count in sorted(Counter((job.kind, job.state) for job in site.jobs.all).items()):
        jobs.add_metric([kind, state], count)
    yield jobs
    listeners = len(site.live)
    yield GaugeMetricFamily(
        f"{PREFIX}_page_listeners", "Browsers that wait for what is new.", value=listeners
    )
    yield from of_pools({"page": site.store.database.pool})


async def _metrics(request: web.Request, site: Site, _given: Given) -> web.StreamResponse:
    if site.metrics is None:
        site.metrics = endpoint_of(site)
    return await site.metrics.handle(request)


ROUTES: Sequence[Route] = (
    [Route("GET", "/metrics", _metrics, "Numbers for Prometheus.", media=("text/plain",))]
    if importlib.util.find_spec("prometheus_client")
    else []
)

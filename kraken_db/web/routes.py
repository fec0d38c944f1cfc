"""What is answered at which path: one table for the server, its rules of access and ``openapi.json``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from aiohttp import web

from kraken_db.web.parameters import Given, Parameter, read
from kraken_db.web.site import SITE, Site

Answer: TypeAlias = Callable[[web.Request, Site, Given], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One call. ``schema``: of its JSON answer; ``body``: of what it is sent."""

    method: str
    path: str
    answer: Answer
    summary: str
    parameters: Sequence[Parameter] = ()
    schema: Mapping[str, Any] | None = None
    body: Mapping[str, Any] | None = None
    status: int = 200
    media: Sequence[str] = ("application/json",)
    is_public: bool = False
    """Whether it is answered without the token: it shows nothing of what is stored."""
    is_long: bool = False
    """Whether its answer goes on for as long as somebody reads."""


def add(application: web.Application, routes: Sequence[Route]) -> None:
    """Have an application answer these."""
    for route in routes:
        # HEAD is answered as GET, without the body.
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            application.router.add_route(method, route.path, _handler(route))


def _handler(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        site = request.app[SITE]
        return await route.answer(request, site, read(request, route.parameters, site.clock()))

    return handle

"""The server: its routes, what surrounds each answer, and its life from the open store to the last job."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from kraken_db.errors import (
    ConfigurationError,
    DatabaseError,
    KrakenDBError,
    StatementCancelledError,
    first_line,
)
from kraken_db.extras import require
from kraken_db.store import Store
from kraken_db.web import api, numbers, udf
from kraken_db.web.answers import refusal, refusal_of
from kraken_db.web.connections import MOST_CONNECTIONS, BusyError, Guard
from kraken_db.web.coverage import KnownPairs
from kraken_db.web.jobs import JobRunner
from kraken_db.web.live import Live
from kraken_db.web.overview import OverviewReader
from kraken_db.web.pages import PATHS, Pages
from kraken_db.web.routes import Route, add
from kraken_db.web.security import HEADERS, Doorkeeper
from kraken_db.web.site import LONGEST_STATEMENT, SITE, Site

LARGEST_BODY = 256 * 1024
MOST_UNSENT = 256 * 1024
"""Bytes that the system keeps for a reader who is slow; by itself it would be megabytes for each."""
_CONNECTIONS = 8
_LINES_OF_NEWS = 20
"""Of a job's log, in an event: it has them all when it is asked for."""
_log = logging.getLogger(__name__)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ROUTES: Sequence[Route] = (*api.ROUTES, *udf.ROUTES, *numbers.ROUTES)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """``token``: None where none is asked for. ``jobs``: how many the page may run at once."""

    host: str = "127.0.0.1"
    port: int = 8712
    token: str | None = None
    hosts: Sequence[str] = ()
    jobs: int = 2
    export_dir: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    """What is added to the environment of jobs."""


class _HttpLog(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp says of requests that are none: their bytes are not for a log, nor is a traceback."""

    def log(self, level: int, msg: object, *args: object, **_: Any) -> None:
        if self.isEnabledFor(logging.DEBUG):
            self.logger.debug("no HTTP: %s", first_line(sys.exc_info()[1] or ValueError(msg)).split(":")[0])


@asynccontextmanager
async def serving(db_url: str, options: ServeOptions) -> AsyncIterator[str]:
    """Serve until the block is left; gives the address of the page.

    Raises ConfigurationError for an address that cannot be had, and what ``Store.open`` raises.
    """
    store = await Store.open(db_url, pool_min_size=1, pool_max_size=_CONNECTIONS, creates=False)
    try:
        await store.database.set_in_sessions({"statement_timeout": LONGEST_STATEMENT})
        site = make_site(store, db_url, options)
        runner = web.AppRunner(make_app(site), access_log=None, shutdown_timeout=2.0, logger=_HttpLog(_log))
        await runner.setup()
        assert runner.server is not None
        site.guard = Guard(runner.server)
        tasks = [asyncio.create_task(work) for work in (site.live.run(), site.guard.watch())]
        try:
            async with _listening(site.guard, options) as address:
                yield address
        finally:
            site.live.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await runner.cleanup()
            await site.jobs.close()
    finally:
        await store.close()


def make_site(store: Store, db_url: str, options: ServeOptions) -> Site:
    """What the answers share, of an open store."""
    site = Site(store, Doorkeeper(options.token, [options.host, *options.hosts]), ROUTES)
    site.overview = OverviewReader(site)
    site.known = KnownPairs(site)
    site.live = Live(site)
    site.jobs = JobRunner(
        db_url,
        options.jobs,
        folder=options.export_dir,
        clock=store.clock,
        environment=options.environment,
    )
    site.jobs.tell = lambda job: site.live.say("job", job.document(lines=_LINES_OF_NEWS))
    return site


def make_app(site: Site) -> web.Application:
    """The application of a site; nothing is opened by it."""
    application = web.Application(middlewares=[_logged, _errors, _door], client_max_size=LARGEST_BODY)
    application[SITE] = site
    application.on_response_prepare.append(_add_headers)
    add(application, site.routes)
    require("jinja2", "the pages of kraken-db serve", "web")
    Pages().add_to(application)
    site.public |= set(PATHS)
    return application


@asynccontextmanager
async def _listening(guard: Guard, options: ServeOptions) -> AsyncIterator[str]:
    """Gives the address of the page. Raises ConfigurationError."""
    try:
        server = await asyncio.get_running_loop().create_server(
            guard, options.host, options.port, backlog=MOST_CONNECTIONS
        )
    except (OSError, OverflowError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"port {options.port} of {options.host} is taken", hint="choose another --port, or 0 for any"
            ) from error
        raise ConfigurationError(f"cannot listen on {options.host}, port {options.port}: {error}") from error
    try:
        for one in server.sockets:  # those that are accepted inherit it
            one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MOST_UNSENT)
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    finally:
        server.close()


# --- around each answer ---


@web.middleware
async def _logged(request: web.Request, handler: _Handler) -> web.StreamResponse:
    began = time.monotonic()
    guard = request.app[SITE].guard
    with nullcontext() if guard is None else guard.serving(request):
        response = await handler(request)
    _log.info(
        "%s %.200r: %d in %.0f ms",
        request.method,
        request.path,
        response.status,
        (time.monotonic() - began) * 1000,
    )
    return response


async def _add_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Before the head of any answer is sent."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-cache, private")
    response.headers["Server"] = "kraken-db"


@web.middleware
async def _errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Every error as JSON. Of what is not the caller's fault, the log alone says more."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _plain_refusal(error)
    except api.NotStoredError as error:
        return refusal_of(404, error)
    except StatementCancelledError:
        return refusal(503, "the database took too long", "ask for a shorter range", wait=5)
    except DatabaseError as error:
        _log.warning("%s: %s", request.path[:200], error.message)
        return refusal(503, "the database does not answer", "the log of kraken-db serve says why", wait=5)
    except BusyError as error:
        return refusal(503, error.message, error.hint, wait=2)
    except (KrakenDBError, ValueError) as error:
        if isinstance(error, KrakenDBError) and isinstance(error, ValueError):
            return refusal_of(400, error)
        _log.exception("%s", request.path[:200])
    except (ConnectionResetError, asyncio.CancelledError):
        raise
    except Exception:
        _log.exception("%s", request.path[:200])
    return refusal(500, "internal error", "the log of kraken-db serve says more")


def _plain_refusal(error: web.HTTPException) -> web.StreamResponse:
    texts = {404: "there is no such page", 405: "this method is not answered here", 413: "it is too large"}
    answer = refusal(error.status, texts.get(error.status, "the request cannot be answered"))
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer


@web.middleware
async def _door(request: web.Request, handler: _Handler) -> web.StreamResponse:
    site = request.app[SITE]
    refused = await site.doorkeeper.refuse(request, is_public=site.is_public(request))
    return await handler(request) if refused is None else refused

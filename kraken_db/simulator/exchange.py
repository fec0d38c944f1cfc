"""The simulated exchange: markets and faults behind a real socket."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from kraken_db.errors import ConfigurationError
from kraken_db.simulator import transport
from kraken_db.simulator.answers import Answers, RequestError, error_text
from kraken_db.simulator.clock import Clock
from kraken_db.simulator.faults import MESSAGES, ODD_PAGES, Fault, FaultPlan, Faults
from kraken_db.simulator.feed import Feed
from kraken_db.simulator.feed_faults import FeedFaults
from kraken_db.simulator.market import Market
from kraken_db.simulator.rate_limit import Limiter

_LOG = logging.getLogger(__name__)
_PUBLIC = "/0/public/"
FEED_PATH = "/v2"
_KEPT_REQUESTS = 100_000
_BY_PAIR = frozenset({"Trades", "OHLC"})


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the request log."""

    at: float
    """Seconds of a clock that never runs backwards (``time.monotonic``), when the request came."""
    client: str
    path: str
    params: Mapping[str, str]
    pair: str | None
    """Our symbol; None for calls without a pair and for pairs that do not exist."""
    answer: str
    """``ok``, the name of a ``Fault``, or the error that the request has deserved."""


class SimulatedExchange:
    """Serves markets as Kraken would.

    ``clock`` gives the exchange's time: trades later than that have not happened yet. It is the system's
    unless said otherwise. ``delay``: seconds that an answer of REST takes, all in all. ``requests`` is the
    log of what REST was asked, oldest first, of the newest 100,000 requests. ``feed`` is the WebSocket, below
    ``/v2``, and ``feed_faults`` what goes wrong there.
    """

    def __init__(
        self,
        markets: Iterable[Market],
        faults: Faults | None = None,
        clock: Clock = time.time_ns,
        delay: float = 0.0,
        feed_faults: FeedFaults | None = None,
    ) -> None:
        self.markets = {market.symbol: market for market in markets}
        self.faults = faults or Faults()
        self.clock = clock
        self.delay = delay
        self.requests: deque[Request] = deque(maxlen=_KEPT_REQUESTS)
        self._answers = Answers(self.markets.values(), self.faults, clock)
        self._plan = FaultPlan(self.faults)
        limit = self.faults.rate_limit
        self._limiter = None if limit is None else Limiter(limit, time.monotonic)
        self._closing = asyncio.Event()
        self.feed = Feed(self.markets.values(), self._answers.symbols, feed_faults or FeedFaults(), clock)
        self.feed.state = self.faults.state

    @asynccontextmanager
    async def serve(self, port: int = 0, host: str = "127.0.0.1") -> AsyncIterator[str]:
        """Serve until the block is left; gives the address for ``KRAKEN_BASE_URL``. Port 0 takes a free one.

        Raises ConfigurationError if the address cannot be had.
        """
        self._closing = asyncio.Event()
        runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            try:
                await site.start()
            except (OSError, OverflowError) as error:
                raise _cannot_listen(host, port, error) from error
            bound: int = runner.addresses[0][1]
            async with self.feed.running():
                yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"
        finally:
            self._closing.set()
            await runner.cleanup()
            await asyncio.sleep(0)  # connections that were cut are closed in the loop's next round

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_get(FEED_PATH, self.feed.handle)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        at = time.monotonic()
        params = dict(request.query)
        client = request.remote or ""
        call = request.path.removeprefix(_PUBLIC) if request.path.startswith(_PUBLIC) else ""
        symbol = self._symbol(params)
        fault = self._fault(client, call, symbol or "")
        text, answer = "", str(fault)
        if fault is None or fault in ODD_PAGES or fault is Fault.TRUNCATED:
            text, error = self._text(call, symbol or "", params, fault)
            answer = error or str(fault or "ok")
        self.requests.append(Request(at, client, request.path, params, symbol, answer))
        await _wait_until(at + self.delay)
        if fault is None or fault in ODD_PAGES:
            return transport.json_response(text)
        return await self._fail(request, fault, text, call, symbol or "")

    def _text(
        self, call: str, symbol: str, params: Mapping[str, str], fault: Fault | None
    ) -> tuple[str, str | None]:
        """The body of an answer, and its error if it is one."""
        try:
            return self._call(call, symbol, params, fault), None
        except RequestError as error:
            message = error.message
        except Exception:
            _LOG.exception("the simulated exchange failed at %s %s", call, params)
            message = MESSAGES[Fault.INTERNAL]
        return error_text(message), message

    def _fault(self, client: str, call: str, symbol: str) -> Fault | None:
        if self._limiter is not None:
            refused = self._limiter.refuse(client, f"{call}/{symbol}" if call in _BY_PAIR else "")
            if refused is not None:
                return refused
        return self._plan.next(call, symbol)

    def _call(self, call: str, symbol: str, params: Mapping[str, str], odd: Fault | None) -> str:
        match call:
            case "Trades":
                return self._answers.trades(params, odd, self._plan.random(call, symbol))
            case "OHLC":
                return self._answers.ohlc(params)
            case "AssetPairs":
                return self._answers.asset_pairs(params)
            case "Time":
                return self._answers.time()
            case "SystemStatus":
                return self._answers.system_status()
        raise RequestError(MESSAGES[Fault.UNKNOWN_METHOD])

    async def _fail(
        self, request: web.Request, fault: Fault, text: str, call: str, symbol: str
    ) -> web.StreamResponse:
        match fault:
            case Fault.HANG:
                return await transport.hang(request, self._closing, self.faults.hang_seconds)
            case Fault.RESET:
                return transport.reset(request.transport)
            case Fault.TRUNCATED:
                return await transport.truncated(request, text)
            case Fault.HTTP_429:
                return transport.too_many(self.faults.wait_seconds)
            case Fault.HTTP_5XX | Fault.CLOUDFLARE:
                return transport.html_error(fault, self._plan.random(call, symbol))
            case Fault.THROTTLED:
                until = time.time() + self.faults.wait_seconds  # clients compare it with their own clock
                return transport.json_response(error_text(f"EService: Throttled: {int(until) + 1}"))
        return transport.json_response(error_text(MESSAGES[fault]))

    def _symbol(self, params: Mapping[str, str]) -> str | None:
        try:
            return self._answers.pair(params).symbol
        except RequestError:
            return None


def feed_url(base_url: str) -> str:
    """The address for ``KRAKEN_WS_URL`` of an exchange whose REST is at ``base_url``."""
    return base_url.replace("http", "ws", 1) + FEED_PATH


async def _wait_until(moment: float) -> None:
    """Until then, to the tenth of a millisecond: a sleep alone ends at whole ones, and late."""
    while (left := moment - time.monotonic()) > 0:  # noqa: ASYNC110 (no event tells the time)
        await asyncio.sleep(left - 0.002 if left > 0.003 else 0)


def _cannot_listen(host: str, port: int, error: Exception) -> ConfigurationError:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return ConfigurationError(
            f"port {port} of {host} is taken", hint="choose another --port, or 0 for any"
        )
    return ConfigurationError(f"cannot listen on {host}, port {port}: {error}")

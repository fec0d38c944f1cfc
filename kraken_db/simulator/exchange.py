"""The simulated exchange: markets and faults behind a real socket.

From parameters to the text of an answer, as Kraken's public REST calls have it, and the limit that Kraken
keeps by client and pair.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from aiohttp import web

from kraken_db.errors import ConfigurationError
from kraken_db.simulator import transport
from kraken_db.simulator.archive_faults import ArchiveFaults
from kraken_db.simulator.archive_server import ARCHIVE_PATH, ArchiveServer
from kraken_db.simulator.clock import Clock
from kraken_db.simulator.faults import MESSAGES, ODD_PAGES, Fault, FaultPlan, Faults, FeedFaults, RateLimit
from kraken_db.simulator.feed import Feed
from kraken_db.simulator.listing import LISTED, ListedPair, asset_pairs
from kraken_db.simulator.market import INTERVALS, CandleBook, Market
from kraken_db.simulator.tape import SECOND


@dataclass(slots=True)
class _Account:
    used: float = 0.0
    at: float = 0.0
    refused: int = 0
    locked_until: float = 0.0


class Limiter:
    """``time`` is in seconds and never runs backwards."""

    def __init__(self, limit: RateLimit, time: Callable[[], float]) -> None:
        self._limit = limit
        self._time = time
        self._accounts: dict[tuple[str, str], _Account] = {}

    def refuse(self, client: str, pair: str) -> Fault | None:
        """Count a call; why it is refused, or None."""
        now, limit = self._time(), self._limit
        account = self._accounts.setdefault((client, pair), _Account(at=now))
        if now < account.locked_until:
            return Fault.LOCKOUT
        account.used = max(0.0, account.used - (now - account.at) * limit.per_second)
        account.at = now
        if account.used + 1 <= limit.burst + 1e-9:
            account.used += 1
            account.refused = 0
            return None
        account.refused += 1
        if limit.lockout_after is not None and account.refused >= limit.lockout_after:
            account.locked_until = now + limit.lockout_seconds
            account.refused = 0
            return Fault.LOCKOUT
        return Fault.TOO_MANY_REQUESTS


PAGE = 1000
_SECONDS_DIGITS = 10
_LONGEST_NUMBER = 30


class RequestError(Exception):
    """A request that gets an error of Kraken's."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


def error_text(message: str) -> str:
    return json.dumps({"error": [message]}, separators=(",", ":"))


def result_text(result: Any) -> str:
    return json.dumps({"error": [], "result": result}, separators=(",", ":"))


class Answers:
    """What the exchange knows, and how it says it."""

    def __init__(self, markets: Iterable[Market], faults: Faults, clock: Clock) -> None:
        self.markets = {market.pair.key: market for market in markets}
        self._faults = faults
        self._clock = clock
        own = {key: market.pair for key, market in self.markets.items()}
        self._listed: dict[str, ListedPair] = {
            key: pair
            for key, pair in ({pair.key: pair for pair in LISTED} | own).items()
            if pair.symbol not in faults.unknown
        }
        self._by_name = {name: pair for pair in self._listed.values() for name in pair.names}
        self._books: dict[tuple[str, int], CandleBook] = {}
        self._last_pages: dict[str, str] = {}

    @property
    def symbols(self) -> list[str]:
        """Everything that is listed under a name of ours, which is that of the WebSocket too."""
        return [pair.symbol for pair in self._listed.values() if pair.symbol]

    def list_market(self, market: Market) -> None:
        """From now on there is one more."""
        self.markets[market.pair.key] = market
        self._listed[market.pair.key] = market.pair
        self._by_name |= dict.fromkeys(market.pair.names, market.pair)

    def delist(self, symbol: str) -> None:
        """From now on nobody knows it, as with Kraken's delisted pairs."""
        self._listed = {key: pair for key, pair in self._listed.items() if pair.symbol != symbol}
        self._by_name = {name: pair for name, pair in self._by_name.items() if pair.symbol != symbol}

    def pair(self, params: Mapping[str, str], class_name: str = "asset_class") -> ListedPair:
        """The pair that a request is about; ``class_name``: the parameter that says of which class it is.

        Kraken knows a tokenized pair only where its class is named, and a currency pair only where it is not.
        """
        name = params.get("pair", "")
        if not name:
            raise RequestError("EGeneral:Invalid arguments")
        found = self._by_name.get(name) or self._by_name.get(name.upper())
        if found is None:
            plain = name.isascii() and name.replace("/", "").replace(".", "").isalnum()
            raise RequestError(MESSAGES[Fault.UNKNOWN_PAIR if plain else Fault.INVALID_PAIR])
        if found.asset_class != _asset_class(params, class_name):
            raise RequestError(MESSAGES[Fault.UNKNOWN_PAIR])
        return found

    def time(self) -> str:
        now = self._now()
        return result_text(
            {"unixtime": int(now.timestamp()), "rfc1123": now.strftime("%a, %d %b %y %H:%M:%S +0000")}
        )

    def system_status(self) -> str:
        return result_text({"status": self._faults.state, "timestamp": self._now().strftime("%FT%TZ")})

    def asset_pairs(self, params: Mapping[str, str]) -> str:
        asset_class = _asset_class(params, "aclass_base")
        pairs = [
            pair
            for pair in self._listed.values()
            if pair.asset_class == asset_class and not self._is_delisted(pair)
        ]
        if wanted := params.get("pair"):
            named = [self.pair({**params, "pair": name}, "aclass_base") for name in wanted.split(",")]
            if any(self._is_delisted(pair) for pair in named):
                raise RequestError(MESSAGES[Fault.UNKNOWN_PAIR])
            pairs = named
        state = self._faults.state
        return result_text(asset_pairs(pairs, {pair.key: state for pair in pairs}))

    def ohlc(self, params: Mapping[str, str]) -> str:
        pair = self.pair(params)
        if self._is_delisted(pair):
            raise RequestError(MESSAGES[Fault.UNKNOWN_PAIR])
        self._require_trading()
        interval = _whole_number(params, "interval", 1)
        since = _whole_number(params, "since", -1)
        if interval not in INTERVALS:
            raise RequestError("EGeneral:Invalid arguments:interval")
        rows: list[list[Any]] = []
        last = 0
        if pair.key in self.markets:
            book = self._books.setdefault((pair.key, interval), CandleBook(self.markets[pair.key], interval))
            rows, last = book.answer(self._clock(), None if since < 0 else since)
        return result_text({pair.key: rows, "last": last})

    def trades(self, params: Mapping[str, str], odd: Fault | None, random: Random) -> str:
        """A page; ``odd`` is what is to be wrong with it."""
        pair = self.pair(params)
        self._require_trading()
        count = _whole_number(params, "count", PAGE)
        if not 1 <= count <= PAGE:
            raise RequestError("EGeneral:Invalid arguments:count")
        since = _whole_number(params, "since", 0) if params.get("since") else None
        if odd is Fault.REPEATED_PAGE and pair.key in self._last_pages:
            return self._last_pages[pair.key]
        rows, last = self._page(pair, since, count)
        if odd is Fault.OUT_OF_ORDER:
            _disorder(rows, random)
        end = "" if odd is Fault.MISSING_LAST else f',"last":"{params["since"] if last is None else last}"'
        page = f'{{"error":[],"result":{{"{pair.key}":[{",".join(rows)}]{end}}}}}'
        self._last_pages[pair.key] = page
        return page

    def _page(self, pair: ListedPair, since: int | None, count: int) -> tuple[list[str], int | None]:
        """Rows as JSON, and the stamp of the last of them; None for an empty page."""
        market = self.markets.get(pair.key)
        now = self._clock()
        there = 0 if market is None else market.count_at(now)
        if market is None or not there:
            return [], 0 if since is None else None
        if since is None:
            start = max(0, there - count)
        else:
            stamp = since * SECOND if len(str(since)) <= _SECONDS_DIGITS else since
            start = min(there, market.position(min(stamp, now + 1), after=self._faults.since_exclusive))
        stop = min(there, start + count)
        rows = market.json_rows(start, stop)
        return rows, market.stamp(stop - 1) if rows else None

    def _require_trading(self) -> None:
        if self._faults.state == "maintenance":
            raise RequestError(MESSAGES[Fault.UNAVAILABLE])

    def _is_delisted(self, pair: ListedPair) -> bool:
        return pair.symbol is not None and pair.symbol in self._faults.delisted

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() // SECOND, UTC)


def _asset_class(params: Mapping[str, str], name: str) -> str:
    found = params.get(name) or "currency"
    if found not in ("currency", "tokenized_asset"):
        raise RequestError(f"EGeneral:Invalid arguments:{name}")
    return found


def _whole_number(params: Mapping[str, str], name: str, default: int) -> int:
    text = params.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_NUMBER):
        raise RequestError(f"EGeneral:Invalid arguments:{name}")
    return int(text)


def _disorder(rows: list[str], random: Random) -> None:
    """Exchange some neighbours, and turn one stretch around."""
    for _ in range(len(rows) // 20):
        at = random.randrange(len(rows) - 1)
        rows[at], rows[at + 1] = rows[at + 1], rows[at]
    begin = random.randrange(max(1, len(rows)))
    rows[begin : begin + 50] = reversed(rows[begin : begin + 50])


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
    ``/v2``, and ``feed_faults`` what goes wrong there. ``archives`` is a folder of files; ``archive`` serves
    them as Kraken's file server does, and ``archive_faults`` is what goes wrong with it.
    """

    def __init__(
        self,
        markets: Iterable[Market],
        faults: Faults | None = None,
        clock: Clock = time.time_ns,
        delay: float = 0.0,
        feed_faults: FeedFaults | None = None,
        archives: Path | None = None,
        archive_faults: ArchiveFaults | None = None,
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
        known = [market for market in self.markets.values() if market.symbol not in self.faults.unknown]
        self.feed = Feed(known, self._answers.symbols, feed_faults or FeedFaults(), clock)
        self.feed.state = self.faults.state
        self.archive = None if archives is None else ArchiveServer(archives, archive_faults)

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
            except (OSError, OverflowError, UnicodeError) as error:
                raise _cannot_listen(host, port, error) from error
            bound: int = runner.addresses[0][1]
            async with self.feed.running():
                yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"
        finally:
            self._closing.set()
            if self.archive is not None:
                self.archive.closing.set()
            await runner.cleanup()
            await asyncio.sleep(0)  # connections that were cut are closed in the loop's next round

    def list_market(self, market: Market) -> None:
        """A new listing: from now on it is in AssetPairs, in REST and on the WebSocket."""
        self.markets[market.symbol] = market
        self._answers.list_market(market)
        self.feed.list_market(market)

    def delist(self, symbol: str) -> None:
        """From now on neither REST nor the WebSocket knows the pair; ``markets`` still has its past."""
        self._answers.delist(symbol)
        self.feed.delist(symbol)

    def _application(self) -> web.Application:
        application = web.Application()
        application.router.add_get(FEED_PATH, self.feed.handle)
        if self.archive is not None:
            self.archive.route(application)
        application.router.add_route("*", "/{path:.*}", self._handle)
        return application

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        at = time.monotonic()
        params = dict(request.query)
        client = request.remote or ""
        call = request.path.removeprefix(_PUBLIC) if request.path.startswith(_PUBLIC) else ""
        symbol = self._symbol(params)
        fault = self._fault(_limited_by(request), call, symbol or "")
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


def archive_url(base_url: str) -> str:
    """The address for ``KRAKEN_ARCHIVE_URL`` of an exchange whose REST is at ``base_url``."""
    return base_url + ARCHIVE_PATH


def _limited_by(request: web.Request) -> str:
    """Whose limit a request counts for: the client's address and the one that it asked.

    So clients of one machine that ask 127.0.0.2, 127.0.0.3, .. are like machines of their own.
    """
    asked = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return f"{request.remote} at {asked[0] if asked else ''}"


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

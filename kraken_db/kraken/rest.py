"""Kraken's public REST: https://docs.kraken.com/api/docs/category/rest-api/market-data"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar

import aiohttp
from msgspec import Raw

from kraken_db.errors import (
    ConfigurationError,
    ExchangeFormatError,
    ExchangeRequestError,
    ExchangeThrottledError,
    PairError,
    WrongValueError,
)
from kraken_db.kraken import messages, transport
from kraken_db.kraken.limiter import RateLimiter, shared_limiter
from kraken_db.kraken.messages import AssetPair, OhlcPage, SystemStatus, TradesPage
from kraken_db.kraken.request_counts import RequestCounts
from kraken_db.kraken.transport import status_error
from kraken_db.pairs import from_rest_pair
from kraken_db.patterns import PairClass, pair_class
from kraken_db.retry import MAX_WAIT, REQUEST
from kraken_db.settings import Settings
from kraken_db.times import Sleep
from kraken_db.web_addresses import server_parts

OHLC_INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
"""The minutes that OHLC knows; 720 is not among them."""
SHORTEST_DELAY, LONGEST_DELAY = 1e-6, 3600.0
"""Seconds between two requests: what is beyond is a slip of the keyboard."""
MAX_COUNT = 1000
"""Trades of one page, at most."""

TOKENIZED_ASSET = "tokenized_asset"
"""What Kraken calls the class of the shares: a list, a page or candles of them need it as a parameter."""

_LONG_WAIT = 10.0  # seconds that a user wonders about

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_Page = TypeVar("_Page", TradesPage, OhlcPage)


class KrakenRestClient:
    """Asks Kraken, no faster than it allows, and again where that may help.

    ``base_url``: by default what the settings say. ``rate_limit_delay``: seconds between two requests for one
    pair, and between two that are for none; all clients of the process share one ``limiter``.
    ``max_retries``: further attempts after the first, see ``kraken_db.retry``; ``backoff``: seconds
    before the second. ``clock`` gives unix seconds. A ``session`` that is passed in is not closed here.

    Every method raises an ExchangeError: see ``kraken_db.errors`` for what its kinds mean.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        rate_limit_delay: float = 1.1,
        max_retries: int = 3,
        backoff: float = 1.0,
        session: aiohttp.ClientSession | None = None,
        limiter: RateLimiter | None = None,
        clock: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
        timeout: aiohttp.ClientTimeout = transport.TIMEOUT,
        max_body: int = transport.MAX_BODY,
    ) -> None:
        if rate_limit_delay != 0 and not SHORTEST_DELAY <= rate_limit_delay <= LONGEST_DELAY:
            raise ConfigurationError(
                f"the pause between two requests is {rate_limit_delay} s: it is 0, or {SHORTEST_DELAY:f} to"
                f" {LONGEST_DELAY:,.0f} s",
                hint="1.1 is what Kraken takes; it gets longer by itself",
            )
        if max_retries < 0:
            raise ConfigurationError(f"max_retries is {max_retries}: it is 0 or more")
        self.base_url = checked_base_url(base_url or Settings.from_environment().kraken_base_url)
        self.rate_limit_delay = rate_limit_delay
        self.requests = RequestCounts()
        self._retry = replace(REQUEST, attempts=max_retries + 1, pause=backoff, jitter=backoff, sleep=sleep)
        self._limiter = limiter or shared_limiter()
        self._clock = clock
        self._timeout = timeout
        self._max_body = max_body
        self._session = session
        self._owns_session = session is None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client may be used again afterwards."""
        if self._owns_session and self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def trades(self, pair: str, since: int = 0, *, count: int = MAX_COUNT) -> TradesPage:
        """The ``count`` oldest trades from ``since`` on, which is the ``last`` of a page before, unchanged.

        ``since`` is in ns (a number of 10 digits is read as seconds); whether the trade of that very moment
        comes again is not certain, so expect both. 0 is the pair's first trade.
        """
        return await self._trades(pair, since, count, messages.decode_trades)

    async def newest_trades(self, pair: str, *, count: int = MAX_COUNT) -> TradesPage:
        """The newest ``count`` trades, oldest first: what Kraken sends where ``since`` is left out."""
        return await self._trades(pair, None, count, messages.decode_trades)

    async def trades_page(self, pair: str, since: int | None = None, *, count: int = MAX_COUNT) -> TradesPage:
        """As ``trades``, or ``newest_trades`` without ``since``; the rows are not looked at yet.

        Whoever is in a hurry asks for the next page first. A row that is no trade shows with the look.
        """
        return await self._trades(pair, since, count, messages.open_trades)

    async def _trades(
        self, pair: str, since: int | None, count: int, decode: Callable[[Raw, str], TradesPage]
    ) -> TradesPage:
        if (since is not None and since < 0) or not 1 <= count <= MAX_COUNT:
            raise ConfigurationError(f"since is {since}, count {count}: 0 or more, and 1 to {MAX_COUNT}")
        params = {"pair": pair, "count": str(count)}
        if since is not None:
            params["since"] = str(since)
        return await self._ask_of(pair, "Trades", params, decode)

    async def ohlc(self, pair: str, interval: int = 1, since: int | None = None) -> OhlcPage:
        """The newest candles of ``interval`` minutes after ``since``, in seconds: 720 and the running one.

        ``since`` is exclusive, and reaches no further back than those 720. Raises ConfigurationError for an
        interval that Kraken does not have.
        """
        if interval not in OHLC_INTERVALS:
            known = ", ".join(map(str, OHLC_INTERVALS))
            raise ConfigurationError(f"Kraken has no candles of {interval} minutes", hint=f"it has {known}")
        params = {"pair": pair, "interval": str(interval)}
        if since is not None:
            params["since"] = str(since)
        return await self._ask_of(
            pair, "OHLC", params, lambda result, what: messages.decode_ohlc(result, what, interval)
        )

    async def asset_pairs(self, kind: PairClass = "currency") -> dict[str, AssetPair]:
        """Every market of a kind that is listed now, by Kraken's keys (``'XXBTZUSD'``); a pair may have two.

        What the names mean is remembered, for what is asked of the pairs later.
        """
        params = {"aclass_base": TOKENIZED_ASSET} if kind == "tokenized" else {}
        listing = await self._ask("AssetPairs", params, "AssetPairs", messages.decode_asset_pairs)
        _names_at(self.base_url).learn(listing, kind)
        return listing

    async def time(self) -> datetime:
        """Kraken's clock, to the second, UTC."""
        return await self._ask("Time", {}, "Time", messages.decode_time)

    async def system_status(self) -> SystemStatus:
        return await self._ask("SystemStatus", {}, "SystemStatus", messages.decode_system_status)

    async def _ask_of(
        self, pair: str, method: str, params: Mapping[str, str], decode: Callable[[Raw, str], _Page]
    ) -> _Page:
        """An answer about this pair: rows of another one are none of it."""
        names = _names_at(self.base_url)
        symbol, kind = names.of(pair)
        if kind == "tokenized":
            params = {**params, "asset_class": TOKENIZED_ASSET}
            await self._learn_keys(names)

        def decode_own(result: Raw, what: str) -> _Page:
            page = decode(result, what)
            if page.key != pair and names.of(page.key)[0] != symbol:
                raise ExchangeFormatError(f"{what}: the answer is for {page.key!r:.40}, another pair")
            return page

        what, largest = f"{method} of {pair}", min(self._max_body, transport.MAX_PAGE)
        return await self._ask(method, params, what, decode_own, limit=symbol, largest=largest)

    async def _learn_keys(self, names: _Names) -> None:
        """Before the first answer about a tokenized pair: its other key does not tell the pair by itself."""
        if "tokenized" not in names.asked:
            try:
                await self.asset_pairs("tokenized")
            except ExchangeRequestError as error:
                _log.info("the keys of tokenized pairs are not known: %s", error.message)
                names.asked.add("tokenized")

    async def _ask(
        self,
        method: str,
        params: Mapping[str, str],
        what: str,
        decode: Callable[[Raw, str], _T],
        *,
        limit: str = "",
        largest: int | None = None,
    ) -> _T:
        key = (self.base_url, limit)

        async def attempt() -> _T:
            started = await self._limiter.acquire(key, self.rate_limit_delay)
            try:
                with self.requests.asking(method):
                    answer = await self._result(method, params, what, largest or self._max_body)
                    value = decode(answer, what)
            except ExchangeThrottledError as error:
                self._slow_down(key, started, error)
                raise
            self._limiter.answered(key)
            return value

        return await self._retry.run(attempt)

    def _slow_down(self, key: tuple[str, str], started: float, error: ExchangeThrottledError) -> None:
        wait = error.retry_after
        if wait is not None and wait > MAX_WAIT:  # raised as an error, not slept through by whoever asks next
            wait = None
        elif wait is not None and wait >= _LONG_WAIT:
            _log.warning("%s; waiting %.0f s as it asks", error.message, wait)
        self._limiter.throttled(key, started, wait)

    async def _result(self, method: str, params: Mapping[str, str], what: str, largest: int) -> Raw:
        if self._session is None:
            self._session = transport.open_session()
        answer = await transport.get(
            self._session,
            f"{self.base_url}/0/public/{method}",
            params,
            what,
            timeout=self._timeout,
            max_body=largest,
        )
        now = self._clock()
        error = status_error(answer.status, answer.retry_after, what, now)
        if isinstance(error, ExchangeRequestError):  # what Kraken says is worth more than a number
            error = messages.refusal(answer.body, what, now) or error
        if error:
            raise error
        return messages.decode_result(answer.body, what, now)


def limit_name(pair: str) -> str:
    """The name that the limit of a pair is kept under: one, however the pair is written."""
    try:
        return from_rest_pair(pair)
    except PairError:
        return pair


@dataclass(slots=True)
class _Names:
    """What the names of pairs mean at one exchange, as far as its lists have said."""

    asked: set[PairClass] = field(default_factory=set)
    """The lists that were asked for."""
    _known: dict[str, tuple[str, PairClass]] = field(default_factory=dict)

    def learn(self, listing: Mapping[str, AssetPair], kind: PairClass) -> None:
        self.asked.add(kind)
        symbols = messages.symbols_of(listing)
        for key, pair in listing.items():
            if symbol := symbols.get(key):
                listed = "tokenized" if pair.aclass_base == TOKENIZED_ASSET else pair_class(symbol)
                self._known[key] = self._known[pair.altname] = symbol, listed

    def of(self, name: str) -> tuple[str, PairClass]:
        """The pair, one however it is written, and its kind; without a list as far as the letters tell."""
        if name in self._known:
            return self._known[name]
        symbol = limit_name(name)
        return symbol, pair_class(symbol)


_NAMES: dict[str, _Names] = {}


def _names_at(base_url: str) -> _Names:
    """Shared by all clients of the process, as their limits are."""
    return _NAMES.setdefault(base_url, _Names())


def checked_base_url(url: str) -> str:
    """The address without a slash at its end. Raises ConfigurationError for one that cannot work."""
    hint = "e.g. https://api.kraken.com, in KRAKEN_BASE_URL"
    parts = server_parts(url.strip())
    if parts is None:
        raise WrongValueError("the address of Kraken's REST does not begin with https://HOST", hint=hint)
    if parts.query or parts.fragment or parts.username is not None:
        raise WrongValueError("the address of Kraken's REST has more than a host and a path", hint=hint)
    return url.strip().rstrip("/")

"""Kraken as a download needs it: the names of pairs, its clock, and pages that are asked for again."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from kraken_db.errors import ConfigurationError, ExchangeRequestError, UnknownPairError
from kraken_db.id_runs import IdSequence
from kraken_db.intervals import BASE_INTERVAL
from kraken_db.kraken.directory import LISTED, PairDirectory, pair_directory
from kraken_db.kraken.messages import OhlcPage, TradesPage
from kraken_db.kraken.page_walk import TradePager, as_nanoseconds, cursor_time
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.pairs import PAIR_MAP, to_rest_pair
from kraken_db.patterns import PairClass, classes_of, is_pattern, pair_class, select
from kraken_db.retry import Retry
from kraken_db.times import Clock, duration_text, require_aware
from kraken_db.tolerances import CLOCK_IS_WRONG

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class PageFetcher:
    """Fetches pages of a pair, again where that may help: from the first answer on, so that a wrong address
    is an error at once.
    """

    client: KrakenRestClient
    pair: str
    retry: Retry
    _has_answered: bool = False

    async def fetch(self, since: int) -> TradesPage:
        page = await self.retry.run(
            lambda: self.client.trades_page(self.pair, since), is_worth_it=lambda: self._has_answered
        )
        self._has_answered = True
        after = "its last one" if page.last is None else f"the next begins at {cursor_time(page.last)}"
        _log.info("%s: page of trades from %s on; %s", self.pair, cursor_time(since), after)
        return page


class ExchangeClock:
    """Kraken's time once it is known; until then this machine's, which may be hours away from it."""

    def __init__(self, clock: Clock) -> None:
        self.offset: timedelta | None = None
        """How far Kraken's clock is ahead of this machine's; None while that is not known."""
        self._clock = clock

    def __call__(self) -> datetime:
        return self._clock() + (self.offset or timedelta())

    def set(self, kraken: datetime) -> None:
        """It is this time at Kraken now, or was a moment ago."""
        self.offset = kraken - self._clock()


class Exchange:
    """What is asked besides trades is asked once.

    ``clock`` is for whoever stores what it brings: what has closed, and what lies in the future, is Kraken's
    to say.
    """

    def __init__(self, client: KrakenRestClient, retry: Retry, clock: Clock) -> None:
        self.clock = ExchangeClock(clock)
        self._client = client
        self._retry = retry

    async def expand(self, names: Sequence[str], exclude: Sequence[str] = ()) -> list[str]:
        """The pairs of names and patterns, by Kraken's list; each pair once, without those of ``exclude``."""
        listed = await self.list_for(names)
        return select(names, listed, exclude=exclude, place=LISTED, error=UnknownPairError)

    async def list_for(self, names: Sequence[str]) -> list[str]:
        """The symbols of Kraken's list, in alphabetical order, as far as names and patterns need it.

        What a name without a pattern means is known without it, but for one that ends in an X.
        """
        kinds: set[PairClass] = set()
        for name in names:
            meant = classes_of(name)
            if is_pattern(name) or len(meant) > 1:
                kinds |= meant
        return [pair.symbol for pair in await self._directory(kinds)] if kinds else []

    async def _directory(self, kinds: Collection[PairClass]) -> PairDirectory:
        return await pair_directory(self._client, kinds=sorted(kinds))

    async def pager(
        self, name: str, since: int, end: datetime | None, sequence: IdSequence | None = None
    ) -> TradePager:
        if since < 0:
            raise ConfigurationError(f"since is {since}: it is 0 or more")
        if end is not None:
            require_aware(end, "end_timestamp")
            if since and end <= cursor_time(as_nanoseconds(since)):
                raise ConfigurationError(f"the end, {end.isoformat()}, is not after the beginning")
        fetcher = PageFetcher(self._client, name, self._retry)
        pager = TradePager(fetcher.fetch, self.clock, since, end=end, sequence=sequence)
        # The first answer proves nothing by its time: it need not wait for the clock.
        pager.begin()
        try:
            await self._set_clock()
        except BaseException:
            await pager.close()
            raise
        return pager

    async def ohlc(self, symbol: str) -> OhlcPage:
        """The newest minutes that Kraken serves, asked once."""
        return await self._client.ohlc(await self.rest_name(symbol), BASE_INTERVAL)

    async def now(self) -> datetime:
        """The exchange's time: never ahead of it, behind it by a second or two at most."""
        await self._set_clock()
        return self.clock()

    async def _set_clock(self) -> None:
        """See how far Kraken's clock is ahead of ours: what is proven by time is proven by Kraken's."""
        if self.clock.offset is not None:
            return
        try:
            self.clock.set(await self._client.time())
        except ExchangeRequestError as error:
            _log.warning("Kraken's clock is not known (%s): this machine's is used", error.message)
            self.clock.offset = timedelta()
            return
        off = self.clock.offset or timedelta()
        if abs(off) > CLOCK_IS_WRONG:
            side = "behind" if off > timedelta() else "ahead of"
            _log.warning(
                "this machine's clock is %s %s Kraken's, which counts", duration_text(abs(off)), side
            )

    async def listed(self, symbols: Collection[str]) -> list[str]:
        """Those of the pairs that are in Kraken's list as it is now."""
        kinds = sorted(set(map(pair_class, symbols)))
        directory = await pair_directory(self._client, refresh=True, kinds=kinds)
        return [symbol for symbol in symbols if symbol in directory]

    async def successor(self, symbol: str) -> str | None:
        """See ``PairDirectory.successor``."""
        return (await self._directory([pair_class(symbol)])).successor(symbol)

    async def rest_name(self, symbol: str, *, is_checked: bool = False) -> str:
        """What REST calls the pair: those beyond the map are looked up in Kraken's list.

        A pair that was taken off the list may have its trades still. ``is_checked``: also one of the map is
        looked up. Raises UnknownPairError.
        """
        if symbol in PAIR_MAP and not is_checked:
            return PAIR_MAP[symbol]
        try:
            return (await self._directory([pair_class(symbol)])).named(symbol).rest_name
        except UnknownPairError as unknown:
            name = to_rest_pair(symbol)
            try:
                await self._client.trades(name, count=1)
            except ExchangeRequestError:
                raise unknown from None
            return name

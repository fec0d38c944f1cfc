"""Which pairs a recording is of: what was named, as far as Kraken lists it, at the start and while it runs.

Kraken's list of pairs is asked now and then. A pair that is new on it and fits is recorded from then on. One
that has left it ends, and so does one that Kraken does not know: never after one answer alone, but when a
refusal and the list say so, or the list twice, without a trade in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from kraken_db.errors import KrakenDBError, UnknownPairError, foreseen
from kraken_db.kraken.directory import pair_directory
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.patterns import PairClass, is_pattern, pair_class, without
from kraken_db.recorder.symbol_feed import SymbolFeed
from kraken_db.repositories.sync_status import SyncStatusRepository
from kraken_db.store import Store

EVERY = 600.0
"""Seconds between two looks at Kraken's list."""
_AFTER_A_REFUSAL = 60.0
"""Seconds until a pair that is listed is asked for again where the feed does not know it."""
_GATHERING = 0.2
"""Seconds in which refusals gather: the list is asked once for all of them."""
_AFTER_AN_ERROR = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Selection:
    """``names`` are pairs and patterns such as ``'*/USD'``; ``exclude`` too. ``with_stored``: all pairs that
    something is stored of, as far as Kraken lists them."""

    names: Sequence[str]
    exclude: Sequence[str] = ()
    with_stored: bool = False

    @property
    def needs_listing(self) -> bool:
        """Whether only Kraken's list of pairs says what it is."""
        return self.with_stored or any(is_pattern(name) for name in self.names)

    async def pairs(self, exchange: Exchange, store: Store) -> list[str]:
        """The pairs that it is now. Raises UnknownPairError for a pattern that no pair fits."""
        found = await exchange.expand(self.names)
        if self.with_stored:
            found += await exchange.listed(await _stored(store))
        return without(found, self.exclude)

    async def pairs_by_now(self, exchange: Exchange, store: Store) -> list[str]:
        """The same once it runs: a pattern that no pair fits any more is not a mistake then."""
        found: list[str] = []
        for name in self.names:
            with suppress(UnknownPairError):
                found += await exchange.expand([name])
        return without(
            [*found, *await Selection((), (), self.with_stored).pairs(exchange, store)], self.exclude
        )


async def _stored(store: Store) -> list[str]:
    async with store.database.read() as connection:
        rows = await SyncStatusRepository(connection).all()
    return list(dict.fromkeys(row.symbol for row in rows))


@dataclass(slots=True)
class ListingWatch:
    """``begin`` records further pairs; ``end`` lets one go, with the error where it never was listed;
    ``ask_again`` subscribes to one anew. ``symbol_feeds`` are those of the recording, ended ones included.
    """

    selection: Selection
    client: KrakenRestClient
    exchange: Exchange
    store: Store
    symbol_feeds: Mapping[str, SymbolFeed]
    begin: Callable[[Sequence[str]], Awaitable[None]]
    end: Callable[[SymbolFeed, KrakenDBError | None], None]
    ask_again: Callable[[str], None]
    every: float = EVERY
    _doubted: dict[str, KrakenDBError] = field(default_factory=dict)
    _has_doubts: asyncio.Event = field(default_factory=asyncio.Event)
    _was_listed: set[str] = field(default_factory=set)
    _unlisted: dict[str, int | None] = field(default_factory=dict)
    """The pairs that the last list did not have, and their newest trade then."""

    def note_listed(self, symbols: Iterable[str]) -> None:
        """Kraken's list has had these pairs."""
        self._was_listed |= set(symbols)

    def doubt(self, symbol_feed: SymbolFeed, error: KrakenDBError) -> None:
        """Kraken says that it does not know the pair: see whether its list says so too."""
        self._doubted.setdefault(symbol_feed.symbol, error)
        self._has_doubts.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.every):
                    await self._has_doubts.wait()
                await asyncio.sleep(_GATHERING)
            self._has_doubts.clear()
            try:
                await self._look()
            except Exception as error:
                _log.warning("which pairs Kraken lists is looked at later: %s", foreseen(error))
                _log.debug("the list", exc_info=error)
                await asyncio.sleep(_AFTER_AN_ERROR)
                if self._doubted:
                    self._has_doubts.set()

    async def _look(self) -> None:
        kinds: set[PairClass] = {"currency", *map(pair_class, self.symbol_feeds)}
        directory = await pair_directory(self.client, refresh=True, kinds=sorted(kinds))
        listed = {pair.symbol for pair in directory}
        if not listed:
            return  # that is no list
        doubted, self._doubted = self._doubted, {}
        for symbol, error in doubted.items():
            if symbol in listed:
                asyncio.get_running_loop().call_later(_AFTER_A_REFUSAL, self.ask_again, symbol)
            else:
                self._end(self.symbol_feeds[symbol], error)
        self._end_unlisted(listed)
        self.note_listed(listed)
        wanted = await self.selection.pairs_by_now(self.exchange, self.store)
        fresh = [symbol for symbol in wanted if symbol in listed and not self._is_recorded(symbol)]
        if fresh:
            await self.begin(fresh)

    def _is_recorded(self, symbol: str) -> bool:
        symbol_feed = self.symbol_feeds.get(symbol)
        return symbol_feed is not None and not symbol_feed.has_ended

    def _end_unlisted(self, listed: set[str]) -> None:
        unlisted = {
            symbol: symbol_feed.last_id
            for symbol, symbol_feed in self.symbol_feeds.items()
            if symbol not in listed and not symbol_feed.has_ended
        }
        for symbol, last_id in unlisted.items():
            if symbol in self._unlisted and self._unlisted[symbol] == last_id:
                self._end(self.symbol_feeds[symbol], None)
        self._unlisted = unlisted

    def _end(self, symbol_feed: SymbolFeed, error: KrakenDBError | None) -> None:
        if not symbol_feed.has_ended:
            has_been = symbol_feed.received > 0 or symbol_feed.symbol in self._was_listed
            self.end(symbol_feed, None if has_been else error)

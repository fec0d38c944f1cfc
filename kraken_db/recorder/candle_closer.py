"""1m candles of recorded trades: written when the minute is over by the clock, complete when ids prove it.

A minute is over some moments after its end, whether another trade has come or not. That no trade of it is
missing is known with the next trade's id: until then its candle is stored and does not count as complete.
Where a trade turns up late the minute is built anew, and the version with more trades wins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from kraken_db.data_types import DataType
from kraken_db.errors import DatabaseError, foreseen
from kraken_db.ingest.candles import build_minutes
from kraken_db.ingest.write_unit import Ingest, WriteTransaction, keys_with_trades
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval
from kraken_db.log_throttle import A_MINUTE, LogThrottle
from kraken_db.ranges import TICK, TimeRange, intersection
from kraken_db.recorder.symbol_feed import SymbolFeed
from kraken_db.store import Store


@dataclass(slots=True)
class OpenMinutes:
    """Of one pair: from where on its minutes are not known to be complete."""

    symbol: str
    since: datetime | None = None
    """The first such minute; None: none is known of."""
    reopened: int = 0
    """How often it was."""
    _built_until: datetime | None = None
    _built_id: int | None = None

    def reopen(self, moment: datetime) -> None:
        """The minute of ``moment`` has to be looked at, again maybe."""
        minute = floor_to_interval(moment, BASE_INTERVAL)
        self.since = minute if self.since is None else min(self.since, minute)
        self._built_until = None
        self.reopened += 1

    def is_due(self, until: datetime, last_id: int | None, last_time: datetime | None) -> bool:
        """Whether there is something to close before ``until``: of the newest trade, or proven by it."""
        if self.since is None or last_time is None or self.since >= until:
            return False
        return self._built_until is None or self._built_id != last_id or self._built_until <= last_time

    def closed(self, until: datetime, last_id: int | None, proven: Sequence[TimeRange]) -> None:
        """Its minutes before ``until`` are built, of trades up to ``last_id``; ``proven`` are complete."""
        self._built_until, self._built_id = until, last_id
        assert self.since is not None
        self.since = _first_unproven(proven, self.since)

    async def build(self, transaction: WriteTransaction, until: datetime) -> tuple[int, Sequence[TimeRange]]:
        """Build the minutes before ``until``, of trades that are stored.

        How many rows were written, and the minutes that are known to be complete then.
        """
        assert self.since is not None
        changed = 0
        trades = await transaction.unit(self.symbol, DataType.TRADES).covered()
        for start, end, known in _buildable(trades, self.since, until):
            built = await build_minutes(transaction, self.symbol, start, end, {"live": known})
            changed += built.new + built.changed
        return changed, await transaction.unit(self.symbol, DataType.CANDLES_1M).covered()


def _buildable(
    covered: Sequence[TimeRange], since: datetime, until: datetime
) -> list[tuple[datetime, datetime, list[TimeRange]]]:
    """Ranges of whole minutes of which all trades are stored, and what of them is proven.

    Behind the newest trade nothing is stored, so nothing can be built there that is wrong.
    """
    found: list[tuple[datetime, datetime, list[TimeRange]]] = []
    for start, end in covered:
        first = max(ceil_to_interval(start, BASE_INTERVAL), since)
        # Up to the end of the last trade's minute if that is the end of all that is covered.
        is_last = (start, end) == covered[-1]
        stop = min(ceil_to_interval(end + TICK, BASE_INTERVAL) if is_last else end, until)
        stop = floor_to_interval(stop, BASE_INTERVAL)
        if first < stop:
            known = intersection([(first, stop)], [(first, floor_to_interval(end, BASE_INTERVAL))])
            found.append((first, stop, known))
    return found


def _first_unproven(proven: Sequence[TimeRange], since: datetime) -> datetime:
    """The end of the proven range that ``since`` lies in."""
    return next((end for start, end in proven if start <= since < end), since)


async def _close_together(
    store: Store, until: datetime, due: Sequence[tuple[int | None, OpenMinutes]]
) -> int:
    """Close these in one transaction; returns of how many pairs a row was written.

    With each its newest trade that is stored.
    """
    keys = keys_with_trades(*(minutes.symbol for _, minutes in due))
    oldest = min(minutes.since or until for _, minutes in due)
    before = [minutes.reopened for _, minutes in due]
    async with Ingest(store) as ingest, ingest.transaction(keys, oldest) as transaction:
        built = [await minutes.build(transaction, until) for _, minutes in due]
    for (last_id, minutes), (_, proven), reopened in zip(due, built, before, strict=True):
        if minutes.reopened == reopened:  # else trades have come meanwhile that are in none of these
            minutes.closed(until, last_id, proven)
    return sum(bool(changed) for changed, _ in built)


TOGETHER = 20
"""Pairs whose minutes are closed in one transaction: each one waits for the disk."""
LOOK_EVERY = 0.25
"""Seconds between two looks at the clock."""
_AFTER_AN_ERROR = 5.0
_log = logging.getLogger(__name__)


class CandleCloser:
    """``grace``: how long after its end a minute is closed."""

    def __init__(self, symbol_feeds: Mapping[str, SymbolFeed], writer: Flushing, grace: timedelta) -> None:
        self.minutes = 0
        """How often candles of a pair were written."""
        self._symbol_feeds = symbol_feeds
        self._writer = writer
        self._grace = grace
        self._open: dict[str, OpenMinutes] = {}
        self._throttle = LogThrottle(_log, seconds=A_MINUTE, lines=1, is_counted=False)

    def heard(self, symbol_feed: SymbolFeed, first: datetime) -> None:
        """Trades from ``first`` on are on their way to the store."""
        open_minutes = self._minutes_of(symbol_feed.symbol)
        if open_minutes.since is None:
            open_minutes.reopen(first)

    def reopen(self, symbol_feed: SymbolFeed, moment: datetime) -> None:
        """From ``moment`` on trades have come through REST."""
        self._minutes_of(symbol_feed.symbol).reopen(moment)

    def _minutes_of(self, symbol: str) -> OpenMinutes:
        return self._open.setdefault(symbol, OpenMinutes(symbol))

    async def run(
        self,
        store: Store,
        now: Callable[[], datetime],
        is_connected: Callable[[], bool],
    ) -> None:
        """For ever. A pair that is not live has to wait: trades of its minute may be missing."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if not is_connected():
                continue
            try:
                await self.close_due(store, now())
            except Exception as error:
                self._throttle.say(logging.WARNING, "minutes are closed later", str(foreseen(error)))
                _log.debug("minutes", exc_info=error)
                await asyncio.sleep(_AFTER_AN_ERROR)

    async def close_due(self, store: Store, now: datetime) -> None:
        """Close what is over. Raises DatabaseErrors, and at the end what was wrong with a single pair."""
        until = floor_to_interval(now - self._grace, BASE_INTERVAL)
        due = [
            (symbol_feed.last_id, open_minutes)
            for symbol, open_minutes in self._open.items()
            if (symbol_feed := self._symbol_feeds[symbol]).state == "live"
            and open_minutes.is_due(until, symbol_feed.last_id, symbol_feed.last_time)
        ]
        if not due:
            return
        await self._writer.flush()
        # The higher intervals are refreshed by the writer, every minute.
        wrong: list[Exception] = []
        for at in range(0, len(due), TOGETHER):
            group = due[at : at + TOGETHER]
            try:
                self.minutes += await _close_together(store, until, group)
            except DatabaseError:
                raise
            except Exception:
                wrong += await self._close_alone(store, until, group)
        if wrong:
            raise wrong[0]

    async def _close_alone(
        self, store: Store, until: datetime, due: Sequence[tuple[int | None, OpenMinutes]]
    ) -> list[Exception]:
        """Each of a group in which one has failed; returns what was wrong. Raises DatabaseErrors."""
        wrong: list[Exception] = []
        for one in due:
            try:
                self.minutes += await _close_together(store, until, [one])
            except DatabaseError:
                raise
            except Exception as error:
                wrong.append(foreseen(error, one[1].symbol))
        return wrong


class Flushing(Protocol):
    """What catching up needs of a writer: that all it was given is stored."""

    async def flush(self) -> object: ...

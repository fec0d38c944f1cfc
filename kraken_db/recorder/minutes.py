"""1m candles of recorded trades: written when the minute is over by the clock, claimed when ids prove it.

A minute is over some moments after its end, whether another trade has come or not. That no trade of it is
missing is known with the next trade's id: until then its candle is stored and not claimed as complete. Where
a trade turns up late the minute is built anew, and the version with more trades wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from kraken_db.db.locks import lock_job
from kraken_db.historical_backfill.building import CANDLES, TRADES, write_minutes
from kraken_db.intervals import BASE_INTERVAL, ceil_to_interval, floor_to_interval
from kraken_db.ranges import TICK, TimeRange, intersection
from kraken_db.repositories.coverage import CoverageRepository
from kraken_db.store import Store

_RECENT = timedelta(hours=1)
"""No retention drops rows of the last hour before they are in the higher intervals."""


@dataclass(slots=True)
class OpenMinutes:
    """Of one pair: from where on its minutes are not known to be complete."""

    symbol: str
    since: datetime | None = None
    """The first such minute; None: none is known of."""
    _built_until: datetime | None = None
    _built_id: int | None = None

    def reopen(self, moment: datetime) -> None:
        """The minute of ``moment`` has to be looked at, again maybe."""
        minute = floor_to_interval(moment, BASE_INTERVAL)
        self.since = minute if self.since is None else min(self.since, minute)
        self._built_until = None

    def is_due(self, until: datetime, last_id: int | None, last_time: datetime | None) -> bool:
        """Whether there is something to close before ``until``: of the newest trade, or proven by it."""
        if self.since is None or last_time is None or self.since >= until:
            return False
        return self._built_until is None or self._built_id != last_id or self._built_until <= last_time

    async def close(self, store: Store, until: datetime, last_id: int | None) -> bool:
        """Build the minutes before ``until``, of trades that are stored; returns whether a row was written.

        ``last_id``: the newest trade that is stored.
        """
        if self.since is None:
            return False
        if self.since > store.clock() - _RECENT:
            changed, proven = await self._build(store, until)
        else:
            async with store.retention_paused() as retention:
                await retention.before_writing("candles", self.since)
                changed, proven = await self._build(store, until)
        self._built_until, self._built_id = until, last_id
        self.since = _first_unproven(proven, self.since)
        return bool(changed)

    async def _build(self, store: Store, until: datetime) -> tuple[int, tuple[TimeRange, ...]]:
        """How many rows were written, and the minutes that are known to be complete then."""
        assert self.since is not None
        changed = 0
        async with store.database.begin() as connection:
            await store.timeseries.prepare_bulk_write(connection)
            await lock_job(connection, TRADES, CANDLES, of=self.symbol)
            covered = await CoverageRepository(connection).covered(self.symbol, TRADES)
            for start, end, known in _buildable(covered, self.since, until):
                built = await write_minutes(store, connection, self.symbol, start, end, {"live": known})
                changed += built.new + built.changed
            return changed, await CoverageRepository(connection).covered(self.symbol, CANDLES)


def _buildable(
    covered: tuple[TimeRange, ...], since: datetime, until: datetime
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


def _first_unproven(proven: tuple[TimeRange, ...], since: datetime) -> datetime:
    """The end of the proven range that ``since`` lies in."""
    return next((end for start, end in proven if start <= since < end), since)

"""Closes the minutes of all pairs of a recording as the clock goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from sqlalchemy.exc import DBAPIError

from kraken_db.db.failures import driver_error, first_line
from kraken_db.errors import KrakenDBError
from kraken_db.intervals import BASE_INTERVAL, floor_to_interval
from kraken_db.recorder.catching_up import Flushing
from kraken_db.recorder.lane import Lane
from kraken_db.recorder.minutes import OpenMinutes
from kraken_db.store import Store

LOOK_EVERY = 0.25
"""Seconds between two looks at the clock."""
_AFTER_AN_ERROR = 5.0
_log = logging.getLogger(__name__)


class MinuteCloser:
    """``grace``: how long after its end a minute is closed."""

    def __init__(self, lanes: Mapping[str, Lane], writer: Flushing, grace: timedelta) -> None:
        self.minutes = 0
        """How often candles of a pair were written."""
        self._lanes = lanes
        self._writer = writer
        self._grace = grace
        self._open = {symbol: OpenMinutes(symbol) for symbol in lanes}

    def heard(self, lane: Lane, first: datetime) -> None:
        """Trades from ``first`` on are on their way to the store."""
        open_minutes = self._open[lane.symbol]
        if open_minutes.since is None:
            open_minutes.reopen(first)

    def reopen(self, lane: Lane, moment: datetime) -> None:
        """From ``moment`` on trades have come through REST."""
        self._open[lane.symbol].reopen(moment)

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
            except (KrakenDBError, DBAPIError) as error:
                _log.warning("minutes are closed later: %s", first_line(driver_error(error)))
                await asyncio.sleep(_AFTER_AN_ERROR)

    async def close_due(self, store: Store, now: datetime) -> None:
        """Close what is over. Raises DatabaseErrors."""
        until = floor_to_interval(now - self._grace, BASE_INTERVAL)
        due = [
            (lane.last_id, self._open[symbol])
            for symbol, lane in self._lanes.items()
            if lane.state == "live" and self._open[symbol].is_due(until, lane.last_id, lane.last_time)
        ]
        if not due:
            return
        await self._writer.flush()
        # The higher intervals are refreshed by the writer, every minute.
        for last_id, minutes in due:
            self.minutes += await minutes.close(store, until, last_id)

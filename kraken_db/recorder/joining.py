"""Brings pairs back to the live feed, however often and for however long that takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from sqlalchemy.exc import DBAPIError

from kraken_db.db.failures import driver_error, first_line
from kraken_db.errors import (
    DatabaseError,
    ExchangeError,
    KrakenDBError,
    TransientError,
)
from kraken_db.historical_backfill.building import build_missing
from kraken_db.kraken.websocket_events import LiveTrade
from kraken_db.recorder.catching_up import CatchUp
from kraken_db.recorder.closing import MinuteCloser
from kraken_db.recorder.lane import Lane

AT_ONCE = 10
"""Pairs that are caught up with side by side."""
_LONGEST_PAUSE = 60.0
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Joining:
    """``write`` takes the trades that follow on; ``refuse`` is told of a pair that cannot be recorded."""

    catch_up: CatchUp
    closer: MinuteCloser
    write: Callable[[Lane, Sequence[LiveTrade]], None]
    refuse: Callable[[Lane, KrakenDBError], None]
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _bug: BaseException | None = None
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def begin(self, lane: Lane) -> None:
        """Let a pair catch up; its trades wait until it has."""
        lane.lose_track()
        running = self._tasks.get(lane.symbol)
        if running is None or running.done():
            task = self._tasks[lane.symbol] = asyncio.create_task(self._join(lane))
            task.add_done_callback(self._note_bug)

    async def end(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def raise_bug(self) -> None:
        """Raise what an attempt of a pair has ended with, and should not have."""
        if self._bug is not None:
            raise self._bug

    def _note_bug(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            self._bug = self._bug or task.exception()

    async def _join(self, lane: Lane) -> None:
        pause = 1.0
        is_first = lane.last_id is None
        while lane.state == "catching up":
            try:
                await self._once(lane, is_first)
                is_first, pause = False, 1.0
                continue
            except (KrakenDBError, DBAPIError) as error:
                told = _told(lane, error)
                if not _may_pass(told):
                    self.refuse(lane, told)
                    return
                _log.warning("%s: %s; trying again in %.0f s", lane.symbol, told, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            with suppress(KrakenDBError):  # the next attempt tells it
                await self.catch_up.store.database.revive()

    async def _once(self, lane: Lane, is_first: bool) -> None:
        async with self._turns:
            began = await self.catch_up.run(lane)
            if is_first:  # candles of trades that a killed run has stored, too
                store = self.catch_up.store
                async with store.retention_paused() as retention:
                    await build_missing(store, retention, lane.symbol)
        if lane.state != "catching up":
            return  # the feed has refused it meanwhile
        if began is not None:
            self.closer.reopen(lane, began)
        # From here on nothing waits: no trade of the feed comes in between.
        self.write(lane, lane.join())
        if lane.has_hole:
            lane.holes += 1
            lane.lose_track()


def _may_pass(error: KrakenDBError) -> bool:
    if isinstance(error, ExchangeError):
        return isinstance(error, TransientError)
    return isinstance(error, DatabaseError)


def _told(lane: Lane, error: Exception) -> KrakenDBError:
    if isinstance(error, KrakenDBError):
        return error
    return DatabaseError(f"{lane.symbol}: the database refused it: {first_line(driver_error(error))}")

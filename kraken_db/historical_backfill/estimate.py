"""How much is left of a download, told honestly: by the trades that are still to come.

The early years of a pair are quiet, so the share of its time says little about how long the rest takes. Ids
count trades, and so requests.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from kraken_db.errors import KrakenDBError
from kraken_db.historical_backfill.cursor import to_cursor
from kraken_db.kraken.records import KrakenTrade
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.progress import Task


@dataclass(slots=True)
class Remaining:
    """Follows one download and tells its task how far it is."""

    task: Task
    first_id: int | None = None
    began: datetime | None = None
    goal: KrakenTrade | None = None
    _has_begun: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def look(self, client: KrakenRestClient, pair: str, end: datetime | None) -> None:
        """Ask for the trade that the download will end at. Without an answer there is no estimate.

        It waits for the first trades of the download: an answer to this question that comes again must not
        be taken for the beginning.
        """
        await self._has_begun.wait()
        try:
            self.goal = await _goal(client, pair, end)
        except KrakenDBError:
            return
        self._tell_total()

    def advance(self, trades: list[KrakenTrade]) -> None:
        if not trades:
            return
        if self.began is None:
            self.began = trades[0].timestamp
            self._has_begun.set()
            self.first_id = next((trade.trade_id for trade in trades if trade.trade_id), None)
            self._tell_total()
        self.task.update(note=self._place(trades[-1].timestamp))
        self.task.advance(len(trades))

    def _tell_total(self) -> None:
        goal = self.goal.trade_id if self.goal else None
        if goal is not None and self.first_id is not None and goal >= self.first_id:
            self.task.update(total=goal - self.first_id + 1)

    def _place(self, reached: datetime) -> str:
        place = f"at {reached:%Y-%m-%d %H:%M}"
        if self.goal is None or self.began is None or self.goal.timestamp <= self.began:
            return place
        share = (reached - self.began) / (self.goal.timestamp - self.began)
        return f"{place}, {min(share, 1):.0%} of the time range"


async def _goal(client: KrakenRestClient, pair: str, end: datetime | None) -> KrakenTrade | None:
    if end is not None:
        beyond = (await client.trades(pair, to_cursor(end), count=1)).trades
        if beyond:
            return beyond[0]
    newest = (await client.newest_trades(pair, count=1)).trades
    return newest[-1] if newest else None

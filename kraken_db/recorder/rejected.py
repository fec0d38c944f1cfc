"""Trades of the feed that cannot be stored: REST may have them as they were, and is asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from kraken_db.errors import foreseen
from kraken_db.kraken.exchange import Exchange
from kraken_db.kraken.messages import KrakenTrade
from kraken_db.kraken.page_walk import to_cursor
from kraken_db.kraken.rest import KrakenRestClient
from kraken_db.times import Sleep

PAUSES = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each time that REST is asked for the same trades; then they stay a gap."""
MOST = 1_000
"""Trades of a pair that are asked for at a time; more than that is no accident, and stays a gap."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class RejectedTrades:
    """``put`` stores a trade of REST, and says whether it could be stored."""

    client: KrakenRestClient
    exchange: Exchange
    put: Callable[[str, KrakenTrade], bool]
    sleep: Sleep = asyncio.sleep
    _missing: dict[str, dict[int, datetime]] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def ask_for(self, symbol: str, trade_id: int, after: datetime) -> None:
        """Have a trade brought by REST, which came after this moment."""
        missing = self._missing.setdefault(symbol, {})
        if len(missing) < MOST:
            missing[trade_id] = after
        running = self._tasks.get(symbol)
        if running is None or running.done():
            self._tasks[symbol] = asyncio.create_task(self._repair(symbol))

    async def end(self) -> None:
        """Give up what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _repair(self, symbol: str) -> None:
        while missing := self._missing.pop(symbol, None):
            reason = await self._bring(symbol, missing)
            if missing:
                _log.error("%s: %s: %s", symbol, _gap(missing), reason)

    async def _bring(self, symbol: str, missing: dict[int, datetime]) -> str:
        """Take from ``missing`` what could be stored; returns why the rest could not."""
        reason = "REST does not have it"
        for pause in PAUSES:
            await self.sleep(pause)
            try:
                name = await self.exchange.rest_name(symbol)
                page = await self.client.trades(name, to_cursor(min(missing.values())))
            except Exception as error:  # of the others each has its own task
                _log.debug("%s", symbol, exc_info=error)
                reason = str(foreseen(error))
                continue
            for trade in page.trades:
                if trade.trade_id in missing:
                    if not self.put(symbol, trade):
                        return "REST has it so, too"
                    del missing[trade.trade_id]
            if not missing:
                break
        return reason


def _gap(missing: Collection[int]) -> str:
    if len(missing) == 1:
        return f"trade {min(missing)} cannot be stored, and stays a gap"
    return f"{len(missing)} trades from {min(missing)} to {max(missing)} cannot be stored, and stay a gap"

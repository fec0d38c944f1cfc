"""One pair's trades in the order of their ids; no database and no network in here.

Only what follows on is handed out. What comes behind a hole waits until the hole is filled through REST: so
what is stored never has a hole that was not there in Kraken's own ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal, TypeAlias

from msgspec.structs import replace

from kraken_db.errors import KrakenDBError
from kraken_db.id_runs import MOST_MISSING
from kraken_db.kraken.websocket_messages import LiveTrade
from kraken_db.tolerances import STAMPS_APART

State: TypeAlias = Literal["catching up", "live", "not subscribed", "refused", "delisted"]
"""``live``: every trade comes. ``not subscribed``: none would come, for there is no connection, or Kraken has
not accepted the subscription on it yet. ``refused``: Kraken does not know the pair. ``delisted``: it did."""

MOST_WAITING = 5_000
"""Trades of a pair behind a hole that are kept in memory; what is more REST has to bring too."""


_LATER = timedelta(minutes=1)
"""No smaller id has a stamp that is so much later."""


@dataclass(slots=True)
class SymbolFeed:
    """``last_id`` is the newest trade of which all before it were handed out or stored; None: none yet."""

    symbol: str
    stage: Literal["catching up", "live", "refused", "delisted"] = "catching up"
    """How far it is, connection aside."""
    is_subscribed: bool = False
    """Whether Kraken has accepted the subscription on the connection that there is now."""
    last_id: int | None = None
    last_time: datetime | None = None
    last_price: Decimal | None = None
    """Of the trade ``last_id``, or the newest one before it whose price the feed has sent."""
    received: int = 0
    """Trades that have come for the first time."""
    repeated: int = 0
    """Trades that had come before, those of snapshots aside."""
    repaired: int = 0
    """Trades that the feed had not brought and REST has, since the recording began."""
    caught_up: int = 0
    """Trades of the time before, that REST has brought."""
    holes: int = 0
    """Jumps in the ids."""
    dropped: int = 0
    """Trades that came behind a hole and were too many to wait."""
    strays: int = 0
    """Trades whose ids are far from all others: they are none of the pair, and were left out."""
    backward: int = 0
    """Trades that are later than the newest one and have smaller ids: they are another market's."""
    error: KrakenDBError | None = None
    _waiting: dict[int, LiveTrade] = field(default_factory=dict)
    _has_heard: bool = False
    """Whether a trade of the feed has come while catching up."""

    @property
    def state(self) -> State:
        """What is said of it: without a subscription nothing is live."""
        return "not subscribed" if self.stage == "live" and not self.is_subscribed else self.stage

    @property
    def has_ended(self) -> bool:
        return self.stage in ("refused", "delisted")

    @property
    def has_heard(self) -> bool:
        """Whether the feed has said something since the pair began to catch up."""
        return self._has_heard

    @property
    def waiting(self) -> int:
        """How many trades wait behind a hole."""
        return len(self._waiting)

    @property
    def waiting_from(self) -> datetime | None:
        """The time of the first trade behind the hole, as far as one is kept."""
        return self._waiting[min(self._waiting)].timestamp if self._waiting else None

    def is_news(self, trade: LiveTrade) -> bool:
        """Whether it comes for the first time."""
        is_known = self.last_id is not None and trade.trade_id <= self.last_id
        return not is_known and trade.trade_id not in self._waiting

    def take(self, trades: Iterable[LiveTrade], *, is_snapshot: bool) -> list[LiveTrade]:
        """Those that follow on, in order of their ids. If others are left, ``has_hole``."""
        for trade in trades:
            self._has_heard = True
            if self.is_news(trade):
                self._waiting[trade.trade_id] = trade
            else:
                if trade.trade_id == self.last_id:
                    self.last_price = trade.price
                self.backward += self._goes_backward(trade)
                self.repeated += not is_snapshot
        if self.stage != "live":
            self._keep_bounds()
            return []
        self.drop_strays()
        ready = self._follow()
        self.received += len(ready)
        return ready

    def _goes_backward(self, trade: LiveTrade) -> bool:
        """Whether a trade has a smaller id than the newest one, and a later stamp."""
        if self.last_id is None or self.last_time is None:
            return False
        return trade.trade_id <= self.last_id and trade.timestamp - self.last_time > _LATER

    @property
    def has_hole(self) -> bool:
        """Whether trades wait although nothing is being caught up."""
        return self.stage == "live" and bool(self._waiting)

    def lose_track(self) -> None:
        """Something is missing: nothing is handed out until ``join``."""
        self.stage = "catching up"
        self._has_heard = bool(self._waiting)

    def reach(self, last_id: int | None, last_time: datetime | None) -> None:
        """Everything up to this trade is stored now."""
        self.last_id, self.last_time = last_id, last_time
        if last_id is not None:
            if last_id in self._waiting:
                self.last_price = self._waiting[last_id].price
            for known in [number for number in self._waiting if number <= last_id]:
                del self._waiting[known]

    @property
    def follows_on(self) -> bool:
        """Whether the feed goes on where ``reach`` has come to: its trades are known, or the next one is."""
        if not self._waiting:
            return self._has_heard
        return self.last_id is None or min(self._waiting) == self.last_id + 1

    def join(self) -> list[LiveTrade]:
        """What is missing is there: go on with the feed. The trades that follow on at once, in order."""
        self.stage = "live"
        self.drop_strays()
        ready = self._follow()
        self.received += len(ready)
        return ready

    def drop_strays(self) -> int:
        """Forget what waits too far ahead to be what comes next; returns how many that are.

        For a pair that is live, or where REST has nothing more: before that it may have been long ago that
        the last trade was stored. A trade that was forgotten and is one shows as a hole with the next one.
        """
        if not self._waiting:
            return 0
        near = sorted(self._waiting)[len(self._waiting) // 2] if self.last_id is None else self.last_id
        far = [number for number in self._waiting if abs(number - near) > MOST_MISSING]
        for number in far:
            del self._waiting[number]
        self.strays += len(far)
        return len(far)

    def _follow(self) -> list[LiveTrade]:
        ready: list[LiveTrade] = []
        for number in sorted(self._waiting):
            if self.last_id is not None and number != self.last_id + 1:
                break
            trade = self._in_order(self._waiting.pop(number))
            self.last_id, self.last_time, self.last_price = number, trade.timestamp, trade.price
            ready.append(trade)
        return ready

    def _in_order(self, trade: LiveTrade) -> LiveTrade:
        """The order of the stamps is that of the ids, also behind a trade that has REST's later stamp."""
        last = self.last_time
        if last is not None and timedelta() < last - trade.timestamp < STAMPS_APART:
            return replace(trade, timestamp=last)
        return trade

    def _keep_bounds(self) -> None:
        if len(self._waiting) > MOST_WAITING:
            self.dropped += len(self._waiting)
            self._waiting.clear()

"""A recording at one moment, as it is shown."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Self

from kraken_db.recorder.symbol_feed import State, SymbolFeed


@dataclass(frozen=True, slots=True)
class PairStatus:
    """One pair. Counts are since the recording began; see ``SymbolFeed`` for what they count."""

    symbol: str
    state: State
    is_subscribed: bool
    last_id: int | None
    last_time: datetime | None
    received: int
    repeated: int
    repaired: int
    caught_up: int
    holes: int
    waiting: int
    error: str | None
    """Why the pair was refused, or what the last attempt to catch up has ended with."""
    last_price: Decimal | None = None
    """Of the newest trade whose price the feed has sent."""
    waiting_from: datetime | None = None
    """The time of the first trade that waits behind a hole; None where none does."""

    @classmethod
    def of(cls, symbol_feed: SymbolFeed) -> Self:
        return cls(
            symbol=symbol_feed.symbol,
            state=symbol_feed.state,
            is_subscribed=symbol_feed.is_subscribed,
            last_id=symbol_feed.last_id,
            last_time=symbol_feed.last_time,
            received=symbol_feed.received,
            repeated=symbol_feed.repeated,
            repaired=symbol_feed.repaired,
            caught_up=symbol_feed.caught_up,
            holes=symbol_feed.holes,
            waiting=symbol_feed.waiting,
            error=None if symbol_feed.error is None else str(symbol_feed.error),
            last_price=symbol_feed.last_price,
            waiting_from=symbol_feed.waiting_from,
        )


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """A recording at one moment. ``time`` is Kraken's, UTC."""

    time: datetime
    is_connected: bool
    system: str | None
    """What Kraken says of itself: ``'online'``, ``'maintenance'``, ..."""
    pairs: tuple[PairStatus, ...]
    trades_per_second: float
    """Over the last seconds."""
    lag: float | None
    """Seconds from a trade to its arrival here, the longest of the last seconds; None without a trade."""
    connections: int
    reconnects: int
    minutes: int
    """Times that candles were written."""
    buffer: int
    """Trades in memory: on their way to the database, and behind holes."""
    journal: int
    """Records on disk that the database has not taken yet."""
    outage: tuple[datetime, str] | None = None
    """Since when there is no connection that works, and why; None while there is one."""
    database_outage: tuple[datetime, str] | None = None
    """Since when the database takes nothing, and why; None while it does. What comes waits in memory, then in
    the journal."""
    malformed: int = 0
    """Frames of the feed that could not be read, and trades that cannot be: they were left out."""

    @property
    def kept(self) -> int:
        """Records that wait for the database, in memory and on disk."""
        return self.buffer + self.journal

    @property
    def received(self) -> int:
        return sum(pair.received for pair in self.pairs)

    @property
    def repaired(self) -> int:
        return sum(pair.repaired for pair in self.pairs)


@dataclass(slots=True)
class Meter:
    """Trades of the last ``window`` seconds, and how late they were."""

    window: float = 10.0
    _seen: deque[tuple[float, int, float]] = field(default_factory=deque)

    def add(self, now: float, trades: int, lag: float) -> None:
        self._seen.append((now, trades, lag))
        self._forget(now)

    def rate(self, now: float) -> float:
        self._forget(now)
        return sum(trades for _, trades, _ in self._seen) / self.window

    def lag(self, now: float) -> float | None:
        self._forget(now)
        return max((lag for _, _, lag in self._seen), default=None)

    def _forget(self, now: float) -> None:
        while self._seen and self._seen[0][0] < now - self.window:
            self._seen.popleft()

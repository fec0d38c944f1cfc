"""How a recording stands."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from kraken_db.recorder.lane import Lane, State


@dataclass(frozen=True, slots=True)
class PairStatus:
    """One pair. Counts are since the recording began; see ``Lane`` for what they count."""

    symbol: str
    state: State
    last_id: int | None
    last_time: datetime | None
    received: int
    repeated: int
    repaired: int
    caught_up: int
    holes: int
    waiting: int
    error: str | None

    @classmethod
    def of(cls, lane: Lane) -> Self:
        return cls(
            symbol=lane.symbol,
            state=lane.state,
            last_id=lane.last_id,
            last_time=lane.last_time,
            received=lane.received,
            repeated=lane.repeated,
            repaired=lane.repaired,
            caught_up=lane.caught_up,
            holes=lane.holes,
            waiting=lane.waiting,
            error=None if lane.error is None else str(lane.error),
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

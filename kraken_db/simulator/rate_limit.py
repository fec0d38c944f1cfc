"""The limit that Kraken puts on calls, kept by client and pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kraken_db.simulator.faults import Fault, RateLimit


@dataclass(slots=True)
class _Account:
    used: float = 0.0
    at: float = 0.0
    refused: int = 0
    locked_until: float = 0.0


class Limiter:
    """``time`` is in seconds and never runs backwards."""

    def __init__(self, limit: RateLimit, time: Callable[[], float]) -> None:
        self._limit = limit
        self._time = time
        self._accounts: dict[tuple[str, str], _Account] = {}

    def refuse(self, client: str, pair: str) -> Fault | None:
        """Count a call; why it is refused, or None."""
        now, limit = self._time(), self._limit
        account = self._accounts.setdefault((client, pair), _Account(at=now))
        if now < account.locked_until:
            return Fault.LOCKOUT
        account.used = max(0.0, account.used - (now - account.at) * limit.per_second)
        account.at = now
        if account.used + 1 <= limit.burst + 1e-9:
            account.used += 1
            account.refused = 0
            return None
        account.refused += 1
        if limit.lockout_after is not None and account.refused >= limit.lockout_after:
            account.locked_until = now + limit.lockout_seconds
            account.refused = 0
            return Fault.LOCKOUT
        return Fault.TOO_MANY_REQUESTS

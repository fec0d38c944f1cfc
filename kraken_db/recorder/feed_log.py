"""What is said of the live feed: little, however often it comes and goes.

A loss that is made good by the next connection is one line, with what it took, and one a minute where it
happens again and again. Where the next connection does not work either there is a line when that is known,
one a minute for as long as it lasts, and one at the end.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from kraken_db.times import duration_text

APART = timedelta(minutes=1)
"""Between two lines about the same."""
LONG_PAUSE = 15.0
"""Seconds: where the next attempt comes later than that, a loss is told before it."""

_log = logging.getLogger(__name__)


class FeedLog:
    """``lost`` and ``alive`` are called with the time, UTC, whenever it is so."""

    def __init__(self) -> None:
        self._since: datetime | None = None
        self._reason = ""
        self._said_at: datetime | None = None
        """When something was last said of this outage."""
        self._losses = 0
        """Short ones that were not told yet."""
        self._short_said_at: datetime | None = None

    @property
    def outage(self) -> tuple[datetime, str] | None:
        """Since when there is no working connection, and why; None while there is one."""
        return None if self._since is None else (self._since, self._reason)

    def lost(self, now: datetime, reason: str, pause: float) -> None:
        """The connection has ended, or none could be made; the next attempt comes after ``pause`` seconds."""
        if self._since is None:
            self._since, self._reason, self._said_at = now, reason, None
            if pause >= LONG_PAUSE:
                self._say_down(now, reason)
        elif self._said_at is None or now - self._said_at >= APART:
            self._say_down(now, reason)

    def alive(self, now: datetime) -> None:
        """The connection works."""
        since, self._since = self._since, None
        if since is None:
            return
        took = duration_text(now - since)
        if self._said_at is not None:
            _log.warning("the live feed is back, after %s without (since %s)", took, _clock(since))
            return
        self._losses += 1
        if self._short_said_at is not None and now - self._short_said_at < APART:
            return
        times = f"; {self._losses} times within the last minutes" if self._losses > 1 else ""
        _log.warning(
            "the live feed was lost at %s (%s) and is back after %s%s",
            _clock(since),
            self._reason,
            took,
            times,
        )
        self._losses, self._short_said_at = 0, now

    def _say_down(self, now: datetime, reason: str) -> None:
        assert self._since is not None
        lasts = now - self._since >= APART
        why = reason if reason == self._reason or lasts else f"{self._reason}; then: {reason}"
        _log.warning("%s live feed since %s: %s", "still no" if lasts else "no", _clock(self._since), why)
        self._said_at = now


def _clock(moment: datetime) -> str:
    return f"{moment:%H:%M:%S} UTC"

"""A log that is not flooded by what happens ten thousand times a second."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

SECONDS = 10.0
LINES = 5
"""So many lines of a kind in so many seconds, and then only how many there would have been."""
A_MINUTE = 60.0
"""Seconds between two lines about something that may last for hours."""


@dataclass(slots=True)
class _Kind:
    began: float
    said: int = 0
    held_back: int = 0


class LogThrottle:
    """Says a few things of each kind, and counts the rest of them.

    So many ``lines`` of a kind in so many ``seconds``. ``is_counted``: how many more there were is said, too.
    """

    def __init__(
        self,
        log: logging.Logger,
        *,
        seconds: float = SECONDS,
        lines: int = LINES,
        is_counted: bool = True,
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._lines = lines
        self._is_counted = is_counted
        self._kinds: dict[str, _Kind] = {}

    def say(self, level: int, what: str, detail: str) -> None:
        """``what`` is the kind, one of few; ``detail`` is that of this one."""
        now = time.monotonic()
        kind = self._kinds.get(what)
        if kind is None or now - kind.began >= self._seconds:
            before, kind = kind, _Kind(now)
            self._kinds[what] = kind
            if before is not None and before.held_back:
                self._log.log(level, "%s: %d more since", what, before.held_back)
        if kind.said == self._lines:
            kind.held_back += self._is_counted
            return
        kind.said += 1
        self._log.log(level, "%s: %s", what, detail)

    def forget(self, what: str) -> None:
        """The next one of this kind is said at once."""
        self._kinds.pop(what, None)

    def finish(self) -> None:
        """Say how many have been held back by now."""
        for what, kind in self._kinds.items():
            if kind.held_back:
                self._log.warning("%s: %d more", what, kind.held_back)
                kind.held_back = 0

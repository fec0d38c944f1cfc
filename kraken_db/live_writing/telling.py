"""A log that is not flooded by what happens ten thousand times a second."""

from __future__ import annotations

import logging
import time

SECONDS = 10.0
"""How long after a line the next one of its kind is held back, and only counted."""


class Rarely:
    """Says each kind of thing at once, and then how often it has happened since, every ten seconds."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._said: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def say(self, level: int, what: str, detail: str) -> None:
        """``what`` is the kind, one of few; ``detail`` is that of the one that is told."""
        now = time.monotonic()
        if now - self._said.get(what, -SECONDS) < SECONDS:
            self._held_back[what] = self._held_back.get(what, 0) + 1
            return
        self._said[what] = now
        more = self._held_back.pop(what, 0)
        self._log.log(
            level, "%s: %s%s", what, detail, f" (and {more} more since the last line)" if more else ""
        )

    def finish(self) -> None:
        """Say how much has been held back, at the end."""
        for what, more in self._held_back.items():
            self._log.warning("%s: %d more times", what, more)
        self._held_back.clear()

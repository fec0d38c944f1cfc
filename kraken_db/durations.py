"""How long things took, counted by their length: what a long-running process tells of itself."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds, each inclusive: a length counts for the first bound that it does not exceed."""


@dataclass(slots=True)
class Durations:
    """``counts``: one number for each of ``BOUNDS``, and one for all that took longer; ``total``: seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    @contextmanager
    def measured(self) -> Iterator[None]:
        """Count how long the block takes; one that fails is not counted."""
        began = time.monotonic()
        yield
        self.add(time.monotonic() - began)

"""What a generated market does to those who download it."""

from __future__ import annotations

from enum import Flag, auto


class Scenario(Flag):
    """Can be combined: ``Scenario.QUIET | Scenario.BURSTS``."""

    CALM = 0
    """Trades at random distances, nothing else."""
    QUIET = auto()
    """Hours without a trade, twice in about 4,000 trades."""
    BURSTS = auto()
    """1,500 trades in one millisecond, once in about 4,000 trades."""
    SAME_STAMPS = auto()
    """Most trades share their stamp with others, in runs of up to 300: every page ends within such a run."""
    ZERO_IDS = auto()
    """Runs of 40 trades with id 0; the ids of the others are contiguous."""
    ZERO_IDS_COUNTED = auto()
    """The same, but the trades with id 0 use up numbers: the other ids have holes where the runs are."""
    LIVELY = QUIET | BURSTS | SAME_STAMPS
    """All that still happens."""


ZERO_EVERY, ZERO_OFFSET, ZERO_RUN = 2_500, 1_200, 40
"""Trades from one run of id 0 to the next, before the first, and in a run."""

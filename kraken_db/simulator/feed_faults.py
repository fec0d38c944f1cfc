"""What goes wrong on a WebSocket: connections that are cut, frames that are lost, silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, Self

from kraken_db.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class FeedFaults:
    """By itself nothing goes wrong. Shares are of the frames with trades, from 0 to 1.

    What happens when is a matter of time too: the same seed does not give the same run.
    """

    cut: int = 0
    """A connection is cut after about so many trades, from half to one and a half times that; 0: never."""
    lost: float = 0.0
    """Frames that never arrive, while everything behind them does."""
    silence: float = 0.0
    """After such a frame the connection says nothing any more, no heartbeat either, and is not closed."""
    mute: float = 0.0
    """After such a frame its subscription says nothing any more; the connection and the others go on."""
    refused: float = 0.0
    """Subscriptions that are refused although nothing is wrong with them."""
    burst: float = 0.0
    """Before such a frame nothing comes for ``burst_seconds``, then everything at once."""
    duplicates: int = 0
    """So many trades that were in a snapshot come again in the first update behind it."""
    seed: int | str = 0
    burst_seconds: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lost", "silence", "mute", "refused", "burst"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigurationError(f"{name} is a share, from 0 to 1")
        if self.cut < 0 or self.duplicates < 0:
            raise ConfigurationError("cut and duplicates count trades, from 0 on")

    @classmethod
    def parse(cls, texts: Mapping[str, str], seed: int | str = 0) -> Self:
        """From names and values as one types them; an empty value is the usual one.

        Raises ConfigurationError.
        """
        faults = cls(seed=seed)
        for name, text in texts.items():
            if name not in USUAL:
                raise ConfigurationError(
                    f"there is no fault {name!r} of the feed", hint=f"one of {', '.join(USUAL)}"
                )
            usual = USUAL[name]
            try:
                value = type(usual)(text) if text else usual
            except ValueError:
                kind = "a number of trades" if isinstance(usual, int) else "a share from 0 to 1"
                raise ConfigurationError(f"{name}={text}: the value is {kind}") from None
            changes: dict[str, Any] = {name: value}
            faults = replace(faults, **changes)
        return faults


USUAL: Mapping[str, int | float] = {
    "cut": 500,
    "lost": 0.01,
    "silence": 0.001,
    "mute": 0.001,
    "refused": 0.1,
    "burst": 0.01,
    "duplicates": 5,
}
"""The faults that can be asked for by name, and their values where none is given."""
assert USUAL.keys() <= {field.name for field in fields(FeedFaults)}


class FeedPlan:
    """The faults of one connection, one draw after the other."""

    def __init__(self, faults: FeedFaults, connection: int) -> None:
        self.faults = faults
        self._random = Random(f"{faults.seed}/feed/{connection}")  # noqa: S311 - nothing here is a secret
        self._left = self._until_cut()

    def happens(self, share: float) -> bool:
        return share > 0 and self._random.random() < share

    def is_cut_by(self, trades: int) -> bool:
        """Count trades that are sent; whether the connection is to be cut now."""
        if not self.faults.cut:
            return False
        self._left -= trades
        return self._left <= 0

    def closes_in_order(self) -> bool:
        """Whether a cut is a close with a word of farewell, or the line just breaks."""
        return self._random.random() < 0.5

    def _until_cut(self) -> float:
        return self.faults.cut * (0.5 + self._random.random())

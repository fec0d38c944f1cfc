"""A server of trades in memory, which keeps Kraken's rules and breaks those that Kraken breaks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from kraken_db.kraken.messages import TradesPage, open_trades
from kraken_db.kraken.page_walk import Step, TradePager

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND
"""2023-11-14 22:13:20 UTC, in ns."""
LATER = datetime(2030, 1, 1, tzinfo=UTC)

Oddity: TypeAlias = Literal["none", "missing last", "repeated", "disorder"]


@dataclass(frozen=True)
class TapeTrade:
    """``stamp`` in ns; ``number`` is Kraken's id, 0 where it gives none."""

    stamp: int
    number: int
    volume: int = 1

    def row(self) -> list[Any]:
        return ["100.0", f"{self.volume}.0", self.stamp / SECOND, "b", "l", "", self.number]

    def content(self) -> tuple[int, int, int]:
        """Microsecond, id and volume, as the answer has them."""
        return int(repr(self.stamp / SECOND).replace(".", "").ljust(16, "0")[:16]), self.number, self.volume


def content(steps: Iterable[Step]) -> list[tuple[int, int, int]]:
    """The trades that were handed out, in their order."""
    return [
        (
            int(trade.timestamp.timestamp()) * 1_000_000 + trade.timestamp.microsecond,
            trade.trade_id or 0,
            int(trade.volume),
        )
        for step in steps
        for trade in step.trades
    ]


def page_of(trades: Sequence[TapeTrade], last: int | None) -> TradesPage:
    rest = {} if last is None else {"last": str(last)}
    return open_trades(json.dumps({"XXBTZUSD": [trade.row() for trade in trades], **rest}).encode(), "Trades")


@dataclass
class ScriptedServer:
    """Serves a tape in pages of ``size``. ``oddities``: what is wrong with the answers, in order."""

    tape: Sequence[TapeTrade]
    size: int
    is_exclusive: bool = False
    oddities: Sequence[Oddity] = ()
    shuffle: Callable[[list[TapeTrade]], None] = list.reverse
    hidden: set[int] = field(default_factory=set)
    """Ids that no answer has."""
    asked: list[int] = field(default_factory=list)
    _before: TradesPage | None = None

    async def ask(self, since: int) -> TradesPage:
        assert len(self.asked) < 5_000, "it never ends"
        number = len(self.asked)
        self.asked.append(since)
        oddity = self.oddities[number] if number < len(self.oddities) else "none"
        if oddity == "repeated" and self._before is not None:
            return self._before
        first = since + 1 if self.is_exclusive else since
        found = [trade for trade in self.tape if trade.stamp >= first and trade.number not in self.hidden]
        rows = found[: self.size]
        last = rows[-1].stamp if rows else since
        if oddity == "disorder":
            self.shuffle(rows)
        self._before = page_of(rows, None if oddity == "missing last" else last)
        return self._before


async def walk(server: ScriptedServer, since: int = 0, **options: Any) -> list[Step]:
    """All steps of a walk to the end."""
    pager = TradePager(server.ask, lambda: LATER, since, **options)
    return [step async for step in pager.steps(auto_stop=True)]

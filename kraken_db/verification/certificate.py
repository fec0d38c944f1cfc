"""What a verification says of one symbol: part by part, what was looked at, and what is wrong.

A part that could not be looked at says why and claims nothing. The texts of findings are put together with
the few functions at the beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kraken_db.errors import KrakenDBError
from kraken_db.id_runs import IdHole
from kraken_db.ranges import TICK, TimeRange, union


def moment(when: datetime) -> str:
    """``2023-01-31 15:30:07.123456 UTC``, with a fraction only where there is one."""
    return f"{when.astimezone(UTC).replace(tzinfo=None).isoformat(' ')} UTC"


def span(start: datetime, end: datetime) -> str:
    return f"{moment(start)} to {moment(end)}"


def minute(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def number(value: Decimal | int | None) -> str:
    """All digits, none too many; ``none`` where there is nothing."""
    if value is None:
        return "none"
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def plural(count: int, noun: str) -> str:
    """``1 trade``, ``2,000 trades``."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


MOST_FINDINGS = 1000
"""Findings of one kind that are kept one by one, and repaired in one round; the others are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``text`` says what, where and, of numbers, both values."""

    kind: str
    """``'missing ids'``, ``'candle differs'``: see docs/verify.md."""
    text: str
    start: datetime
    """Of the time that it is about; ``end`` is exclusive."""
    end: datetime
    details: dict[str, Any] = field(default_factory=dict)
    moments: Sequence[datetime] = ()
    """The times of the rows that it is about, where that is not all the time in between."""

    @property
    def where(self) -> list[TimeRange]:
        """The time that has to be looked at to put it right."""
        return [(at, at + TICK) for at in self.moments] or [(self.start, self.end)]


@dataclass(slots=True)
class Part:
    """One comparison. ``compared`` counts what was looked at, in ``unit``."""

    name: str
    unit: str
    compared: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    """What is wrong, by kind, and how often."""
    findings: list[Finding] = field(default_factory=list)
    """The first of these: ``MOST_FINDINGS`` of a kind at most."""
    notes: list[str] = field(default_factory=list)
    """What is to be known and is nothing wrong."""
    not_checked: str | None = None
    """Why nothing was compared; None if it was."""
    oldest: datetime | None = None
    newest: datetime | None = None
    """The times of the first and the last of what was compared, both inclusive."""

    @property
    def is_flawed(self) -> bool:
        return any(self.problems.values())

    def add(self, finding: Finding, count: int = 1) -> None:
        """One more; ``count`` of what is wrong it stands for."""
        self.problems[finding.kind] += count
        if sum(1 for item in self.findings if item.kind == finding.kind) < MOST_FINDINGS:
            self.findings.append(finding)

    def see(self, oldest: datetime | None, newest: datetime | None) -> None:
        """Widen what was compared."""
        if oldest is not None and (self.oldest is None or oldest < self.oldest):
            self.oldest = oldest
        if newest is not None and (self.newest is None or newest > self.newest):
            self.newest = newest


@dataclass(slots=True)
class TradesPart(Part):
    """Ids and counters of the stored trades."""

    first_id: int | None = None
    last_id: int | None = None
    """Kraken's, both stored; None where no trade has one."""
    with_ids: int = 0
    without_ids: int = 0
    """Trades whose id at Kraken is not known: nothing can show that one of them is missing."""
    missing_ids: int = 0
    """Ids between the first and the last that are not stored, and were not dropped."""
    missing_ranges: list[IdHole] = field(default_factory=list)
    dropped_ids: int = 0
    """Ids in between whose trades were dropped."""
    sources: dict[str, Sequence[TimeRange]] = field(default_factory=dict)
    """What says that the trades are complete, and of which ranges."""


@dataclass(slots=True)
class CandlesPart(Part):
    """The stored minutes, beside those that the trades make."""

    stored: int = 0
    unproven: int = 0
    """Stored minutes of which the trades are not known: nothing here can prove them."""
    sources: dict[str, Sequence[TimeRange]] = field(default_factory=dict)
    """What says that minutes are complete, and of which ranges."""


@dataclass(slots=True)
class Certificate:
    """Everything about one symbol. Times are UTC; ``since`` and ``until`` are what was asked for."""

    symbol: str
    since: datetime | None
    until: datetime | None
    dropped: dict[str, Sequence[TimeRange]] = field(default_factory=dict)
    """What was stored once and is gone, by data type: it is not missing."""
    parts: list[Part] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    """What was done to it before, in words."""
    error: KrakenDBError | None = None
    """Why the verification, or the repair, ended early."""

    @property
    def is_clean(self) -> bool:
        """Whether something was compared, and nothing of it is wrong. Nothing else is claimed."""
        return self.error is None and not self.is_empty and not any(part.is_flawed for part in self.parts)

    @property
    def kinds(self) -> Counter[str]:
        """What is wrong, by kind, and how often, all parts together."""
        return sum((Counter(part.problems) for part in self.parts), Counter[str]())

    @property
    def reason(self) -> str:
        """Why it is not clean, in a few words: ``missing ids (3), candle differs (2)``; empty if it is."""
        if self.is_clean:
            return ""
        if kinds := self.kinds:
            if "gap" in kinds:
                kinds["gap"] = self._gaps(kinds["gap"])
            return ", ".join(f"{kind} ({count:,})" for kind, count in kinds.items())
        return "nothing could be compared" if self.error is None else str(self.error)

    def _gaps(self, found: int) -> int:
        """A hole in the trades and in the candles of the same time is one gap, as for ``gaps list``."""
        holes = [(one.start, one.end) for one in self.findings if one.kind == "gap"]
        return len(union(holes)) if len(holes) == found else found

    @property
    def is_empty(self) -> bool:
        """Whether nothing was compared at all: there is nothing, or not of the time that was asked for."""
        return all(part.not_checked for part in self.parts)

    @property
    def findings(self) -> list[Finding]:
        return [finding for part in self.parts for finding in part.findings]

    @property
    def trades(self) -> TradesPart | None:
        return next((part for part in self.parts if isinstance(part, TradesPart)), None)

    @property
    def candles(self) -> CandlesPart | None:
        return next((part for part in self.parts if isinstance(part, CandlesPart)), None)

    def part(self, name: str) -> Part | None:
        return next((part for part in self.parts if part.name == name), None)

    def problems(self) -> int:
        """How much is wrong, all in all."""
        return sum(part.problems.total() for part in self.parts)

    def problems_by_kind(self) -> dict[tuple[str, str], int]:
        """How much is wrong, by part and kind."""
        return {
            (part.name, kind): count for part in self.parts for kind, count in part.problems.items() if count
        }

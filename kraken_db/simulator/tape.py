"""The trades of a market as columns, found by position and by time.

A generated tape has no end of its own and keeps next to nothing in memory: it consists of pieces of 4,096
trades, each made from its own seed when it is asked for. What must be known of a piece before it is made
(when it begins, at which price, how long it lasts) is drawn beforehand, in order, for all pieces up to it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag, auto
from itertools import accumulate
from random import Random
from typing import NamedTuple, Protocol


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


PIECE = 4096
SECOND = 1_000_000_000
_MINUTE = 60 * SECOND
_MILLISECOND = 1_000_000
_KEPT_PIECES = 32

# A stamp's text has steps of about 238 ns. Closer to the end of a minute than that, the text of a stamp may
# say the next minute, and nobody knows whose candle Kraken counts such a trade to: there are none here.
_MINUTE_END = _MINUTE - 500

_BURST = 1500
_BURST_STEPS = range(300, 640)  # 1,500 of them are less than a millisecond
_RUNS = (1, 1, 1, 2, 3, 5, 9, 17, 60, 300)
_RUN_WEIGHTS = (30, 20, 10, 10, 10, 6, 6, 6, 1, 1)
_PRICE_STEPS = (-4, -1, 0, 0, 0, 0, 1, 4)


class Columns(NamedTuple):
    """Some trades in a row: ns since 1970, price in ticks, volume in 10**-8, and whose bit 0 is a sale and
    bit 1 a market order."""

    stamps: array[int]
    prices: array[int]
    volumes: array[int]
    flags: bytes

    def cut(self, start: int, stop: int) -> Columns:
        return Columns(*(column[start:stop] for column in self))  # type: ignore[arg-type]


class Tape(Protocol):
    """Where a market's trades are."""

    def columns(self, start: int, stop: int) -> Sequence[Columns]:
        """The trades at the positions ``[start, stop)``, in one or several parts."""
        ...

    def position(self, stamp: int, *, after: bool) -> int:
        """How many trades are before the stamp; with ``after`` also those at it."""
        ...


class FixedTape:
    """Trades that somebody has written down."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def columns(self, start: int, stop: int) -> Sequence[Columns]:
        return [self._columns.cut(start, stop)]

    def position(self, stamp: int, *, after: bool) -> int:
        return (bisect_right if after else bisect_left)(self._columns.stamps, stamp)


class Surge(NamedTuple):
    """From ``start`` to ``end``, ns since 1970, a market trades ``factor`` times as much as it would."""

    start: int
    end: int
    factor: int


class SurgingTape:
    """A tape whose time runs faster in the surges: they are in order, and do not overlap."""

    def __init__(self, tape: Tape, surges: Sequence[Surge]) -> None:
        self._tape = tape
        self._surges = surges

    def columns(self, start: int, stop: int) -> Sequence[Columns]:
        return [
            part._replace(stamps=array("q", map(self._to_real, part.stamps)))
            for part in self._tape.columns(start, stop)
        ]

    def position(self, stamp: int, *, after: bool) -> int:
        last = stamp if after else stamp - 1
        if last % _MINUTE >= _MINUTE_END:  # the trades that were moved from there
            last += _MINUTE - last % _MINUTE - 1
        return self._tape.position(self._to_tape(last + 1), after=False)

    def _to_tape(self, stamp: int) -> int:
        gained = sum(
            (min(stamp, surge.end) - surge.start) * (surge.factor - 1)
            for surge in self._surges
            if stamp > surge.start
        )
        return stamp + gained

    def _to_real(self, stamp: int) -> int:
        gained = 0
        for start, end, factor in self._surges:
            into = stamp - gained - start
            if into <= 0:
                break
            gained += into - into // factor if into < (end - start) * factor else (end - start) * (factor - 1)
        real = stamp - gained
        place = real % _MINUTE
        return real if place <= _MINUTE_END else real - place + _MINUTE_END


@dataclass(frozen=True, slots=True)
class Plan:
    """What a tape is generated from."""

    seed: str
    start: int
    first_price: int
    trades_per_minute: float
    scenario: Scenario
    earlier_trades_per_minute: float | None = None
    """The pace of pieces that begin before ``pace_since``; None: the same."""
    pace_since: int = 0


class GeneratedTape:
    """Trades without end, the same ones for the same plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._random = Random(f"{plan.seed}/pieces")  # noqa: S311 - nothing here is a secret
        self._starts = array("q", [plan.start])
        self._prices = array("q", [plan.first_price])
        self._pauses = array("q", [])
        self._lengths = array("q", [])
        self._made: OrderedDict[int, Columns] = OrderedDict()

    def columns(self, start: int, stop: int) -> Sequence[Columns]:
        parts = []
        for number in range(start // PIECE, -(-stop // PIECE)):
            begin = number * PIECE
            parts.append(self._piece(number).cut(max(start - begin, 0), min(stop - begin, PIECE)))
        return parts

    def position(self, stamp: int, *, after: bool) -> int:
        while self._starts[-1] <= stamp:
            self._plan_next()
        number = bisect_right(self._starts, stamp) - 1  # pieces share no stamp
        if number < 0:
            return 0
        within = (bisect_right if after else bisect_left)(self._piece(number).stamps, stamp)
        return number * PIECE + within

    def _plan_next(self) -> None:
        """Draw how long the last piece lasts, and with that where the next begins."""
        draw = self._random.random
        active = self._active_length(0.5 + draw())
        quiet = int((1 + 5 * draw()) * 3600 * SECOND)
        pause = quiet if Scenario.QUIET in self._plan.scenario else 0
        price = self._prices[-1]
        self._lengths.append(active)
        self._pauses.append(pause)
        self._starts.append(self._starts[-1] + active + 2 * pause + 10 * _MILLISECOND)
        self._prices.append(max(20, price + int((draw() - 0.5) * price / 50)))

    def _active_length(self, share: float) -> int:
        """Of the last piece, without pauses, at ``share`` times the usual length.

        One at the earlier pace ends where the pace changes, but is never faster than those behind it: its
        trades would all have one stamp, and no page could get past it.
        """
        plan = self._plan
        usual = int(PIECE * _MINUTE / plan.trades_per_minute * share)
        left = plan.pace_since - self._starts[-1]
        if plan.earlier_trades_per_minute is None or left <= 0:
            return usual
        return min(int(PIECE * _MINUTE / plan.earlier_trades_per_minute * share), max(usual, left))

    def _piece(self, number: int) -> Columns:
        if number in self._made:
            self._made.move_to_end(number)
            return self._made[number]
        while len(self._lengths) <= number:
            self._plan_next()
        columns = self._make(number)
        self._made[number] = columns
        if len(self._made) > _KEPT_PIECES:
            self._made.popitem(last=False)
        return columns

    def _make(self, number: int) -> Columns:
        random = Random(f"{self._plan.seed}/{number}")  # noqa: S311
        draw = random.random
        stamps = self._stamps(number, random)
        walk = accumulate(random.choices(_PRICE_STEPS, k=PIECE), initial=self._prices[number])
        prices = array("q", [price if price > 0 else 1 for price in walk][:PIECE])
        volumes = array("q", [int(draw() ** 6 * 1_000_000_000) + 1 for _ in range(PIECE)])
        return Columns(stamps, prices, volumes, random.randbytes(PIECE))

    def _stamps(self, number: int, random: Random) -> array[int]:
        draw, scenario = random.random, self._plan.scenario
        weights = [draw() ** 3 for _ in range(PIECE)]
        unit = self._lengths[number] / sum(weights)
        gaps = [int(weight * unit) for weight in weights]
        if number == 0:
            gaps[0] = 0
        if Scenario.SAME_STAMPS in scenario:
            gaps = _join(gaps, random)
        if Scenario.QUIET in scenario:
            for _ in range(2):
                gaps[random.randrange(1, PIECE)] += self._pauses[number]
        if Scenario.BURSTS in scenario:
            _crowd(gaps, self._starts[number], random)
        stamps = accumulate(gaps, initial=self._starts[number])
        next(stamps)
        return array("q", [s if (m := s % _MINUTE) <= _MINUTE_END else s - m + _MINUTE_END for s in stamps])


def _join(gaps: list[int], random: Random) -> list[int]:
    """Let runs of trades have one stamp; all together take as long as before."""
    before = sum(gaps)
    at = 0
    for run in random.choices(_RUNS, _RUN_WEIGHTS, k=PIECE):
        for position in range(at + 1, min(at + run, PIECE)):
            gaps[position] = 0
        at += run
        if at >= PIECE:
            break
    wider = before / (sum(gaps) or 1)
    return [int(gap * wider) for gap in gaps]


def _crowd(gaps: list[int], start: int, random: Random) -> None:
    """Let 1,500 trades happen in one millisecond, its first one where the millisecond begins."""
    first = random.randrange(100, PIECE - _BURST)
    inside = slice(first + 1, first + _BURST)
    gaps[first] += sum(gaps[inside])  # a pause that was to be here comes before
    gaps[first] += -(start + sum(gaps[: first + 1])) % _MILLISECOND
    gaps[inside] = random.choices(_BURST_STEPS, k=_BURST - 1)

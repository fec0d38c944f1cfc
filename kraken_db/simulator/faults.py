"""What goes wrong between the exchange and its clients, by option and by seed: in REST and on a WebSocket."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from random import Random
from typing import Any, Literal, Self, TypeAlias

from kraken_db.errors import WrongValueError

SystemState: TypeAlias = Literal["online", "maintenance", "cancel_only", "post_only"]


class Fault(StrEnum):
    """One thing that can happen to an answer."""

    # Errors that pass, as HTTP 200.
    TOO_MANY_REQUESTS = "too-many-requests"
    RATE_LIMIT_EXCEEDED = "rate-limit-exceeded"
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    BUSY = "busy"
    DEADLINE = "deadline"
    INTERNAL = "internal"
    DATABASE = "database"
    # Errors that pass, below Kraken's own.
    HTTP_429 = "http-429"
    HTTP_5XX = "http-5xx"
    CLOUDFLARE = "cloudflare"
    HANG = "hang"
    RESET = "reset"
    TRUNCATED = "truncated"
    # Errors that do not pass.
    LOCKOUT = "lockout"
    UNKNOWN_PAIR = "unknown-pair"
    INVALID_PAIR = "invalid-pair"
    INVALID_ARGUMENTS = "invalid-arguments"
    UNKNOWN_METHOD = "unknown-method"
    # Odd pages of trades.
    MISSING_LAST = "missing-last"
    REPEATED_PAGE = "repeated-page"
    OUT_OF_ORDER = "out-of-order"


ODD_PAGES = frozenset({Fault.MISSING_LAST, Fault.REPEATED_PAGE, Fault.OUT_OF_ORDER})
"""Answers to Trades that look well; other calls are spared."""

PERMANENT = frozenset(
    {
        Fault.LOCKOUT,
        Fault.UNKNOWN_PAIR,
        Fault.INVALID_PAIR,
        Fault.INVALID_ARGUMENTS,
        Fault.UNKNOWN_METHOD,
    }
)
"""After these a client should not try again."""

TRANSIENT = frozenset(Fault) - ODD_PAGES - PERMANENT
"""After these it should."""

MESSAGES: Mapping[Fault, str] = {
    Fault.TOO_MANY_REQUESTS: "EGeneral:Too many requests",
    Fault.RATE_LIMIT_EXCEEDED: "EAPI:Rate limit exceeded",
    Fault.UNAVAILABLE: "EService:Unavailable",
    Fault.BUSY: "EService:Busy",
    Fault.DEADLINE: "EService:Deadline elapsed",
    Fault.INTERNAL: "EGeneral:Internal error",
    Fault.DATABASE: "EDatabase:Internal error",
    Fault.LOCKOUT: "EGeneral:Temporary lockout",
    Fault.UNKNOWN_PAIR: "EQuery:Unknown asset pair",
    Fault.INVALID_PAIR: "EQuery:Invalid asset pair",
    Fault.INVALID_ARGUMENTS: "EGeneral:Invalid arguments",
    Fault.UNKNOWN_METHOD: "EGeneral:Unknown method",
}
"""What Kraken says for those that are only a message."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many calls one client may make: ``burst`` at once, then ``per_second``.

    Trades and OHLC are counted by pair, other calls together. A call too many is refused and does not count.
    After ``lockout_after`` refusals in a row the client is locked out of that pair for ``lockout_seconds``.
    """

    per_second: float = 1.0
    burst: int = 1
    lockout_after: int | None = None
    lockout_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Faults:
    """All that goes wrong; by itself nothing does. The same seed gives each pair the same faults in the same
    order, whatever other pairs are asked for in between."""

    rates: Mapping[Fault, float] = field(default_factory=dict)
    """How large a share of the requests meets the fault; together at most 1."""
    seed: int | str = 0
    after: int = 0
    """How many requests (of each call and pair) are answered well before."""
    in_a_row: int | None = None
    """After so many errors in a row an answer is a good one; None: as chance will have it."""
    since_exclusive: bool = False
    """Whether ``since`` leaves out the trades at its very stamp, as it used to."""
    rate_limit: RateLimit | None = None
    state: SystemState = "online"
    """In ``maintenance`` Trades and OHLC answer ``EService:Unavailable``."""
    delisted: Collection[str] = ()
    """Symbols that are missing in AssetPairs and OHLC, while their trades can still be had."""
    unknown: Collection[str] = ()
    """Symbols that REST and the WebSocket do not know at all, as Kraken's delisted pairs."""
    hang_seconds: float = 3600.0
    wait_seconds: float = 1.0
    """What ``Retry-After`` and ``EService: Throttled`` ask for."""

    def __post_init__(self) -> None:
        if not all(0 <= rate <= 1 for rate in self.rates.values()) or sum(self.rates.values()) > 1 + 1e-9:
            raise WrongValueError("the rates of all faults together must be between 0 and 1")

    @classmethod
    def transient(cls, rate: float, seed: int | str = 0, *, in_a_row: int | None = None) -> Faults:
        """Every error that passes, evenly, at that share of the requests in all; hangs last 60 s."""
        rates = {fault: rate / len(TRANSIENT) for fault in sorted(TRANSIENT)}
        return cls(rates, seed, in_a_row=in_a_row, hang_seconds=60)


class FaultPlan:
    """Which fault the next request of a call and pair meets."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._asked: dict[str, int] = {}
        self._failed: dict[str, int] = {}

    def next(self, call: str, pair: str) -> Fault | None:
        name = f"{call}/{pair}"
        number = self._asked[name] = self._asked.get(name, 0) + 1
        fault = None if number <= self._faults.after else self._draw(f"{name}/{number}")
        if fault in ODD_PAGES:
            return fault if call == "Trades" else None
        failed = 0 if fault is None else self._failed.get(name, 0) + 1
        if self._faults.in_a_row is not None and failed > self._faults.in_a_row:
            fault, failed = None, 0
        self._failed[name] = failed
        return fault

    def random(self, call: str, pair: str) -> Random:
        """For the details of the fault that ``next`` gave."""
        return Random(f"{self._faults.seed}/{call}/{pair}/{self._asked.get(f'{call}/{pair}')}/details")  # noqa: S311

    def _draw(self, name: str) -> Fault | None:
        drawn = Random(f"{self._faults.seed}/{name}").random()  # noqa: S311
        for fault, rate in sorted(self._faults.rates.items()):
            drawn -= rate
            if drawn < 0:
                return fault
        return None


_SHARES = ("lost", "silence", "mute", "refused", "burst", "answers_only", "no_heartbeats", "no_snapshot")


@dataclass(frozen=True, slots=True)
class FeedFaults:
    """By itself nothing goes wrong. Shares are from 0 to 1, of the frames with trades unless said otherwise.

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
    answers_only: float = 0.0
    """Connections on which everything that is asked is answered, and nothing else ever comes."""
    no_heartbeats: float = 0.0
    """Connections without a heartbeat; all the rest comes."""
    no_snapshot: float = 0.0
    """Subscriptions that are accepted and whose snapshot never comes; updates do."""
    msg_rate: float = 0.0
    """Frames a second that a connection may send, and as many at once; those beyond are refused, in both
    spellings in turn. 0: any number."""
    seed: int | str = 0
    burst_seconds: float = 1.0

    def __post_init__(self) -> None:
        for name in _SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise WrongValueError(f"{name} is a share, from 0 to 1")
        if not 0 <= self.msg_rate < float("inf"):
            raise WrongValueError("msg_rate is a number of frames a second, from 0 on")
        if self.cut < 0 or self.duplicates < 0:
            raise WrongValueError("cut and duplicates count trades, from 0 on")

    @classmethod
    def parse(cls, texts: Mapping[str, str], seed: int | str = 0) -> Self:
        """From names and values as one types them; an empty value is the usual one.

        Raises ConfigurationError.
        """
        faults = cls(seed=seed)
        for name, text in texts.items():
            if name not in USUAL:
                raise WrongValueError(
                    f"there is no fault {name!r} of the feed", hint=f"one of {', '.join(USUAL)}"
                )
            usual = USUAL[name]
            try:
                value = type(usual)(text) if text else usual
            except ValueError:
                kind = "a number of trades" if isinstance(usual, int) else "a number"
                if name in _SHARES:
                    kind = "a share from 0 to 1"
                raise WrongValueError(f"{name}={text}: the value is {kind}") from None
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
    "answers_only": 0.1,
    "no_heartbeats": 0.1,
    "no_snapshot": 0.01,
    "msg_rate": 4.0,
}
"""The faults that can be asked for by name, and their values where none is given."""
assert USUAL.keys() <= {field.name for field in fields(FeedFaults)}


class FeedPlan:
    """The faults of one connection, one draw after the other."""

    def __init__(self, faults: FeedFaults, connection: int) -> None:
        self.faults = faults
        self._random = Random(f"{faults.seed}/feed/{connection}")  # noqa: S311 - nothing here is a secret
        self._left = self._until_cut()
        self.answers_only = self.happens(faults.answers_only)
        self.has_heartbeats = not self.happens(faults.no_heartbeats)
        self._room, self._asked_at = faults.msg_rate, 0.0
        self._excess = 0

    def is_too_fast(self, now: float) -> bool:
        """Count a frame of the client, at ``now`` in seconds; whether it is one too many."""
        rate = self.faults.msg_rate
        if not rate:
            return False
        self._room = min(max(rate, 1.0), self._room + (now - self._asked_at) * rate)
        self._asked_at = now
        if self._room < 1.0:
            self._excess += 1
            return True
        self._room -= 1.0
        return False

    @property
    def spells_oddly(self) -> bool:
        """How the refusal of the last frame that was too many is spelled."""
        return self._excess % 2 == 1

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

"""What goes wrong where archives are downloaded: by script, or by share and seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from random import Random

from kraken_db.errors import WrongValueError


class ArchiveFault(StrEnum):
    """One thing that can happen to a request for a file, or for a range of it."""

    CUT = "cut"
    """Half of the answer comes, then the connection is closed."""
    SLOW = "slow"
    """It comes at ``slow_bytes_per_second``."""
    STALL = "stall"
    """Half of it comes, then nothing for ``stall_seconds``, then the connection is cut."""
    HTTP_416 = "http-416"
    """The range is called impossible."""
    HTTP_503 = "http-503"
    HTTP_429 = "http-429"
    """With ``Retry-After``."""
    WRONG_BYTES = "wrong-bytes"
    """The byte in the middle is another."""
    RANGE_IGNORED = "range-ignored"
    """Status 200 and the whole file, as from a proxy that knows no ranges."""
    ENDLESS = "endless"
    """After what was asked for come more bytes, without end and without ``Content-Length``."""
    REDIRECT = "redirect"
    """To ``redirect_to``, another host."""
    HTML = "html"
    """Status 200 and a page for people."""
    SHORT_LENGTH = "short-length"
    """``Content-Length`` says half of what was asked for, and no more comes."""


WITHOUT_BODY = frozenset(
    {ArchiveFault.HTTP_503, ArchiveFault.HTTP_429, ArchiveFault.REDIRECT, ArchiveFault.HTML}
)
"""What can happen to a HEAD request too."""

PASSING_ARCHIVE_FAULTS = frozenset(
    {
        ArchiveFault.CUT,
        ArchiveFault.STALL,
        ArchiveFault.HTTP_503,
        ArchiveFault.HTTP_429,
        ArchiveFault.SHORT_LENGTH,
    }
)
"""After these a client should ask again."""


@dataclass(frozen=True, slots=True)
class ArchiveFaults:
    """By itself nothing goes wrong. The same seed gives each file the same faults in the same order."""

    script: Sequence[ArchiveFault | None] = ()
    """What happens to the first requests, in order; None: nothing. Then ``rates`` count."""
    rates: Mapping[ArchiveFault, float] = field(default_factory=dict)
    """How large a share of the requests meets the fault; together at most 1."""
    seed: int | str = 0
    files: str = "*"
    """Only these files meet faults, e.g. ``*.part01``."""
    heads: bool = False
    """Whether HEAD requests count too; else only GET."""
    bytes_per_second: float | None = None
    """How fast any answer comes, by connection; None: as fast as it can."""
    slow_bytes_per_second: float = 10_000.0
    stall_seconds: float = 3600.0
    wait_seconds: float = 1.0
    """What ``Retry-After`` asks for."""
    redirect_to: str = "http://elsewhere.invalid"

    def __post_init__(self) -> None:
        if not all(0 <= rate <= 1 for rate in self.rates.values()) or sum(self.rates.values()) > 1 + 1e-9:
            raise WrongValueError("the rates of all faults together must be between 0 and 1")


class ArchiveFaultPlan:
    """Which fault the next request meets."""

    def __init__(self, faults: ArchiveFaults) -> None:
        self._faults = faults
        self._scripted = deque(faults.script)
        self._asked: dict[str, int] = {}

    def next(self, name: str, *, is_head: bool) -> ArchiveFault | None:
        if (is_head and not self._faults.heads) or not fnmatchcase(name, self._faults.files):
            return None
        fault = self._scripted.popleft() if self._scripted else self._draw(name)
        return None if is_head and fault not in WITHOUT_BODY else fault

    def _draw(self, name: str) -> ArchiveFault | None:
        number = self._asked[name] = self._asked.get(name, 0) + 1
        drawn = Random(f"{self._faults.seed}/{name}/{number}").random()  # noqa: S311
        for fault, rate in sorted(self._faults.rates.items()):
            drawn -= rate
            if drawn < 0:
                return fault
        return None

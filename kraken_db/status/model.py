"""The state of a store as values. Times are UTC, ranges half-open, sizes bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal, TypeAlias

from kraken_db.policies import BackgroundJob
from kraken_db.ranges import TimeRange
from kraken_db.timeseries import TableStorage

MonthState: TypeAlias = Literal["full", "part", "none", "dropped"]
"""How much of a month is covered; ``dropped``: covered, and all of its rows are gone by now.

The first month of a symbol counts from where its coverage begins, the running one up to where it ends.
"""


@dataclass(frozen=True, slots=True)
class Month:
    first_day: date
    state: MonthState


@dataclass(frozen=True, slots=True)
class DataStatus:
    """What is stored of one symbol and data type (``trades``, ``candles_1m``, ...).

    ``oldest`` and ``newest`` are the times of records, both included; ``rows`` counts the distinct records
    ever stored. Everything else is about what is covered: known to be complete.
    """

    symbol: str
    data_type: str
    rows: int
    oldest: datetime | None
    newest: datetime | None
    last_sync: datetime
    sources: Sequence[str]
    ranges: int
    covered: Sequence[TimeRange] | None
    """None where there are very many."""
    gaps: int | None
    """Between the ranges; None where nothing is covered."""
    lag: timedelta | None
    """From the last moment that is known until now."""
    months: Sequence[Month]
    """From the first that is covered to the running one."""


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A store at a moment: ``read_status`` makes it."""

    now: datetime
    data: Sequence[DataStatus]
    """By symbol; of each, trades before candles and short intervals before long ones."""
    tables: Sequence[TableStorage]
    database_size: int
    jobs: Sequence[BackgroundJob]
    pending_refreshes: int
    """Ranges that no refresh has been over yet."""
    pending_from: datetime | None
    stalled_refreshes: int
    """Those of them whose symbol nobody has been writing for an hour: their run was killed."""
    retention_paused: bool
    last_sync: datetime | None
    """Of the whole store, whatever symbols were asked for; None if nothing is stored."""

    @property
    def drops_by_itself(self) -> bool:
        """Whether a job of the database drops old rows."""
        return any(job.task == "retention" for job in self.jobs)

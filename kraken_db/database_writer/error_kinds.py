"""What a failed flush means: that the database is away, or that it refuses what it was given."""

from __future__ import annotations

from enum import Enum

import asyncpg

from kraken_db.db.copy import CopyRowError
from kraken_db.db.errors import driver_error, first_line
from kraken_db.errors import ConflictingTradesError, KrakenDBError, TransientError, ValueDoesNotFitError

_REFUSALS = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.RaiseError,
    CopyRowError,
    ValueDoesNotFitError,
    ConflictingTradesError,
)


class Fault(Enum):
    """``PASSES``: it is away, or busy. ``DATA``: a record is at fault. ``OTHER``: an administrator's task."""

    PASSES = "passes"
    DATA = "data"
    OTHER = "other"


def fault_of(error: BaseException) -> Fault:
    if isinstance(driver_error(error), _REFUSALS):
        return Fault.DATA
    return Fault.PASSES if isinstance(error, (TransientError, OSError, TimeoutError)) else Fault.OTHER


def describe(error: BaseException) -> str:
    """One line, without a secret."""
    return str(error) if isinstance(error, KrakenDBError) else first_line(driver_error(error))

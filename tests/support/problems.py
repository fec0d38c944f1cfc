"""What ``status --check`` says, as the lines that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from kraken_db.status import DEFAULT_MAX_LAG, StoreStatus, problems


def problem_texts(
    status: StoreStatus,
    max_lag: timedelta | None = DEFAULT_MAX_LAG,
    symbols: Sequence[str] | None = None,
) -> list[str]:
    return [str(problem) for problem in problems(status, max_lag, symbols)]

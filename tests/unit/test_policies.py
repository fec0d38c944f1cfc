"""Periods as people write them, and policies that would take away what is still needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.policies import BackgroundJob, TablePolicy, check_policy, job_fails, job_state
from kraken_db.times import parse_period, period_text

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("90d", 90 * DAY),
        ("1 day", DAY),
        ("2 Weeks", 14 * DAY),
        (" 12w ", 84 * DAY),
        ("36h", timedelta(hours=36)),
        ("1y", 365 * DAY),
        ("90s", timedelta(seconds=90)),
        ("3m", timedelta(minutes=3)),
        ("100y", 36500 * DAY),
        ("never", None),
        ("NEVER", None),
    ],
)
def test_periods(text: str, period: timedelta | None) -> None:
    assert parse_period(text) == period


@pytest.mark.parametrize(
    "text", ["", "90", "d", "-1d", "1.5d", "3 months", "3M", "5ms", "90d ago", "d90", "٣d"]
)
def test_what_is_no_period(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"is not a period.*write 15min"):
        parse_period(text)


def test_longer_than_there_is_time() -> None:
    with pytest.raises(ConfigurationError, match=r"longer than 100 years \(write never\)"):
        parse_period("999999999999999999999d")


@pytest.mark.parametrize(
    ("period", "text"),
    [
        (90 * DAY, "90 days"),
        (DAY, "1 day"),
        (timedelta(hours=36), "36 hours"),
        (timedelta(minutes=90), "90 minutes"),
        (36500 * DAY, "36,500 days"),
        (None, "never"),
    ],
)
def test_periods_as_text(period: timedelta | None, text: str) -> None:
    assert period_text(period) == text


@pytest.mark.parametrize(
    "policy",
    [
        TablePolicy("trades"),
        TablePolicy("trades", retention=2 * DAY),
        TablePolicy("candles", retention=10 * DAY),
        TablePolicy("candles", retention=10 * DAY, compression=9 * DAY),
        TablePolicy("candles", compression=DAY),
    ],
)
def test_policies_that_work(policy: TablePolicy) -> None:
    check_policy(policy)


@pytest.mark.parametrize(
    ("policy", "problem"),
    [
        (TablePolicy("trades", retention=47 * DAY / 24), "trades cannot be dropped after 47 hours.*2 days"),
        (TablePolicy("candles", retention=9 * DAY), "candles cannot be dropped after 9 days.*10 days"),
        (TablePolicy("candles", retention=0 * DAY), "candles cannot be dropped after"),
        (TablePolicy("trades", compression=DAY / 2), "trades cannot be compressed after 12 hours"),
        (TablePolicy("trades", 7 * DAY, 7 * DAY), "before they are compressed.*--trades-compression never"),
    ],
)
def test_policies_that_are_refused(policy: TablePolicy, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        check_policy(policy)


NOW = datetime(2026, 1, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("next_run", "succeeded", "paused", "state"),
    [
        (NOW + DAY, None, False, "has not run yet"),
        (NOW + DAY, True, False, "ok"),
        (NOW + DAY, False, False, "failing (3 failures)"),
        (NOW - DAY, True, False, "overdue: the database does not start it"),
        (NOW - timedelta(minutes=59), True, False, "ok"),
        (NOW - DAY, True, True, "paused"),
        (None, True, False, "ok"),
    ],
)
def test_how_a_job_is_doing(
    next_run: datetime | None, succeeded: bool | None, paused: bool, state: str
) -> None:
    job = BackgroundJob("trades", "retention", 90 * DAY, DAY, next_run, NOW - DAY, succeeded, 3, paused)
    assert job_state(job, NOW) == state
    assert job_fails(job, NOW) is state.startswith(("failing", "overdue"))


BEGAN = NOW - timedelta(minutes=5)


@pytest.mark.parametrize(
    ("changes", "state", "fails"),
    [
        ({"running_since": BEGAN}, "running since 2026-01-09 23:55 UTC", False),
        ({"running_since": BEGAN, "crashes": 1}, "running since 2026-01-09 23:55 UTC, after 1 crash", False),
        # Started again and again, and never through.
        ({"running_since": BEGAN, "crashes": 4}, "running since 2026-01-09 23:55 UTC, after 4 crashes", True),
        ({"crashed_at": BEGAN, "crashes": 1}, "crashed in its run of 2026-01-09 23:55 UTC", True),
        (
            {"crashed_at": BEGAN, "crashes": 3},
            "crashed in its run of 2026-01-09 23:55 UTC, 3 times in a row",
            True,
        ),
        ({"crashed_at": BEGAN, "crashes": 3, "paused": True}, "paused", False),
        ({"crashes": 2, "succeeded": True}, "ok", False),
    ],
)
def test_jobs_that_run_and_jobs_that_crashed(changes: dict[str, Any], state: str, fails: bool) -> None:
    job = BackgroundJob("trades", "retention", 90 * DAY, DAY, None, BEGAN, None, 0, False)
    job = replace(job, **changes)
    assert job_state(job, NOW) == state
    assert job_fails(job, NOW) is fails

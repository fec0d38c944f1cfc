"""What monitoring is told, and what it is not bothered with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kraken_db.policies import BackgroundJob
from kraken_db.status import DataStatus, StoreStatus, lag_text
from tests.support.problems import problem_texts

NOW = datetime(2026, 1, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)
DATA = DataStatus(
    symbol="BTC/USD",
    data_type="candles_1m",
    rows=1000,
    oldest=NOW - 900 * HOUR,
    newest=NOW - HOUR,
    last_sync=NOW - HOUR,
    sources=("csv",),
    ranges=1,
    covered=(),
    gaps=0,
    lag=HOUR,
    months=(),
)
STATUS = StoreStatus(
    now=NOW,
    data=(DATA,),
    tables=(),
    database_size=1,
    jobs=(),
    running=(),
    pending_refreshes=0,
    pending_from=None,
    stalled_refreshes=0,
    retention_paused=False,
    last_sync=NOW - HOUR / 2,
)


def data(**changes: Any) -> StoreStatus:
    return replace(STATUS, data=(replace(DATA, **changes),))


def job(**changes: Any) -> StoreStatus:
    made = BackgroundJob("trades", "retention", 90 * HOUR, HOUR, NOW + HOUR, NOW, True, 3, False)
    return replace(STATUS, jobs=(replace(made, **changes),))


@pytest.mark.parametrize(
    "status",
    [
        STATUS,
        data(lag=24 * HOUR),
        data(data_type="candles_1h", gaps=None, lag=9999 * HOUR),  # of a file: its coverage is not kept
        data(lag=None, ended_at=NOW - 9999 * HOUR),
        job(),
        job(succeeded=None),
        job(succeeded=None, running_since=NOW - 99 * HOUR),  # an endless one is for a person to judge
        job(succeeded=False, paused=True),
        replace(STATUS, pending_refreshes=2, pending_from=NOW),  # a run is at it
        replace(STATUS, retention_paused=True),
    ],
)
def test_all_is_well(status: StoreStatus) -> None:
    assert problem_texts(status) == []


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (replace(STATUS, data=(), last_sync=None), "nothing is stored"),
        (data(gaps=1), "BTC/USD 1m has 1 gap"),
        (data(data_type="trades", gaps=1234), "BTC/USD trades has 1,234 gaps"),
        (data(lag=24 * HOUR + HOUR / 60), "BTC/USD 1m is 24 h 1 min behind (allowed: 1 day)"),
        (job(succeeded=False), "retention of trades is failing (3 failures)"),
        (
            job(succeeded=False, last_error="out of\nshared memory"),
            "retention of trades is failing (3 failures): out of shared memory",
        ),
        (
            job(succeeded=None, crashed_at=NOW - HOUR, crashes=2, last_error="an old one"),
            f"retention of trades crashed in its run of {NOW - HOUR:%Y-%m-%d %H:%M} UTC, 2 times in a row",
        ),
        (
            job(next_run=NOW - 2 * HOUR, last_error="an old one"),
            "retention of trades is overdue: the database does not start it",
        ),
        (
            replace(STATUS, pending_refreshes=3, stalled_refreshes=1),
            "1 range of a killed run not in the higher intervals (kraken-db db maintain does it)",
        ),
        (
            replace(STATUS, retention_paused=True, last_sync=NOW - 2 * HOUR),
            "retention is switched off by a run that was killed (kraken-db db maintain switches it on)",
        ),
    ],
)
def test_what_is_wrong_is_told(status: StoreStatus, told: str) -> None:
    assert problem_texts(status) == [told]


def test_a_pair_that_is_not_stored() -> None:
    assert problem_texts(STATUS, symbols=["SOL/USD", "BTC/USD"]) == ["nothing is stored of SOL/USD"]


def test_any_lag_will_do_where_none_is_named() -> None:
    late = data(lag=9999 * HOUR)
    assert problem_texts(late, None) == []
    assert problem_texts(late, 10_000 * HOUR) == []
    assert len(problem_texts(late, timedelta(0))) == 1


@pytest.mark.parametrize(
    ("lag", "text"),
    [
        (timedelta(seconds=59), "0 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(minutes=60), "1 h 0 min"),
        (timedelta(hours=47, minutes=59), "47 h 59 min"),
        (timedelta(hours=48), "2 days 0 h"),
        (timedelta(days=99, hours=23), "99 days 23 h"),
        (timedelta(days=1234, hours=23), "1,234 days"),
    ],
)
def test_lag(lag: timedelta, text: str) -> None:
    assert lag_text(lag) == text

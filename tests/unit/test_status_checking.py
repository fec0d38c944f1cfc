"""What monitoring is told, and what it is not bothered with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from kraken_db.policies import BackgroundJob
from kraken_db.repositories.running_jobs import RunningJob
from kraken_db.status import DataStatus, StoreStatus, lag_text, problems
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
MAY = [datetime(2026, 5, number, tzinfo=UTC) for number in range(1, 10)]
COVERED = ((MAY[0], MAY[1]), (MAY[2], MAY[3]), (MAY[6], MAY[7]))
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
        (
            data(gaps=1, ranges=2, covered=COVERED[:2]),
            "BTC/USD 1m has 1 gap, from 2026-05-02 00:00 to 2026-05-03 00:00 UTC."
            " To fill: kraken-db gaps fill BTC/USD",
        ),
        (
            data(data_type="trades", gaps=2, ranges=3, covered=COVERED),
            "BTC/USD trades has 2 gaps, the longest from 2026-05-04 00:00 to 2026-05-07 00:00 UTC."
            " To fill: kraken-db gaps fill BTC/USD",
        ),
        (  # of the two holes one has known minutes: which one, the counters do not say
            data(data_type="trades", gaps=1, ranges=3, covered=COVERED),
            "BTC/USD trades has 1 gap (kraken-db gaps list BTC/USD). To fill: kraken-db gaps fill BTC/USD",
        ),
        (
            data(data_type="trades", gaps=1234, ranges=1235, covered=None),
            "BTC/USD trades has 1,234 gaps (kraken-db gaps list BTC/USD)."
            " To fill: kraken-db gaps fill BTC/USD",
        ),
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


def lagging(**lags: float) -> StoreStatus:
    """Trades of these pairs, and by how many hours each is behind; minutes are an hour better."""
    items = [
        replace(DATA, symbol=f"{name}/USD", data_type=kind, lag=hours * HOUR - better)
        for name, hours in lags.items()
        for kind, better in (("trades", 0 * HOUR), ("candles_1m", HOUR))
    ]
    return replace(STATUS, data=tuple(items))


def recording(*symbols: str, silence: timedelta) -> RunningJob:
    made = NOW - 9 * HOUR
    return RunningJob(
        uuid4(), "recording", symbols, [], "here", 7, made, NOW - silence, None, "live", None, silence
    )


def test_pairs_that_are_behind_are_one_problem() -> None:
    assert problem_texts(lagging(XRP=30)) == ["XRP/USD trades is 30 h 0 min behind (allowed: 1 day)"]
    assert problem_texts(lagging(XRP=30, BTC=25, ETH=24.5, SOL=3)) == [
        "3 pairs are behind (allowed: 1 day), XRP/USD most: 30 h 0 min"
    ]
    keys = {problem.key for hours in (25, 30) for problem in problems(lagging(XRP=hours, BTC=26))}
    assert keys == {"lag"}
    of_some = [replace(lagging(XRP=30), symbols=[name]) for name in ("XRP/USD", "BTC/USD")]
    assert len({problem.key for status in of_some for problem in problems(status)}) == 2


def test_only_a_doubling_is_news() -> None:
    sizes = [problems(lagging(**{f"P{n}": 30 for n in range(many)}))[0].size for many in (1, 2, 3, 4, 1_635)]
    assert sizes == [1, 2, 2, 3, 11]


def test_what_is_allowed_and_what_is_seen_do_not_contradict_each_other() -> None:
    late = data(data_type="trades", lag=timedelta(minutes=2, seconds=40))
    assert problem_texts(late, timedelta(minutes=2)) == [
        "BTC/USD trades is just over 2 minutes behind (allowed: 2 minutes)"
    ]
    assert problem_texts(late, timedelta(minutes=1)) == ["BTC/USD trades is 2 min behind (allowed: 1 minute)"]


def test_a_killed_recording_stands_for_its_pairs() -> None:
    status = lagging(XRP=30, BTC=26, ETH=50)
    killed = replace(status, running=[recording("XRP/USD", "BTC/USD", silence=HOUR)])
    first, second = problem_texts(killed)
    assert first.startswith("recording of 2 pairs on here (process 7) was killed")
    assert second == "ETH/USD trades is 2 days 2 h behind (allowed: 1 day)"
    stopped = replace(killed.running[0], ended_at=NOW)
    assert len(problem_texts(replace(status, running=[stopped]))) == 1, "then the lags count"


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

"""What of a recording is wrong, and what is only on its way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kraken_db.recorder import PairStatus, RecorderStatus
from kraken_db.recorder.problems import problems_of

NOW = datetime(2026, 11, 28, 2, 10, 5, tzinfo=UTC)
PAIR = PairStatus(
    symbol="BTC/USD",
    state="live",
    is_subscribed=True,
    last_id=7,
    last_time=NOW,
    received=7,
    repeated=0,
    repaired=0,
    caught_up=0,
    holes=3,
    waiting=0,
    error=None,
)
STATUS = RecorderStatus(NOW, True, "online", (PAIR,), 1.0, 0.1, 1, 0, 0, 0, 0)


TODO = " The recording goes on asking; if this lasts: kraken-db gaps fill BTC/USD"


def pair(**changes: Any) -> RecorderStatus:
    return replace(STATUS, pairs=(replace(PAIR, **changes), PAIR))


@pytest.mark.parametrize(
    "status",
    [
        STATUS,
        replace(STATUS, is_connected=False, reconnects=9),  # a moment ago: the next attempt is on its way
        replace(STATUS, system=None, buffer=5_000),
        pair(state="catching up", holes=0, waiting=900),  # at the start: what is missing is being fetched
        pair(state="not subscribed"),
        pair(state="delisted"),
    ],
)
def test_nothing_is_wrong(status: RecorderStatus) -> None:
    assert problems_of(status) == []


@pytest.mark.parametrize(
    ("status", "key", "text", "is_told_at_once"),
    [
        (
            replace(STATUS, outage=(NOW, "nothing came for 8.1 s")),
            "feed",
            "no live feed since 02:10:05 UTC: nothing came for 8.1 s",
            False,
        ),
        (
            replace(STATUS, system="maintenance"),
            "kraken",
            "Kraken says that it is in the state 'maintenance'",
            True,
        ),
        (
            replace(STATUS, journal=12),
            "journal",
            "the journal is in use: the database does not take what comes, it is kept on disk",
            False,
        ),
        (
            pair(state="refused", error="Unknown asset pair"),
            "pair BTC/USD",
            "BTC/USD is not recorded: Unknown asset pair",
            True,
        ),
        (
            pair(state="catching up"),
            "gap BTC/USD",
            "BTC/USD: trades since 2026-11-28 02:10:05 UTC are missing." + TODO,
            False,
        ),
        (
            pair(state="catching up", holes=0, last_time=None, error="HTTP 503"),
            "gap BTC/USD",
            "BTC/USD: trades are missing: HTTP 503." + TODO,
            False,
        ),
        (
            pair(state="catching up", waiting=1, waiting_from=NOW + timedelta(seconds=55)),
            "gap BTC/USD",
            "BTC/USD: trades from 2026-11-28 02:10:05 to 02:11:00 UTC are missing." + TODO,
            False,
        ),
        (
            pair(state="catching up", waiting=1, waiting_from=NOW + timedelta(days=1)),
            "gap BTC/USD",
            "BTC/USD: trades from 2026-11-28 02:10:05 to 2026-11-29 02:10:05 UTC are missing." + TODO,
            False,
        ),
    ],
)
def test_what_is_wrong(status: RecorderStatus, key: str, text: str, is_told_at_once: bool) -> None:
    (problem,) = problems_of(status)
    assert (problem.key, problem.text) == (key, text)
    assert (problem.patience == 0) == is_told_at_once

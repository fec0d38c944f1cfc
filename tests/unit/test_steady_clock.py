"""A clock that is set while a program runs: what knows Kraken's time does not follow it."""

from __future__ import annotations

import inspect
from datetime import timedelta

import pytest

from kraken_db import times
from kraken_db.gap_filler import GapFiller
from kraken_db.historical_backfill import KrakenTradesBackfill
from kraken_db.kraken.websocket import KrakenWebSocketClient
from kraken_db.recorder import Recorder
from kraken_db.times import steady_now, utc_now
from kraken_db.verification import StoreVerifier


def test_it_is_the_time() -> None:
    assert abs(steady_now() - utc_now()) < timedelta(seconds=5)
    assert steady_now() <= steady_now()


def test_it_goes_on_by_the_time_that_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    first, began = times._BEGAN
    monkeypatch.setattr(times, "_elapsed_ns", lambda: began + 7_200 * 10**9 + 1_999)
    assert steady_now() == first + timedelta(hours=2, microseconds=1)


@pytest.mark.parametrize(
    ("service", "name"),
    [
        (Recorder, "clock"),
        (KrakenTradesBackfill, "clock"),
        (GapFiller, "clock"),
        (StoreVerifier, "clock"),
        (KrakenWebSocketClient, "now"),
    ],
)
def test_who_asks_kraken_for_its_time_has_it(service: type, name: str) -> None:
    assert inspect.signature(service).parameters[name].default is steady_now

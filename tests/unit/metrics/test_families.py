"""Numbers of a job and of a store, made by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.core import Metric

from kraken_db.data_types import DataType
from kraken_db.db.disk import DiskRoom
from kraken_db.metrics.families import of_job, of_store
from kraken_db.progress import Overview
from kraken_db.status import DataStatus, StoreStatus

NOW = datetime(2026, 1, 10, tzinfo=UTC)
GIB = 2**30
DATA = DataStatus("BTC/USD", DataType.TRADES, 1_000, NOW, NOW, NOW, ("rest",), 1, (), 2, timedelta(0), ())
STATUS = StoreStatus(NOW, (DATA,), (), 5_000, (), (), 0, None, 0, False, NOW)


def samples(families: Iterable[Metric]) -> dict[str, list[float]]:
    """Their values by name, without the prefix."""
    found: dict[str, list[float]] = {}
    for family in families:
        for one in family.samples:
            found.setdefault(one.name.removeprefix("kraken_db_"), []).append(one.value)
    return found


def test_pairs_of_a_job_by_their_state() -> None:
    overview = Overview(of_pairs=10, of_rows=9_000, is_estimate=True, pairs=4, rows=500, failed=1, at_work=2)
    assert samples(of_job("backfill", overview)) == {
        "job_pairs": [4, 2, 3, 1],  # waiting, running, done, failed
        "job_records_total": [500],
        "job_expected_records": [9_000],
    }


def test_the_disk_of_an_embedded_database_keeps_its_reserve() -> None:
    assert not any(name.startswith("disk_") for name in samples(of_store(STATUS)))
    found = samples(of_store(replace(STATUS, disk=DiskRoom(Path("/data"), 7 * GIB, 100 * GIB))))
    assert (found["disk_free_bytes"], found["disk_usable_bytes"]) == ([7 * GIB], [6 * GIB])


def test_what_is_not_known_of_a_pair_has_no_number() -> None:
    unknown = replace(DATA, newest=None, lag=None, gaps=None)
    one, other = samples(of_store(STATUS)), samples(of_store(replace(STATUS, data=(unknown,))))
    assert (one["store_records"], other["store_records"]) == ([1_000], [1_000])
    for name, value in (
        ("store_newest_timestamp_seconds", NOW.timestamp()),
        ("store_lag_seconds", 0),
        ("store_gaps", 2),
    ):
        assert one[name] == [value]
        assert name not in other

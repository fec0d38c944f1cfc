"""What lies beside the files of an export: the state of its last run, and the lock of whoever writes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kraken_db.errors import ConfigurationError
from kraken_db.exporting import states
from kraken_db.exporting.manifest import Entry
from kraken_db.exporting.places import PlaceFailedError
from kraken_db.exporting.states import LEASE, LOCK, MANIFEST, Lease, Named, State, leased, read_state
from kraken_db.exporting.stores import Bucket, Held, ObjectChangedError
from tests.support.archives import write

pytest.importorskip("obstore")

_START = datetime(2024, 1, 1, tzinfo=UTC)
_UNTIL = datetime(2024, 1, 7, tzinfo=UTC)


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(str(tmp_path))


# --- the state ---


def test_a_state_is_read_as_it_was_written(bucket: Bucket) -> None:
    entry = Entry(_START, None, _UNTIL, None, _START, 5, "digest", 0)
    files = {"symbol=A-USD/year=2024/trades-01.parquet": Named('"tag"', 7, entry)}
    held = bucket.put(MANIFEST, State("trades", files, {"old": _UNTIL}).to_json(), None)
    found = read_state(bucket)
    assert found is not None and found.held is not None
    assert (found.what, found.files, found.replaced) == ("trades", files, {"old": _UNTIL})
    assert found.held.tag == held.tag
    assert [named.times for named in found.files.values()] == [(_START, _UNTIL)]


def test_no_run_has_ended_yet(bucket: Bucket) -> None:
    assert read_state(bucket) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "version 2"),
        ({"what": "orders"}, "it is one of orders"),
        ({"files": []}, "'list' object has no attribute 'items'"),
        ({"files": {"a": ["tag", 1]}}, "not enough values"),
        ({"files": {"a": ["tag", 1, "[]"]}}, "it is no entry"),
        ({"replaced": {"a": "yesterday"}}, "yesterday"),
    ],
)
def test_a_state_that_is_none_of_ours(
    bucket: Bucket, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    document = {"version": 1, "what": "candles", "files": {}, "replaced": {}}
    write(tmp_path, MANIFEST, json.dumps(document))
    assert read_state(bucket) is not None
    write(tmp_path, MANIFEST, json.dumps(document | change))
    with pytest.raises(ConfigurationError, match=rf"manifest\.json cannot be read: .*{told}"):
        read_state(bucket)


# --- the lock ---


class Watching:
    """The time of whoever watches a lock; what happens meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waited = 0.0
        self.meanwhile: list[Any] = []
        clock = SimpleNamespace(monotonic=lambda: self.waited, sleep=self._sleep)
        monkeypatch.setattr(states, "time", clock)

    def _sleep(self, seconds: float) -> None:
        self.waited += seconds
        if self.meanwhile:
            self.meanwhile.pop(0)()


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch) -> Watching:
    return Watching(monkeypatch)


def put_lock(bucket: Bucket, writer: str | None, beat: int = 1) -> None:
    found = bucket.get(LOCK)
    bucket.put(LOCK, json.dumps({"writer": writer, "beat": beat}).encode(), found and found[1])


def writer(bucket: Bucket) -> Any:
    found = bucket.get(LOCK)
    assert found is not None
    return json.loads(found[0])["writer"]


def test_a_lock_that_nobody_renews_is_free_after_fifteen_seconds(bucket: Bucket, watching: Watching) -> None:
    put_lock(bucket, "killed")
    with leased(bucket):
        assert watching.waited == LEASE == 15
        assert writer(bucket) not in ("killed", None)
    assert writer(bucket) is None
    with leased(bucket):
        assert watching.waited == LEASE, "a lock that was given back is free at once"


def test_a_lock_that_is_renewed_is_not_taken(bucket: Bucket, watching: Watching) -> None:
    put_lock(bucket, "other")
    watching.meanwhile = [lambda: None, lambda: put_lock(bucket, "other", beat=2)]
    with pytest.raises(ConfigurationError, match="another export writes into"):
        Lease(bucket).take()
    assert watching.waited == 2
    assert writer(bucket) == "other"


def test_of_two_that_find_no_lock_one_gets_it(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has written its own just after we had looked."""

    def too_early(path: str) -> None:
        monkeypatch.undo()
        bucket.put(path, b'{"writer": "other"}', None)

    monkeypatch.setattr(bucket, "get", too_early)
    with pytest.raises(ConfigurationError, match="another export writes into"):
        Lease(bucket).take()
    assert writer(bucket) == "other"


def test_a_lease_that_was_taken_away_is_not_given_back(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is renewed until it meets another one's; that the store fails once in between is no end."""
    put = bucket.put
    answers: list[Exception | None] = [None, PlaceFailedError("no answer"), None, ObjectChangedError(LOCK)]

    def answer(path: str, content: bytes, over: Held | None) -> Held:
        error = answers.pop(0)
        if error is not None:
            raise error
        return put(path, content, over)

    monkeypatch.setattr(bucket, "put", answer)
    monkeypatch.setattr(states, "LEASE", 0.003)
    with leased(bucket) as lease:
        lease._renewing.join()
        assert lease.is_lost
    assert answers == []
    found = bucket.get(LOCK)
    assert found is not None
    assert json.loads(found[0])["beat"] == 3

"""Lengths are counted for the first bound that they do not exceed."""

from __future__ import annotations

import pytest

from kraken_db.durations import BOUNDS, Durations


def test_each_length_has_its_place() -> None:
    found = Durations()
    for seconds in (0.0, 0.005, 0.0051, 1.0, 30.0, 31.0, 1e9):
        found.add(seconds)
    expected = dict.fromkeys(range(len(BOUNDS) + 1), 0) | {0: 2, 1: 1, BOUNDS.index(1.0): 1, 11: 1, 12: 2}
    assert dict(enumerate(found.counts)) == expected
    assert found.total == pytest.approx(1e9 + 62.0101)


def test_what_fails_is_not_counted() -> None:
    found = Durations()
    with pytest.raises(ValueError, match="no"), found.measured():
        raise ValueError("no")
    assert (sum(found.counts), found.total) == (0, 0.0)
    with found.measured():
        pass
    assert sum(found.counts) == 1

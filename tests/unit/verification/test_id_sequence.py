"""Which ids are missing, doubled or astray, against sets counted in plain Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kraken_db.id_runs import IdRun
from kraken_db.verification import trades as id_sequence
from kraken_db.verification.trades import IdSequenceAudit

START = datetime(2024, 1, 1, tzinfo=UTC)
Row = tuple[int, int]
"""An id, and the second at which it is stored."""


def runs(rows: Sequence[Row]) -> list[IdRun]:
    """What the database says of a slice of time."""
    found: list[list[Row]] = []
    for number, second in sorted(rows):
        if found and number <= found[-1][-1][0] + 1:
            found[-1].append((number, second))
        else:
            found.append([(number, second)])
    return [
        IdRun(
            run[0][0],
            run[-1][0],
            moment(min(s for _, s in run)),
            moment(max(s for _, s in run)),
            len(run) - (run[-1][0] - run[0][0] + 1),
        )
        for run in found
    ]


def moment(second: int) -> datetime:
    return START + timedelta(seconds=second)


def audit(rows: Iterable[Row], slice_seconds: int = 100) -> IdSequenceAudit:
    slices: dict[int, list[Row]] = {}
    for number, second in rows:
        slices.setdefault(second // slice_seconds, []).append((number, second))
    found = IdSequenceAudit()
    for at in sorted(slices):
        found.add(runs(slices[at]))
    found.finish()
    return found


def holes(found: IdSequenceAudit) -> list[tuple[int, int]]:
    return [(hole.first, hole.last) for hole in found.holes]


def plain(first: int, last: int, *, every: int = 10) -> list[Row]:
    """One trade every ten seconds, so that a slice has ten of them."""
    return [(number, (number - first) * every) for number in range(first, last + 1)]


def test_nothing_is_wrong() -> None:
    found = audit(plain(3, 5_000))
    assert (found.first_id, found.last_id) == (3, 5_000)
    assert (found.holes, found.strays, found.doubled) == ([], [], [])


def test_a_hole_tells_its_neighbours() -> None:
    found = audit([row for row in plain(1, 100) if row[0] not in (40, 41)])
    (hole,) = found.holes
    assert (hole.first, hole.last, hole.after, hole.before) == (40, 41, moment(380), moment(410))


@pytest.mark.parametrize("stray", [0, 700, 10**12])
def test_an_id_that_fits_nowhere(stray: int) -> None:
    """The copy of a trade in the middle, under an id before all others or behind them: no hole up to it."""
    found = audit([*plain(10, 500), (stray, 2_000)])
    assert [(run.first, run.last) for run in found.strays] == [(stray, stray)]
    assert (found.holes, found.doubled) == ([], [])
    assert (found.first_id, found.last_id) == (10, 500)


@pytest.mark.parametrize("number", [3, 199, 200, 201, 490])
def test_an_id_that_another_trade_has(number: int) -> None:
    found = audit([*plain(1, 500), (number, 2_000)])
    assert [item.ids for item in found.doubled] == [(number, number)] or all(
        item.ids[0] <= number <= item.ids[1] for item in found.doubled
    )
    assert len(found.doubled) == 1
    assert (found.holes, found.strays) == ([], [])


def test_a_trade_that_was_moved_in_time() -> None:
    """Its id is there, but elsewhere: it is missing in its place."""
    found = audit([row for row in plain(1, 500) if row[0] != 400] + [(400, 1_000)])
    assert holes(found) == [(400, 400)]
    assert [(run.first, run.last) for run in found.strays] == [(400, 400)]


def test_stamps_that_differ_by_a_little() -> None:
    """Of neighbours in two slices the later one has the smaller id: two sources stamped them."""
    rows = plain(1, 100)
    one, other = rows[9], rows[10]  # seconds 90 and 100
    found = audit([*rows[:9], (other[0], 99), (one[0], 100), *rows[11:]])
    assert (found.holes, found.strays, found.doubled) == ([], [], [])


@given(st.sets(st.integers(1, 300)), st.integers(1, 400))
@settings(derandomize=True, database=None, max_examples=60)
def test_what_is_missing_is_counted(kept: set[int], slice_seconds: int) -> None:
    found = audit([row for row in plain(1, 300) if row[0] in kept], slice_seconds)
    missing = {number for first, last in holes(found) for number in range(first, last + 1)}
    expected = set(range(min(kept), max(kept) + 1)) - kept if kept else set()
    assert missing == expected
    assert (found.strays, found.doubled) == ([], [])


def test_more_runs_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second trade is missing: memory does not grow with it, and none of them is forgotten."""
    monkeypatch.setattr(id_sequence, "MOST_RUNS", 20)
    found, seen = IdSequenceAudit(), 0
    for start in range(0, 2_000, 10):
        found.add([IdRun(n, n, moment(n), moment(n)) for n in range(start + 1, start + 10, 2)])
        seen += len(found.holes)
        found.holes.clear()
        assert len(found._runs) <= 25
    found.finish()
    assert seen + len(found.holes) == 999

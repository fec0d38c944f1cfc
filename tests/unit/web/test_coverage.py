"""Stretches and days, worked out by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from kraken_db.ranges import TimeRange, difference
from kraken_db.repositories.coverage import Coverage
from kraken_db.web.coverage import Stretch, days_of, stretches

DAY = datetime(2023, 1, 1, tzinfo=UTC)


def at(hours: float) -> datetime:
    return DAY + timedelta(hours=hours)


def span(start: float, end: float) -> TimeRange:
    return at(start), at(end)


def covered(source: str, *ranges: tuple[float, float]) -> Coverage:
    return Coverage("BTC/USD", "candles_1m", source, tuple(span(*one) for one in ranges))  # type: ignore[arg-type]  # any name


def told(found: list[Stretch]) -> list[tuple[str, float, float, str | None]]:
    def hours(moment: datetime) -> float:
        return (moment - DAY) / timedelta(hours=1)

    return [(one.kind, hours(one.start), hours(one.end), one.source) for one in found]


def test_every_moment_is_in_one_stretch() -> None:
    coverage = [covered("csv", (1, 4), (6, 9)), covered("live", (3, 5))]
    assert told(stretches(coverage, [span(5, 6)], span(0, 10))) == [
        ("unknown", 0, 1, None),
        ("covered", 1, 3, "csv"),
        ("covered", 3, 4, "csv, live"),
        ("covered", 4, 5, "live"),
        ("gap", 5, 6, None),
        ("covered", 6, 9, "csv"),
        ("unknown", 9, 10, None),
    ]


def test_only_what_is_wanted() -> None:
    assert told(stretches([covered("csv", (0, 10))], [span(4, 5)], span(3, 4.5))) == [
        ("covered", 3, 4, "csv"),
        ("gap", 4, 4.5, None),
    ]
    assert told(stretches([], [], span(0, 1))) == [("unknown", 0, 1, None)]
    assert stretches([covered("csv", (0, 1))], [], span(1, 1)) == []


def test_a_gap_wins_over_a_source_that_claims_it() -> None:
    """Ids that are missing inside of what a source says is complete."""
    found = told(stretches([covered("live", (0, 3))], [span(1, 2)], span(0, 3)))
    assert [one[0] for one in found] == ["covered", "gap", "covered"]


def test_no_gap_is_left_out_where_there_are_too_many() -> None:
    """10,000 gaps of a minute, an hour apart: one for each of the first thousand steps holds them all."""
    gaps = [span(hour, hour + 1 / 60) for hour in range(10_000)]
    coverage = [covered("csv", *((hour + 1 / 60, hour + 1) for hour in range(10_000)))]
    found = stretches(coverage, gaps, span(0, 10_000))
    assert 0 < len(found) <= 2_000
    assert found[0].start == at(0) and found[-1].end == at(10_000)
    assert all(one.end == other.start for one, other in pairwise(found))
    shown = [(one.start, one.end) for one in found if one.kind == "gap"]
    assert difference(gaps, shown) == []


def test_sources_that_alternate_are_named_together_where_there_are_too_many() -> None:
    one = covered("csv", *((hour, hour + 1) for hour in range(0, 4_000, 2)))
    other = covered("live", *((hour + 1, hour + 2) for hour in range(0, 4_000, 2)))
    assert told(stretches([one, other], [], span(0, 4_000))) == [("covered", 0, 4_000, "csv, live")]


def test_days_by_hand() -> None:
    coverage = [covered("csv", (12, 48)), covered("live", (47, 60))]
    found = days_of(coverage, [span(60, 63)], at(64))
    assert found == [
        {"day": "2023-01-01", "covered": 0.5, "sources": ["csv"], "gap": False},
        {"day": "2023-01-02", "covered": 1.0, "sources": ["csv", "live"], "gap": False},
        # Of the 16 hours that have passed 12 are known.
        {"day": "2023-01-03", "covered": 0.75, "sources": ["live"], "gap": True},
    ]
    assert days_of([], [], at(1)) == []

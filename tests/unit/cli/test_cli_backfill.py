"""What ``backfill`` says of a pair below its table, and why it does not begin."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from kraken_db.cli.backfill import show_estimate, show_reports
from kraken_db.db.disk import DiskRoom
from kraken_db.historical_backfill import BackfillReport
from kraken_db.historical_backfill.estimate import BackfillEstimate, PairEstimate
from kraken_db.id_runs import IdHole
from tests.support.screens import Screen

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def test_what_a_person_has_to_know_of_a_pair(screen: Screen) -> None:
    screen.resize(200, 24)
    report = BackfillReport(
        "BTC/USD",
        "caught up",
        removed=3,
        notes=["the archives end at 2023-12-31"],
        holes=[IdHole(5, 7, NOON, NOON.replace(minute=1))],
        conflicts=1_002,
        conflict_examples=["trade 8 has another price", "trade 9 has another price"],
    )
    show_reports([report], as_json=False)
    _, err = screen.read()
    assert err == [
        "Note: BTC/USD: 3 trades without an id gave way to those with one",
        "Note: BTC/USD: the archives end at 2023-12-31",
        "Warning: BTC/USD: Kraken has no trade for ids 5 to 7 between 2024-01-01T12:00:00+00:00 and"
        " 2024-01-01T12:01:00+00:00; it counts as a gap",
        "Error: BTC/USD: trade 8 has another price; the stored one was left as it is",
        "Error: BTC/USD: trade 9 has another price; the stored one was left as it is",
        "Error: BTC/USD: and 1,000 more such trades",
    ]


def test_conflicts_that_are_all_shown_are_not_counted_again(screen: Screen) -> None:
    screen.resize(200, 24)
    show_reports(
        [BackfillReport("BTC/USD", "caught up", conflicts=1, conflict_examples=["trade 8 differs"])],
        as_json=False,
    )
    _, err = screen.read()
    assert err == ["Error: BTC/USD: trade 8 differs; the stored one was left as it is"]


def test_a_dry_run_says_that_it_does_not_fit(screen: Screen) -> None:
    screen.resize(300, 24)
    gib = 2**30
    disk = DiskRoom(Path("/data"), 3 * gib, 100 * gib)
    pairs = [PairEstimate("BTC/USD", by_rest=1_000, size=4 * gib)]
    assert not show_estimate(BackfillEstimate(pairs, 10, disk), as_json=False)
    _, err = screen.read()
    assert err[-1].startswith("Error: 1,000 trades need about ")
    assert " in /data, of which " in err[-1]
    assert show_estimate(
        BackfillEstimate(pairs, 10, DiskRoom(Path("/data"), 9 * gib, 100 * gib)), as_json=False
    )
    _, err = screen.read()
    assert not any(line.startswith("Error: ") for line in err)

"""IdSequence: which ids are missing from trades in their order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from kraken_db.id_runs import IdSequence
from kraken_db.kraken.messages import KrakenTrade

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def trade(number: int | None, second: int = 0) -> KrakenTrade:
    return KrakenTrade(Decimal(1), Decimal(1), NOON + timedelta(seconds=second), "b", "l", "", number)


def holes(*numbers: tuple[int | None, int], start: IdSequence | None = None) -> list[tuple[int, int]]:
    _, found = (start or IdSequence()).follow([trade(number, second) for number, second in numbers])
    return [(hole.first, hole.last) for hole in found]


def test_ids_without_a_hole() -> None:
    assert holes((3, 0), (4, 0), (5, 1)) == []


def test_ids_that_are_missing() -> None:
    assert holes((1, 0), (4, 1), (5, 2), (7, 3)) == [(2, 3), (6, 6)]
    assert holes((8, 1), start=IdSequence(5, NOON)) == [(6, 7)]


def test_a_run_without_ids_may_have_used_up_numbers() -> None:
    assert holes((1, 0), (None, 1), (None, 2), (2, 3)) == []
    assert holes((1, 0), (None, 1), (None, 2), (4, 3)) == []
    assert holes((1, 0), (None, 1), (None, 2), (5, 3)) == [(2, 4)]
    assert holes((1, 0), (None, 1), (2, 2), (4, 3)) == [(3, 3)]


def test_of_trades_of_one_moment_nobody_knows_where_those_without_an_id_were() -> None:
    """They are sorted before the others: Kraken had 1, 2, two without an id, 5."""
    assert holes((1, 0), (None, 1), (None, 1), (2, 1), (5, 1)) == []
    assert holes((1, 0), (None, 1), (None, 1), (2, 1), (5, 2)) == []
    assert holes((1, 0), (None, 1), (None, 1), (2, 1), (6, 2)) == [(3, 5)]
    assert holes((1, 0), (None, 1), (None, 1), (2, 1), (3, 2), (6, 3)) == [(4, 5)]


def test_a_run_that_goes_on_in_the_next_page() -> None:
    sequence, _ = IdSequence().follow([trade(1, 0), trade(None, 1)])
    assert holes((None, 2), (4, 3), start=sequence) == []

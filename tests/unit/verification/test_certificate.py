"""What a certificate says in a few words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from kraken_db.verification.certificate import Certificate, Finding, Part

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def part(name: str, *holes: tuple[int, int]) -> Part:
    made = Part(name, "minutes", compared=1)
    for start, end in holes:
        made.add(Finding("gap", "nothing is known", NOON + start * HOUR, NOON + end * HOUR))
    return made


def reason(*parts: Part) -> str:
    return Certificate("BTC/USD", None, None, parts=list(parts)).reason


def test_a_hole_in_trades_and_candles_is_one_gap() -> None:
    assert reason(part("trades", (0, 2)), part("candles", (0, 3))) == "gap (1)"
    assert reason(part("trades", (0, 2), (5, 6)), part("candles", (0, 2))) == "gap (2)"
    assert reason(part("trades", (5, 6)), part("candles", (0, 2))) == "gap (2)"


def test_gaps_that_are_only_counted_are_all_counted() -> None:
    many = part("trades", (0, 2))
    many.problems["gap"] = 7
    assert reason(many, part("candles", (0, 2))) == "gap (8)"

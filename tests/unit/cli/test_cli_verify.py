"""What a certificate looks like."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from kraken_db.cli.verify import show_certificates
from kraken_db.errors import ExchangeUnavailableError
from kraken_db.verification.certificate import CandlesPart, Certificate, Finding, Part, TradesPart
from tests.support.screens import Screen

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def shown(screen: Screen, *parts: Part, columns: int = 200, **of_all: object) -> tuple[list[str], list[str]]:
    screen.resize(columns, 24)
    found = Certificate("BTC/USD", None, None, parts=list(parts), **of_all)  # type: ignore[arg-type]  # any
    show_certificates([found], as_json=False)
    out, err = screen.read()
    return [" ".join(line.split()) for line in out], err


def test_what_was_repaired_and_dropped_comes_first(screen: Screen) -> None:
    dropped: dict[str, Sequence[tuple[datetime, datetime]]] = {
        "trades": [(NOON - 9 * MINUTE, NOON)],
        "candles_1m": [(NOON - 9 * MINUTE, NOON - 5 * MINUTE), (NOON - 2 * MINUTE, NOON - MINUTE)],
    }
    out, err = shown(
        screen, Part("1h", "candles", compared=1), repaired=["2 trades downloaded"], dropped=dropped
    )
    assert out == [
        "BTC/USD nothing is wrong",
        "repaired 2 trades downloaded",
        "dropped trades from before 2024-01-01 12:00: not missing",
        "dropped minutes from before 2024-01-01 11:59, in 2 stretches: not missing",
        "1h 1 candle compared",
    ]
    assert err == []


def test_what_ids_cannot_prove_is_told(screen: Screen) -> None:
    without = TradesPart("trades", "trades", compared=3, without_ids=3)
    some = TradesPart(
        "trades", "trades", 8, first_id=1, last_id=1_019, with_ids=7, without_ids=1, dropped_ids=1_012
    )
    assert shown(screen, without)[0][1] == (
        "trades 3 trades, none with an id: nothing here can show whether one is missing"
    )
    assert shown(screen, some)[0][1] == (
        "trades 8 trades, ids 1 to 1019 without a hole but for 1,012 that were dropped, 1 without an id"
    )


def test_of_a_kind_five_are_shown_and_the_others_counted(screen: Screen) -> None:
    part = CandlesPart("candles", "minutes", compared=9)
    for number in range(7):
        start = NOON + number * MINUTE
        part.add(Finding("candle differs", f"minute {number} differs", start, start + MINUTE))
    out, err = shown(screen, part)
    assert out == [
        "BTC/USD WRONG: candle differs (7)",
        "candles 9 minutes compared with the trades",
        *(f"! minute {number} differs" for number in range(5)),
        "! candle differs: 7 in all (--json names more)",
    ]
    assert err == ["To put it right: kraken-db verify BTC/USD --repair"]


def test_what_ended_early_is_not_verified(screen: Screen) -> None:
    """And a message that begins with the pair does not name it twice."""
    out, err = shown(screen, error=ExchangeUnavailableError("BTC/USD: HTTP 503", hint="try again"))
    assert out == ["BTC/USD not verified"]
    assert err == ["Failed: BTC/USD: HTTP 503. Try again"]

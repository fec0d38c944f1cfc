"""What ``record`` shows: a line for all pairs, and of a table what somebody has to know first."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime

import click
import pytest

from kraken_db.cli.output import to_json
from kraken_db.cli.record import hidden_text, line, screen_lines, show_view, shown_first
from kraken_db.recorder import PairStatus, RecorderStatus
from kraken_db.recorder.symbol_feed import State
from tests.support.screens import Screen

NOW = datetime(2026, 11, 28, 2, 10, tzinfo=UTC)


def pair(
    symbol: str, state: State = "live", *, received: int = 0, waiting: int = 0, holes: int = 0
) -> PairStatus:
    return PairStatus(
        symbol=symbol,
        state=state,
        is_subscribed=state == "live",
        last_id=1,
        last_time=NOW,
        received=received,
        repeated=0,
        repaired=0,
        caught_up=0,
        holes=holes,
        waiting=waiting,
        error=None,
    )


def status(*pairs: PairStatus, is_connected: bool = True) -> RecorderStatus:
    return RecorderStatus(NOW, is_connected, "online", pairs, 12.4, 0.1, 1, 0, 0, 12, 0)


def test_a_line_counts_what_is_live() -> None:
    text = line(status(pair("BTC/USD"), pair("ETH/USD", "not subscribed"), pair("OLD/USD", "delisted")))
    assert text.startswith("2 pairs (1 live), 12.4 trades/s")
    down = line(status(*(pair(f"C{at}/USD", "not subscribed") for at in range(3)), is_connected=False))
    assert down.startswith("3 pairs (0 live)")
    assert down.endswith("not connected")


def test_a_line_says_that_the_database_is_away() -> None:
    """And how many records wait for it, in memory and on disk."""
    away = replace(status(pair("BTC/USD")), journal=1_200, database_outage=(NOW, "nobody answers"))
    assert line(away).endswith("journal 1,200, database away since 02:10:00, 1,212 records wait")
    assert to_json(asdict(away), indent=None).count('"database_outage"') == 1


def test_of_few_pairs_trouble_comes_first_and_the_others_keep_their_order() -> None:
    btc, eth, ada = pair("BTC/USD", received=1), pair("ETH/USD", "refused"), pair("ADA/USD", received=9)
    assert shown_first([btc, eth, ada], 3) == ([eth, btc, ada], [])


def test_of_many_pairs_trouble_comes_first_and_the_rest_is_counted() -> None:
    trouble = [
        pair("CATCHING/USD", "catching up"),
        pair("REFUSED/USD", "refused"),
        pair("AWAY/USD", "not subscribed"),
        pair("WAITS/USD", waiting=3),
    ]
    busy = [pair(f"C{number:04d}/USD", received=number) for number in range(1_630)]
    gone = [pair("OLD/USD", "delisted")]
    shown, hidden = shown_first([*gone, *busy, *trouble], 6)
    assert [one.symbol for one in shown] == [
        "REFUSED/USD",
        "AWAY/USD",
        "CATCHING/USD",
        "WAITS/USD",
        "C1629/USD",
        "C1628/USD",
    ]
    assert len(shown) + len(hidden) == 1_635
    assert hidden_text(hidden) == "and 1,629 more: 1,628 live, 1 delisted"


def test_where_all_pairs_have_room_none_is_counted_below() -> None:
    shown = [click.unstyle(one) for one in screen_lines(status(pair("BTC/USD"), pair("ETH/USD")), 120, 23)]
    assert [one.split()[0] for one in shown] == ["02:10:00", "symbol", "BTC/USD", "ETH/USD"]


def test_a_terminal_has_a_table_while_it_lasts_and_a_line_at_the_end(screen: Screen) -> None:
    screen.resize(120, 24)
    with show_view(as_json=False) as view:
        assert view.every == 1
        view.show(status(pair("BTC/USD", received=7)))
        view.show(status(pair("BTC/USD", received=8)))
        view.end(status(pair("BTC/USD", received=9)))
    shown = screen.out()
    rows = [one.split() for one in shown if one.startswith("BTC/USD")]
    assert [row[4] for row in rows][:2] == ["7", "8"], "each is painted at once"
    assert shown[-1].startswith("1 pair, 12.4 trades/s, 9 trades received")
    assert shown[-1].endswith("stopped")


def test_a_file_has_a_line_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    with show_view(as_json=False) as view:
        assert view.every == 10
        view.show(status(pair("BTC/USD")))
        view.end(status(pair("BTC/USD")))
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("2026-11-28 02:10:00 1 pair, 12.4 trades/s")
    assert last == f"{first}, stopped"


def test_json_has_an_object_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    with show_view(as_json=True) as view:
        view.show(status(pair("BTC/USD", received=7), pair("ETH/USD", received=2)))
        view.end(status())
    first, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["received"], [one["symbol"] for one in first["pairs"]]) == (9, ["BTC/USD", "ETH/USD"])
    assert (last["received"], last["pairs"]) == (0, [])

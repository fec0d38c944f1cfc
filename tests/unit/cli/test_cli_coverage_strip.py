"""Coverage by month as people see it. All pictures here are drawn by hand."""

from __future__ import annotations

from datetime import date

import click
import pytest

from kraken_db.cli.status import StripStyle, strip_lines
from kraken_db.status import Month, MonthState

STATES: dict[str, MonthState] = {"#": "full", "+": "part", ".": "none", "-": "dropped"}
PLAIN = StripStyle.of_output("ascii", terminal=True, colour=False)
LEGEND = "# whole month   + part of it   . nothing"


def months(year: int, month: int, states: str) -> list[Month]:
    return [
        Month(date(year + (month - 1 + n) // 12, (month - 1 + n) % 12 + 1, 1), STATES[state])
        for n, state in enumerate(states)
    ]


BTC = ("BTC/USD 1m", months(2021, 11, "##" + "####+.......####" + "#"))
DOGE = ("DOGE/USD trades", months(2023, 2, "##"))


def test_years_stand_side_by_side_and_rows_below_each_other() -> None:
    assert strip_lines([BTC, DOGE], 80, PLAIN) == [
        "                 2021         2022         2023",
        "BTC/USD 1m                 ## ####+....... #####",
        "DOGE/USD trades                             ##",
        "",
        LEGEND,
    ]


def test_years_that_have_no_room_follow_below_without_the_rows_that_are_empty_there() -> None:
    assert strip_lines([BTC, DOGE], 17 + 2 * 13, PLAIN) == [
        "                 2021         2022",
        "BTC/USD 1m                 ## ####+.......",
        "",
        "                 2023",
        "BTC/USD 1m       #####",
        "DOGE/USD trades   ##",
        "",
        LEGEND,
    ]


def test_the_narrowest_terminal_has_a_year_a_line() -> None:
    assert len(strip_lines([BTC], 10, PLAIN)) == 3 * 3 - 1 + 2


def test_dropped_months_are_told_apart_where_there_are_some() -> None:
    lines = strip_lines([("BTC/USD trades", months(2023, 1, "--+#"))], 80, PLAIN)
    assert lines[1:] == ["BTC/USD trades  --+#", "", f"{LEGEND}   - dropped by retention"]


def test_nothing_covered_is_no_strip() -> None:
    assert strip_lines([("BTC/USD 1h", [])], 80, PLAIN) == []


@pytest.mark.parametrize(
    ("encoding", "terminal", "expected"),
    [("utf-8", True, "█▒·"), ("utf-8", False, "#+."), ("latin-1", True, "#+."), (None, True, "#+.")],
)
def test_blocks_only_on_a_terminal_that_has_them(encoding: str | None, terminal: bool, expected: str) -> None:
    style = StripStyle.of_output(encoding, terminal=terminal, colour=False)
    assert strip_lines([("A", months(2023, 1, "#+."))], 80, style)[1] == f"A  {expected}"


def test_colour_says_nothing_that_the_characters_do_not() -> None:
    style = StripStyle.of_output("ascii", terminal=True, colour=True)
    coloured = strip_lines([BTC, DOGE], 80, style)
    assert coloured[1] != click.unstyle(coloured[1])
    assert [click.unstyle(line) for line in coloured] == strip_lines([BTC, DOGE], 80, PLAIN)

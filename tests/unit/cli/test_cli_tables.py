"""Tables on terminals: as wide as they are, or folded where that is too wide; never cut."""

from __future__ import annotations

import click
import pytest

from kraken_db.cli.output import Column, print_table

COLUMNS = [
    Column("symbol"),
    Column("outcome"),
    Column("received", right=True),
    Column("new candles", right=True),
    Column("from (UTC)"),
    Column("to (UTC)"),
]
ROW = ("BTC/USD", "reached the end", "103,456,789", "4,141,111", "2013-10-06 21:34", "2024-01-04 15:51")


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int) -> list[str]:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(COLUMNS, [ROW])
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    return [line.rstrip() for line in lines if "─" not in line]


def test_with_room_each_row_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heading, row = printed(monkeypatch, capsys, 120)
    assert heading.split("  ")[0] == "symbol"
    assert row.split("  ")[0] == "BTC/USD"
    assert row.endswith("2013-10-06 21:34  2024-01-04 15:51")


def test_on_a_narrow_terminal_a_row_goes_on_in_the_next_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(monkeypatch, capsys, 80)
    assert max(map(len, lines)) <= 80
    first, second = lines[-2:]
    assert first.startswith("BTC/USD  reached the end  103,456,789    4,141,111")
    assert second.startswith("  ")
    assert (first + second).endswith("2024-01-04 15:51")


def test_nothing_is_ever_cut(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(printed(monkeypatch, capsys, 30))
    assert all(cell in text for cell in ROW)

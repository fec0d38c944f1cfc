"""Tables on terminals: as wide as they are, or folded where that is too wide; never cut."""

from __future__ import annotations

import click
import pytest

from kraken_db.cli.output import Column, print_table

COLUMNS = [
    Column("symbol"),
    Column("outcome", folds=True),
    Column("received", right=True, folds=True),
    Column("new candles", right=True, folds=True),
    Column("from (UTC)", folds=True),
    Column("to (UTC)", folds=True),
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
    heading, row = printed(monkeypatch, capsys, 100)
    assert heading.split("  ")[0] == "symbol"
    assert row == ("BTC/USD  reached the end  103,456,789    4,141,111  2013-10-06 21:34  2024-01-04 15:51")


def test_on_a_narrow_terminal_columns_fold_at_their_spaces(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(monkeypatch, capsys, 80)
    assert max(map(len, lines)) <= 80
    first, second = lines[-2:]
    assert "103,456,789" in first
    assert first.split()[-2:] == ["2013-10-06", "2024-01-04"]
    assert second.split()[-2:] == ["21:34", "15:51"]


def test_what_cannot_fold_any_more_is_not_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = " ".join(printed(monkeypatch, capsys, 30)).split()
    assert {"BTC/USD", "reached", "103,456,789", "4,141,111", "2013-10-06", "2024-01-04"} <= set(words)

"""Tables on terminals: as wide as they are, or folded where that is too wide; never cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from kraken_db.cli.db import _COLUMNS as UPKEEP
from kraken_db.cli.export import _print as print_export
from kraken_db.cli.output import Column, print_table
from kraken_db.cli.pairs import _print as print_pairs
from kraken_db.cli.policies import _print as print_policies
from kraken_db.exporting import ExportReport, FileReport

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


def on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    width: int,
    columns: Sequence[Column],
    rows: Sequence[tuple[str, ...]],
) -> list[str]:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(columns, rows)
    return click.unstyle(capsys.readouterr().out).splitlines()


HANGING = [Column("key"), Column("value", may_hang=True), Column("from", may_hang=True)]
LONG = "http://127.0.0.1:8710/marketing/institutions/"


def test_a_long_cell_stands_below_its_row_and_folds_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("tz", "UTC", "default"), ("archive-url", LONG, "environment"), ("color", "auto", "default")]
    assert on_a_terminal(monkeypatch, capsys, 50, HANGING, rows) == [
        "key          value  from",
        "─" * 31,
        "tz           UTC    default",
        "archive-url         environment",
        f"  {LONG}",
        "color        auto   default",
    ]
    # 11 + 45 + 11, and two gaps: with 71 columns nothing has to hang.
    assert f"archive-url  {LONG}  environment" in on_a_terminal(monkeypatch, capsys, 71, HANGING, rows)
    assert f"  {LONG}" in on_a_terminal(monkeypatch, capsys, 70, HANGING, rows)


def test_what_hangs_of_a_row_is_in_the_order_of_its_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("base-url", "http://127.0.0.1", "KRAKEN_BASE_URL (environment)")]
    assert on_a_terminal(monkeypatch, capsys, 25, HANGING, rows)[2:] == [
        "base-url",
        "  http://127.0.0.1",
        "  KRAKEN_BASE_URL",
        "  (environment)",
    ]


def test_on_a_pipe_nothing_hangs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    monkeypatch.setenv("COLUMNS", "20")
    print_table(HANGING, [("archive-url", LONG, "environment")])
    assert capsys.readouterr().out.splitlines()[1] == f"archive-url  {LONG}  environment"


@pytest.mark.parametrize("width", [50, 80])
def test_the_list_of_pairs_has_one_line_a_pair(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    found: dict[str, str | int | None] = {
        "symbol": "BRK.Bx/USD",
        "class": "tokenized",
        "rest_name": "BRK.BxUSD",
        "ws_name": "BRK.Bx/USD",
        "status": "cancel_only",
        "price_decimals": 2,
        "volume_decimals": 8,
        "successor": None,
    }
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    print_pairs([found])
    heading, _rule, row, *left_out = click.unstyle(capsys.readouterr().out).splitlines()
    assert heading.split()[0] == "symbol"
    assert row.split()[:1] + row.split()[-1:] == ["BRK.Bx/USD", "cancel_only" if width == 50 else "2"]
    assert left_out[0].startswith("(no room for: ")


@pytest.mark.parametrize("width", [50, 80])
def test_an_export_has_one_line_a_series_and_the_place_below_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    folder = "/home/somebody/some/where/else/on/this/machine/BTC-USD/1h.parquet"
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    file = FileReport(Path(folder), "BTC/USD", 60, "written", 103_456_789, 0, 24_400_000_000)
    print_export(ExportReport([file]))
    heading, _rule, row, place, *_ = click.unstyle(capsys.readouterr().out).splitlines()
    assert heading.split()[0] == "symbol"
    assert row.startswith("BTC/USD  1h")
    assert max(len(heading), len(row)) <= width
    assert place == f"  {folder}"


def test_sentences_below_a_table_are_folded_between_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "50")
    table = {"table": "trades", "retention_seconds": None, "compression_seconds": None}
    print_policies({"tables": [table], "jobs": []})
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "Nothing is done by itself here: kraken-db db",
        "maintain drops what is older.",
    ]


def test_what_upkeep_has_done_is_one_line_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = ("trades", "90 days", "2026-08-30 00:00", "9,000", "0", "-")
    shown = on_a_terminal(monkeypatch, capsys, 50, UPKEEP, [row])
    assert shown[0].split("  ")[0] == "table"
    assert shown[2:] == [
        "trades  90 days   2026-08-30           9,000",
        "(no room for: compressed, freed)",
    ]

"""Candles as table, CSV and JSON. All texts here are written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import click
import pytest

from kraken_db.cli.candles import candle_writer
from kraken_db.intervals import as_interval
from kraken_db.types import Candle

D = Decimal
CANDLES = [
    Candle(
        "BTC/USD",
        datetime(2023, 1, 1, 10, tzinfo=UTC),
        60,
        D("16541.7700000000"),
        D("16600.0000000000"),
        D("16541.1000000000"),
        D("16599.5000000000"),
        D("12.0345000000"),
        103,
        D("16570.1234567890"),
    ),
    Candle(
        "BTC/USD",
        datetime(2023, 1, 1, 11, tzinfo=UTC),
        60,
        D("16599.5000000000"),
        D("16599.5000000000"),
        D("16599.5000000000"),
        D("16599.5000000000"),
        D("0E-10"),
        0,
        None,
    ),
]


def written(
    style: Literal["table", "csv", "json"], *pieces: list[Candle], capsys: pytest.CaptureFixture[str]
) -> str:
    writer = candle_writer(style, "BTC/USD", pieces[0][0].interval_minutes)
    writer.begin(pieces[0])
    for piece in pieces:
        writer.write(piece)
    writer.end()
    return capsys.readouterr().out


def test_csv_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    assert written("csv", CANDLES, capsys=capsys) == (
        "timestamp,open,high,low,close,volume,trades,vwap\n"
        "2023-01-01T10:00:00Z,16541.77,16600,16541.1,16599.5,12.0345,103,16570.123456789\n"
        "2023-01-01T11:00:00Z,16599.5,16599.5,16599.5,16599.5,0,0,\n"
    )


def test_json_in_pieces_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(written("json", CANDLES[:1], CANDLES[1:], capsys=capsys))
    assert document["symbol"] == "BTC/USD"
    assert document["interval_minutes"] == 60
    assert document["candles"] == [
        {
            "timestamp": "2023-01-01T10:00:00Z",
            "open": "16541.77",
            "high": "16600",
            "low": "16541.1",
            "close": "16599.5",
            "volume": "12.0345",
            "trades": 103,
            "vwap": "16570.123456789",
        },
        {
            "timestamp": "2023-01-01T11:00:00Z",
            "open": "16599.5",
            "high": "16599.5",
            "low": "16599.5",
            "close": "16599.5",
            "volume": "0",
            "trades": 0,
            "vwap": None,
        },
    ]


def test_a_table_has_aligned_prices_with_the_same_decimals(capsys: pytest.CaptureFixture[str]) -> None:
    assert written("table", CANDLES, capsys=capsys).splitlines() == [
        "time (UTC)            open      high       low     close   volume  trades      vwap",
        "2023-01-01 10:00  16541.77  16600.00  16541.10  16599.50  12.0345     103  16570.12",
        "2023-01-01 11:00  16599.50  16599.50  16599.50  16599.50   0.0000       0",
    ]


def test_a_table_without_vwap_has_no_column_for_it_and_days_have_no_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    day = Candle("BTC/USD", datetime(2023, 1, 1, tzinfo=UTC), 1440, D(1), D(3), D(1), D(2), D(5), 9, None)
    assert written("table", [day], capsys=capsys).splitlines() == [
        "time (UTC)  open  high  low  close  volume  trades",
        "2023-01-01     1     3    1      2       5       9",
    ]


def test_a_later_price_with_more_decimals_is_not_rounded(capsys: pytest.CaptureFixture[str]) -> None:
    first = Candle("BTC/USD", datetime(2023, 1, 1, tzinfo=UTC), 1, D(1), D(3), D(1), D(2), D(5), 9, None)
    later = Candle(
        "BTC/USD", datetime(2023, 1, 2, tzinfo=UTC), 1, D(1), D("3.0001"), D(1), D(2), D(5), 9, None
    )
    assert "3.0001" in written("table", [first], [later], capsys=capsys)


def test_nothing_but_text_goes_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert "\x1b" not in written("table", CANDLES, capsys=capsys)


@pytest.mark.parametrize(
    ("columns", "volume", "has_vwap"),
    [(83, "12.0345", True), (82, "12.034", True), (81, "12.03", True), (80, "12.0345", False)],
)
def test_volume_is_rounded_and_then_vwap_left_out_where_each_candle_would_take_two_lines(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: int,
    volume: str,
    has_vwap: bool,
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    writer = candle_writer("table", "BTC/USD", 60)
    writer.begin(CANDLES)
    writer.write(CANDLES)
    out, err = capsys.readouterr()
    heading, first, _ = click.unstyle(out).splitlines()
    assert len(first) <= columns
    assert heading.endswith("trades      vwap" if has_vwap else "trades")
    assert ("~vol" in heading) == (volume != "12.0345")  # what is rounded says so
    assert first.endswith(f"{volume}     103  16570.12" if has_vwap else f"{volume}     103")
    assert ("too narrow for vwap" in err) is not has_vwap


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
@pytest.mark.parametrize("columns", [50, 60, 70, 80])
def test_a_candle_is_one_line_at_any_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, zone: str
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    writer = candle_writer("table", "BTC/USD", as_interval("1h", tz=zone))
    writer.begin(CANDLES)
    writer.write(CANDLES)
    lines = click.unstyle(capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= columns
    assert zone in (lines[0] + lines[1])


def test_an_hour_that_happens_twice_has_its_offset(capsys: pytest.CaptureFixture[str]) -> None:
    writer = candle_writer("table", "BTC/USD", as_interval("1h", tz="Europe/Berlin"))
    night = [
        Candle("BTC/USD", datetime(2026, 10, 25, hour, tzinfo=UTC), 60, D(1), D(3), D(1), D(2), D(5), 9, None)
        for hour in range(3)
    ]
    writer.begin(night)
    writer.write(night)
    shown = [line[:23].strip() for line in capsys.readouterr().out.splitlines()[1:]]
    assert shown == ["2026-10-25 02:00 +02:00", "2026-10-25 02:00 +01:00", "2026-10-25 03:00"]


def test_up_and_down_have_colours_on_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("kraken_db.cli.candles.wants_colour", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    up, flat = CANDLES
    down = replace(up, open=up.close, close=up.open)
    lines = written("table", [up, down, flat], capsys=capsys).splitlines()[1:]
    assert not lines[2].startswith("\x1b[3")
    assert lines[0].startswith("\x1b[32m")  # green
    assert lines[1].startswith("\x1b[31m")  # red

"""Progress without a terminal: a line now and then."""

from __future__ import annotations

import click
import pytest

from kraken_db.cli.progress import BarProgress, LineProgress, overview_text, show_progress
from kraken_db.progress import Overview


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_few_seconds_with_rate_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    task = LineProgress(clock).task("a.csv", 30_000_000, unit="bytes")
    for second in range(1, 11):
        clock.now = second
        task.advance(1_000_000)
    task.done()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "a.csv: 17%, 5.0 MB of 30.0 MB, 1.0 MB/s, 0:25 left",
        "a.csv: 33%, 10.0 MB of 30.0 MB, 1.0 MB/s, 0:20 left",
        "a.csv: done",
    ]


def test_what_is_over_at_once_says_nothing_unless_it_has_an_outcome(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = LineProgress(Clock())
    progress.task("quick", 3).done()
    progress.task("quick", 3).done("3 steps")
    progress.note("by the way")
    assert capsys.readouterr().err.splitlines() == ["quick: 3 steps", "by the way"]


def test_a_total_may_be_unknown_or_come_late(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    task = LineProgress(clock).task("BTC/USD", unit="trades")
    clock.now = 5
    task.advance(5000)
    task.update(total=10_000, note="waiting for Kraken")
    clock.now = 10
    task.advance(1000)
    assert capsys.readouterr().err.splitlines() == [
        "BTC/USD: 5,000 trades, 1,000/s",
        "BTC/USD: 60%, 6,000 of 10,000 trades, 600/s, 0:07 left (waiting for Kraken)",
    ]


def test_without_a_terminal_there_are_lines() -> None:
    with show_progress() as progress:
        assert isinstance(progress, LineProgress)


def test_on_a_terminal_there_are_bars(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with show_progress() as progress:
        assert isinstance(progress, BarProgress)
        task = progress.task("[a].csv", 100, unit="bytes")
        task.advance(50)
        task.update(total=200, note="half")
        progress.note("[not markup]")
        task.done("ok", failed=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "[not markup]" in captured.err


def test_on_a_narrow_terminal_the_remark_is_cut_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    with show_progress() as progress:
        task = progress.task("BTC/USD", 103_456_789, unit="trades")
        task.update(note="at 2016-05-06 11:12, 28% of the time range")
        task.advance(14_000_000)
        assert isinstance(progress, BarProgress)
        progress._bars.refresh()
    shown = click.unstyle(capsys.readouterr().err)
    assert "BTC/USD" in shown
    assert "14,000,000 of 103,456,789 trades" in shown
    assert "at 2016-05-06" in shown
    assert "time range" not in shown


@pytest.mark.parametrize(
    ("seen", "left", "expected"),
    [
        (
            Overview(318, 98_000_000, False, pairs=47, rows=12_140_000, failed=3),
            130,
            "47 of 318 pairs, 12.1 of 98 M rows, 2:10 left, 3 failed",
        ),
        (
            Overview(318, 98_123_456, True, pairs=47, rows=12_140_000),
            130,
            "47 of 318 pairs, 12.1 of about 98.1 M rows, 2:10 left",
        ),
        (Overview(1, 4321, False), None, "0 of 1 pair, 0 of 4,321 rows"),
        (
            Overview(2, 654_321, True, rows=1000),
            3725,
            "0 of 2 pairs, 1,000 of about 654,000 rows, 1:02:05 left",
        ),
        # An estimate that was too low is never below what was read.
        (Overview(2, 654_321, True, rows=654_321), None, "0 of 2 pairs, 654,321 of about 654,321 rows"),
        # Kraken's whole history at its worst: one line of a narrow terminal.
        (
            Overview(1659, 1_873_113_017, True, pairs=1659, rows=1_873_113_017, failed=1659),
            360_130,
            "1,659 of 1,659 pairs, 1,873 of about 1,873 M rows, 100:02:10 left, 1,659 failed",
        ),
    ],
)
def test_a_job_over_many_pairs_in_one_line(seen: Overview, left: float | None, expected: str) -> None:
    assert overview_text(seen, left) == expected
    assert len(expected) < 80


def test_lines_of_a_job_over_many_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    seen = Overview(4, 2_000_000, True)
    task = LineProgress(clock).task("import", 100, unit="bytes", overview=seen)
    clock.now = 5
    seen.rows, seen.pairs = 600_000, 1
    task.update(note="writing ETH/USD trades")
    task.advance(25)
    clock.now = 10
    seen.rows, seen.pairs, seen.failed = 2_000_000, 4, 1
    task.update(note="a remark that is too long for a line of eighty characters")
    task.advance(75)
    task.done()
    assert capsys.readouterr().err.splitlines() == [
        "1 of 4 pairs, 0.6 of about 2 M rows, 0:15 left (writing ETH/USD trades)",
        "4 of 4 pairs, 2.0 of about 2 M rows, 1 failed",
        "import: done",
    ]


@pytest.mark.parametrize("columns", [80, 40, 120])
def test_on_a_terminal_a_job_over_many_pairs_has_a_line_above(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    with show_progress() as progress:
        seen = Overview(318, 98_000_000, False, pairs=47, rows=12_140_000, failed=3)
        task = progress.task("import", 3_300_000_000, unit="bytes", overview=seen)
        task.advance(1_200_000_000)
        assert isinstance(progress, BarProgress)
        head, *others = progress._bars.lines(columns, 24)
        assert len(others) == 1
    assert max(map(len, (head, *others))) <= columns  # parts are left out where there is no room
    if columns >= 80:
        assert head.startswith("47 of 318 pairs, 12.1 of 98 M rows, 0:0")
        assert others[0].startswith("import")
    assert head.startswith("47 of 318 pairs, ")
    assert head.endswith(" left, 3 failed")

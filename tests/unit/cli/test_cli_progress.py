"""Progress without a terminal: a line now and then."""

from __future__ import annotations

import click
import pytest

from kraken_db.cli.progress import BarProgress, LineProgress, show_progress


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
        "a.csv: 17%, 5.0 MB of 30.0 MB, 1.0 MB/s, 0:00:25 left",
        "a.csv: 33%, 10.0 MB of 30.0 MB, 1.0 MB/s, 0:00:20 left",
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
        "BTC/USD: 60%, 6,000 of 10,000 trades, 600/s, 0:00:07 left (waiting for Kraken)",
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

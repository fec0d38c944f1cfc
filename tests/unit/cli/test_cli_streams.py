"""Standard streams that are closed, full or narrow, as a shell hands them to the program."""

from __future__ import annotations

import io
import shlex
import subprocess
from pathlib import Path

import pytest

from kraken_db.cli import output
from kraken_db.cli.output import Column, print_table
from tests.support.shell import KRAKEN_DB

PROGRAM = shlex.join(KRAKEN_DB)
FULL = "No space left on device"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def run(line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", f"{PROGRAM} {line}"], capture_output=True, text=True)


@pytest.mark.parametrize("command", ["--help", "--version", "import-csv nothing.csv --json", "db url"])
@pytest.mark.parametrize(
    ("where", "reason"), [pytest.param(">/dev/full", FULL, marks=needs_full), (">&-", "it is closed")]
)
def test_output_that_cannot_be_written_is_one_line(command: str, where: str, reason: str) -> None:
    done = run(f"{command} {where}")
    assert done.stderr == f"Error: cannot write to standard output: {reason}\n"
    assert done.returncode == 1


@needs_full
def test_much_output_fails_once(tmp_path: Path) -> None:
    """More than any buffer holds."""
    for number in range(500):
        (tmp_path / f"XBTUSD_{number}.txt.csv").touch()
    done = run(f"import-csv {tmp_path} --dry-run --json >/dev/full")
    assert done.stderr.count("cannot write to standard output") == 1
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("where", [pytest.param("2>/dev/full", marks=needs_full), "2>&-"])
def test_without_a_place_for_messages_the_results_still_come(where: str) -> None:
    done = run(f"--version {where}")
    assert (done.stdout.startswith("kraken-db "), done.stderr, done.returncode) == (True, "", 0)
    failed = run(f"import-csv nothing.csv --json {where}")
    assert failed.stdout.endswith("}\n")
    assert failed.returncode == 1
    assert run(f"import-csv --nonsense {where}").returncode == 2


def test_with_all_streams_closed_the_exit_code_tells() -> None:
    assert run("--version <&- >&- 2>&-").returncode == 1
    assert run("import-csv nothing.csv <&- >&- 2>&-").returncode == 1


def show(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    columns = [Column("symbol"), Column("rows", right=True), Column("from"), Column("gaps", right=True)]
    print_table(columns, [("BTC/USD", "1,234", "2023-01-01", "7"), ("A/B", "1", "-", "12")])


def test_a_table_that_fits_has_a_line_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show(monkeypatch, 32)  # 7 + 5 + 10 + 4, and three gaps of two
    title, rule, *rows = capsys.readouterr().out.splitlines()
    assert title.split() == ["symbol", "rows", "from", "gaps"]
    assert set(rule) == {"─"}
    assert [row.rstrip() for row in rows] == [
        "BTC/USD  1,234  2023-01-01     7",
        "A/B          1  -             12",
    ]


def test_a_table_that_is_too_wide_is_folded_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show(monkeypatch, 31)
    assert capsys.readouterr().out.splitlines() == [
        "symbol    rows  from",
        "  gaps",
        "BTC/USD  1,234  2023-01-01",
        "     7",
        "A/B          1  -",
        "    12",
    ]
    show(monkeypatch, 14)
    assert capsys.readouterr().out.splitlines()[:6] == [
        "symbol    rows",
        "  from",
        "  gaps",
        "BTC/USD  1,234",
        "  2023-01-01",
        "     7",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, True), ({"TERM": "dumb"}, False), ({"JPY_PARENT_PID": "1"}, False)],
    ids=["terminal", "dumb", "a cell of a notebook"],
)
def test_lines_are_painted_anew_where_that_is_seen(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: bool
) -> None:
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", Terminal())
    assert output.can_repaint() is expected

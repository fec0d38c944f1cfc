"""``kraken-db chart`` as its users run it: in the terminal, as a page, as a picture."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.archives import START, minutes, write
from tests.support.lanes import Lane
from tests.support.shell import KRAKEN_DB, Shell

# Three minutes, one in which nothing was traded, and, from another file, two more after a gap.
FIRST = (
    f"{START},10,14,10,13,6,7\n{START + 60},13,19,12,12,3,7\n{START + 120},12,13,11,13,1,7\n"
    f"{START + 240},15,16,15,15,1,7\n"
)
SECOND = f"{START + 420},15,16,15,16,1,7\n{START + 480},16,16,15,15,1,7\n"
# Seven rows, that is fourteen units, from 10 to 19: 13 is the fifth, 15 the eighth, 16 the tenth.
PICTURE = """\
BTC/USD 1m  2023-01-01 00:00 to 2023-01-01 00:09 UTC
close 15 (+50.00 %)  high 19  low 10  volume 13
   |                       |
   |                       |
   |        |        O  #  |
|  |        O        O  #  + 15
O  #  O  .                 |
O  #  O                    |
O     |                    + 10
#                          + 6
#  #  .     .        .  .  |
+--------------?--?--------
01-01 00:00    01-01 00:05
. nothing traded   ? not known
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory, lanes: dict[str, Lane]) -> Iterator[Shell]:
    """A store that is only read, and a terminal of 60 columns without UTF-8."""
    folder = tmp_path_factory.mktemp("charts")
    with lanes["postgres"].migrated_database() as url:
        shell = Shell(folder, DATABASE_URL=url, COLUMNS="60", LINES="15", LC_ALL="C", PYTHONUTF8="0")
        shell.environment["PYTHONCOERCECLOCALE"] = "0"
        write(folder, "c/ETHUSD_1.csv", minutes(50_001))
        for name, content in (("a", FIRST), ("b", SECOND)):
            write(folder, f"{name}/XBTUSD_1.csv", content)
            done = shell.run("import-csv", name, "c")
            assert done.returncode == 0, done.stderr
        yield shell


def test_in_the_terminal(shell: Shell) -> None:
    done = shell.run("chart", "xbtusd", "--interval", "1m")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == PICTURE
    part = shell.run("chart", "BTC/USD", "-i", "1m", "--since", "2023-01-01", "--until", "2023-01-01T00:02")
    assert part.stdout.startswith("BTC/USD 1m  2023-01-01 00:00 to 2023-01-01 00:02 UTC\n")
    last = shell.run("chart", "BTC/USD", "-i", "1m", "--last", 1)
    assert last.stdout.startswith("BTC/USD 1m  2023-01-01 00:08 to 2023-01-01 00:09 UTC\n")


def test_into_files(shell: Shell) -> None:
    for name in ("chart.PNG", "chart.html"):
        done = shell.run("chart", "BTC/USD", "-i", "1m", "--last", 2, "--out", name)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert done.stderr == f"2 intervals drawn: {name}\n"
    png = (shell.cwd / "chart.PNG").read_bytes()
    assert (png[:8], struct.unpack(">II", png[16:24])) == (b"\x89PNG\r\n\x1a\n", (1600, 900))
    assert "<title>BTC/USD 1m, 2023-01-01 00:07 to" in (shell.cwd / "chart.html").read_text()


def test_a_file_is_written_over_only_when_that_is_asked_for(shell: Shell) -> None:
    write(shell.cwd, "mine.png", "mine")
    refused = shell.run("chart", "BTC/USD", "-i", "1m", "--out", "mine.png")
    assert refused.returncode == 1
    assert refused.stderr == "Error: mine.png exists already. --force writes over it\n"
    assert (shell.cwd / "mine.png").read_text() == "mine"
    assert shell.run("chart", "BTC/USD", "-i", "1m", "--out", "mine.png", "--force").returncode == 0
    assert (shell.cwd / "mine.png").read_bytes().startswith(b"\x89PNG")
    assert not [path for path in shell.cwd.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["BTC/USDT"], "nothing is stored of BTC/USDT. Did you mean BTC/USD?"),
        (["BTC/USD", "--since", "2024-01-01"], "BTC/USD has no 1h candles in this range"),
    ],
)
def test_nothing_to_draw(shell: Shell, arguments: list[str], told: str) -> None:
    done = shell.run("chart", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {told}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("options", [["--since", "2023-01-01"], ["--last", "999999999"]])
def test_more_than_a_chart_can_show(shell: Shell, options: list[str]) -> None:
    done = shell.run("chart", "ETH/USD", "-i", "1m", *options, "--out", "x.html")
    assert done.returncode == 1
    assert done.stderr == (
        "Error: these are more than 50,000 intervals, too many for a chart."
        " Choose a longer --interval, or a shorter range\n"
    )


@pytest.mark.parametrize(("library", "name"), [("plotly", "x.html"), ("matplotlib", "x.png")])
def test_without_the_extra_the_terminal_still_works(shell: Shell, library: str, name: str) -> None:
    without = f"import sys; sys.modules[{library!r}] = None; {KRAKEN_DB[2]}"
    program = (sys.executable, "-c", without)
    done = shell.run("chart", "BTC/USD", "-i", "1m", "--out", name, program=program)
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {Path(name).suffix} files need the Python package {library}, which is not installed."
        " pip install 'kraken-historical-data[charts]'\n"
    )
    assert shell.run("chart", "BTC/USD", "-i", "1m", program=program).stdout == PICTURE

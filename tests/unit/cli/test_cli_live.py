"""What is painted anew and again leaves nothing behind, on however narrow a terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.text import Text

from kraken_db.cli.bars import Row, Rows
from kraken_db.cli.live import open_live

WIDTH = 30


def terminal() -> tuple[Console, io.StringIO]:
    shown = io.StringIO()
    return Console(file=shown, force_terminal=True, width=WIDTH, height=10, _environ={"TERM": "xterm"}), shown


def lines(shown: io.StringIO) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue().replace("\r", "\n")).splitlines()


@pytest.mark.parametrize("length", [WIDTH - 1, WIDTH, WIDTH + 1])
def test_no_painted_line_reaches_the_last_column(length: int) -> None:
    console, shown = terminal()
    with open_live(console, lambda: Text("x" * length, no_wrap=True, overflow="crop")) as live:
        live.refresh()
    assert max(map(len, lines(shown))) == WIDTH - 1


def test_nor_does_one_of_the_rows_of_a_long_job() -> None:
    console, shown = terminal()
    rows = Rows(console)
    rows.heads.append(lambda width: "h" * width)
    rows.add(Row("BTC/USD", remark="r" * WIDTH, at_work=True))
    with rows.live:
        rows.refresh()
    assert "h" * (WIDTH - 1) in lines(shown)
    assert max(map(len, lines(shown))) == WIDTH - 1

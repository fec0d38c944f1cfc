"""The man page is that of the help texts, and a program for man pages reads it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kraken_db.cli.manual import our_page

PAGE = Path(__file__).parents[3] / "docs" / "kraken-db.1"


def test_the_page_is_that_of_this_command_line() -> None:
    assert PAGE.read_text() == our_page(), "scripts/man_page.py writes it anew"


@pytest.mark.skipif(shutil.which("man") is None, reason="there is no man here")
def test_man_shows_it_without_a_complaint() -> None:
    done = subprocess.run(
        ["man", "--warnings", "--encoding=UTF-8", "--local-file", str(PAGE)],
        env=os.environ | {"MANWIDTH": "80", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    shown = done.stdout.replace("\u2010\n", "")
    for text in (
        "kraken-db gaps fill [OPTIONS] [SYMBOL]...",
        "--since, --start TIME",
        "EXIT STATUS",
        "'XRP/*'",
    ):
        assert text in shown

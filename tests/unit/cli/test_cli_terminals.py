"""What others have named reaches a terminal as text, and a stream that cannot show it shows an escape."""

from __future__ import annotations

import io
import json
import logging
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest

from kraken_db.cli import output
from kraken_db.cli.base import report_failure
from kraken_db.cli.logs import configure_logging
from kraken_db.cli.output import Column, console, note, print_styled, print_table, printable, to_json
from kraken_db.errors import KrakenDBError
from tests.support.shell import KRAKEN_DB

CLIPBOARD = "\x1b]52;c;cm0gLXJmIC8=\x07"
"""OSC 52: a terminal that obeys puts "rm -rf /" into the clipboard."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("BTC/USD\tété → 日本 😀\n", "BTC/USD\tété → 日本 😀\n"),
        ("\x1b[31mred", r"\x1b[31mred"),
        (CLIPBOARD, r"\x1b]52;c;cm0gLXJmIC8=\x07"),
        ("\x9b2J\x90q\x85", r"\x9b2J\x90q\x85"),  # CSI, DCS and NEL as C1 controls
        ("a\rb\x08\x7f\x00\x0b\x0c", r"a\rb\x08\x7f\x00\x0b\x0c"),
        ("\u202egpj.exe\u2066\u200f\u061c\u2028", r"\u202egpj.exe\u2066\u200f\u061c\u2028"),
        ("caf\udce9.csv \ud800", r"caf\xe9.csv \ud800"),  # a byte of Latin-1 in the name of a file
    ],
)
def test_what_a_terminal_would_obey_is_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_cell_is_one_line() -> None:
    assert printable("a\n\tb", one_line=True) == r"a\n\tb"


def test_json_is_right_and_harmless() -> None:
    text = f"{CLIPBOARD}\x9b\x7f\u202e\udce9 é😀"
    shown = to_json({"name": text})
    assert json.loads(shown) == {"name": text}
    assert printable(shown) == shown
    assert "é😀" in shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """What stdout and stderr of the command line write to from now on."""
    shown = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, output._Printer(shown))
    return shown


@pytest.mark.parametrize("width", ["80", "5"])
def test_tables(monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setenv("COLUMNS", width)
    print_table([Column("file"), Column("rows", True)], [(f"a{CLIPBOARD}\nb", "1"), ("c", "2")])
    assert r"a\x1b]52;c;cm0gLXJmIC8=\x07\nb" in terminal.getvalue()
    assert "\x1b]" not in terminal.getvalue()


def test_lines_errors_and_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    monkeypatch.setenv("COLUMNS", "100")  # nothing of it is folded
    click.echo(f"stdout {CLIPBOARD}")
    note(f"note {CLIPBOARD}")
    note("file a\nError: b")
    report_failure(KrakenDBError(f"error {CLIPBOARD}"))
    report_failure(ValueError(f"bug {CLIPBOARD}"))
    configure_logging()
    logging.getLogger("kraken_db.test").warning("log %s", CLIPBOARD)
    assert terminal.getvalue().splitlines() == [
        r"stdout \x1b]52;c;cm0gLXJmIC8=\x07",
        r"note \x1b]52;c;cm0gLXJmIC8=\x07",
        r"file a\nError: b",
        r"Error: error \x1b]52;c;cm0gLXJmIC8=\x07",
        r"internal error: ValueError: bug \x1b]52;c;cm0gLXJmIC8=\x07; run again with --debug",
        r"warning: log \x1b]52;c;cm0gLXJmIC8=\x07",
    ]


def test_our_own_colours_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    print_styled(f"\x1b[32mup\x1b[0m {CLIPBOARD}")
    assert terminal.getvalue() == "\x1b[32mup\x1b[0m \\x1b]52;c;cm0gLXJmIC8=\\x07\n"


def test_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    from rich.text import Text

    console(err=True).print(Text(f"name{CLIPBOARD}", style="bold"))
    assert "\x1b[1m" in terminal.getvalue()
    assert r"name\x1b]52" in terminal.getvalue()
    assert "\x1b]" not in terminal.getvalue()


def hostile(folder: Path) -> list[bytes]:
    """Files of archives with names that a shell would not make: they are skipped, and told."""
    names = [CLIPBOARD.encode().replace(b"/", b"") + b".csv", b"caf\xe9.csv", "→\u202e.csv".encode()]
    for name in names:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"1,2,3\n")
    return names


def test_a_real_terminal(tmp_path: Path) -> None:
    hostile(tmp_path)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*KRAKEN_DB, "import-csv", str(tmp_path), "--dry-run"], stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        seen = b""
        try:
            while piece := os.read(ours, 1 << 16):
                seen += piece
        except OSError:  # Linux says so of an end
            pass
    os.close(ours)
    assert rb"\x1b]52" in seen
    assert rb"caf\xe9.csv" in seen
    assert rb"\u202e" in seen
    assert b"\x1b]" not in seen
    assert b"\xe9" not in seen


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii", "utf-8", "utf-8:strict", "ascii:replace"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_no_encoding_loses_a_report(tmp_path: Path, encoding: str, options: list[str]) -> None:
    hostile(tmp_path)
    (tmp_path / "\u20ac\u4e2d").mkdir()
    (tmp_path / "\u20ac\u4e2d" / "XBTUSD_1.csv").write_text("1700000000,1,1,1,1,1,1\n")
    done = subprocess.run(
        [*KRAKEN_DB, "import-csv", str(tmp_path), "--dry-run", *options],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert b"internal error" not in done.stderr
    assert done.returncode in (0, 1)
    assert b"XBTUSD_1.csv" in done.stdout
    if options and not encoding.endswith("replace"):
        text = done.stdout.decode(encoding.partition(":")[0])
        assert "\u20ac\u4e2d/XBTUSD_1.csv" in str(json.loads(text))

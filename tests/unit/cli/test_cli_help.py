"""Help on terminals and elsewhere: colours, and nothing else, make the difference; no name is broken."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from kraken_db.cli import cli
from kraken_db.cli.help import HelpContext


def shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str, terminal: bool
) -> str:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main(list(words), prog_name="kraken-db")
    assert ended.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [("--help",), ("status", "-h"), ("gaps",), ("verify", "--help")])
def test_help_has_colours_on_a_terminal(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = shown(monkeypatch, capsys, *words, terminal=False)
    coloured = shown(monkeypatch, capsys, *words, terminal=True)
    assert "\x1b" not in plain
    assert "\x1b[36m" in coloured
    assert click.unstyle(coloured) == plain
    assert max(map(len, plain.splitlines())) <= 80


def helps(width: int, context: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """The words of every command, and its help in so many columns."""
    context = context or HelpContext(cli, info_name="kraken-db")
    command = context.command
    context.terminal_width = width
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from helps(width, HelpContext(inner, info_name=name, parent=context))


@pytest.mark.parametrize("width", [50, 80, 100])
def test_no_name_is_broken_at_a_hyphen(width: int) -> None:
    seen = dict(helps(width))
    assert len(seen) > 30
    broken = {name: re.findall(r".*\w-$", text, re.MULTILINE) for name, text in seen.items()}
    assert {name: lines for name, lines in broken.items() if lines} == {}


def test_a_command_in_a_text_stays_whole() -> None:
    text = dict(helps(78))["kraken-db db dump"]
    assert "now: a backup that\n  `kraken-db db restore` reads." in text


def test_comments_of_examples_go_below_them_where_there_is_no_room() -> None:
    text = dict(helps(50))["kraken-db"]
    assert text[text.index("  Begin with") : text.index("\n\nOptions:")].splitlines() == [
        "  Begin with:",
        "    kraken-db backfill BTC/USD",
        "        every trade, from Kraken",
        "    kraken-db import-csv Kraken_OHLCVT.zip",
        "        or candles, from its archive",
        "    kraken-db record BTC/USD",
        "        from now on, live",
        "    kraken-db status",
        "    kraken-db candles BTC/USD --interval 1h --last",
        "        24",
    ]


def test_no_line_of_text_is_wider_than_a_terminal() -> None:
    """But for names of options, and for one word that is longer than a line."""
    for name, text in helps(50):
        wide = [line for line in text.splitlines() if len(line) > 50 and " " in line.strip()]
        assert [line for line in wide if not line.startswith(("  -", "Usage"))] == [], name


def test_the_address_of_the_database_takes_two_lines_at_most() -> None:
    for name, text in helps(80):
        lines = text.splitlines()
        start = next((at for at, line in enumerate(lines) if line.startswith("  --db-url")), None)
        if start is not None:
            end = next(at for at in range(start + 1, len(lines)) if lines[at].startswith("  -"))
            assert end - start <= 2, name

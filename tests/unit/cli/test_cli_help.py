"""Help on terminals and elsewhere: colours, and nothing else, make the difference."""

from __future__ import annotations

import click
import pytest

from kraken_db.cli import cli


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

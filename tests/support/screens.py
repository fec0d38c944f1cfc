"""A terminal of some size, for what is printed in this process."""

from __future__ import annotations

import click
import pytest


class Screen:
    """A terminal of some size, and what is on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")

    def resize(self, columns: int, lines: int) -> None:
        for name in ("stdout", "stderr"):
            self._monkeypatch.setattr(f"sys.{name}.isatty", lambda: True)
        self._monkeypatch.setenv("COLUMNS", str(columns))
        self._monkeypatch.setenv("LINES", str(lines))

    def out(self) -> list[str]:
        return click.unstyle(self._capsys.readouterr().out).splitlines()

    def read(self) -> tuple[list[str], list[str]]:
        shown = self._capsys.readouterr()
        return shown.out.splitlines(), shown.err.splitlines()

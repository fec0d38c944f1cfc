"""``kraken-db db start | stop | status | url``."""

import json
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import TypeAlias

import pytest
from click import Command
from click.testing import CliRunner

from kraken_db.cli.db import start, status, stop, url
from kraken_db.errors import EmbeddedServerError
from tests.support import shell

Run: TypeAlias = Callable[..., str]
"""Takes a command and its arguments; returns what it printed."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("KRAKEN_DB_DATA_DIR", raising=False)

    def invoke(command: Command, *arguments: object) -> str:
        words = [str(argument) for argument in arguments]
        # A copy: a command keeps the names of its help option, and under the main one it has more.
        return CliRunner().invoke(copy(command), words, catch_exceptions=False).output

    return invoke


def test_a_round(run: Run, data_dir: Path) -> None:
    option = ("--data-dir", data_dir)
    address = run(url, *option)
    assert "state    not running" in run(status, *option)
    assert run(start, *option) == address
    shown = json.loads(run(status, *option, "--json"))
    assert (shown["running"], shown["ready"], shown["kept"], shown["url"]) == (
        True,
        True,
        True,
        address.strip(),
    )
    assert f"running, process {shown['pid']}, until 'kraken-db db stop'" in run(status, *option)
    assert json.loads(run(start, *option, "--json")) == shown
    assert run(stop, *option) == "stopped\n"
    assert run(stop, *option) == "was not running\n"
    assert json.loads(run(status, *option, "--json"))["pid"] is None


def test_the_environment_names_the_directory(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRAKEN_DB_DATA_DIR", "/srv/from-settings")
    assert "host=/srv/from-settings/run" in run(url)
    monkeypatch.setenv("DATABASE_URL", "embedded:///srv/from-url")
    assert "host=/srv/from-url/run" in run(url)
    assert "host=/srv/from-option/run" in run(url, "--data-dir", "/srv/from-option")
    monkeypatch.setenv("DATABASE_URL", "postgresql://server/kraken")
    assert "host=/srv/from-settings/run" in run(url)


def test_errors_are_left_to_the_main_command(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError):
        run(start, "--data-dir", tmp_path / "file" / "below")


def test_nobody_else_is_let_in(data_dir: Path) -> None:
    done = shell.run(f"embedded://{data_dir}", "db", "grant-read", "ann")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: the embedded database lets in nobody but this user. Name a server with --db-url or"
        " DATABASE_URL\n"
    )

"""A password in --db-url must not stay in the list of processes."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kraken_db.cli.process_list import without_password

SECRET = "postgresql://trader:hunter2@127.0.0.1:{port}/kraken?connect_timeout=5"


@pytest.mark.parametrize(
    ("words", "kept", "has_url"),
    [
        (
            ["p", "k", "status", "--db-url", "postgresql://u:pw@h/d", "--json"],
            ["p", "k", "status", "--json"],
            True,
        ),
        (["p", "k", "status", "--db-url=postgresql://u:pw@h/d"], ["p", "k", "status"], True),
        (["p", "k", "--db-url", "postgresql://u@h/d"], ["p", "k", "--db-url", "postgresql://u@h/d"], False),
        (["p", "k", "--db-url", "embedded:"], ["p", "k", "--db-url", "embedded:"], False),
        (["p", "k", "--db-url"], ["p", "k", "--db-url"], False),
        (["p", "k", "--db-url", "postgresql://u:p[w@h/d"], ["p", "k"], True),
    ],
)
def test_which_arguments_are_hidden(words: list[str], kept: list[str], has_url: bool) -> None:
    found, url = without_password(words)
    assert found == kept
    assert (url is not None) == has_url
    assert url is None or url in " ".join(words)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_list() -> None:
    """The database never answers: the command is looked at while it waits for it."""
    command = str(Path(sys.executable).with_name("kraken-db"))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(20)
        url = SECRET.format(port=silent.getsockname()[1])
        with subprocess.Popen(
            [command, "status", "--db-url", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            connection, _ = silent.accept()
            shown = Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " ")
            connection.close()
            process.kill()
            _, errors = process.communicate()
    assert "status" in shown
    assert "hunter2" not in shown
    assert "hunter2" not in errors
